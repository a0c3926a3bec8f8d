"""Compressed traces: several gzip members, whatever the number of cores."""

import gzip
import io
import threading

import numpy as np
import pytest

from nsys2perfetto import convert
from nsys2perfetto.wire import gzip_stream
from nsys2perfetto.wire.gzip_stream import GzipStream
from tests.engine import query
from tests.runs import load

MEMBER = b"\x1f\x8b\x08"
PIECES = [bytes([n % 251]) * (n * 37 % 900) for n in range(200)]


def compressed(monkeypatch, cores, pieces=PIECES, member=5_000):
    monkeypatch.setattr(gzip_stream, "_MEMBER", member)
    monkeypatch.setattr(gzip_stream, "available", lambda most: cores)
    out = io.BytesIO()
    stream = GzipStream(out)
    for piece in pieces:
        stream.write(piece)
    stream.finish()
    stream.close()
    return out.getvalue()


def test_it_is_one_gzip_file_of_several_members(monkeypatch):
    data = compressed(monkeypatch, 1)
    assert gzip.decompress(data) == b"".join(PIECES)
    assert data.count(MEMBER) == -(-sum(map(len, PIECES)) // 5_000)


@pytest.mark.parametrize("cores", [2, 5])
def test_cores_change_nothing(monkeypatch, cores):
    assert compressed(monkeypatch, cores) == compressed(monkeypatch, 1)


def test_nothing_is_a_gzip_file_too(monkeypatch):
    assert gzip.decompress(compressed(monkeypatch, 2, [])) == b""


def test_what_it_is_given_may_change_afterwards(monkeypatch):
    buffer = np.zeros((100, 30), np.uint8)
    out = io.BytesIO()
    monkeypatch.setattr(gzip_stream, "_MEMBER", 1_000)
    stream = GzipStream(out)
    for value in range(3):
        buffer[:] = value
        stream.write(buffer.data)
    stream.finish()
    stream.close()
    assert gzip.decompress(out.getvalue()) == bytes([0] * 3000 + [1] * 3000 + [2] * 3000)


class Full(io.BytesIO):
    """A disk with room for some bytes."""

    def write(self, data):
        if self.tell() > 200:
            raise OSError(28, "No space left on device")
        return super().write(data)


@pytest.mark.parametrize("cores", [1, 3])
def test_an_error_comes_up_and_no_thread_stays(monkeypatch, cores):
    monkeypatch.setattr(gzip_stream, "_MEMBER", 500)
    monkeypatch.setattr(gzip_stream, "available", lambda most: cores)
    before = threading.active_count()
    stream = GzipStream(Full())
    with pytest.raises(OSError, match="No space"):
        for n in range(100):
            stream.write(np.random.default_rng(n).bytes(400))
    stream.close()
    assert threading.active_count() == before


def test_the_engine_reads_all_members(monkeypatch, open_trace, tmp_path):
    run = load("decode_eager", open_trace)
    monkeypatch.setattr(gzip_stream, "_MEMBER", 50_000)
    output = convert(run.path, tmp_path / "trace.pftrace.gz").output
    assert output.read_bytes().count(MEMBER) > 5
    with open_trace(output) as tp:
        query.assert_clean(tp)
        counts = query.rows(tp, "SELECT count(*) AS n, sum(dur) AS ns FROM slice")
    with open_trace(run.result.output) as tp:
        assert query.rows(tp, "SELECT count(*) AS n, sum(dur) AS ns FROM slice") == counts
