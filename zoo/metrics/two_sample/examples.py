"""Examples of two distributions: checked, brought into one space, and in an order that depends on nothing but themselves."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["check_examples", "check_pair", "chunks", "order", "require_different"]

_CHUNK = 2**20  # numbers in a block of a matrix that is never held as a whole: 8 MB, which larger ones are slower than


def check_examples(x: Any, name: str, score: str, least: int = 1) -> Tensor:
    r"""Returns examples as a detached (N, D) matrix in double precision, on their own device.

    Arrays and nested lists are accepted too. Apple's GPUs have no double precision, so examples there move to the CPU.

    Arguments:
        x: The examples, (N, ...): features, points or images.
        name: What they are called in errors.
        score: What they are for.
        least: How many are needed.

    Raises:
        ZooError: if they are no such examples, too few, or hold NaN or infinite values.
    """
    x = torch.as_tensor(x).detach()
    if x.ndim < 2 or 0 in x.shape[1:] or x.is_complex():
        given = f"shape {tuple(x.shape)}" if not x.is_complex() else "complex numbers"
        raise ZooError(f"{name} has {given}: {score} needs examples of real features, (N, D) or images (N, C, H, W)")
    if len(x) < least:
        raise ZooError(f"{score} needs {least} or more examples in {name}, got {len(x)}")
    x = (x.cpu() if x.device.type == "mps" else x).double().flatten(1)
    broken = ~x.isfinite().all(dim=1)
    if broken.any():
        some = f"{int(broken.sum())} of the {len(x)} examples in {name}"
        raise ZooError(f"{some} hold NaN or infinite values: {score} is not defined for them")
    return x


def check_pair(x: Any, y: Any, score: str, least: int = 2, names: tuple[str, str] = ("x", "y")) -> tuple[Tensor, Tensor]:
    r"""Returns examples (N, D) and others (M, D) as :func:`check_examples` does, on the device of the first.

    Raises:
        ZooError: also if their numbers of features differ.
    """
    x, y = (check_examples(z, name, score, least) for z, name in zip((x, y), names, strict=True))
    if x.shape[1] != y.shape[1]:
        given = f"{names[0]} has {x.shape[1]} features and {names[1]} {y.shape[1]}"
        raise ZooError(f"{given}: {score} compares examples of one space")
    return x, y.to(x.device)


def require_different(x: Tensor, name: str, score: str) -> None:
    r"""Raises a ZooError where all rows of x (N, D) are the same: no distance between them tells anything."""
    if (x == x[:1]).all():
        raise ZooError(f"all {len(x)} examples in {name} are the same: {score} is not defined for constant features")


def order(x: Tensor) -> Tensor:
    r"""Gives an order of the rows of x (N, D) that is theirs: what is then drawn does not depend on how they came."""
    weights = torch.rand(x.shape[1], generator=torch.Generator().manual_seed(0), dtype=x.dtype) + 0.5
    return (x * weights.to(x.device)).sum(dim=1).argsort(stable=True)


def chunks(rows: int, columns: int, numbers: int = _CHUNK) -> Iterator[slice]:
    r"""Cuts the rows of a (rows, columns) matrix into blocks of about so many numbers."""
    size = max(1, numbers // max(1, columns))
    return (slice(start, min(start + size, rows)) for start in range(0, rows, size))
