"""The encoder: whatever it writes, the official protobuf parser reads back."""

import gzip
import struct
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from google.protobuf.internal import decoder
from hypothesis import given, settings
from hypothesis import strategies as st
from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as pb

from nsys2perfetto.wire import packets, ragged, varint
from nsys2perfetto.wire.stamp import RowSlot, Stamper
from nsys2perfetto.wire.template import DOUBLE, Placeholders, Template
from nsys2perfetto.wire.writer import TraceWriter

EXAMPLES = settings(max_examples=60, deadline=None)
I64 = st.integers(-(1 << 63), (1 << 63) - 1)
U64 = st.integers(0, (1 << 64) - 1)
NATURAL = st.integers(0, (1 << 63) - 1)
TEXT = st.text(max_size=12)


def signed(values):
    return np.array(values, np.int64)


def decoded(data):
    """The varints of a byte string, as unsigned numbers."""
    found, place = [], 0
    while place < len(data):
        value, place = decoder._DecodeVarint(data, place)
        found.append(value)
    return found


# ---- varints


@EXAMPLES
@given(st.lists(I64, max_size=40))
def test_encode_signed(values):
    data, ends = varint.encode(signed(values))
    assert decoded(data.tobytes()) == [v % (1 << 64) for v in values]
    assert len(ends) == len(values) and (not values or ends[-1] == len(data))
    assert np.diff([0, *ends]).tolist() == varint.widths(signed(values)).tolist()


@EXAMPLES
@given(st.lists(U64, min_size=1, max_size=40))
def test_encode_unsigned_and_widths(values):
    column = np.array(values, np.uint64)
    data, _ = varint.encode(column)
    assert decoded(data.tobytes()) == values
    assert varint.widths(column).tolist() == [varint.width_of(v) for v in values]
    assert varint.widest(column) == max(varint.width_of(v) for v in values)


@pytest.mark.parametrize("bits", range(1, 65))
def test_the_shortest_varint_at_each_border(bits):
    for value in (1 << bits) - 1, (1 << bits) - 2:
        expected = max(1, -(-value.bit_length() // 7))
        assert varint.width_of(value) == expected
        assert len(varint.encode(np.array([value], np.uint64))[0]) == expected


def test_negative_numbers_take_ten_bytes():
    assert varint.width_of(-1) == varint.widest(signed([5, -1])) == varint.MAX_WIDTH
    assert varint.widest(np.empty(0, np.int64)) == 1


@EXAMPLES
@given(st.lists(I64, min_size=1, max_size=20), st.integers(0, 3), st.data())
def test_patch_keeps_its_width(values, offset, data):
    column = signed(values)
    width = data.draw(st.integers(varint.widest(column), varint.MAX_WIDTH))
    block = np.full((len(values), offset + width + 2), 0x55, np.uint8)
    varint.patch_varint(block, offset, column, width)
    for row, value in zip(block, values, strict=True):
        found, end = decoder._DecodeVarint(row.tobytes(), offset)
        assert (found, end) == (value % (1 << 64), offset + width)
        assert set(row[:offset]) | set(row[offset + width :]) == {0x55}


# ---- columns of byte strings

BYTES = st.lists(st.binary(max_size=9), min_size=1, max_size=12)


def column(items):
    return ragged.from_strings(pl.Series(items, dtype=pl.Binary))


def columns_of(n):
    return st.lists(st.binary(max_size=6), min_size=n, max_size=n)


def items(rows):
    return [rows.row(i) for i in range(len(rows))]


@EXAMPLES
@given(st.integers(1, 12).flatmap(lambda n: st.lists(columns_of(n), min_size=1, max_size=4)))
def test_concat(columns):
    glued = ragged.concat(*(column(c) for c in columns))
    assert items(glued) == [b"".join(row) for row in zip(*columns, strict=True)]


@EXAMPLES
@given(BYTES, st.data())
def test_keep_group_and_slice(values, data):
    rows = column(values)
    present = data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))
    kept = ragged.keep(rows, np.array(present))
    assert items(kept) == [v if p else b"" for v, p in zip(values, present, strict=True)]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), max_size=4)))
    bounds = [0, *cuts, len(values)]
    grouped = ragged.group(rows, np.diff(bounds))
    assert items(grouped) == [b"".join(values[a:b]) for a, b in pairwise(bounds)]
    middle = len(values) // 2
    assert rows.slice(middle, len(values)).tobytes() == b"".join(values[middle:])
    again = ragged.concat(grouped, ragged.repeat(b"!", len(grouped)))
    assert items(again) == [g + b"!" for g in items(grouped)]


@EXAMPLES
@given(BYTES, st.randoms(use_true_random=False))
def test_interleave(values, random):
    numbers = list(range(len(values)))
    random.shuffle(numbers)
    cut = random.randint(0, len(values))
    pieces = [
        (np.array(part, np.intp), column([values[i] for i in part]))
        for part in (numbers[:cut], numbers[cut:])
        if part
    ]
    assert items(ragged.interleave(pieces, len(values))) == values


