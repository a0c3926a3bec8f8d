"""Installs what `make dist` built into empty environments and uses it there: `make dist-test`.

Nothing of the repository is on Python's path while it runs, and the working directory is elsewhere:
what works, works from the wheel. `--only pip` leaves out pipx and uv, which are tried where they
are on the PATH.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nsys2perfetto
from tests import archives
from tests.engine.locate import FETCHED_WASM, NODE_SHELL, REPOSITORY, installed_shell

SAMPLE = REPOSITORY / "samples" / "decode_eager.sqlite"
INSTALLERS = ("pip", "pipx", "uv")

SDIST_TESTS = ("tests/test_distribution.py", "tests/test_conversion.py", "tests/test_nesting.py")
"""What is run in the unpacked sdist: the building of it, and conversions into a real engine."""

_DATA = """
import sys
from importlib.resources import files
import nsys2perfetto
package = files("nsys2perfetto")
assert "site-packages" in str(package), package
assert (package / "py.typed").is_file()
assert (package / "protos" / "trace_extensions.binpb").read_bytes()
assert "CREATE" in (package / "query" / "mark" / "mark.sql").read_text()
print(len([f for f in (package / "sql" / "nsys").iterdir() if f.name.endswith(".sql")]), "modules")
"""


def clean(folder):
    """An environment in which nothing of the repository is found."""
    keep = ("PATH", "LANG", "TMPDIR", "SSL_CERT_FILE", "SYSTEMROOT")
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    kept |= {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_"))}
    return kept | {"HOME": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def say(text):
    """One line of progress."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", flush=True)


def call(*command, folder, env=None, status=0):
    """Runs a program elsewhere; what it printed.

    Raises:
        SystemExit: It ended with another status; its output was printed.
    """
    words = [str(word) for word in command]
    run = subprocess.run(
        words, cwd=folder, env=env or clean(folder), capture_output=True, text=True, check=False
    )
    if run.returncode != status:
        print(run.stdout, run.stderr, sep="\n", file=sys.stderr)
        raise SystemExit(f"{' '.join(words)} ended with {run.returncode}")
    return run.stdout


def use(program, python, folder):
    """All that a user does first, with an installed command and the Python it runs on."""
    engine = installed_shell() or NODE_SHELL
    shutil.copy(SAMPLE, folder / "sample.sqlite")
    os.environ.setdefault("PERFETTO_TP_WASM", str(FETCHED_WASM))
    env = clean(folder) | {"PERFETTO_TP_WASM": os.environ["PERFETTO_TP_WASM"]}

    def out(*words):
        return call(program, *words, folder=folder, env=env)

    version = f"nsys2perfetto {nsys2perfetto.__version__}\n"
    assert out("--version") == version
    assert "Wrote sample.pftrace" in out("sample.sqlite", "--force")
    assert "launch" in out("report", "sample.sqlite")
    assert "1,528" in out("info", "sample.sqlite")
    count = "SELECT count(*) AS steps FROM nsys_step"
    asked = out("query", "sample.pftrace", count, "--format", "json", "--engine", engine)
    assert json.loads(asked) == [{"steps": 32}], asked
    assert "nsys_gap" in out("query", "--schema")
    if python is None:
        return
    assert call(python, "-m", "nsys2perfetto", "--version", folder=folder) == version
    say(call(python, "-I", "-c", _DATA, folder=folder).strip())
    shutil.copy(Path(__file__).with_name("consumer.py"), folder / "consumer.py")
    said = call(python, "consumer.py", "sample.sqlite", engine, folder=folder, env=env)
    assert "2024.6.2.225" in said and "missing.sqlite: no such file" in said, said
    check = ["-m", "mypy", "--strict", "--cache-dir", folder / "mypy", "--python-executable"]
    say(call(sys.executable, *check, python, "consumer.py", folder=folder).strip())


def scripts(environment):
    """Where an environment has its programs."""
    return environment / ("Scripts" if os.name == "nt" else "bin")


def with_pip(wheel, folder, python):
    """An environment of venv, as `pip install` finds it."""
    call(python, "-m", "venv", folder / "env", folder=folder)
    inside = scripts(folder / "env") / "python"
    call(inside, "-m", "pip", "install", "--quiet", wheel, folder=folder)
    call(inside, "-m", "pip", "check", folder=folder)
    use(scripts(folder / "env") / "nsys2perfetto", inside, folder)


def with_pipx(wheel, folder, python):
    """`pipx install`, with all its folders in this one."""
    env = clean(folder) | {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")}
    call("pipx", "install", "--python", python, wheel, folder=folder, env=env)
    use(folder / "bin" / "nsys2perfetto", None, folder)


def with_uv(wheel, folder, python):
    """`uv tool install`, with all its folders in this one."""
    env = clean(folder) | {
        "UV_TOOL_DIR": str(folder / "tools"),
        "UV_TOOL_BIN_DIR": str(folder / "bin"),
        "UV_CACHE_DIR": str(folder / "cache"),
        "UV_PYTHON_DOWNLOADS": "never",
    }
    call("uv", "tool", "install", "--python", python, wheel, folder=folder, env=env)
    use(folder / "bin" / "nsys2perfetto", None, folder)


def from_sdist(path, folder):
    """The sdist is enough to build and to test."""
    root = archives.unpack(path, folder / "tree")
    say(f"tests of the unpacked sdist: {' '.join(SDIST_TESTS)}")
    env = os.environ | {"PERFETTO_TP_WASM": os.environ.get("PERFETTO_TP_WASM", str(FETCHED_WASM))}
    call(sys.executable, "-m", "pytest", "-n", "2", *SDIST_TESTS, folder=root, env=env)


def main():
    """Tries what lies in the folder that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where wheel and sdist are")
    parser.add_argument("--only", choices=INSTALLERS, help="one way to install, and no sdist")
    parser.add_argument("--python", default=sys.executable, help="the Python to install for")
    given = parser.parse_args()
    [wheel] = given.folder.resolve().glob("*.whl")
    [sdist] = given.folder.resolve().glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as name:
        for how in INSTALLERS:
            if given.only not in (None, how):
                continue
            if how != "pip" and shutil.which(how) is None:
                say(f"{how}: skipped, it is not on the PATH")
                continue
            folder = Path(name) / how
            folder.mkdir()
            say(f"{how}: installing {wheel.name}")
            {"pip": with_pip, "pipx": with_pipx, "uv": with_uv}[how](wheel, folder, given.python)
            say(f"{how}: works")
        if given.only is None:
            assert archives.wheel(Path(name)).read_bytes() == wheel.read_bytes()
            from_sdist(sdist, Path(name))
            say("sdist: works")


if __name__ == "__main__":
    main()
