"""Gaps of mutual information beside MIG's: DCIMIG, MIG-sup and JEMMIG."""

import math

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.mig import checked_information
from zoo.metrics.disentanglement.mutual_information import discretize, entropy

__all__ = [
    "dcimig",
    "dcimig_from_information",
    "jemmig",
    "jemmig_from_information",
    "mig_sup",
    "mig_sup_from_information",
]


def dcimig_from_information(information: Tensor, entropies: Tensor) -> Tensor:
    r"""Returns :func:`dcimig` of a matrix of mutual information (D, K) and the entropies of the factors (K,)."""
    _require(information, "dcimig", factors=2)
    best, second = information.topk(2, dim=1)[0].T  # (D,)
    given = torch.zeros_like(information).scatter(1, information.argmax(dim=1, keepdim=True), (best - second)[:, None])
    return given.amax(dim=0).sum() / entropies.sum()


def mig_sup_from_information(information: Tensor, entropies: Tensor) -> Tensor:
    r"""Returns :func:`mig_sup` of a matrix of mutual information (D, K) and the entropies of the factors (K,)."""
    _require(information, "mig_sup", factors=2)
    best, second = (information / entropies).topk(2, dim=1)[0].T
    return (best - second).mean()


def jemmig_from_information(information: Tensor, entropies: Tensor, code_entropies: Tensor, bins: int = 20) -> Tensor:
    r"""Returns :func:`jemmig` of a matrix of mutual information (D, K) and the entropies of factors (K,) and codes (D,)."""
    _require(information, "jemmig", codes=2)
    (best, second), (code, _) = information.topk(2, dim=0)
    joint = code_entropies[code] + entropies - best
    return (1 - (joint - best + second) / (entropies + math.log(bins))).mean()


def _require(information: Tensor, score: str, codes: int = 1, factors: int = 1) -> None:
    """ZooError where there are fewer codes or factors than the gap is between."""
    for what, least, there in zip(("codes", "factors"), (codes, factors), information.shape, strict=True):
        if there < least:
            raise ZooError(f"{score} is the gap between the two best {what}: it needs at least {least} {what}, got {there}")


def dcimig(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    r"""Computes DCIMIG, in :math:`[0, 1]`; 1 if for each factor there is a code that tells all of it and of no other.

    .. math:: \frac{\sum_k \max_{d:\, k_d = k} g_d}{\sum_k H(y_k)}
        \qquad g_d = I(z_d; y_{k_d}) - \max_{k \ne k_d} I(z_d; y_k), \quad k_d = \arg\max_k I(z_d; y_k)

    A factor that no code tells most about adds nothing. Information is that of codes cut into equal-width bins.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        bins: The number of bins of a code.

    Raises:
        ZooError: if there is one factor only, a factor takes one value only, or a code is not finite.

    References:
        | How to Not Measure Disentanglement (Sepliarskaia et al., 2019)
        | https://arxiv.org/abs/1910.05587
    """
    information, entropies, _ = checked_information(codes, factors, bins, "dcimig")
    return dcimig_from_information(information, entropies)


def mig_sup(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    r"""Computes MIG-sup, in :math:`[0, 1]`; 1 if each code tells all of one factor and nothing of the others.

    .. math:: \frac{1}{D} \sum_d \left( S_{d k_d} - \max_{k \ne k_d} S_{dk} \right)
        \qquad S_{dk} = \frac{I(z_d; y_k)}{H(y_k)}, \quad k_d = \arg\max_k S_{dk}

    All codes weigh the same: each that tells nothing takes :math:`1 / D` away.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        bins: The number of bins of a code.

    Raises:
        ZooError: if there is one factor only, a factor takes one value only, or a code is not finite.

    References:
        | Progressive Learning and Disentanglement of Hierarchical Representations (Li et al., 2020), section 4
        | https://arxiv.org/abs/2002.10549
    """
    information, entropies, _ = checked_information(codes, factors, bins, "mig_sup")
    return mig_sup_from_information(information, entropies)


def jemmig(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    r"""Computes JEMMIG, normalized to :math:`[0, 1]`; 1 if of each factor one code tells all, and it tells nothing else.

    .. math:: \frac{1}{K} \sum_k \left( 1 - \frac{H(z_{d_k}, y_k) - I(z_{d_k}; y_k) + \max_{d \ne d_k} I(z_d; y_k)}
        {H(y_k) + \log \mathrm{bins}} \right) \qquad d_k = \arg\max_d I(z_d; y_k)

    The joint entropy is what it has beside MIG: a code that holds more than its factor pays for it. That needs codes of as
    many values as their factor; of a code that is spread over all bins and tells nothing the score is 0, and of a constant
    one :math:`\log \mathrm{bins} / (H(y_k) + \log \mathrm{bins})`, which is above 1/2 for factors of few values.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        bins: The number of bins of a code.

    Raises:
        ZooError: if there is one code only, a factor takes one value only, or a code is not finite.

    References:
        | Theory and Evaluation Metrics for Learning Disentangled Representations (Do and Tran, 2020), section 3
        | https://arxiv.org/abs/1908.09961
    """
    information, entropies, codes = checked_information(codes, factors, bins, "jemmig")
    return jemmig_from_information(information, entropies, entropy(discretize(codes, bins)), bins)
