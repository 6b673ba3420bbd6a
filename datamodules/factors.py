"""Data with an image for each combination of known factors: numbers, subsets, splits, and what scores ask of them."""

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Generator, Tensor

from datamodules.base import DataModule
from datamodules.shifts import Correlation, HeldOut, listing
from zoo.errors import ZooError
from zoo.options import require_between
from zoo.spec import DataSpec

__all__ = ["FactorGrid"]

_ENDS = (0.0, 0.8, 0.9, 1.0)  # of training, validation and test in the fixed permutation


class FactorGrid(DataModule):
    """Images of each combination of the values of known factors.

    An instance is what scores that draw their own data ask for (:class:`zoo.metrics.FactorData`): it has
    ``factor_sizes``, draws factors and renders them as the levels that a model's ``encode`` takes. Factors are class
    indices, 0 to n - 1 of the n values that are kept. Images are numbered row-major over the whole grid, the last factor
    fastest; the ``copies`` of a combination, which differ in what is no factor, follow one another.

    Splits: 80 % train, 10 % validation, 10 % test, by one fixed permutation of the whole grid. A subset leaves each image
    in its split, so what is trained on a part is tested on the whole without an image seen before.

    With ``correlate`` an epoch is as many draws, with replacement, from the training images, of probabilities
    :math:`p(i, j)`; validation and test have each of their images once, uncorrelated. With ``hold_out`` training and
    validation have those of their images that are not held out, and the test split has all images that are held out, of all
    three splits; the other test images are in none. Factors that are drawn for scores are those of the whole, uniform and
    independent, whatever training is shown.

    Arguments:
        resolution: Height and width.
        factors: The values that are kept of some factors, by their indices in the whole grid: ``{"shape": [0, 2],
            "scale": [5]}``. They are numbered anew, in increasing order; a factor of one value is no factor any more and
            leaves the spec. All values of all other factors are kept.
        correlate: Factors that go together in training, and how strongly (:class:`Correlation`): ``{"scale": "posX",
            "strength": 0.2}``.
        hold_out: Combinations that are held out of training (:class:`HeldOut`): those of which each of these factors has one
            of these values, by their indices in the whole grid: ``{"shape": [2], "orientation": [0, 1, 2]}``.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: for a factor that is not there, values out of range, a strength of 0 or less, where all is held out, and
            too few images for three splits.
    """

    title: ClassVar[str]
    grid: ClassVar[Mapping[str, int]]  # the number of values of each factor, in order
    copies: ClassVar[int] = 1
    channels: ClassVar[int] = 1
    levels: ClassVar[int] = 256
    deterministic: ClassVar[bool] = True  # whether equal factors render equal images

    def __init__(
        self,
        resolution: int = 64,
        factors: dict[str, list[int]] | None = None,
        correlate: dict[str, Any] | None = None,
        hold_out: dict[str, list[int]] | None = None,
        **options: Any,
    ):
        super().__init__(**options)
        require_between(1, 1024, resolution=resolution)
        self.resolution = resolution
        self.kept = {name: _kept(name, size, factors or {}) for name, size in self.grid.items()}
        if unknown := [name for name in factors or {} if name not in self.grid]:
            raise ZooError(f"no factor {unknown[0]!r} in {self.title}: it has {', '.join(self.grid)}.")
        self.correlation = None if correlate is None else Correlation.of(correlate, self.factor_names, self.title)
        self.held_out = None if hold_out is None else HeldOut.of(hold_out, self.kept, self.title)

    @property
    def spec(self) -> DataSpec:
        """Images with their factors; what is not the whole set at 64 pixels is named."""
        name = f"{self.title}[{','.join(self.variants)}]" if self.variants else self.title
        shape = (self.channels, self.resolution, self.resolution)
        return DataSpec(name, shape, self.levels, self.factor_names, self.factor_sizes)

    @property
    def variants(self) -> list[str]:
        """What stands in the brackets of the spec's name; kept values come last, since names of folders are cut."""
        pixels = [f"{self.resolution}px"] if self.resolution != 64 else []
        fewer = (name for name, size in self.grid.items() if len(self.kept[name]) < size)
        shifts = [str(shift) for shift in (self.correlation, self.held_out) if shift is not None]
        return pixels + shifts + [f"{name}={listing(self.kept[name])}" for name in fewer]

    @property
    def factor_names(self) -> tuple[str, ...]:
        """Names of the factors that vary."""
        return tuple(name for name, values in self.kept.items() if len(values) > 1)

    @property
    def factor_sizes(self) -> tuple[int, ...]:
        """The number of values that is kept of each."""
        return tuple(len(self.kept[name]) for name in self.factor_names)

    @property
    def count(self) -> int:
        """The number of images that are kept, over all splits."""
        return math.prod(map(len, self.kept.values())) * self.copies

    def sample_factors(self, n: int, generator: Generator | None = None) -> Tensor:
        """Factors (n, K) int64, each uniform and independent."""
        return torch.stack([torch.randint(size, (n,), generator=generator) for size in self.factor_sizes], dim=1)

    @abstractmethod
    def render(self, factors: Tensor) -> Tensor:
        """Images (n, C, H, W) uint8 of the factors (n, K), on the CPU; what is random in them is torch's global draw."""

    def places(self, factors: Tensor) -> np.ndarray:
        """Class indices (n, all factors) in the whole grid of the factors (n, K)."""
        rows = torch.as_tensor(factors).cpu().numpy()
        if rows.ndim != 2 or rows.shape[1] != len(self.factor_names) or rows.dtype.kind not in "iu":
            names = ", ".join(self.factor_names)
            raise ZooError(f"factors are {rows.dtype} {rows.shape}: integers (n, {len(self.factor_names)}): {names}.")
        columns = dict(zip(self.factor_names, rows.T, strict=True))
        for name, column in columns.items():
            if len(column) and not 0 <= column.min() <= column.max() < len(self.kept[name]):
                span, last = f"{column.min()} to {column.max()}", len(self.kept[name]) - 1
                raise ZooError(f"{name} goes from {span}: 0 to {last} are there.")
        places = np.empty((len(rows), len(self.grid)), np.int64)
        for place, (name, values) in zip(places.T, self.kept.items(), strict=True):
            place[:] = np.array(values)[columns[name]] if name in columns else values[0]
        return places

    def numbers(self, factors: Tensor) -> np.ndarray:
        """Numbers (n,) in the whole grid of the images, or of the first copies, of the factors (n, K)."""
        return np.ravel_multi_index(tuple(self.places(factors).T), tuple(self.grid.values())) * self.copies

    def factors_of(self, numbers: np.ndarray) -> Tensor:
        """Factors (n, K) int64 of the images with these numbers, all of them kept: the inverse of :meth:`numbers`."""
        places = self._places_of(numbers)
        columns = [np.searchsorted(self.kept[name], places[name]) for name in self.factor_names]
        return torch.from_numpy(np.stack(columns, axis=1).astype(np.int64))

    def weights_of(self, numbers: np.ndarray) -> Tensor | None:
        """How frequent the images with these numbers are in training, (n,) float64; None where all are alike."""
        if self.correlation is None:
            return None
        factors = dict(zip(self.factor_names, self.factors_of(numbers).numpy().T, strict=True))
        sizes = dict(zip(self.factor_names, self.factor_sizes, strict=True))
        return torch.from_numpy(self.correlation.weights(factors, sizes))

    def _places_of(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Class indices (n,) of each factor in the whole grid of the images with these numbers."""
        return dict(zip(self.grid, np.unravel_index(numbers // self.copies, tuple(self.grid.values())), strict=True))

    def kept_numbers(self) -> np.ndarray:
        """The numbers (count,) of all images that are kept, in increasing order."""
        whole = np.arange(math.prod(self.grid.values()) * self.copies).reshape(*self.grid.values(), self.copies)
        return whole[np.ix_(*self.kept.values(), range(self.copies))].ravel()

    def split_numbers(self, size: int | None = None) -> dict[str, np.ndarray]:
        """The numbers of each split's images, in the order of the fixed permutation; the first ``size`` in all if given.

        Raises:
            ZooError: where a split would be empty, and where there are fewer than ``size`` images.
        """
        total = math.prod(self.grid.values()) * self.copies
        order = np.random.RandomState(0).permutation(total)  # NumPy promises never to change this stream
        kept = np.zeros(total, bool)
        kept[self.kept_numbers()] = True
        kept = kept[order]
        parts = [order[start:end][kept[start:end]] for start, end in pairwise(round(end * total) for end in _ENDS)]
        if self.held_out is not None:
            held = [self.held_out(self._places_of(part)) for part in parts]
            unseen = np.concatenate([part[rows] for part, rows in zip(parts, held, strict=True)])
            parts = [parts[0][~held[0]], parts[1][~held[1]], unseen]
        count = sum(map(len, parts))
        if size is not None and size > count:
            raise ZooError(f"size {size}: with what is held out there are {count} images; leave it out for all.")
        shares = np.cumsum([0, *map(len, parts)]) * ((size or count) / count)
        parts = [part[: round(end) - round(start)] for part, (start, end) in zip(parts, pairwise(shares), strict=True)]
        if not all(map(len, parts)):
            sizes = " / ".join(str(len(part)) for part in parts)
            raise ZooError(f"{self.spec.name} has {sizes} images for training, validation and test: keep more values.")
        return dict(zip(("train", "val", "test"), parts, strict=True))


def _kept(name: str, size: int, factors: Mapping[str, Sequence[int]]) -> tuple[int, ...]:
    """The values that are kept of a factor, in increasing order."""
    values = tuple(sorted(factors.get(name, range(size))))
    if not values or values[0] < 0 or values[-1] >= size or len(set(values)) < len(values):
        given = list(factors[name])
        raise ZooError(f"{name}: {given} can't be kept: one or more of 0 to {size - 1} are accepted, once each.")
    return values