@EXAMPLES
@given(st.lists(st.one_of(st.none(), TEXT), min_size=1, max_size=8), st.data())
def test_strings_and_lengths(values, data):
    iids = data.draw(st.lists(st.integers(0, 1 << 40), min_size=len(values), max_size=len(values)))
    body = ragged.concat(
        ragged.encode_varint(1, signed(iids)),
        ragged.encode_string(2, pl.Series(values, dtype=pl.String)),
    )
    entries = ragged.length_delimited(2, body)  # InternedData.event_names
    found = pb.InternedData.FromString(entries.data.tobytes())
    assert [e.iid for e in found.event_names] == iids
    assert [e.name if e.HasField("name") else None for e in found.event_names] == values


def test_long_rows_have_long_lengths():
    texts = ["", "x" * 127, "y" * 128, "z" * 20_000]
    body = ragged.encode_string(2, pl.Series(texts, dtype=pl.String))
    found = pb.InternedData.FromString(ragged.length_delimited(2, body).data.tobytes())
    assert [e.name for e in found.event_names] == texts


def test_nothing_at_all():
    empty = ragged.from_strings(pl.Series([], dtype=pl.String))
    assert len(empty) == 0
    assert len(ragged.concat(empty, empty)) == 0
    assert len(ragged.length_delimited(3, empty)) == 0


# ---- templates


def packet(p):
    made = pb.TracePacket(timestamp=p["ts"])
    if "name" in p:
        made.track_event.name_iid = p["name"]
    if "signed" in p:
        made.track_event.debug_annotations.add(name_iid=1).int_value = p.signed("signed")
    if "unsigned" in p:
        made.track_event.debug_annotations.add(name_iid=2).uint_value = p["unsigned"]
    if "real" in p:
        made.track_event.debug_annotations.add(name_iid=3).double_value = p.double("real")
    return made


def test_a_slot_that_is_missing_or_there_twice_is_an_error():
    def twice(p):
        return pb.TracePacket(timestamp=p["ts"], timestamp_clock_id=p["ts"])

    with pytest.raises(ValueError, match="'nowhere' occurs 0 times"):
        Template.make(packet, {"ts": 3, "nowhere": 2})
    with pytest.raises(ValueError, match="'ts' occurs 2 times"):
        Template.make(twice, {"ts": 3})


def test_a_slot_of_another_kind_is_an_error():
    with pytest.raises(AssertionError):
        Placeholders({"x": DOUBLE})["x"]
    with pytest.raises(AssertionError):
        Placeholders({"x": 3}).double("x")


@pytest.mark.parametrize("width", range(1, 11))
@pytest.mark.parametrize("name", ["signed", "unsigned"])
def test_placeholders_of_every_width_fit_their_field(width, name):
    """Ten bytes too: that is what every negative number needs."""
    template = Template.make(packet, {"ts": 2, name: width})
    assert template.slots[name].width == width
    value = (1 << min(7 * width, 63)) - 1 if width < 10 else -5 if name == "signed" else 1 << 63
    column = np.array([value], np.int64 if value < 1 << 63 else np.uint64)
    block = template.stamp({"ts": signed([5]), name: column}, 1)
    [annotation] = pb.Trace.FromString(block.tobytes()).packet[0].track_event.debug_annotations
    assert (annotation.int_value or annotation.uint_value) == value


@EXAMPLES
@given(st.lists(st.tuples(NATURAL, st.integers(1, 1 << 30), I64, U64, st.floats(allow_nan=False)),
                min_size=1, max_size=15))  # fmt: skip
def test_stamped_templates_are_read_back(rows):
    ts, name, integers, naturals, reals = (list(c) for c in zip(*rows, strict=True))
    columns = {
        "ts": signed(ts), "name": signed(name), "signed": signed(integers),
        "unsigned": np.array(naturals, np.uint64), "real": np.array(reals),
    }  # fmt: skip
    slots = {n: DOUBLE if n == "real" else varint.widest(c) for n, c in columns.items()}
    block = Template.make(packet, slots).stamp(columns, len(rows))
    trace = pb.Trace.FromString(block.tobytes())
    found = []
    for p in trace.packet:
        a, b, c = p.track_event.debug_annotations
        found.append(
            (p.timestamp, p.track_event.name_iid, a.int_value, b.uint_value, c.double_value)
        )
    assert found == rows


# ---- stamping events of many configurations


@st.composite
def events(draw):
    configs = draw(st.lists(
        st.fixed_dictionaries({
            "name": st.one_of(st.none(), st.integers(1, 1 << 40)),
            "signed": st.one_of(st.none(), I64),
            "real": st.one_of(st.none(), st.floats(allow_nan=False)),
        }),
        min_size=1, max_size=6,
    ))  # fmt: skip
    rows = draw(st.lists(
        st.tuples(st.integers(0, len(configs) - 1), NATURAL, st.one_of(st.none(), U64)),
        min_size=1, max_size=25,
    ))  # fmt: skip
    return configs, rows


