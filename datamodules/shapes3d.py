"""Shapes3D: a shape in a room, of six known factors, from the published HDF5 file."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from datamodules.factor_files import FactorFiles
from datamodules.files import Published
from zoo.errors import ZooError

__all__ = ["Shapes3D"]

_CHUNK = 2**26  # HDF5 inflates a compressed piece as a whole


class Shapes3D(FactorFiles):
    """480,000 pictures of a shape in a room, 3x64x64, 256 levels: hues of floor, wall and object, scale, shape, orientation.

    Splits: 384,000 train, 48,000 validation, 48,000 test (see :class:`FactorGrid`). ``3dshapes.h5``, 0.3 GB, is found under
    ``root`` or downloaded, and read with h5py (``pip install 'generative-zoo[h5]'``); the labels in it are compared with
    the numbering. Decoded, all images take 5.9 GB in the cache folder; with ``factors`` or ``resolution``, less.

    The arguments are those of :class:`FactorFiles`.

    References:
        | 3D Shapes Dataset (Burgess and Kim, 2018)
        | https://github.com/google-deepmind/3d-shapes
    """

    title = "shapes3d"
    grid: ClassVar[Mapping[str, int]] = {
        "floor_hue": 10,
        "wall_hue": 10,
        "object_hue": 10,
        "scale": 8,
        "shape": 4,
        "orientation": 15,
    }
    channels = 3
    published = (
        Published(
            "3dshapes.h5",
            "0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785",  # recorded by others, not verified on a copy
            ("https://storage.googleapis.com/3d-shapes/3dshapes.h5",),
        ),
    )
    folders = ("shapes3d", "3dshapes", "Shapes3D", "3d-shapes", "")

    def prepare_data(self) -> None:
        """Download the file if it is not there, and decode it, once for all processes and runs."""
        _h5py()
        super().prepare_data()

    def read(self, paths: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A block of rows of the file at a time."""
        with _h5py().File(paths[0], "r") as file:
            images, labels = _dataset(file, "images"), _dataset(file, "labels")
            sizes = tuple(self.grid.values())
            shape = (math.prod(sizes), 64, 64, 3)
            if images.shape != shape or images.dtype != np.uint8:
                raise ValueError(f"images are {images.dtype} {images.shape}, and shapes3d's uint8 {shape}")
            if labels.shape != (len(images), len(sizes)) or labels.dtype.kind not in "fiu":
                raise ValueError(f"labels are {labels.dtype} {labels.shape}, and not {len(sizes)} numbers for each image")
            # Labels are angles, hues and lengths: their ranks are the class indices.
            ranks = [np.unique(column, return_inverse=True)[1] for column in labels[:].T]
            if not np.array_equal(ranks, np.unravel_index(np.arange(len(images)), sizes)):
                raise ValueError("its labels are not in shapes3d's order")
            # A compressed chunk is decoded as a whole, so a block is as long as a chunk, and at most 100 MB.
            block = min(images.chunks[0] if images.chunks else 1024, 8192)
            for start in range(0, len(images), block):
                pictures = images[start : start + block]
                yield np.arange(start, start + len(pictures)), pictures


def _dataset(file: Any, name: str) -> Any:
    """The array called ``name``, kept in the file itself and in pieces that are small when they are inflated."""
    if not isinstance(file.get(name, getlink=True), _h5py().HardLink) or not hasattr(file[name], "chunks"):
        raise ValueError(f"{name} is not an array in it")
    found = file[name]
    if found.is_virtual or found.external:
        raise ValueError(f"{name} is kept in other files")
    if found.chunks and math.prod(found.chunks) * found.dtype.itemsize > _CHUNK:
        raise ValueError(f"{name} is compressed in pieces of {found.chunks}: up to {_CHUNK:,} bytes each are accepted")
    return found


def _h5py() -> ModuleType:
    try:
        import h5py
    except ImportError:
        raise ZooError("shapes3d's file is read with h5py, which is not there: pip install 'generative-zoo[h5]'.") from None
    return h5py
