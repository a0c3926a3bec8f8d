"""What the tests of `open` share: the command in a process of its own, and plain HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
from urllib.parse import parse_qs, urlsplit

from tests.command import environment, start

ANY_PORT = ("--ui", "https://ui.example", "--port", "0")
"""A UI that is free to fetch from any port, so that tests can run side by side."""


def parsed(link):
    """The parts of a link, as the UI takes them apart: base, trace's URL, plugins, commands."""
    base, _, rest = link.partition("#!/?")
    arguments = parse_qs(rest, strict_parsing=True)
    [url] = arguments["url"]
    plugins = arguments.get("enablePlugins", [""])[0].split(",")
    return base, url, plugins, json.loads(arguments["startupCommands"][0])


def ask(url, method="GET", **headers):
    """A request: status, headers, body. A header of None is not sent."""
    parts = urlsplit(url)
    headers = {"Host": parts.netloc, "Origin": "https://ui.example"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)
    with contextlib.closing(connection):
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()


@contextlib.contextmanager
def opened(*arguments, env=None):
    """The command `open` while it serves: its process, and the link that it printed."""
    env = env or environment(TMPDIR=os.environ.get("TMPDIR"))
    with start("open", *arguments, env=env) as process:
        try:
            yield process, link_of(process)
        finally:
            process.kill()


def link_of(process):
    """Reads what the command prints up to its link."""
    for line in process.stdout:
        if "#!/?" in line:
            return line.strip()
    raise AssertionError(process.stderr.read())


def finish(process):
    """Waits for the end: what else it prints on both streams."""
    printed = process.stdout.read(), process.stderr.read()
    process.wait(timeout=60)
    return printed
