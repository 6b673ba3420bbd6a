"""MMD-FUSE: one test from the maximum mean discrepancies of twenty kernels."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair, require_different
from zoo.metrics.two_sample.mmd import pair_distances, some
from zoo.metrics.two_sample.neighbors import centered, squared_distances
from zoo.metrics.two_sample.permutations import TwoSampleTest, check_permutations, p_value, pool, pooled_mmd

__all__ = ["mmd_fuse"]


def mmd_fuse(x: Any, y: Any, *, seed: int = 0, permutations: int = 2000, bandwidths: int = 10) -> TwoSampleTest:
    r"""Tests whether two samples are of one distribution, by the soft maximum over many kernels of their standardized MMD²:

    .. math:: \log \frac{1}{|\mathcal{K}|} \sum_{k \in \mathcal{K}} \exp\left(
        \lambda\, \frac{n (n - 1)\, \mathrm{MMD}_k^2}{\sqrt{\sum_{i \ne j} k(z_i, z_j)^2}} \right),
        \qquad \lambda = \sqrt{n (n - 1)}

    where :math:`n` is the size of the smaller sample and :math:`z` are the examples of both. The kernels are
    :math:`\exp(-\sqrt{2}\, \|x - y\|_1 / \sigma)` and :math:`\exp(-\|x - y\|_2^2 / 2 \sigma^2)`, each with bandwidths
    :math:`\sigma` that are evenly spaced from half the 5 % quantile of the pooled distances (of that norm) to twice the 95 %
    quantile. So no scale is missed, and no example spent on choosing one. The statistic is that of the authors' code.

    Arguments:
        x: The real examples, with shape (N, ...).
        y: The generated ones, with shape (M, ...).
        seed: The seed of the permutations.
        permutations: How many: no p-value is below ``1 / (permutations + 1)``.
        bandwidths: The number of bandwidths of each of the two kernels.

    Returns:
        The statistic and the p-value.

    Raises:
        ZooError: for fewer than 2 examples, NaN, all examples the same, another number of features, and a number below 1.

    References:
        | MMD-FUSE: Learning and Combining Kernels for Two-Sample Testing Without Data Splitting (Biggs et al., 2023)
        | https://arxiv.org/abs/2306.08777

    Example:
        >>> x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0))
        >>> mmd_fuse(x, 2 * x, permutations=500).p_value < 0.01
        True
    """
    x, y = check_pair(x, y, "mmd_fuse")
    check_permutations(permutations)
    if bandwidths < 1:
        raise ZooError(f"bandwidths {bandwidths}: 1 or more are needed")
    z, labels = pool(x, y, permutations, seed)
    require_different(z, "x and y", "mmd_fuse")
    (z,) = centered(z)
    widths = [_bandwidths(pair_distances(some(z), p), bandwidths) for p in (1, 2)]

    def blocks(a: Tensor, b: Tensor) -> Iterator[Tensor]:
        # Single precision is enough for a kernel's values; their sums are taken in double.
        distances, squares = torch.cdist(a, b, 1).float(), squared_distances(a, b).float()
        for width in widths[0]:
            yield (distances * (-math.sqrt(2) / width)).exp_()
        for width in widths[1]:
            yield (squares * (-0.5 / width**2)).exp_()

    found, n = pooled_mmd(blocks, z, labels, 2 * bandwidths), min(len(x), len(y))
    standardized = n * (n - 1) * found.values / found.squares.sqrt()[:, None]
    statistics = (math.sqrt(n * (n - 1)) * standardized).logsumexp(dim=0) - math.log(2 * bandwidths)
    return TwoSampleTest(statistics[0].item(), p_value(statistics), permutations)


def _bandwidths(distances: Tensor, count: int) -> list[float]:
    """Evenly spaced ones over most of the distances; those that are 0 count as the median one, as in the authors' code."""
    middle = distances.median()
    distances = distances.where(distances > 0, middle) if middle > 0 else distances[distances > 0]
    least, most = (distances.kthvalue(int(len(distances) * share) + 1).values.item() for share in (0.05, 0.95))
    return torch.linspace(least / 2, most * 2, count, dtype=torch.float64).tolist()
