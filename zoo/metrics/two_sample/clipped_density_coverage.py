"""Clipped Density and Clipped Coverage: fidelity and diversity that outliers can't inflate, calibrated to fall linearly."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.metrics.two_sample.examples import chunks
from zoo.metrics.two_sample.neighbors import centered, nearest, radii, squared_distances, within
from zoo.metrics.two_sample.prdc import check_neighbors

__all__ = ["ClippedDensityCoverage", "clipped_density_coverage"]


class ClippedDensityCoverage(NamedTuple):
    """Fidelity and diversity in [0, 1].

    Attributes:
        density: What share of good examples a sample is as dense as.
        coverage: What share of good examples a sample covers as much as.
    """

    density: float
    coverage: float


def clipped_density_coverage(x: Any, y: Any, *, k: int = 5) -> ClippedDensityCoverage:
    r"""Computes Clipped Density and Clipped Coverage.

    With :math:`r_i` the distance of a real example :math:`x_i` to its k-th nearest other one, at most their median
    :math:`\tilde r` for the density, so that no outlier's ball is large,

    .. math:: \mathrm{density} = \min\left(1, \frac{
        \frac{1}{M} \sum_j \min(1, \frac{1}{k} \sum_i 1[\|x_i - y_j\| \le \min(r_i, \tilde r)])}{
        \frac{1}{N} \sum_j \min(1, \frac{1}{k} \sum_{i \ne j} 1[\|x_i - x_j\| \le \min(r_i, \tilde r)])} \right)

    .. math:: \mathrm{coverage} = f^{-1}\left(
        \frac{1}{N} \sum_i \min(1, \frac{1}{k} \sum_j 1[\|x_i - y_j\| < r_i]) \right) / M

    where :math:`f(m) = \mathrm{E} \min(J_m, k) / k` is what m good examples reach: the number :math:`J_m` of them in a ball
    is beta-binomial with parameters k and N - k. So a sample of which a share is bad scores about one minus that share.
    Compare at equal numbers of examples.

    Arguments:
        x: The real examples' features, with shape (N, D).
        y: Those of generated examples, with shape (M, D).
        k: The number of neighbors.

    Returns:
        Both.

    Raises:
        ZooError: for k or fewer examples, NaN, real examples that are all the same, another number of features, and k < 1.

    References:
        | Enhanced Generative Model Evaluation with Clipped Density and Coverage (Salvy et al., 2025)
        | https://arxiv.org/abs/2507.01761

    Example:
        >>> x = torch.randn(1200, 2, generator=torch.Generator().manual_seed(0))
        >>> x, y = x.split(600)
        >>> y[:300] += 100
        >>> found = clipped_density_coverage(x, y)
        >>> round(found.density, 1), round(found.coverage, 1)
        (0.5, 0.5)
    """
    x, y = check_neighbors(x, y, k, "clipped_density_coverage")
    x, y = centered(x, y)
    scale = (torch.cat([x, y]) ** 2).sum(dim=1).max()
    radius = radii(x, k)
    clipped = radius.clamp(max=_median(radius))
    count, of_y = (torch.zeros(len(z), dtype=torch.int64, device=x.device) for z in (x, y))
    for rows in chunks(len(x), max(len(x), len(y))):
        of_y += within(squared_distances(x[rows], y), clipped[rows, None], scale, closed=True).sum(dim=0)
        inside = within(squared_distances(x[rows], x), clipped[rows, None], scale, closed=True)
        inside[torch.arange(len(inside)), torch.arange(rows.start, rows.stop)] = False
        count += inside.sum(dim=0)
    density = _clipped(of_y, k) / _clipped(count, k) if count.any() else 0.0
    near = within(nearest(x, y, k)[0], radius[:, None], scale)
    reached = torch.searchsorted(_expected(len(x), len(y), k), near.double().mean().cpu()).item()
    return ClippedDensityCoverage(min(1.0, density), reached / (len(y) + 1))


def _median(squares: Tensor) -> float:
    """The square of the median of square roots, which is between the middle two where their number is even."""
    return squares.sqrt().quantile(0.5).item() ** 2


def _clipped(counts: Tensor, k: int) -> float:
    return (counts.double() / k).clamp(max=1).mean().item()


def _expected(n: int, m: int, k: int) -> Tensor:
    """f(0), ..., f(m): (m + 1,). Only counts below k matter: E min(J, k) = k - sum_j (k - j) P(J = j)."""
    sizes = torch.arange(m + 1, dtype=torch.float64)[:, None]
    j = torch.arange(k, dtype=torch.float64)
    possible = j <= sizes
    rest = (sizes - j).clamp(min=0)

    def log_beta(a: Tensor, b: Tensor) -> Tensor:
        return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)

    ways = torch.lgamma(sizes + 1) - torch.lgamma(j + 1) - torch.lgamma(rest + 1)
    free = torch.full_like(rest, n - k)
    log_p = ways + log_beta(k + j, free + rest) - log_beta(torch.full_like(rest, k), free)
    return 1 - ((k - j) / k * log_p.exp().where(possible, 0)).sum(dim=1)
