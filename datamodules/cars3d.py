"""Cars3D: renderings of cars, of three known factors, from the published archive of MATLAB files."""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from datamodules.factor_files import FactorFiles
from datamodules.files import Published
from datamodules.readers import open_regular, read_exactly, read_mat, tar_files

__all__ = ["Cars3D"]

_MESH = re.compile(r"(?:.*/)?cars/(car_\w+_mesh)\.mat")


class Cars3D(FactorFiles):
    """17,568 renderings of cars, 3x64x64, 256 levels: elevation, azimuth, and which of 183 cars.

    Pictures are resized from 128x128 (bicubic). Cars are numbered in the order of their files' names. Splits: 14,054 train,
    1,757 validation, 1,757 test (see :class:`FactorGrid`). The archive ``nips2015-analogy-data.tar.gz`` is found under
    ``root`` or downloaded; so is its folder ``cars``, extracted.

    The arguments are those of :class:`FactorFiles`.

    References:
        | Deep Visual Analogy-Making (Reed et al., 2015)
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2019), as used there
        | https://arxiv.org/abs/1811.12359
    """

    title = "cars3d"
    grid: ClassVar[Mapping[str, int]] = {"elevation": 4, "azimuth": 24, "object": 183}
    channels = 3
    published = (
        Published(
            "nips2015-analogy-data.tar.gz",
            "4e866a7919c1beedf53964e6f7a23686",  # recorded by others, not verified on a copy
            ("http://www.scottreed.info/files/nips2015-analogy-data.tar.gz",),
        ),
    )
    folders = ("cars3d", "Cars3D", "")
    resampling = Image.Resampling.BICUBIC
    side = 128

    def found(self, file: Published) -> Path | None:
        """The archive, or else the folder that it holds."""
        inside = [self.root / folder / data / "cars" for folder in self.folders for data in ("", "data")]
        return super().found(file) or next((path for path in inside if any(path.glob("car_*_mesh.mat"))), None)

    def read(self, paths: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A car at a time; two passes, because cars are numbered in the order of all names."""
        elevations, azimuths, objects = self.grid.values()
        names = sorted(name for name, _, _ in _meshes(paths[0]))
        if len(set(names)) != objects or len(names) != objects:
            raise ValueError(f"it holds {len(names)} files cars/car_*_mesh.mat, and {objects} are needed")
        shape = (self.side, self.side, 3, azimuths, elevations)
        most = 2 * math.prod(shape) + 2**20  # what else is in a file is small
        for name, size, content in _meshes(paths[0]):
            if size > most:
                raise ValueError(f"{name}.mat has {size:,} bytes, and up to {most:,} are accepted")
            pictures = read_mat(content(), "im", shape, f"{name}.mat")
            pictures = pictures.transpose(4, 3, 0, 1, 2).reshape(-1, self.side, self.side, 3)
            yield np.arange(elevations * azimuths) * objects + names.index(name), pictures


def _meshes(path: Path) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Names and sizes of the cars in a folder or in an archive, and what reads their contents."""
    if path.is_dir():
        for mesh in path.glob("car_*_mesh.mat"):
            with open_regular(mesh) as file:
                size = os.fstat(file.fileno()).st_size
                yield mesh.stem, size, partial(read_exactly, file, size)
        return
    for name, size, content in tar_files(path):
        if match := _MESH.fullmatch(name):
            yield match[1], size, content
