"""Scores of memorization: are samples nearer to the training set than fresh real examples are?"""

import math
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair, order, require_different
from zoo.metrics.two_sample.neighbors import centered, nearest, squared_distances

__all__ = ["authenticity", "c_t"]

_LEAST = 20  # generated examples that a cell needs to count


def c_t(train: Any, test: Any, y: Any, *, cells: int = 3, components: int = 64, seed: int = 0) -> float:
    r"""Computes the data-copying score :math:`C_T`.

    The training set is cut into cells (k-means on its principal components). In each, the distances of m generated examples
    to their nearest training example are ranked among those of n test examples:

    .. math:: z = \frac{U - (n m / 2 - 1 / 2)}{\sqrt{n m (n + m + 1) / 12}}, \qquad
        U = \#\{d(y_i) > d(x_j)\} + \tfrac{1}{2} \#\{d(y_i) = d(x_j)\}

    The score is the mean of the cells' z, weighted by the share of the test examples in them. A cell with fewer than 20
    generated examples, or no test example, is left out.

    Arguments:
        train: The training examples' features, with shape (L, D).
        test: Those of fresh real examples, with shape (N, D).
        y: Those of generated examples, with shape (M, D).
        cells: The number of cells.
        components: The number of principal components; all D where there are no more.
        seed: The seed of k-means.

    Returns:
        The score: about 0 for samples as far from the training set as real ones are, below 0 for copies, above 0 for what is
        farther away. Beyond 3 either way it is no accident.

    Raises:
        ZooError: for fewer than 20 generated examples, no test example, fewer different training examples than cells, cells
            of which none counts, NaN, and another number of features.

    References:
        | A Non-Parametric Test to Detect Data-Copying in Generative Models (Meehan et al., 2020)
        | https://arxiv.org/abs/2004.05675

    Example:
        >>> x = torch.randn(900, 2, generator=torch.Generator().manual_seed(0))
        >>> train, test, fresh = x.split(300)
        >>> c_t(train, test, train) < -3, abs(c_t(train, test, fresh)) < 3
        (True, True)
    """
    _, test = check_pair(train, test, "c_t", least=1, names=("train", "test"))
    train, y = check_pair(train, y, "c_t", least=1, names=("train", "y"))
    if len(y) < _LEAST:
        raise ZooError(f"c_t needs {_LEAST} or more examples in y, got {len(y)}")
    if cells < 1 or components < 1:
        raise ZooError(f"cells {cells} and components {components}: 1 or more of both are needed")
    if len(train.unique(dim=0)) < max(2, cells):
        raise ZooError(f"c_t with {cells} cells needs {max(2, cells)} or more different training examples")
    train, test, y = centered(train, test, y)
    if train.shape[1] > components:
        axes = torch.linalg.eigh(train.T @ train).eigenvectors[:, -components:]
        train, test, y = train @ axes, test @ axes, y @ axes
    centers = _k_means(train[order(train)], cells, seed)
    of_train, of_test, of_y = (nearest(z, centers)[1].squeeze(1) for z in (train, test, y))
    scores, weights = [], []
    for cell in range(cells):
        known, real, made = train[of_train == cell], test[of_test == cell], y[of_y == cell]
        if len(made) >= _LEAST and len(real) and len(known):
            scores.append(_rank_score(nearest(made, known)[0].squeeze(1), nearest(real, known)[0].squeeze(1)))
            weights.append(len(real))
    if not weights:
        raise ZooError(f"c_t: none of the {cells} cells has {_LEAST} samples and a test example. Give more, or fewer cells.")
    return sum(score * weight for score, weight in zip(scores, weights, strict=True)) / sum(weights)


def authenticity(train: Any, y: Any) -> float:
    r"""Computes the share of generated examples that are authentic: not nearer to their nearest training example than that
    is to another one.

    What share fresh real examples reach depends on the data: score a test set beside the model.

    Arguments:
        train: The training examples' features, with shape (L, D).
        y: Those of generated examples, with shape (M, D).

    Returns:
        The share; 0 for copies.

    Raises:
        ZooError: for no generated example, training examples that are all the same, NaN, and
            another number of features.

    References:
        | How Faithful is your Synthetic Data? Sample-level Metrics for Evaluating and Auditing Generative Models
        | (Alaa et al., 2022) https://arxiv.org/abs/2102.08921

    Example:
        >>> train = torch.tensor([[0.0], [1.0], [5.0]])
        >>> authenticity(train, torch.tensor([[0.1], [3.0]]))
        0.5
    """
    train, y = check_pair(train, y, "authenticity", least=1, names=("train", "y"))
    require_different(train, "train", "authenticity")
    train, y = centered(train, y)
    distances, places = nearest(y, train)
    apart = nearest(train, train, itself=True)[0]
    return (apart[places.squeeze(1)] < distances).double().mean().item()


def _rank_score(generated: Tensor, real: Tensor) -> float:
    """The Mann-Whitney statistic of distances (M,) among distances (N,), standardized."""
    m, n = len(generated), len(real)
    real = real.sort().values
    below, up_to = (torch.searchsorted(real, generated, right=right).sum().item() for right in (False, True))
    return ((below + up_to) / 2 - (n * m / 2 - 0.5)) / math.sqrt(n * m * (n + m + 1) / 12)


def _k_means(x: Tensor, cells: int, seed: int, starts: int = 10, steps: int = 100) -> Tensor:
    """The centers (cells, D) of the best of several runs of Lloyd's algorithm, each from centers drawn as k-means++ does."""
    generator, best, least = torch.Generator().manual_seed(seed), x[:cells], math.inf
    tolerance = 1e-4 * x.var(dim=0, correction=0).mean()
    for _ in range(starts):
        centers = _spread_out(x, cells, generator)
        for _ in range(steps):
            own = nearest(x, centers)[1].squeeze(1)
            sums = torch.zeros_like(centers).index_add_(0, own, x)
            counts = own.bincount(minlength=cells)[:, None]
            moved = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
            still = ((moved - centers) ** 2).sum() <= tolerance
            centers = moved
            if still:
                break
        if (spread := nearest(x, centers)[0].sum().item()) < least:
            best, least = centers, spread
    return best


def _spread_out(x: Tensor, cells: int, generator: torch.Generator) -> Tensor:
    """Rows of x (N, D), each drawn in proportion to its squared distance from those drawn before: (cells, D)."""
    first = torch.randint(len(x), (1,), generator=generator).to(x.device)
    centers = x[first]
    for _ in range(cells - 1):
        odds = squared_distances(x, centers).amin(dim=1).cpu()
        if not odds.any():
            return torch.cat([centers, centers[:1].expand(cells - len(centers), -1)])
        centers = torch.cat([centers, x[torch.multinomial(odds, 1, generator=generator).to(x.device)]])
    return centers