@EXAMPLES
@given(events())
def test_stamper(made):
    configs, rows = made
    config = pl.DataFrame(
        configs, schema={"name": pl.Int64, "signed": pl.Int64, "real": pl.Float64}
    )
    code = np.array([r[0] for r in rows], np.uint32)
    ts = signed([r[1] for r in rows])
    naturals = np.array([r[2] or 0 for r in rows], np.uint64)
    present = np.array([r[2] is not None for r in rows])
    slots = {"ts": RowSlot.fitting(ts), "unsigned": RowSlot.fitting(naturals, optional=True)}
    stamper = Stamper(packet, config, slots)
    pieces = [
        (part, ragged.from_matrix(block))
        for part, block in stamper.stamp(
            code, {"ts": ts, "unsigned": naturals}, {"unsigned": present}
        )
    ]
    assert sorted(np.concatenate([part for part, _ in pieces]).tolist()) == list(range(len(rows)))
    data = ragged.interleave(pieces, len(rows)).data.tobytes()
    for (number, time, natural), p in zip(rows, pb.Trace.FromString(data).packet, strict=True):
        expected = pb.TracePacket(timestamp=time)
        event = expected.track_event
        wanted = configs[number]
        if wanted["name"] is not None:
            event.name_iid = wanted["name"]
        if wanted["signed"] is not None:
            event.debug_annotations.add(name_iid=1).int_value = wanted["signed"]
        if natural is not None:
            event.debug_annotations.add(name_iid=2).uint_value = natural
        if wanted["real"] is not None:
            event.debug_annotations.add(name_iid=3).double_value = wanted["real"]
        if not event.ByteSize():
            expected.ClearField("track_event")
        assert p == expected


def test_a_stamper_without_configuration():
    stamper = Stamper(packet, pl.DataFrame(), {"ts": RowSlot.fitting(signed([300]))})
    [(rows, block)] = stamper.stamp(np.zeros(3, np.uint32), {"ts": signed([1, 2, 300])})
    assert rows.tolist() == [0, 1, 2]
    assert [p.timestamp for p in pb.Trace.FromString(block.tobytes()).packet] == [1, 2, 300]


def test_stamping_in_chunks_reuses_the_stencils():
    config = pl.DataFrame({"name": [1, None]})
    stamper = Stamper(packet, config, {"ts": RowSlot(3)})
    for chunk in range(3):
        found = [(r.tolist(), len(b)) for r, b in stamper.stamp(
            np.array([chunk % 2, 1], np.uint32), {"ts": signed([chunk, 9])})]  # fmt: skip
        assert sorted(r for rows, _ in found for r in rows) == [0, 1]


# ---- packets


def test_interned_data_is_cut_into_packets(monkeypatch):
    monkeypatch.setattr(packets, "_INTERN_CHUNK", 200)
    texts = [f"text {n}" * (n % 7) for n in range(100)]
    body = ragged.concat(
        ragged.encode_varint(1, np.arange(1, 101)),
        ragged.encode_string(2, pl.Series(texts, dtype=pl.String)),
    )
    head = pb.TracePacket(trusted_packet_sequence_id=7)
    made = list(packets.interned(head, ragged.length_delimited(2, body)))
    trace = pb.Trace.FromString(b"".join(made))
    assert len(trace.packet) == len(made) > 5
    assert {p.trusted_packet_sequence_id for p in trace.packet} == {7}
    names = [e.name for p in trace.packet for e in p.interned_data.event_names]
    assert names == texts


def test_frame():
    made = [pb.TracePacket(timestamp=n) for n in (1, 2)]
    assert pb.Trace.FromString(packets.frame(made)).packet[1].timestamp == 2


# ---- the writer


def test_a_trace_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "a.pftrace"
    with TraceWriter(path) as out:
        out.write(b"abc")
        out.write(np.frombuffer(b"def", np.uint8))
        assert not path.exists()
        assert out.bytes_written == 6
    assert path.read_bytes() == b"abcdef"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a.pftrace", "a.pftrace.gz"])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_nothing_and_the_old_file(tmp_path, name, error):
    path = tmp_path / name
    for before in (None, b"old"):
        if before:
            path.write_bytes(before)
        with pytest.raises(error), TraceWriter(path) as out:
            out.write(b"x" * (3 << 20))
            raise error
        assert [p.read_bytes() for p in tmp_path.iterdir()] == ([before] if before else [])


def test_gzip_names_no_file_and_no_time(tmp_path):
    path = tmp_path / "secret name.pftrace.gz"
    with TraceWriter(path) as out:
        out.write(b"abc" * 1000)
    data = path.read_bytes()
    assert gzip.decompress(data) == b"abc" * 1000
    assert b"secret" not in data
    assert struct.unpack("<I", data[4:8]) == (0,)


def test_a_link_stays_a_link(tmp_path):
    target = tmp_path / "target.pftrace"
    target.write_bytes(b"old")
    link = tmp_path / "link.pftrace"
    link.symlink_to(target)
    with TraceWriter(link) as out:
        out.write(b"new")
    assert link.is_symlink() and target.read_bytes() == b"new"


def test_permissions_are_those_of_any_new_file(tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"")
    path = tmp_path / "a.pftrace"
    with TraceWriter(path) as out:
        out.write(b"x")
    assert path.stat().st_mode == other.stat().st_mode


def test_no_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), TraceWriter(tmp_path / "none" / "a"):
        pass
