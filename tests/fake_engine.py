#!/usr/bin/env python3
"""A stand-in for trace_processor_shell that does what the tests of process handling need, at once.

It has the official binary's command line and answers `/status` and `/query` with constants. The
environment variable FAKE_ENGINE says what else it does:

    version=52  says that it is v52
    hang        never gets ready
    exit=3      ends with that status while it reads the trace
    refuse      cannot read the trace
    deaf        finds its port taken, says so and goes on without one, as the official binary does
    stranger    does not know the packages that it was started with
    wrapped     is a script that starts the real one as a child

The queries `crash` and `killed` end it.
"""

import http.server
import os
import signal
import subprocess
import sys
import time

MODE, _, VALUE = os.environ.get("FAKE_ENGINE", "").partition("=")


def field(number, data):
    return bytes([number << 3 | 2, len(data)]) + data


LAST_BATCH = field(3, b"\x30\x01")
ONE = field(1, b"one") + field(3, b"\x0a\x01\x02\x12\x01\x01\x30\x01")
"""A QueryResult with a column `one` and a row 1."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two take 40 ms more

    def do_GET(self):
        self.answer(field(2, b"Perfetto v99.1-fake"))

    def do_POST(self):
        sql = self.rfile.read(int(self.headers["Content-Length"]))[2:]
        if sql == b"crash":
            print("[123.456] engine.cc:78 CHECK(it works)", file=sys.stderr, flush=True)
            os._exit(7)
        if sql == b"killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if sql == b"slow":
            time.sleep(60)
        package = sql.decode().split()[-1].partition(".")[0]
        known = any(word.endswith(f"@{package}") for word in sys.argv) and MODE != "stranger"
        self.answer(LAST_BATCH if known else ONE if sql == b"SELECT 1" else field(2, b"no such"))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    arguments = sys.argv[1:]
    if arguments == ["--version"]:
        version = VALUE if MODE == "version" else "99"
        print(f"Perfetto v{version}.1-fake\nTrace Processor RPC API version: 14")
        return 0
    if MODE == "wrapped":
        return subprocess.run(
            [sys.executable, __file__, *arguments], env={}, check=False
        ).returncode
    trace = arguments[-1]
    if MODE == "exit":
        print("Aborted, for no reason", file=sys.stderr)
        return int(VALUE)
    if MODE == "refuse":
        print(f"Loading trace: 0.00 MB\r\ncould not read trace file (path: {trace}): unknown type")
        return 1
    if MODE == "deaf":
        print('[1.2] http_server.cc:72 Failed to listen on IPv4 socket: "127.0.0.1"', flush=True)
    while MODE in ("hang", "deaf"):
        time.sleep(600)
    port = int(arguments[arguments.index("--http-port") + 1])
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
