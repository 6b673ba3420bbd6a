"""Gaussian mixtures in one and two dimensions, whose log-density is known exactly."""

import math
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.errors import ZooError
from zoo.spec import DataSpec

__all__ = ["Toy"]


def _ring() -> Tensor:
    angle = torch.arange(8) * (2 * math.pi / 8)
    return 2 * torch.stack((angle.cos(), angle.sin()), -1)  # (8, 2)


def _grid() -> Tensor:
    side = torch.linspace(-2, 2, 5)
    return torch.cartesian_prod(side, side)  # (25, 2)


def _moons() -> Tensor:
    angle = torch.linspace(0, math.pi, 64)
    upper = torch.stack((angle.cos() - 0.5, angle.sin() - 0.25), -1)
    return 1.5 * torch.cat((upper, -upper))  # (128, 2)


def _mixture() -> Tensor:
    return torch.tensor([[-2.0], [0.0], [1.5]])  # (3, 1)


_DENSITIES = {"ring": (_ring, 0.05), "grid": (_grid, 0.05), "moons": (_moons, 0.1), "mixture": (_mixture, 0.3)}


_MOST = 100_000_000  # examples


class Toy(DataModule):
    """Samples of p(x) = 1/M sum_m N(x; mean_m, std^2 I).

    ``ring``: 8 means on a circle of radius 2; ``grid``: 25 means on [-2, 2]^2; ``moons``: 128 means along two
    half-circles; ``mixture``: means -2, 0, 1.5 on the line.

    Arguments:
        density: One of the four.
        std: Standard deviation of every component; 0.05 (ring, grid), 0.1 (moons), 0.3 (mixture) if not given.
        size: Training examples; validation and test have a fifth each. The examples are fixed.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: for another density, fewer than 5 examples, and a standard deviation that is not above 0.

    References:
        | VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning (Srivastava et al., 2017)
        | https://arxiv.org/abs/1705.07761
    """

    def __init__(
        self,
        density: Literal["ring", "grid", "moons", "mixture"] = "ring",
        std: float | None = None,
        size: int = 50_000,
        batch_size: int = 256,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        super().__init__(batch_size, eval_batch_size, seed, on_device)
        if density not in _DENSITIES:
            raise ZooError(f"density {density!r}: {', '.join(_DENSITIES)} are there")
        if not 5 <= size <= _MOST or (std is not None and not 0 < std < math.inf):
            raise ZooError(f"size {size} and std {std}: 5 to {_MOST} examples and a std above 0 are needed")
        means, default = _DENSITIES[density]
        self.density, self.size = density, size
        self.means: Tensor = means()  # (M, D)
        self.std = default if std is None else std

    @property
    def spec(self) -> DataSpec:
        """Vectors of one (mixture) or two dimensions."""
        return DataSpec(f"toy_{self.density}", (self.means.shape[1],))

    @property
    def distribution(self) -> MixtureSameFamily:
        """The density itself: ``log_prob`` in nats, exact."""
        components = Independent(Normal(self.means, self.std), 1)
        return MixtureSameFamily(Categorical(torch.ones(len(self.means))), components)

    def load(self) -> dict[str, Arrays]:
        """Fixed samples of the density."""
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(0)
            x = self.distribution.sample((self.size + 2 * (self.size // 5),))
        train, val, test = x.split((self.size, self.size // 5, self.size // 5))
        return {"train": Arrays(train), "val": Arrays(val), "test": Arrays(test)}
