"""Decoded images kept in a memory-mapped file of the cache folder: made once, and larger than the memory if need be."""

import contextlib
import os
import shutil
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datamodules.files import cache_folder, reading
from zoo.errors import ZooError

__all__ = ["memory_mapped"]


def memory_mapped(name: str, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> Tensor:
    """The uint8 tensor in the cache folder's file ``name``; where there is none, ``fill`` makes it.

    The file has its name only once it is whole, so processes that start together may each make it.

    Arguments:
        name: The file's name, which says all that the contents depend on.
        shape: The tensor's.
        fill: Called with an empty array of this shape, which it writes to.

    Raises: ZooError where there is no room, the folder can't be written, or the file is damaged.
    """
    place = cache_folder() / name
    if not place.is_file():
        _make(place, shape, fill)
    with reading(place), warnings.catch_warnings():
        # Nothing writes to the map: batches are copies of its rows.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(np.load(place, mmap_mode="r"))


def _make(place: Path, shape: tuple[int, ...], fill: Callable[[np.ndarray], None]) -> None:
    part = place.with_name(f"{place.name}.{uuid.uuid4().hex}.tmp")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # Writing to a map on a full disk kills the process, so the room is checked first.
        if (free := shutil.disk_usage(place.parent).free) < 1.01 * np.prod(shape):
            needed = f"{np.prod(shape) / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB free"
            raise ZooError(f"no room for the decoded pictures in {place.parent} ({needed}). Move it with ZOO_CACHE.")
        images = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        fill(images)
        images.flush()
        os.replace(part, place)
    except OSError as error:
        why = error.strerror or error
        raise ZooError(f"decoded pictures can't be kept in {place.parent}: {why}. Move it with ZOO_CACHE.") from None
    finally:
        with contextlib.suppress(OSError):
            part.unlink()
