"""Distances between examples and nearest neighbors, block by block, so that no whole matrix of distances is held."""

import torch
from torch import Tensor

from zoo.metrics.two_sample.examples import chunks

__all__ = ["centered", "nearest", "radii", "squared_distances", "within"]

_ROUNDING = 1e-12  # of a squared norm: what a difference of two squared distances may owe to rounding


def centered(*examples: Tensor) -> list[Tensor]:
    r"""Moves examples (N, D) so that the mean of the first is 0: squared distances then lose the least to rounding."""
    mean = examples[0].mean(dim=0)
    return [x - mean for x in examples]


def squared_distances(x: Tensor, y: Tensor) -> Tensor:
    r"""Computes :math:`\|x_i - y_j\|^2` of rows x (N, D) and y (M, D): (N, M)."""
    product = torch.addmm((y**2).sum(dim=1)[None], x, y.T, alpha=-2)
    return product.add_((x**2).sum(dim=1)[:, None]).clamp_(min=0)


def nearest(x: Tensor, y: Tensor, k: int = 1, itself: bool = False) -> tuple[Tensor, Tensor]:
    r"""Finds the k nearest rows of y (M, D) for each row of x (N, D).

    Arguments:
        x: The points, with shape (N, D).
        y: The points among which neighbors are sought, with shape (M, D).
        k: How many.
        itself: Whether x and y are the same points, none of which is its own neighbor.

    Returns:
        Squared distances in rising order, and indices, both (N, k).
    """
    distances, indices = x.new_empty(len(x), k), torch.empty(len(x), k, dtype=torch.int64, device=x.device)
    for rows in chunks(len(x), len(y)):
        block = squared_distances(x[rows], y)
        if itself:
            block[torch.arange(len(block)), torch.arange(rows.start, rows.stop)] = torch.inf
        distances[rows], indices[rows] = block.topk(k, largest=False)
    return distances, indices


def radii(x: Tensor, k: int) -> Tensor:
    r"""Computes the squared distance of each row of x (N, D) to its k-th nearest other row: (N,)."""
    return nearest(x, x, k, itself=True)[0][:, -1]


def within(distances: Tensor, radius: Tensor, scale: Tensor, closed: bool = False) -> Tensor:
    r"""Says which squared distances lie below a squared radius, or do not exceed it if the ball is closed.

    A distance that differs from the radius by rounding alone, given the largest squared norm of the points, is equal to it.
    """
    margin = _ROUNDING * scale
    return distances <= radius + margin if closed else distances < radius - margin
