"""Scores of dependence between codes that need no factors: Gaussian total and Wasserstein correlation, information."""

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.mutual_information import contingency, discretize, mutual_information
from zoo.metrics.disentanglement.points import check_codes

__all__ = [
    "code_information",
    "gaussian_total_correlation",
    "gaussian_wasserstein_correlation",
]


def _covariance(codes: Tensor, score: str) -> Tensor:
    codes = check_codes(codes)
    if len(codes) < 2:
        raise ZooError(f"{score} needs a covariance: at least 2 points, got 1")
    # From the first point on, so that a constant code has no variance at all, not even by rounding.
    return (codes - codes[:1]).T.cov().view(codes.shape[1], codes.shape[1])


def gaussian_total_correlation(codes: Tensor) -> Tensor:
    r"""Computes the total correlation of the Gaussian with the codes' covariance, in nats; 0 if uncorrelated.

    .. math:: \frac{1}{2} ( \sum_d \log \Sigma_{dd} - \log \det \Sigma )

    A constant code is independent of the others and adds nothing (the reference gives NaN). The score is infinite if the
    other codes are linearly dependent.

    Arguments:
        codes: The codes, with shape (N, D).

    Raises:
        ZooError: if there is one point only, or a code is not finite.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations
        | (Locatello et al., 2019), section 5.3
        | https://arxiv.org/abs/1811.12359
    """
    covariance = _covariance(codes, "gaussian_total_correlation")
    varying = covariance.diagonal() > 0
    std = covariance.diagonal()[varying].sqrt()
    # The determinant of the correlation matrix is the whole difference, without large numbers that cancel.
    spectrum = torch.linalg.eigvalsh(covariance[varying][:, varying] / (std * std[:, None]))
    dependent = (spectrum <= len(std) * torch.finfo(spectrum.dtype).eps).any()
    return torch.where(dependent, torch.inf, 0.5 * spectrum.reciprocal().log().sum()).clamp(min=0)


def gaussian_wasserstein_correlation(codes: Tensor, normalize: bool = False) -> Tensor:
    r"""Computes the squared 2-Wasserstein distance between Gaussians with the codes' covariance and with its diagonal.

    .. math:: 2\, \mathrm{tr}\, \Sigma - 2\, \mathrm{tr} ( D^{1/2} \Sigma\, D^{1/2} )^{1/2}
        \qquad D = \mathrm{diag}\, \Sigma

    Arguments:
        codes: The codes, with shape (N, D).
        normalize: Whether to divide by :math:`\mathrm{tr}\, \Sigma`, so that the codes' scale cancels. All-constant codes
            score 0 then too (the reference gives NaN).

    Raises:
        ZooError: if there is one point only, or a code is not finite.

    References:
        See :func:`gaussian_total_correlation`.
    """
    covariance = _covariance(codes, "gaussian_wasserstein_correlation")
    variance = covariance.diagonal()
    std = variance.sqrt()
    # Similar to Σ with its rows scaled by D, of which the reference takes the root, but symmetric.
    spectrum = torch.linalg.eigvalsh(std[:, None] * covariance * std).clamp(min=0)
    distance = (2 * variance.sum() - 2 * spectrum.sqrt().sum()).clamp(min=0)
    return torch.where(distance > 0, distance / variance.sum(), 0) if normalize else distance


def code_information(codes: Tensor, bins: int = 20) -> Tensor:
    r"""Computes the mutual information of two codes cut into bins, in nats, averaged over all pairs of codes.

    Arguments:
        codes: The codes, with shape (N, D).
        bins: The number of bins of a code.

    Raises:
        ZooError: if there is one code only, or a code is not finite.

    References:
        See :func:`gaussian_total_correlation`.
    """
    codes = check_codes(codes)
    d = codes.shape[1]
    if d < 2:
        raise ZooError("mutual_information compares codes: it needs at least 2 codes, got 1")
    labels = discretize(codes, bins)
    information = mutual_information(contingency(labels, labels))
    return (information.sum() - information.diagonal().sum()) / (d * (d - 1))
