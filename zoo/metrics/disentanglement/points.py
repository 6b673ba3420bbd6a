"""Points of a representation: codes beside the factors behind them, checked, numbered, gathered over batches."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from zoo.errors import ZooError

__all__ = [
    "PointsMetric",
    "check_codes",
    "check_points",
    "check_split",
    "check_varying",
    "number_values",
    "number_values_as",
    "standardize",
]


def check_codes(codes: Any) -> Tensor:
    r"""Returns codes as a detached (N, D) tensor in double precision, on their own device.

    Arrays and nested lists are accepted too. Apple's GPUs have no double precision, so codes there move to the CPU.

    Raises:
        ZooError: if codes are not a matrix, are empty, or hold NaN or infinite values.
    """
    codes = torch.as_tensor(codes).detach()
    if codes.ndim != 2 or codes.numel() == 0:
        raise ZooError(f"codes must be a matrix (points, codes) with at least one entry, got shape {tuple(codes.shape)}")
    codes = (codes.cpu() if codes.device.type == "mps" else codes).double()
    broken = ~codes.isfinite().all(dim=0)
    if broken.any():
        raise ZooError(
            f"codes {broken.nonzero().flatten().tolist()} hold NaN or infinite values: no score is defined for them"
        )
    return codes


def check_points(codes: Any, factors: Any) -> tuple[Tensor, Tensor]:
    r"""Returns codes (N, D) in double precision and factors (N, K) as int64, on the device of the codes.

    Raises:
        ZooError: if a shape is wrong, codes are not finite, or factors are not whole numbers.
    """
    codes, factors = check_codes(codes), torch.as_tensor(factors).detach()
    if factors.ndim != 2 or factors.shape[1] == 0 or len(factors) != len(codes):
        raise ZooError(
            f"factors must be a matrix (points, factors) beside {len(codes)} codes, got shape {tuple(factors.shape)}"
        )
    if factors.is_floating_point() and not (factors == factors.round()).all():
        raise ZooError("factors must be whole numbers, one for each value that a factor takes")
    return codes, factors.to(codes.device, torch.int64)


def check_split(codes: Any, factors: Any, codes_test: Any, factors_test: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    r"""Returns training and test points as :func:`check_points` does, all on the device of the training codes.

    Raises:
        ZooError: also if the two differ in the number of codes or of factors.
    """
    codes, factors = check_points(codes, factors)
    codes_test, factors_test = check_points(codes_test, factors_test)
    if codes.shape[1] != codes_test.shape[1] or factors.shape[1] != factors_test.shape[1]:
        raise ZooError(
            f"training points have {codes.shape[1]} codes and {factors.shape[1]} factors, test points "
            f"{codes_test.shape[1]} and {factors_test.shape[1]}: they must agree"
        )
    return codes, factors, codes_test.to(codes.device), factors_test.to(codes.device)


def check_varying(factors: Tensor, score: str) -> None:
    r"""Raises a ZooError that names every factor with one value only, for a score that is not defined then."""
    constant = (factors == factors[:1]).all(dim=0)
    if constant.any():
        raise ZooError(
            f"{score} is not defined for factors {constant.nonzero().flatten().tolist()}, which take one value in all "
            f"{len(factors)} points: leave them out or sample more points"
        )


def number_values(factors: Tensor) -> tuple[Tensor, list[int]]:
    r"""Numbers the values that each factor takes: labels (N, K) in :math:`0 … n_k - 1`, and every :math:`n_k`."""
    columns = [column.unique(return_inverse=True) for column in factors.unbind(dim=1)]
    return torch.stack([labels for _, labels in columns], dim=1), [len(values) for values, _ in columns]


def number_values_as(train: Tensor, factors: Tensor) -> Tensor:
    r"""Numbers the values of factors (M, K) as :func:`number_values` numbers those of train (N, K).

    A value that train does not have becomes -1: no classifier fitted there can give it.
    """
    labels = []
    for known, column in zip(train.unbind(dim=1), factors.unbind(dim=1), strict=True):
        known = known.unique()
        label = torch.searchsorted(known, column.contiguous()).clamp(max=len(known) - 1)
        labels.append(label.where(known[label] == column, -1))
    return torch.stack(labels, dim=1)


def standardize(codes: Tensor, train: Tensor) -> Tensor:
    r"""Returns codes (M, D) less the mean of train (N, D) and divided by its standard deviation; 0 where it is constant."""
    std = torch.where(train.amax(dim=0) > train.amin(dim=0), train.std(dim=0, correction=0), torch.inf)
    return (codes - train.mean(dim=0)) / std


class PointsMetric(Metric):
    r"""Creates a metric that gathers codes and factors, batch by batch and over processes, for any of the scores.

    Call :meth:`update` rather than the metric itself, which would gather every batch as well.

    Arguments:
        options: Those of :class:`torchmetrics.Metric`.

    Example:
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(3))
        >>> points = PointsMetric()
        >>> for batch in factors.split(5):
        ...     points.update(batch.float(), batch)
        >>> from zoo.metrics import score_codes
        >>> score_codes(*points.compute(), metrics="mig")
        {'mig': 1.0}
    """

    is_differentiable = False
    full_state_update = False

    codes: list[Tensor]
    factors: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("codes", "factors"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, codes: Tensor, factors: Tensor) -> None:
        """Adds codes (n, D) and their factors (n, K)."""
        codes, factors = check_points(codes, factors)
        self.codes.append(codes)
        self.factors.append(factors)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Codes (N, D) and factors (N, K) of all batches and processes.

        Raises:
            ZooError: if there are none.
        """
        if not len(self.codes):
            raise ZooError(f"{type(self).__name__} has no points: call update(codes, factors) first")
        return dim_zero_cat(self.codes), dim_zero_cat(self.factors)
