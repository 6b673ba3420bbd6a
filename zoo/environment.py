"""What a result was made with: versions, commit, machine, memory."""

import importlib.metadata
import os
import platform
import resource
import shlex
import subprocess
import sys
from pathlib import Path

__all__ = ["command", "commit", "machine", "peak_memory", "versions"]

_PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "scikit-learn", "zuko")
_COMMANDS = ("zoo", "zoo.fit", "zoo.evaluate")


def versions() -> dict[str, str]:
    """The versions of Python, the zoo and what its numbers depend on.

    Example:
        >>> versions().keys() >= {"python", "torch", "numpy"}
        True
    """
    found = {"python": platform.python_version()}
    for name in ("generative-zoo", *_PACKAGES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a folder, without an installation
            continue
    return found


def commit() -> str | None:
    """The commit of the zoo's own repository, with ``+`` where files of it were changed; None where there is none."""
    repository = Path(__file__).resolve().parents[1]
    if not (repository / ".git").exists():
        return None
    try:
        head = _git(repository, "rev-parse", "HEAD")
        return head + ("+" if _git(repository, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(repository: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def machine(device: str = "cpu") -> str:
    """The processor and its cores, with the accelerator where one was used.

    Arguments:
        device: What it was computed on: ``cpu``, or the name of an accelerator.
    """
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        name = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), name)
    except OSError:
        pass
    text = f"{name}, {os.cpu_count()} cores"
    return text if device == "cpu" else f"{device}; {text}"


def peak_memory() -> int:
    """The most bytes of memory that this process has had."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def command() -> str | None:
    """The command of the zoo that this program is, as it was typed; None in any other program."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    name = getattr(spec, "name", "").removesuffix(".__main__")  # python -m zoo fit ...
    if name in _COMMANDS:
        return shlex.join(["python", "-m", name, *sys.argv[1:]])
    return shlex.join(["zoo", *sys.argv[1:]]) if spec is None and Path(sys.argv[0]).name == "zoo" else None
