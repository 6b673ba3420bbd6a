"""The Fréchet distance of two samples, each taken for a Gaussian, and its limit for infinitely many generated examples."""

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import check_pair, order

__all__ = ["frechet_distance", "frechet_distance_infinity", "frechet_distance_of_moments", "moments"]


def frechet_distance(x: Any, y: Any) -> float:
    r"""Computes the Fréchet distance of two samples, each taken for a Gaussian:

    .. math:: \|\mu_x - \mu_y\|^2 + \mathrm{tr}\left( \Sigma_x + \Sigma_y - 2 (\Sigma_x \Sigma_y)^{1/2} \right)

    Of features of the Inception network it is known as FID. Its bias falls with the numbers of examples, at a rate that
    differs from model to model: compare at equal numbers, or take :func:`frechet_distance_infinity`.

    Arguments:
        x: The real examples' features, with shape (N, D).
        y: Those of generated examples, with shape (M, D).

    Returns:
        The distance, 0 or more.

    Raises:
        ZooError: for fewer than 2 examples, NaN, and another number of features.

    References:
        | GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium (Heusel et al., 2017)
        | https://arxiv.org/abs/1706.08500

    Example:
        >>> x = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> frechet_distance(x, x + 3)
        18.0
    """
    x, y = check_pair(x, y, "frechet_distance")
    return frechet_distance_of_moments(*moments(x), *moments(y)).item()


def frechet_distance_infinity(x: Any, y: Any, *, sizes: int = 15, seed: int = 0) -> float:
    r"""Estimates :func:`frechet_distance` to infinitely many generated examples.

    The distance to M of them is nearly linear in 1/M, so the intercept of a line through the distances to random subsets,
    of sizes evenly spaced from M/10 to M, is free of that bias; what is due to the number of real examples stays. Fewer
    examples than features are no such line.

    Arguments:
        x: The real examples' features, with shape (N, D).
        y: Those of generated examples, with shape (M, D).
        sizes: The number of sizes.
        seed: The seed of the subsets.

    Returns:
        The intercept, which may be below 0.

    Raises:
        ZooError: for fewer than 2 real and 20 generated examples, NaN, another number of features, and fewer sizes than 2.

    References:
        | Effectively Unbiased FID and Inception Score and Where to Find Them (Chong and Forsyth, 2020)
        | https://arxiv.org/abs/1911.07023

    Example:
        >>> x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
        >>> x, y = x.split(1000)
        >>> frechet_distance(x, y) > frechet_distance_infinity(x, y)
        True
    """
    x, y = check_pair(x, y, "frechet_distance_infinity")
    if len(y) < 20:
        raise ZooError(f"frechet_distance_infinity needs 20 or more examples in y, got {len(y)}")
    if sizes < 2:
        raise ZooError(f"sizes {sizes}: 2 or more are needed for a line")
    generator = torch.Generator().manual_seed(seed)
    y, real = y[order(y)], moments(x)
    counts = torch.linspace(len(y) / 10, len(y), sizes, dtype=torch.float64).round().long().tolist()
    subsets = (y[torch.randperm(len(y), generator=generator)[:count].to(y.device)] for count in counts)
    distances = torch.stack([frechet_distance_of_moments(*real, *moments(subset)) for subset in subsets])
    inverse = 1 / torch.tensor(counts).to(distances)
    design = torch.stack([torch.ones_like(inverse), inverse], dim=1)
    return torch.linalg.lstsq(design, distances[:, None]).solution[0].item()


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    r"""Computes the mean (D,) and the unbiased covariance (D, D) of examples x (N, D)."""
    mean = x.mean(dim=0)
    centered = x - mean
    return mean, centered.T @ centered / (len(x) - 1)


def frechet_distance_of_moments(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    r"""Computes the Fréchet distance of two Gaussians with these means (D,) and covariances (D, D)."""
    # Singular values of Σ₁^½ Σ₂^½ are the square roots of the eigenvalues of Σ₁ Σ₂, but take no root of rounding errors.
    roots = [_root(covariance), _root(other_covariance)]
    traces = covariance.trace() + other_covariance.trace()
    trace = traces - 2 * torch.linalg.svdvals(roots[0] @ roots[1]).sum()
    return ((mean - other_mean) ** 2).sum() + trace.where(trace > 1e-12 * traces, 0)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt() @ vectors.T
