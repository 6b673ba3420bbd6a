"""Precision, recall, density and coverage: shares of examples in the neighborhoods of others."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair, chunks, require_different
from zoo.metrics.two_sample.neighbors import centered, radii, squared_distances, within

__all__ = ["PRDC", "check_neighbors", "prdc"]


class PRDC(NamedTuple):
    """Shares of examples in the neighborhoods of others.

    Attributes:
        precision: The share of generated examples in the neighborhood of some real one.
        recall: The share of real examples in the neighborhood of some generated one.
        density: In how many neighborhoods of real examples a generated one is, over k; 1 is expected of a perfect model.
        coverage: The share of real examples that have a generated one in their neighborhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def prdc(x: Any, y: Any, *, k: int = 5) -> PRDC:
    r"""Computes precision, recall, density and coverage.

    The neighborhood of an example is the open ball that reaches to its k-th nearest other example of the same sample.
    Outliers have large ones: precision and recall are inflated by them, of the real and of the generated sample. No score is
    comparable across numbers of examples or k.

    Arguments:
        x: The real examples' features, with shape (N, D).
        y: Those of generated examples, with shape (M, D).
        k: The number of neighbors.

    Returns:
        The four of them.

    Raises:
        ZooError: for k or fewer examples, NaN, real examples that are all the same, another number of features, and k < 1.

    References:
        | Improved Precision and Recall Metric for Assessing Generative Models (Kynkäänniemi et al., 2019)
        | https://arxiv.org/abs/1904.06991
        | Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020)
        | https://arxiv.org/abs/2002.09797

    Example:
        >>> x = torch.arange(10.0)[:, None]
        >>> prdc(x, x[:5] + 0.1, k=1)
        PRDC(precision=1.0, recall=0.6, density=2.0, coverage=0.6)
    """
    x, y = check_neighbors(x, y, k, "prdc")
    x, y = centered(x, y)
    scale = (torch.cat([x, y]) ** 2).sum(dim=1).max()
    radii_x, radii_y = radii(x, k), radii(y, k)
    balls_of_x, recalled, covered = torch.zeros(len(y), dtype=torch.int64, device=x.device), 0, 0
    for rows in chunks(len(x), len(y)):
        distances = squared_distances(x[rows], y)
        inside = within(distances, radii_x[rows, None], scale)
        balls_of_x += inside.sum(dim=0)
        covered += int(inside.any(dim=1).sum())
        recalled += int(within(distances, radii_y, scale).any(dim=1).sum())
    precision, density = (balls_of_x > 0).double().mean().item(), balls_of_x.double().mean().item() / k
    return PRDC(precision, recalled / len(x), density, covered / len(x))


def check_neighbors(x: Any, y: Any, k: int, score: str) -> tuple[Tensor, Tensor]:
    r"""Returns real (N, D) and generated (M, D) examples of which each has k others of its sample, real ones that differ."""
    if k < 1:
        raise ZooError(f"k {k}: 1 or more neighbors are needed")
    x, y = check_pair(x, y, f"{score} with k = {k}", least=k + 1)
    require_different(x, "x", score)
    return x, y
