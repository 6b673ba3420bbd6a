"""Whether examples are what the description of their data says: their shape, type and range, their factors and labels."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.spec import DataSpec, level_dtype

__all__ = ["CHECKED_BATCHES", "check_batch", "check_classes", "check_examples"]

CHECKED_BATCHES = 4  # of each loader, the first ones: every check waits for the device


def check_batch(batch: Any, spec: DataSpec, where: str) -> None:
    """Raise ZooError unless ``batch`` is a :class:`~zoo.spec.Batch` of data that ``spec`` describes.

    Waits for the device, since it asks for the least and the largest values.

    Arguments:
        batch: What a loader gave.
        spec: What it should be.
        where: What to call it: ``a train batch``.

    Example:
        >>> from zoo.spec import Batch, DataSpec
        >>> check_batch(Batch(torch.rand(5, 1, 8, 8)), DataSpec("digits", (1, 8, 8), levels=17), "a batch")
        Traceback (most recent call last):
            ...
        zoo.errors.ZooError: a batch is not what the spec of digits says: x is float32 ...
    """
    if not isinstance(x := getattr(batch, "x", None), Tensor):
        raise ZooError(
            f"{where} is of type {type(batch).__name__}, and zoo.spec.Batch, whose x is a tensor, is needed.\n"
            "Make it in the data set or in the loader's collate_fn: Batch(x), Batch(x, label=y)."
        )
    check_examples(x, spec, where)
    check_classes(getattr(batch, "factors", None), getattr(batch, "label", None), len(x), spec, where)


def check_examples(x: Tensor, spec: DataSpec, where: str) -> None:
    """The same of the examples alone, (N, *shape)."""
    said = f"{where} is not what the spec of {spec.name} says: x"
    if x.dim() == 0 or tuple(x.shape[1:]) != spec.shape:
        raise ZooError(f"{said} has shape {tuple(x.shape)}, and {_rows(spec)} is needed.\n{_reshaped(x, spec)}")
    if spec.levels is None:
        _check_finite(x, said)
    else:
        _check_levels(x, spec.levels, said)


def check_classes(factors: Tensor | None, label: Tensor | None, count: int, spec: DataSpec, where: str) -> None:
    """The same of the factors and labels of that many examples, where there are any."""
    said = f"{where} is not what the spec of {spec.name} says:"
    if factors is not None and spec.factor_sizes:
        _check_indices(factors, (count, len(spec.factor_sizes)), spec.factor_sizes, spec.factor_names, f"{said} factors")
    if label is not None:
        _check_indices(label, (count,), (None,), ("label",), f"{said} label")


def _check_levels(x: Tensor, levels: int, said: str) -> None:
    if x.is_floating_point() or x.is_complex():
        raise ZooError(f"{said} is {_described(x)}, and integers 0 to {levels - 1} are needed.\n{_cast(x, levels)}")
    if x.dtype == torch.bool or (torch.iinfo(x.dtype).min == 0 and torch.iinfo(x.dtype).max < levels):
        return  # of this type all values are levels: nothing is asked of the device
    least, most = _range(x)
    if least < 0 or most >= levels:
        raise ZooError(f"{said} is {_described(x)}, and 0 to {levels - 1} are needed.\n{_fitted(least, most, levels)}")


def _check_finite(x: Tensor, said: str) -> None:
    if not x.is_floating_point():
        levels = 2**16 if x.numel() and _range(x)[1] > 255 else 256
        raise ZooError(
            f"{said} is {_described(x)}, and floats are needed, since the spec has no levels.\n"
            f"Say how many levels there are, DataSpec(..., levels={levels}), or make floats of them: x.float()."
        )
    least, most = _range(x)
    if not -torch.inf < least <= most < torch.inf:  # both are NaN where one value is
        bad = int((~x.isfinite()).sum())
        raise ZooError(
            f"{said} is {_described(x)}, and {bad} of its {x.numel()} values are NaN or infinite: finite ones are needed.\n"
            "Look for missing values, and for a division by a deviation of 0."
        )


def _check_indices(
    found: Tensor, shape: tuple[int, ...], sizes: Sequence[int | None], names: Sequence[str], said: str
) -> None:
    wanted = f"class indices of shape {shape} are needed"
    if not isinstance(found, Tensor):
        raise ZooError(f"{said} is of type {type(found).__name__}, and a tensor with {wanted}.")
    if found.is_floating_point() or found.is_complex() or tuple(found.shape) != shape:
        raise ZooError(f"{said}: {_described(found)}, and {wanted}, int64 or another integer type.")
    columns = found.unsqueeze(1) if found.dim() == 1 else found
    if columns.numel() == 0:
        return
    least, most = torch.stack(_integers(columns).aminmax(dim=0)).tolist()
    for name, size, low, high in zip(names, sizes, least, most, strict=True):
        if low < 0 or (size is not None and high >= size):
            span = "0 and above" if size is None else f"0 to {size - 1}"
            raise ZooError(f"{said}: {name} goes from {low} to {high}, and class indices {span} are needed.")


def _integers(x: Tensor) -> Tensor:
    """Integers in a type whose least and largest value torch can tell."""
    return x if x.dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64) else x.long()


def _range(x: Tensor) -> tuple[float, float]:
    """The least and the largest value, NaN where one is; one wait for the device."""
    if x.numel() == 0:
        return 0, 0
    least, most = torch.stack((x if x.is_floating_point() else _integers(x)).aminmax()).tolist()
    return least, most


def _described(x: Tensor) -> str:
    """``float32 (64, 1, 8, 8), 0 to 1``."""
    text = f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"
    if x.numel() == 0 or x.is_complex():
        return text
    least, most = _range(x)
    return f"{text}, {least:.6g} to {most:.6g}"


def _rows(spec: DataSpec) -> str:
    return f"(N, {', '.join(map(str, spec.shape))})"


def _reshaped(x: Tensor, spec: DataSpec) -> str:
    """What makes examples of that shape of them, where it can be told."""
    found, channels, size = tuple(x.shape[1:]), spec.shape[:1], spec.shape[1:]
    if spec.is_image and channels == (1,) and found == size:
        return "The channel is missing: x.unsqueeze(1) adds it."
    if spec.is_image and found == size + channels:
        return "The channels come last: x.movedim(-1, 1) puts them first."
    if x.dim() == 2 and found == (spec.dims,):
        return f"They are flat: x.view(-1, {', '.join(map(str, spec.shape))}) makes images of them."
    return "Give the spec the shape of one example, or the examples the shape that it says."


def _cast(x: Tensor, levels: int) -> str:
    """What makes levels of floats, where it can be told from their values."""
    kind, (least, most) = level_dtype(levels), (torch.nan, torch.nan) if x.is_complex() else _range(x)
    whole = not x.is_complex() and bool((x == x.round()).all())
    if whole and least >= 0 and most < levels and (most > 1 or levels == 2):
        return f"They are levels of another type: x.to({kind})."
    if least >= 0 and most <= 1:
        return f"They look like ToTensor's floats in [0, 1]: (x * {levels - 1}).round().to({kind}) makes levels of them."
    if least >= -1 and most <= 1:
        return f"They look like floats in [-1, 1]: ((x + 1) * {(levels - 1) / 2:g}).round().to({kind}) makes levels of them."
    return "Make levels of them, counted from 0, or describe continuous data: DataSpec(..., levels=None)."


def _fitted(least: float, most: float, levels: int) -> str:
    """What makes levels of integers that are none, or a spec of them."""
    if least < 0:
        return "Levels are counted from 0: read the files as an unsigned type, or shift them."
    if most >= 2**16:
        return "More than 65536 levels are not carried: divide by a power of two, or give floats and levels=None."
    enough = 256 if most < 256 else 2**16
    if levels == 2:
        return f"Make two of them, (x > {enough // 2 - 1}).to(torch.uint8), or say how many there are: levels={enough}."
    return f"Say how many there are, DataSpec(..., levels={enough}), or divide them by a power of two."
