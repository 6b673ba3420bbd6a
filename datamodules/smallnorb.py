"""SmallNORB: photographs of toys, of four known factors, from the published binary matrices."""

import math
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, ClassVar

import numpy as np

from datamodules.factor_files import FactorFiles
from datamodules.files import Published, reading
from datamodules.readers import opened, read_end, read_exactly

__all__ = ["SmallNORB"]

_TYPES = {0x1E3D4C54: np.dtype("<i4"), 0x1E3D4C55: np.dtype("u1")}  # of the matrices' magic numbers
_SIDE = 96
_BLOCK = 1024  # pairs of photographs that are read at a time: 19 MB


def _files() -> tuple[Published, ...]:
    digests = {  # recorded by others, not verified on copies
        "5x46789x9x18x6x2x96x96-training": (
            "5ffd6272a07d32695ee1082a26a41a93a37aab8c28da047f8c34ed348d214873",
            "2784e542c1922060691090952b6cd6278879a216c90f81476f0f00256d42cdaa",
            "de7eb932ebe7a4ee16217fead60660d0eb3d23632c2f4d1c51f88c501c17bf32",
        ),
        "5x01235x9x18x6x2x96x96-testing": (
            "cf7104eed3e51174d2f65b66d1e5878b9da233b886f161b0d88f4510ba2c7474",
            "ecaf6d5bb8c3bc5eab9cf0258f6d2198dd474e016e374836fc097f2e5ff509ff",
            "16adf314226327ee006d1a44db8cfef52773c06c829951d5653a9f6f310248a2",
        ),
    }
    folder = "https://cs.nyu.edu/~ylclab/data/norb-v1.0-small/"
    return tuple(
        Published(name := f"smallnorb-{part}-{kind}.mat.gz", digest, (folder + name,))
        for part, three in digests.items()
        for kind, digest in zip(("dat", "cat", "info"), three, strict=True)
    )


class SmallNORB(FactorFiles):
    """48,600 photographs of toys, 1x64x64, 256 levels: category, elevation, azimuth and lighting.

    Which of the ten toys of a category it is counts as no factor: :meth:`render` draws one at random, so equal factors
    render different images. Training and test files are taken together, the left camera's photographs only, resized from
    96x96 (Lanczos); azimuths 0, 2, ..., 34 are halved.

    Splits: 38,880 train, 4,860 validation, 4,860 test, by one fixed permutation (see :class:`FactorGrid`), which are not
    the published ones: those have no toy in common, and these have them all. Six files, 0.26 GB together, each with or
    without ``.gz``, are found under ``root`` or downloaded.

    The arguments are those of :class:`FactorFiles`.

    References:
        | Learning Methods for Generic Object Recognition with Invariance to Pose and Lighting (LeCun et al., 2004)
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2019), as used there
        | https://arxiv.org/abs/1811.12359
    """

    title = "smallnorb"
    grid: ClassVar[Mapping[str, int]] = {"category": 5, "elevation": 9, "azimuth": 18, "lighting": 6}
    copies = 10
    deterministic = False
    published = _files()
    folders = ("smallnorb", "SmallNORB", "small_norb", "norb", "")

    def read(self, paths: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A block of photographs at a time; their numbers follow from the files with categories and with the rest."""
        for dat, cat, info in zip(*[iter(paths)] * 3, strict=True):
            total = math.prod(self.grid.values()) * self.copies
            categories = _matrix(cat, "<i4", (), total)
            with reading(info):
                numbers = self._numbers(categories, _matrix(info, "<i4", (4,), total))
            with reading(dat), opened(dat) as file:
                shape = _header(file, "u1", 4)
                if shape != (len(numbers), 2, _SIDE, _SIDE):
                    raise ValueError(f"its shape is {shape}, and {(len(numbers), 2, _SIDE, _SIDE)} is needed")
                for start in range(0, len(numbers), _BLOCK):
                    block = numbers[start : start + _BLOCK]
                    content = read_exactly(file, len(block) * 2 * _SIDE * _SIDE)
                    pairs = np.frombuffer(content, np.uint8).reshape(len(block), 2, _SIDE, _SIDE)
                    yield block, pairs[:, 0]  # the left camera
                read_end(file)

    def _numbers(self, category: np.ndarray, info: np.ndarray) -> np.ndarray:
        """Numbers of the photographs with these categories (n,) and rows (n, 4): toy, elevation, azimuth, lighting."""
        toy, elevation, azimuth, lighting = info.T
        if (azimuth % 2).any():
            raise ValueError("an azimuth is odd")
        sizes = (*self.grid.values(), self.copies)
        return np.ravel_multi_index((category, elevation, azimuth // 2, lighting, toy), sizes)


def _header(file: BinaryIO, dtype: str, ndim: int) -> tuple[int, ...]:
    """The shape that a matrix's header tells: little-endian magic number, number of dimensions, at least three sizes."""
    magic, found = struct.unpack("<2i", read_exactly(file, 8))
    if _TYPES.get(magic) != np.dtype(dtype) or found != ndim:
        raise ValueError(f"it begins with magic number {magic:#x} and {found} dimensions")
    stored = max(3, ndim)
    return struct.unpack(f"<{stored}i", read_exactly(file, 4 * stored))[:ndim]


def _matrix(path: Path, dtype: str, row: tuple[int, ...], most: int) -> np.ndarray:
    """A whole matrix, of up to ``most`` rows of this shape."""
    with reading(path), opened(path) as file:
        shape = _header(file, dtype, 1 + len(row))
        if shape[1:] != row or not 0 <= shape[0] <= most:
            raise ValueError(f"its shape is {shape}, and up to {(most, *row)} is needed")
        values = np.frombuffer(read_exactly(file, math.prod(shape) * np.dtype(dtype).itemsize), dtype)
        read_end(file)
        return values.reshape(shape)
