"""dSprites: all 737,280 sprites of five known factors, drawn here, kept as bits and unpacked on the device."""

import hashlib
import io
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from datamodules.dsprites_render import COUNT, FACTOR_NAMES, FACTOR_SIZES, factors_of, packed, render
from datamodules.factors import FactorGrid
from datamodules.files import reading
from datamodules.loader import Arrays
from datamodules.readers import open_regular
from zoo.errors import ZooError
from zoo.progress import progress_bar

__all__ = ["DSprites", "render"]

_ORIGINAL = "d98996d3f8ee1550e06b9d4ed78d0beb478910d5"  # SHA-1 of the published file as a git blob
_LARGEST = 2**26  # bytes of a file that is read to see whether it is the published one, of 26 MB
_CHUNK = 4096  # images that are held in bytes at a time: 16 MB


class DSprites(FactorGrid):
    """737,280 white sprites on black, 64x64, one of each combination of shape, scale, orientation, posX and posY.

    The images are drawn (see :func:`render`) and cached as bits, 360 MB in memory, on the first use; that takes
    seconds. Splits: 589,824 train, 73,728 validation, 73,728 test, by one fixed permutation (see :class:`FactorGrid`).

    Arguments:
        resolution: Height and width, a multiple of 8; the published images have 64.
        size: Use this many images only, the first of each split's permutation, for quick work: named in the spec,
            ``dsprites[10000]``.
        original: Path of the published npz; its images are then used instead of the drawn ones (3 in 20,000 differ, by
            a pixel each). :meth:`render` draws all the same.
        factors: The values that are kept of some factors; see :class:`FactorGrid`. Only what is kept is drawn.
        correlate, hold_out: Factors that are correlated in training, and combinations that are held out of it; see
            :class:`FactorGrid`.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: for a resolution, size or factor out of range, or an ``original`` that isn't the published file.

    References:
        | dSprites: Disentanglement testing Sprites dataset (Matthey et al., 2017)
        | https://github.com/google-deepmind/dsprites-dataset
    """

    title = "dsprites"
    grid: ClassVar[Mapping[str, int]] = dict(zip(FACTOR_NAMES, FACTOR_SIZES, strict=True))
    levels = 2

    def __init__(
        self,
        resolution: int = 64,
        size: int | None = None,
        original: str | None = None,
        factors: dict[str, list[int]] | None = None,
        correlate: dict[str, Any] | None = None,
        hold_out: dict[str, list[int]] | None = None,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        common = {"batch_size": batch_size, "eval_batch_size": eval_batch_size, "seed": seed, "on_device": on_device}
        super().__init__(resolution, factors, correlate, hold_out, **common)
        if resolution < 8 or resolution % 8:
            raise ZooError(f"resolution {resolution}: a multiple of 8 is needed; the published images have 64.")
        if size is not None and not 10 <= size <= self.count:
            raise ZooError(f"size {size}: 10 to {self.count} images are there; leave it out for all.")
        if original is not None and resolution != 64:
            raise ZooError(f"resolution {resolution}: the original images have 64; leave out one of the two options.")
        self.size, self.original = size, original

    @property
    def variants(self) -> list[str]:
        """Size, resolution and kept factors, where they are not the whole's, and whether images are the published ones."""
        size = [str(self.size)] if self.size else []
        return size + super().variants + (["original"] if self.original else [])

    def prepare_data(self) -> None:
        """Draw the images, once for all processes and runs."""
        self.setup()

    def load(self) -> dict[str, Arrays]:
        """The three splits, always the same; factors follow from each image's number in the whole set."""
        rows = self._rows()
        splits = {}
        for split, numbers in self.split_numbers(self.size).items():
            if split == "train":  # its batches are shuffled; of the others the first ones are to be a fair sample
                numbers = np.sort(numbers)
            factors = self.factors_of(numbers).to(torch.uint8)
            weights = self.weights_of(numbers) if split == "train" else None
            splits[split] = Arrays(torch.from_numpy(rows(numbers)), factors=factors, transform=self._seen, weights=weights)
        return splits

    def render(self, factors: Tensor) -> Tensor:
        """Drawn images (n, C, H, W) uint8 of the factors (n, K), on the CPU; noise is torch's global draw."""
        return self.paint(torch.from_numpy(render(self.places(factors), self.resolution)).unsqueeze(1))

    def paint(self, sprites: Tensor, generator: Generator | None = None) -> Tensor:
        """What is seen (B, C, H, W) of sprites (B, 1, H, W) of 0 and 1: here nothing else."""
        return sprites

    def _seen(self, bits: Tensor, generator: Generator) -> Tensor:
        return self.paint(_unpack(bits, self.resolution), generator)

    def _rows(self) -> Callable[[np.ndarray], np.ndarray]:
        """What gives the bit-packed images (M, H*W/8) of the numbers (M,)."""
        if self.original:
            return _read_original(Path(self.original).expanduser()).__getitem__
        if self.size is None and self.count == COUNT:
            return packed(resolution=self.resolution).__getitem__
        return partial(_draw, resolution=self.resolution)


def _draw(index: np.ndarray, resolution: int) -> np.ndarray:
    chunks = (factors_of(index[start : start + _CHUNK]) for start in range(0, len(index), _CHUNK))
    return np.concatenate([np.packbits(render(c, resolution).reshape(len(c), -1), axis=1) for c in chunks])


def _read_original(path: Path) -> np.ndarray:
    """The published images bit-packed (737280, 512), checked and read without unpickling anything."""
    with reading(path):
        with open_regular(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > _LARGEST:
                raise ValueError(f"it has {size:,} bytes, and the published npz fewer than {_LARGEST:,}")
            content = file.read()
        blob = hashlib.sha1(b"blob %d\0" % len(content), usedforsecurity=False)
        blob.update(content)
        if blob.hexdigest() != _ORIGINAL:
            raise ValueError(f"as a git blob its SHA-1 is {blob.hexdigest()}, and the published npz's {_ORIGINAL}")
        rows = np.empty((COUNT, 512), np.uint8)
        with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open("imgs.npy") as images:
            np.lib.format.read_magic(images)
            np.lib.format.read_array_header_1_0(images)
            for start in progress_bar(range(0, COUNT, _CHUNK), "reading dSprites", unit="images", scale=_CHUNK):
                chunk = rows[start : start + _CHUNK]
                pixels = np.frombuffer(images.read(len(chunk) * 64 * 64), np.uint8)
                chunk[:] = np.packbits(pixels.reshape(len(chunk), -1), axis=1)
    return rows


def _unpack(x: Tensor, resolution: int) -> Tensor:
    """Bits (B, H*W/8) to pixels (B, 1, H, W), the highest bit of a byte first."""
    bits = torch.stack([x >> place & 1 for place in range(7, -1, -1)], dim=-1)  # (B, H*W/8, 8)
    return bits.view(-1, 1, resolution, resolution)
