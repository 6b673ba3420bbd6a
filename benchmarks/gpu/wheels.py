"""Packages that a bare machine lacks, from a folder of wheels, without a network."""

import atexit
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

__all__ = ["install_missing"]


def install_missing(folder: Path) -> list[str]:
    """Install the wheels of ``folder`` whose packages aren't there, into a temporary folder on the path; their names.

    Raises: RuntimeError with pip's last line where a wheel can't be installed.
    """
    missing = {name: wheel for wheel in sorted(folder.glob("*.whl")) if not _present(name := wheel.name.split("-")[0])}
    if missing:
        target = tempfile.mkdtemp(prefix="wheels-")
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        options = ["--quiet", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--target", target]
        command = [sys.executable, "-m", "pip", "install", *options, *map(str, missing.values())]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{', '.join(missing)} of {folder}: {done.stderr.strip().splitlines()[-1]}")
        sys.path.append(target)  # last: what is there already stays what it is
    return list(missing)


def _present(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True
