"""What passes between data and models: a batch of examples, and the description of the data they come from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["Batch", "DataSpec", "spec_of"]


class Batch(NamedTuple):
    """Examples of one data set.

    Attributes:
        x: (B, C, H, W) uint8 levels 0 .. levels-1, or (B, D) float vectors.
        factors: (B, K) int64 class indices of the ground-truth factors, where the data has them.
        label: (B,) int64 classes, where the data has them.
    """

    x: Tensor
    factors: Tensor | None = None
    label: Tensor | None = None


@dataclass(frozen=True)
class DataSpec:
    """All that a model must know of its data. The datamodule owns it, and it is stored in the checkpoint.

    Arguments:
        name: What the numbers are on, with its variant: ``"mnist_binary"``.
        shape: (C, H, W) of images, (D,) of vectors.
        levels: The number of gray or color levels of discrete data (2, 17, 256); None for continuous data.
        factor_names: Names of the ground-truth factors, empty where there are none.
        factor_sizes: The number of values of each factor.
    """

    name: str
    shape: tuple[int, ...]
    levels: int | None = None
    factor_names: tuple[str, ...] = ()
    factor_sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in ("shape", "factor_names", "factor_sizes"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not self.shape or any(int(size) < 1 for size in self.shape) or len(self.shape) not in (1, 3):
            raise ZooError(f"data shape {self.shape}: (C, H, W) for images or (D,) for vectors is needed")
        if self.levels is not None and self.levels < 2:
            raise ZooError(f"data with {self.levels} levels: 2 or more are needed, or None for continuous data")

    @classmethod
    def of(cls, spec: "DataSpec | Mapping[str, Any]") -> "DataSpec":
        """The spec itself, or the one that a plain dict (as in a checkpoint) describes."""
        return spec if isinstance(spec, DataSpec) else cls(**spec)

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, numbers and strings: what a checkpoint stores."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def is_image(self) -> bool:
        """Whether examples are (C, H, W) images."""
        return len(self.shape) == 3

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of images; ZooError where the data are vectors."""
        if not self.is_image:
            raise ZooError(f"{self.name} has shape {self.shape}: images (C, H, W) are needed here")
        channels, height, breadth = self.shape
        return channels, height, breadth

    @property
    def dims(self) -> int:
        """The number of dimensions D of one example, by which bits/dim are counted."""
        return prod(self.shape)

    def to_signed(self, x: Tensor) -> Tensor:
        """Levels 0 .. levels-1 as floats in [-1, 1], of torch's default type; continuous data unchanged."""
        return x if self.levels is None else x.to(torch.get_default_dtype()) * (2 / (self.levels - 1)) - 1

    def from_signed(self, y: Tensor) -> Tensor:
        """Floats in [-1, 1] as the nearest levels (uint8), the inverse of :meth:`to_signed`; continuous data unchanged."""
        if self.levels is None:
            return y
        return ((y.float() + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).to(torch.uint8)

    def to_unit(self, x: Tensor) -> Tensor:
        """Levels 0 .. levels-1 as floats in [0, 1]; continuous data unchanged."""
        return x if self.levels is None else x.to(torch.get_default_dtype()) / (self.levels - 1)


def spec_of(data: Any) -> DataSpec:
    """The spec of any datamodule; ZooError where it has none."""
    spec = getattr(data, "spec", None)
    if not isinstance(spec, DataSpec | dict):
        raise ZooError(f"{type(data).__name__} has no spec: give it an attribute spec = zoo.spec.DataSpec(...)")
    return DataSpec.of(spec)
