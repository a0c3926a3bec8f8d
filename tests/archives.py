"""Building the wheel and the sdist, and what has to be in them."""

from __future__ import annotations

import os
import subprocess
import tarfile
import zipfile
from pathlib import Path

from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from tests.engine.locate import REPOSITORY

PACKAGE = "nsys2perfetto"


def wheel(folder, root=REPOSITORY):
    """Builds a wheel of the tree at `root`, without an environment of its own; returns its path."""
    [path] = WheelBuilder(str(root)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def sdist(folder, root=REPOSITORY):
    """The same for an sdist."""
    [path] = SdistBuilder(str(root)).build(directory=str(folder), versions=["standard"])
    return Path(path)


def unpack(path, folder):
    """Unpacks an sdist; returns the folder in it."""
    with tarfile.open(path) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(folder, filter="data")
        else:
            archive.extractall(folder)
    [root] = Path(folder).iterdir()
    return root


def names_in_wheel(path):
    """Files of the package in a wheel, and the names of the others within `.dist-info`."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    ours = {name for name in names if name.startswith(f"{PACKAGE}/")}
    return ours, {name.partition("/")[2] for name in names if name not in ours}


def read(path, name):
    """The text of the file in a wheel whose name ends so."""
    with zipfile.ZipFile(path) as archive:
        [found] = [n for n in archive.namelist() if n.endswith(name)]
        return archive.read(found).decode()


def package_files(root=REPOSITORY):
    """What a wheel has to hold: all files of the package, code and data."""
    return {
        str(path.relative_to(root))
        for path in (Path(root) / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def tracked_files(root=REPOSITORY):
    """What an sdist has to hold: what git tracks or would track. None where this is no checkout."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    try:
        run = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return {name for name in run.stdout.split("\0") if (Path(root) / name).is_file()}
