"""What passes between data and models: a batch of examples, and the description of the data they come from."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["Batch", "DataSpec", "level_dtype", "require_levels", "require_numbers", "spec_of"]

_MOST_LEVELS = 2**16  # 16 bits; float32 has 24, and what is left tells the points between two levels apart


class Batch(NamedTuple):
    """Examples of one data set.

    Attributes:
        x: (B, C, H, W) levels 0 .. levels-1 of an integer type, uint8 where they fit; or (B, D) float vectors.
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
        levels: The number of gray or color levels of discrete data (2, 17, 256, 65536); None for continuous data.
        factor_names: Names of the ground-truth factors, empty where there are none.
        factor_sizes: The number of values of each factor.

    Raises:
        ZooError: for a shape that is none, fewer than 2 levels or more than 65,536, and factors without their sizes.
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
        if self.levels is not None and not 2 <= self.levels <= _MOST_LEVELS:
            raise ZooError(f"data with {self.levels} levels: 2 to {_MOST_LEVELS} are accepted, or None for continuous data")
        if len(self.factor_names) != len(self.factor_sizes):
            raise ZooError(f"factors {self.factor_names} of sizes {self.factor_sizes}: a size for each name is needed")

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

    @property
    def dtype(self) -> torch.dtype:
        """The type in which examples are made: of levels :func:`level_dtype`, of continuous data torch's default."""
        return torch.get_default_dtype() if self.levels is None else level_dtype(self.levels)

    def to_signed(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Levels 0 .. levels-1 as floats in [-1, 1]; continuous data unchanged but for their type.

        Arguments:
            x: Examples (B, *shape).
            dtype: The type of the floats: a model gives its own. If None, torch's default for levels, x's own else.

        Raises:
            ZooError: if x are floats and the data have levels: which they are can't be known.
        """
        return self._floats(x, dtype, lambda levels, most: levels * (2 / most) - 1)

    def from_signed(self, y: Tensor) -> Tensor:
        """Floats in [-1, 1] as the nearest levels, the inverse of :meth:`to_signed`; continuous data unchanged.

        Raises:
            ZooError: if a number is NaN or infinite, of continuous data too.
        """
        require_numbers(y)
        if self.levels is None:
            return y
        wide = y.to(torch.promote_types(y.dtype, torch.float32))
        return ((wide + 1) * ((self.levels - 1) / 2)).round().clamp(0, self.levels - 1).to(self.dtype)

    def to_unit(self, x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Levels 0 .. levels-1 as floats in [0, 1]; all else as :meth:`to_signed` does."""
        return self._floats(x, dtype, lambda levels, most: levels / most)

    def _floats(self, x: Tensor, dtype: torch.dtype | None, scale: Callable[[Tensor, int], Tensor]) -> Tensor:
        if self.levels is None:
            return x if dtype is None else x.to(dtype)
        require_levels(x, self.levels)
        dtype = dtype or torch.get_default_dtype()
        # In float32 at least: half precision has fewer values than there may be levels.
        return scale(x.to(torch.promote_types(dtype, torch.float32)), self.levels - 1).to(dtype)


def level_dtype(levels: int) -> torch.dtype:
    """The type in which that many levels are carried: uint8 up to 256, int16 up to 32,768, int32 above."""
    return next(dtype for dtype in (torch.uint8, torch.int16, torch.int32) if levels - 1 <= torch.iinfo(dtype).max)


def require_levels(x: Tensor, levels: int) -> None:
    """Raise ZooError where x has a type that can't be that of levels; waits for no device.

    The values are looked at by :func:`zoo.data_check.check_batch`.
    """
    if x.is_floating_point() or x.is_complex():
        found, needed = str(x.dtype).removeprefix("torch."), str(level_dtype(levels)).removeprefix("torch.")
        raise ZooError(
            f"x is {found} {tuple(x.shape)}, and integers 0 to {levels - 1} are needed, {needed} or wider: the data have "
            f"{levels} levels.\nFloats in [0, 1] become levels by (x * {levels - 1}).round().to(torch.{needed})."
        )


def require_numbers(x: Tensor) -> Tensor:
    """x (B, ...) itself; ZooError where some of it is NaN or infinite, which as a level would look like any other number.

    What a model makes is looked at here before it becomes data; on a GPU that waits for it.

    Example:
        >>> require_numbers(torch.tensor([[0.0, 1.0], [0.5, torch.nan]]))
        Traceback (most recent call last):
        zoo.errors.ZooError: 1 of 2 examples that the model made hold NaN or infinite numbers.
        Its weights may be NaN, or numbers overflowed: try an earlier checkpoint, or float32 where precision is lower.
    """
    if x.is_floating_point() and not x.is_meta and not bool((finite := x.isfinite()).all()):
        bad = len(x) - int(finite.flatten(1).all(1).sum())
        raise ZooError(
            f"{bad} of {len(x)} examples that the model made hold NaN or infinite numbers.\n"
            "Its weights may be NaN, or numbers overflowed: try an earlier checkpoint, or float32 where precision is lower."
        )
    return x


def spec_of(data: Any) -> DataSpec:
    """The spec of any datamodule; ZooError where it has none."""
    spec = getattr(data, "spec", None)
    if not isinstance(spec, DataSpec | dict):
        raise ZooError(f"{type(data).__name__} has no spec: give it an attribute spec = zoo.spec.DataSpec(...)")
    return DataSpec.of(spec)
