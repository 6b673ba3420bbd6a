"""Checkpoints in a folder from which no large file comes out: each cut into pieces, and joined again to go on."""

from pathlib import Path

__all__ = ["BYTES", "FILES", "join", "split"]

BYTES = 15_000_000  # of a file
FILES = 8  # in the folder, of which
TABLES = 4  # are kept for rows


def split(checkpoint: Path, folder: Path, name: str) -> bool:
    """Put a checkpoint into ``folder`` as ``<name>.ckpt-0``, ...; False, and nothing is there, where it has no room."""
    for old in _pieces(folder, name):
        old.unlink()
    content = checkpoint.read_bytes()
    needed = -(-len(content) // BYTES)
    if needed + len(list(folder.glob("*.ckpt-*"))) > FILES - TABLES:
        return False
    for number in range(needed):
        (folder / f"{name}.ckpt-{number}").write_bytes(content[number * BYTES : (number + 1) * BYTES])
    return True


def join(folder: Path, name: str, target: Path) -> Path | None:
    """The checkpoint of that name in one file, ``target``; None where the folder has none."""
    if not (pieces := _pieces(folder, name)):
        return None
    target.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    return target


def _pieces(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}.ckpt-*"))  # fewer than ten, so by name is by number
