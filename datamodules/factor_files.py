"""Data with known factors whose images come in published files: decoded once, memory-mapped, looked up by their factors."""

import hashlib
import os
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from datamodules.factors import FactorGrid
from datamodules.files import Published, download, find, reading
from datamodules.loader import Arrays
from datamodules.memory_map import memory_mapped
from zoo.errors import ZooError
from zoo.progress import progress_bar

__all__ = ["FactorFiles"]


class FactorFiles(FactorGrid):
    """A :class:`FactorGrid` that reads its images from files as they are published.

    Files are found under ``root`` or downloaded. The images that are kept are decoded once, resized and written to a
    memory-mapped file in the cache folder (ZOO_CACHE, else XDG_CACHE_HOME/zoo, else ~/.cache/zoo), in the order of the
    splits: whatever the data's size, only what a batch needs is in memory, unless the training device holds it all.

    Arguments:
        root: Folder where the files are, or will be downloaded to.
        resolution, factors, correlate, hold_out: See :class:`FactorGrid`.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: where files are missing and can't be downloaded, are damaged, or hold something else.
    """

    published: ClassVar[tuple[Published, ...]]
    folders: ClassVar[tuple[str, ...]]  # under the root; what is downloaded goes to the first
    resampling: ClassVar = Image.Resampling.LANCZOS

    def __init__(self, root: str = "data", **options: Any):
        super().__init__(**options)
        if self.resolution < 1:
            raise ZooError(f"resolution {self.resolution}: 1 or more is needed.")
        self.root = Path(root).expanduser()
        # Empty until they are loaded.
        self.images = torch.empty(0, dtype=torch.uint8)  # (count, C, H, W), the splits one after the other, then the rest
        self.rows = np.empty(0, np.int64)  # of the images with these numbers; -1 for those that are not kept

    @abstractmethod
    def read(self, paths: list[Path]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbers (n,) and images (n, H, W) or (n, H, W, C), a few at a time, of the files in the order of ``published``.

        Images are of an integer type, their values below ``levels``; of more than 8 bits only such that have the resolution.
        """

    def found(self, file: Published) -> Path | None:
        """Where a published file is, compressed or not, or None."""
        return find(self.root, self.folders, [file.name, file.name.removesuffix(".gz")])

    def prepare_data(self) -> None:
        """Download what is not there, and decode it, once for all processes and runs."""
        for file in self.published:
            if self.found(file) is None:
                download(file, self.root / self.folders[0], self._advice)
        self.setup()

    def load(self) -> dict[str, Arrays]:
        """The three splits, always the same."""
        numbers = self.split_numbers()
        inside = np.concatenate(list(numbers.values()))
        # What is held out leaves test images that are in no split; they are there to be rendered.
        self.images = self._decoded(np.concatenate([inside, np.setdiff1d(self.kept_numbers(), inside)]))
        splits, start = {}, 0
        for split, part in numbers.items():
            # Slices, not copies: the images may be larger than the memory.
            images = self.images[start : start + len(part)]
            weights = self.weights_of(part) if split == "train" else None
            splits[split] = Arrays(images, factors=self.factors_of(part).to(torch.uint8), weights=weights)
            start += len(part)
        return splits

    def render(self, factors: Tensor) -> Tensor:
        """Images (n, C, H, W) uint8 of the factors (n, K); of several copies, one drawn by torch's global generator."""
        numbers = self.numbers(factors)
        self.setup()
        if self.copies > 1:
            numbers = numbers + torch.randint(self.copies, (len(numbers),)).numpy()
        return self.images[torch.from_numpy(self.rows[numbers])]

    @property
    def _advice(self) -> str:
        return f"Put {self.title}'s files, as they are published, in {self.root / self.folders[0]}."

    def _decoded(self, order: np.ndarray) -> Tensor:
        """The images with these numbers, in this order."""
        paths = []
        for file in self.published:
            if (path := self.found(file)) is None:
                raise ZooError(f"{file} was not found; prepare_data() downloads it.\n{self._advice}")
            paths.append(path)
        self.rows = np.full(self.copies * int(np.prod(list(self.grid.values()))), -1)
        self.rows[order] = np.arange(len(order))
        stats = [(os.fsencode(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        held_out = () if self.held_out is None else (self.held_out,)  # they lie in another order
        key = hashlib.sha256(repr((2, self.resolution, self.kept, stats, *held_out)).encode()).hexdigest()[:24]
        shape = (len(order), *self.spec.shape)
        return memory_mapped(f"{self.title}-{key}.npy", shape, lambda images: self._fill(images, paths), self.spec.dtype)

    def _fill(self, images: np.ndarray, paths: list[Path]) -> None:
        missing = np.ones(len(images), bool)
        bar: Any = progress_bar(what=f"decoding {self.title}", total=len(self.rows), unit="images")
        with reading(paths[0].parent if len(paths) > 1 else paths[0]), bar:
            for numbers, pictures in self.read(paths):
                rows = self.rows[numbers]
                for row, picture in zip(rows[rows >= 0], pictures[rows >= 0], strict=True):
                    images[row] = self._resized(picture)
                missing[rows[rows >= 0]] = False
                bar.update(len(numbers))
            if missing.any():
                raise ValueError(f"{missing.sum()} of {len(images)} combinations of factors have no image")

    def _resized(self, picture: np.ndarray) -> np.ndarray:
        """One image (H, W) or (H, W, C) as (C, resolution, resolution)."""
        if picture.dtype != np.uint8 and not 0 <= picture.min() <= picture.max() < self.levels:
            span = f"{picture.dtype}, {picture.min()} to {picture.max()}"
            raise ValueError(f"an image is {span}, and 0 to {self.levels - 1} are needed")
        if picture.shape[0] != self.resolution:
            if picture.dtype != np.uint8:
                raise ValueError(f"its {picture.dtype} images have {picture.shape[0]} pixels: only 8 bits are resized")
            picture = np.asarray(Image.fromarray(picture).resize((self.resolution, self.resolution), self.resampling))
        return picture.reshape(self.resolution, self.resolution, -1).transpose(2, 0, 1)
