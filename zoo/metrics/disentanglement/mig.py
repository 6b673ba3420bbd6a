"""Mutual information gap: how much more the best code tells about a factor than the second best."""

from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.mutual_information import entropy, factor_information
from zoo.metrics.disentanglement.points import check_points, check_varying, number_values

__all__ = ["checked_information", "mig", "mig_from_information"]


def mig_from_information(information: Tensor, entropies: Tensor) -> Tensor:
    r"""Returns :math:`\frac{1}{K} \sum_k (I_{(1)k} - I_{(2)k}) / H_k` with a factor's codes sorted by what they tell.

    Arguments:
        information: The mutual information of codes and factors, with shape (D, K).
        entropies: The entropies of the factors, with shape (K,).

    Raises:
        ZooError: if there is no second code.
    """
    if len(information) < 2:
        raise ZooError("mig is the gap between the two best codes of a factor: it needs at least 2 codes, got 1")
    best, second = information.topk(2, dim=0).values
    return ((best - second) / entropies).mean()


def mig(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    r"""Computes the mutual information gap, in :math:`[0, 1]`; 1 if one code alone tells each factor.

    .. math:: \mathrm{MIG} = \frac{1}{K} \sum_k
        \frac{1}{H(y_k)} ( \max_d I(z_d; y_k) - \max_{d \ne d^*_k} I(z_d; y_k) )

    Codes are cut into equal-width bins, so a factor of more than ``bins`` values cannot reach 1, and the plug-in
    estimate of the second-best code keeps even a perfect representation below 1 (0.997 at N = 10000).

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        bins: The number of bins of a code.

    Raises:
        ZooError: if there is one code only, a factor takes one value only, or a code is not finite.

    References:
        | Isolating Sources of Disentanglement in VAEs (Chen et al., 2018), section 4.1
        | https://arxiv.org/abs/1802.04942
    """
    information, entropies, _ = checked_information(codes, factors, bins, "mig")
    return mig_from_information(information, entropies)


def checked_information(codes: Tensor, factors: Tensor, bins: int, score: str) -> tuple[Tensor, Tensor, Tensor]:
    """The mutual information of codes and factors (D, K), the factors' entropies (K,), and the codes, for ``score``.

    Raises:
        ZooError: if a factor takes one value only, or a code is not finite.
    """
    codes, factors = check_points(codes, factors)
    check_varying(factors, score)
    labels, _ = number_values(factors)
    return factor_information(codes, labels, bins), entropy(labels), codes
