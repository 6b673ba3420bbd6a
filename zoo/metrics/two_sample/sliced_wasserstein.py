"""Distances that are exact optimal transport along random directions: sliced Wasserstein and MIND."""

import math
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair

__all__ = ["mind", "sliced_wasserstein"]

_PROJECTED = 2**23  # numbers at once


def sliced_wasserstein(x: Any, y: Any, *, directions: int = 1000, seed: int = 0) -> float:
    r"""Computes the sliced Wasserstein distance,

    .. math:: \sqrt{ \mathrm{E}_\theta W_2^2(\theta^\top x, \theta^\top y) }

    over random unit vectors :math:`\theta`. On a line optimal transport is that of the sorted values; samples of different
    sizes share their mass out.

    Arguments:
        x: The real examples, with shape (N, ...).
        y: The generated ones, with shape (M, ...).
        directions: The number of directions.
        seed: The seed of the directions.

    Returns:
        The distance, in units of the features; above 0 for two samples of one distribution too.

    Raises:
        ZooError: for no examples, NaN, another number of features, and fewer directions than 1.

    References:
        | Sliced and Radon Wasserstein Barycenters of Measures (Bonneel et al., 2015)

    Example:
        >>> x = torch.arange(4.0)[:, None]
        >>> sliced_wasserstein(x, x + 2)
        2.0
    """
    return math.sqrt(_squared(x, y, directions, seed, "sliced_wasserstein")[0])


def mind(x: Any, y: Any, *, directions: int = 1000, seed: int = 0) -> float:
    r"""Computes the Monge distance, :math:`3 D\, \mathrm{E}_\theta W_2^2(\theta^\top x, \theta^\top y)`.

    It is :math:`3 D` times the square of :func:`sliced_wasserstein`, a scale close to that of the Fréchet distance, whose
    covariance matrices it does without: thousands of examples do. Of features of the Inception network it is known as MIND.

    Arguments:
        x: The real examples' features, with shape (N, D).
        y: Those of generated examples, with shape (M, D).
        directions: The number of directions.
        seed: The seed of the directions.

    Returns:
        The distance; above 0 for two samples of one distribution too.

    Raises:
        ZooError: for no examples, NaN, another number of features, and fewer directions than 1.

    References:
        | MIND: Monge Inception Distance for Generative Models Evaluation (Berthet et al., 2026)
        | https://arxiv.org/abs/2605.06797

    Example:
        >>> x = torch.arange(4.0)[:, None]
        >>> mind(x, x + 2)
        12.0
    """
    squared, dims = _squared(x, y, directions, seed, "mind")
    return 3 * dims * squared


def _squared(x: Any, y: Any, directions: int, seed: int, score: str) -> tuple[float, int]:
    """The mean over directions of W₂² on a line, and the number of dimensions."""
    x, y = check_pair(x, y, score, least=1)
    if directions < 1:
        raise ZooError(f"directions {directions}: 1 or more are needed")
    dims = x.shape[1]
    theta = torch.randn(directions, dims, generator=torch.Generator().manual_seed(seed), dtype=x.dtype).to(x.device)
    theta = theta / theta.norm(dim=1, keepdim=True)
    places_x, places_y, mass = _coupling(len(x), len(y), x)
    total = x.new_zeros(())
    for part in theta.split(max(1, _PROJECTED // len(mass))):
        gap = (part @ x.T).sort(dim=1).values[:, places_x] - (part @ y.T).sort(dim=1).values[:, places_y]
        total += (gap**2 @ mass).sum()
    return (total / directions).item(), dims


def _coupling(n: int, m: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Which of n and of m sorted values go together, and with which mass: (K,) each, K at most n + m - 1."""
    steps = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1 / (n m)
    mass = steps.diff(prepend=steps.new_zeros(1)).to(like) / (n * m)
    return (((steps - 1) // m).to(like.device), ((steps - 1) // n).to(like.device), mass)
