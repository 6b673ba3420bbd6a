"""InfoMEC: modularity, explicitness and compactness in shares of information."""

import math

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.logistic import fit_logistic
from zoo.metrics.disentanglement.mutual_information import entropy, neighbor_information
from zoo.metrics.disentanglement.points import check_points, check_varying, number_values, standardize

__all__ = ["active_codes", "infoc", "infoe", "infom", "infomec", "normalized_information"]


def active_codes(codes: Tensor) -> Tensor:
    r"""Returns which codes (N, D) have a range above a twentieth of the largest one's, with shape (D,)."""
    spans = codes.amax(dim=0) - codes.amin(dim=0)
    return spans > spans.max() / 20


def normalized_information(codes: Tensor, factors: Tensor, neighbors: int = 10) -> Tensor:
    r"""Returns :math:`I(z_d; y_k) / H(y_k)` of the active codes and all factors, with shape (D', K).

    Information is estimated by nearest neighbors (:func:`~.mutual_information.neighbor_information`).

    Arguments:
        codes: The codes, with shape (N, D), in double precision.
        factors: The factors, int64 with shape (N, K).
        neighbors: The number of neighbors.

    Raises:
        ZooError: if a factor takes one value only.
    """
    check_varying(factors, "infomec")
    labels, _ = number_values(factors)
    return neighbor_information(codes[:, active_codes(codes)], labels, neighbors) / entropy(labels)


def infom(shares: Tensor) -> Tensor:
    r"""Returns InfoM, the modularity: 1 if each active code tells of one factor only, 0 if of all alike.

    .. math:: \left( \frac{1}{D'} \sum_d \frac{\max_k S_{dk}}{\sum_k S_{dk}} - \frac{1}{K} \right)
        \Big/ \left( 1 - \frac{1}{K} \right)

    A code that tells nothing counts as one that tells of all alike (the published code divides by zero); without an
    active code the score is 0.

    Arguments:
        shares: :func:`normalized_information`, with shape (D', K).

    Raises:
        ZooError: if there is one factor only.
    """
    if shares.shape[1] < 2:
        raise ZooError("infom compares factors: it needs at least 2 factors, got 1")
    return _concentration(shares)


def infoc(shares: Tensor) -> Tensor:
    r"""Returns InfoC, the compactness: 1 if of each factor one active code tells, 0 if all tell alike.

    It is :func:`infom` of the transpose: factors and active codes have changed places.

    Raises:
        ZooError: if one code is active only.
    """
    if len(shares) == 1:
        raise ZooError("infoc compares active codes: it needs at least 2, got 1")
    return _concentration(shares.T)


def _concentration(shares: Tensor) -> Tensor:
    """How far the largest share of each row (A, B) exceeds that of even rows."""
    if not shares.numel():
        return shares.new_zeros(())
    even = 1 / shares.shape[1]
    total = shares.sum(dim=1)
    largest = torch.where(total > 0, shares.amax(dim=1) / total, even)
    return ((largest.mean() - even) / (1 - even)).clamp(min=0)


def infoe(codes: Tensor, factors: Tensor) -> Tensor:
    r"""Computes InfoE, the explicitness: how much of each factor a linear classifier reads from all codes, 1 if all.

    .. math:: \frac{1}{K} \sum_k \frac{\log n_k - \mathrm{CE}_k}{\log n_k}

    :math:`\mathrm{CE}_k` is the mean of :math:`-\log p(y_k | z)`, in nats, by the logistic regression on standardized codes
    that is fitted to the same points without a penalty and with all values weighted alike; :math:`\log n_k` is what the
    same classifier reaches without codes. Below 0 only where values differ much in how frequent they are.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).

    Raises:
        ZooError: if a factor takes one value only, or a code is not finite.
    """
    codes, factors = check_points(codes, factors)
    check_varying(factors, "infoe")
    labels, sizes = number_values(factors)
    x = standardize(codes, codes)
    explained = []
    for label, size in zip(labels.T, sizes, strict=True):
        weights = fit_logistic(x, label, size, penalty=0.0, balanced=True)
        log_p = (weights[:, :-1] @ x.T + weights[:, -1:]).log_softmax(dim=0)  # (C, N)
        explained.append(1 + log_p.gather(0, label[None]).mean() / math.log(size))
    return torch.stack(explained).mean()


def infomec(codes: Tensor, factors: Tensor, neighbors: int = 10) -> dict[str, Tensor]:
    r"""Computes InfoM, InfoE and InfoC: see :func:`infom`, :func:`infoe` and :func:`infoc`.

    With the information :math:`S_{dk} = I(z_d; y_k) / H(y_k)` of continuous codes by nearest neighbors, so that no bins
    are chosen. Codes whose range is at most a twentieth of the largest are not active, and take part in InfoE only.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        neighbors: The number of neighbors.

    Returns:
        ``infom``, ``infoe`` and ``infoc``.

    Raises:
        ZooError: if there is one factor or one active code only, a factor takes one value only, or a code is not finite.

    References:
        | Disentanglement via Latent Quantization (Hsu et al., 2023), section 4
        | https://arxiv.org/abs/2305.18378
    """
    codes, factors = check_points(codes, factors)
    shares = normalized_information(codes, factors, neighbors)
    return {"infom": infom(shares), "infoe": infoe(codes, factors), "infoc": infoc(shares)}
