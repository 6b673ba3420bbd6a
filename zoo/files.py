"""Files that are written whole or not at all, and settings and results that are read within bounds."""

import contextlib
import glob
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import yaml

from zoo.errors import ZooError

if os.name == "posix":  # on Windows a file that is open can't be removed, so there is nothing to lock
    import fcntl

__all__ = ["WriteError", "cache_folder", "read_json", "read_yaml", "write_atomically"]

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the same in C, where PyYAML has it: ten times as fast
_LARGEST_YAML, _LARGEST_JSON = 2**17, 2**24  # bytes; YAML takes seconds for a hundred thousand
_MOST = 100_000  # nodes of a YAML file, those that aliases repeat counted each time


class WriteError(ZooError, OSError):
    """A file that could not be written: which one, why, and what to do. What it held before is still there."""


def cache_folder() -> Path:
    """Where what can be made again is kept: ZOO_CACHE, else "zoo" in XDG_CACHE_HOME or ~/.cache."""
    folder = os.environ.get("ZOO_CACHE")
    return Path(folder or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "zoo")).expanduser()


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


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """The settings in a YAML file, which are plain data: no tag in it makes an object.

    Raises:
        ZooError: where it can't be read, is no YAML, holds anything but settings, or is far larger than settings are, as
            files are in which aliases repeat one another.
    """
    text = _text(path, _LARGEST_YAML)
    try:
        _require_few_nodes(text)
        loaded = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError, AttributeError, KeyError) as error:
        # Tags in wrong places raise almost anything.
        raise ZooError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(loaded, dict | None) or not all(isinstance(key, str) for key in loaded or ()):
        raise ZooError(f"{path} holds a {type(loaded).__name__}: settings, as --print_config shows them, are needed")
    return loaded or {}


def _require_few_nodes(text: str) -> None:
    """ValueError where a YAML document is far larger than it looks, or deeper than anyone writes."""
    sizes: dict[str, int] = {}  # of what has an anchor
    open_: list[tuple[str | None, int]] = [(None, 0)]  # containers: anchor, nodes so far
    for event in yaml.parse(text, _Loader):
        size = 1
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            open_.append((event.anchor, 1))
            if len(open_) > 100:
                raise ValueError("it is too deep")
            continue
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            anchor, size = open_.pop()
            if anchor is not None:
                sizes[anchor] = size
        elif isinstance(event, yaml.AliasEvent):
            size = sizes.get(str(event.anchor), _MOST)  # one that is not closed contains itself
        elif not isinstance(event, yaml.ScalarEvent):
            continue
        elif event.anchor is not None:
            sizes[event.anchor] = 1
        anchor, total = open_[-1]
        open_[-1] = (anchor, total + size)
        if total + size > _MOST:
            raise ValueError("it is too large")


def read_json(path: str | os.PathLike) -> dict[str, Any]:
    """The results in a JSON file.

    Raises:
        ZooError: where it can't be read, is no JSON, or holds anything but names and values.
    """
    try:
        loaded = json.loads(_text(path, _LARGEST_JSON))
    except (ValueError, RecursionError) as error:
        raise ZooError(f"{path} is not JSON: {' '.join(str(error).split())[:300]}") from error
    if not isinstance(loaded, dict):
        raise ZooError(f"{path} holds a {type(loaded).__name__}, and not results by their names")
    return loaded


def _text(path: str | os.PathLike, most: int) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ZooError(f"{path} has more than {most:,} bytes, far more than settings or results take.")
        return content.decode()
    except OSError as error:
        raise ZooError(f"{path} can't be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ZooError(f"{path} is no text: {error}.") from error
