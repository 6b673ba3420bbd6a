"""Files that are written whole or not at all."""

import contextlib
import glob
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from zoo.errors import ZooError

if os.name == "posix":  # on Windows a file that is open can't be removed, so there is nothing to lock
    import fcntl

__all__ = ["WriteError", "write_atomically"]


class WriteError(ZooError, OSError):
    """A file that could not be written: which one, why, and what to do. What it held before is still there."""


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike, text: bool = False, advice: str = "") -> Iterator[IO[Any]]:
    """A file to write to that takes the place of ``path`` once it is whole and on the disk.

    It lies beside ``path``, is flushed to the disk, and is renamed; then the folder is flushed too. Whatever happens on
    the way, a full disk, an exception, a kill, a power cut, ``path`` holds what it held before or all of the new contents.
    The unfinished file is removed; what a killed process left is removed by the next one that writes ``path``.

    Arguments:
        path: What to write; folders that are missing are made. Of a symbolic link the file it points to is replaced.
        text: Open for text (UTF-8, line endings as written) and not for bytes.
        advice: What to do where it can't be written, a sentence; by default, to make room or choose another folder.

    Returns:
        the open file; its ``name`` is the path of the unfinished one.

    Raises:
        WriteError, a ZooError that is an OSError too, where it can't be written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> with write_atomically(folder / "note.txt", text=True) as file:
        ...     _ = file.write("whole")
        >>> os.listdir(folder), (folder / "note.txt").read_text()
        (['note.txt'], 'whole')
    """
    target = Path(os.path.realpath(path))
    part = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(target)
        part, file = _unfinished(target, text)
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name != "posix":
                file.close()
            os.replace(part, target)
        _flush_folder(target.parent)
    except Exception as error:
        if (cause := _cause(error, target)) is None:
            raise
        advice = advice or "Make room, or choose another folder, and try again."
        raise WriteError(f"{path} can't be written: {cause.strerror or cause}.\n{advice}") from error
    finally:
        if part is not None:
            with contextlib.suppress(OSError):
                os.unlink(part)


def _unfinished(target: Path, text: bool) -> tuple[Path, IO[Any]]:
    """A new locked file beside ``target``, with the permissions of ``target`` where it exists."""
    while True:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex[:12]}.part")
        file = open(part, "x", encoding="utf-8", newline="") if text else open(part, "x+b")  # noqa: SIM115
        try:
            if os.name == "posix":
                with contextlib.suppress(OSError):  # a file system without locks
                    fcntl.flock(file, fcntl.LOCK_EX)
            if part.exists():  # else another writer found it before it was locked, and took it for abandoned
                if target.exists():
                    os.chmod(part, target.stat().st_mode & 0o777)
                return part, file
        except BaseException:
            file.close()
            part.unlink(missing_ok=True)
            raise
        file.close()


def _remove_abandoned(target: Path) -> None:
    """Remove the unfinished files of processes that are gone: nobody holds their locks."""
    for part in target.parent.glob(f".{glob.escape(target.name)}.*.part"):
        with contextlib.suppress(OSError), open(part, "rb") as file:
            if os.name == "posix":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            part.unlink()


def _flush_folder(folder: Path) -> None:
    """Flush the folder's names to the disk, where the system lets one: else a power cut may undo the renaming."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _cause(error: BaseException, target: Path) -> OSError | None:
    """The system's error in writing ``target`` that led to ``error``, if one did: writers wrap what is raised in them."""
    if isinstance(error, ZooError):
        return None
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, OSError):
        seen = seen.__cause__ or seen.__context__
    if seen is None or seen.filename is None:
        return seen
    place = Path(os.fsdecode(seen.filename)) if isinstance(seen.filename, str | bytes) else None
    ours = place in target.parents or (place is not None and place.name.startswith(f".{target.name}."))
    return seen if ours else None  # another file that could not be read while this one was written
