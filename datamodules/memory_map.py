"""Decoded images kept in a memory-mapped file of the cache folder: made once, and larger than the memory if need be."""

import io
import math
import os
import shutil
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.files import reading
from datamodules.readers import open_regular
from zoo.errors import ZooError
from zoo.files import cache_folder, write_atomically

__all__ = ["memory_mapped"]

_BLOCK = 2**24  # bytes that share a checksum


def memory_mapped(
    name: str, shape: tuple[int, ...], fill: Callable[[np.ndarray], None], dtype: torch.dtype = torch.uint8
) -> Tensor:
    """The tensor in the cache folder's file ``name``; where there is none, ``fill`` makes it.

    The file has its name only once it is whole, so processes that start together may each make it. It is an npy file with
    the checksums of its blocks behind the array (CRC-32): they are compared each time, at about 1.5 GB/s and core, so that
    damage on the disk, to a single bit, is noticed before anything is trained on it.

    Arguments:
        name: The file's name, which says all that the contents depend on.
        shape: The tensor's.
        fill: Called with an empty array of this shape, which it writes to.
        dtype: The tensor's, an integer type.

    Raises:
        ZooError: where there is no room, the folder can't be written, or the file is damaged or of another shape.
    """
    place, kind = cache_folder() / name, np.dtype(str(dtype).removeprefix("torch."))
    if not place.exists():
        _make(place, shape, fill, kind)
    header, size = _header(shape, kind), math.prod(shape) * kind.itemsize
    with reading(place), open_regular(place) as file, warnings.catch_warnings():
        if file.read(len(header)) != header:
            raise ValueError(f"it does not hold {kind} {shape}")
        if os.fstat(file.fileno()).st_size != len(header) + size + 4 * _blocks(size):
            raise ValueError("its length is not that of its array and checksums")
        images = np.memmap(file, kind, "r", len(header), shape)
        file.seek(len(header) + size)
        if file.read() != _checksums(images):
            raise ValueError("a checksum differs")
        # Nothing writes to the map: batches are copies of its rows.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


def _make(place: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None], kind: np.dtype) -> None:
    header, size = _header(shape, kind), math.prod(shape) * kind.itemsize
    with write_atomically(place, advice="It keeps decoded pictures: move it with ZOO_CACHE.") as file:
        if (free := shutil.disk_usage(place.parent).free) < 1.01 * size:
            needed = f"{size / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB free"
            raise ZooError(f"no room for the decoded pictures in {place.parent} ({needed}). Move it with ZOO_CACHE.")
        file.write(header)
        file.flush()
        # Writing to a map on a full disk kills the process, so the room is taken first.
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, len(header) + size)
        images = np.memmap(file, kind, "r+", len(header), shape)
        fill(images)
        images.flush()
        file.seek(len(header) + size)
        file.write(_checksums(images))


def _header(shape: tuple[int, ...], kind: np.dtype) -> bytes:
    """How an npy file of such an array begins."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": kind.str, "fortran_order": False, "shape": shape})
    return file.getvalue()


def _blocks(size: int) -> int:
    return -(-size // _BLOCK)


def _checksums(images: np.ndarray) -> bytes:
    """The CRC-32 of each block of the array, four bytes each."""
    flat = images.reshape(-1).view(np.uint8)
    blocks = (flat[start : start + _BLOCK] for start in range(0, flat.size, _BLOCK))
    with ThreadPoolExecutor() as pool:
        return b"".join(value.to_bytes(4, "little") for value in pool.map(zlib.crc32, blocks))
