"""Modularity: whether each code tells about one factor only."""

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.mutual_information import factor_information
from zoo.metrics.disentanglement.points import check_points, number_values

__all__ = ["modularity", "modularity_from_information"]


def modularity_from_information(information: Tensor) -> Tensor:
    r"""Returns the modularity of a matrix of mutual information (D, K); see :func:`modularity`."""
    if information.shape[1] < 2:
        raise ZooError("modularity compares factors: it needs at least 2 factors, got 1")
    squared = information.square()
    largest = squared.amax(dim=1)
    others = (squared.sum(dim=1) - largest) / (information.shape[1] - 1)
    return torch.where(largest > 0, 1 - others / largest, 0).mean()


def modularity(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    r"""Computes the modularity, in :math:`[0, 1]`; 1 if no code tells about two factors.

    .. math:: \frac{1}{D} \sum_d ( 1 - \frac{\sum_{k \ne k_d} I(z_d; y_k)^2}{(K - 1) \, I(z_d; y_{k_d})^2} )
        \qquad k_d = \arg\max_k I(z_d; y_k)

    A code that tells nothing at all counts as 0. Dead codes weigh as much as the others: their estimated information is
    noise, so a perfect representation beside five noise codes scores 0.73, below a rotated one at 0.90.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        bins: The number of bins of a code.

    Raises:
        ZooError: if there is one factor only, or a code is not finite.

    References:
        | Learning Deep Disentangled Embeddings with the F-Statistic Loss (Ridgeway and Mozer, 2018), section 3
        | https://arxiv.org/abs/1802.05312
    """
    codes, factors = check_points(codes, factors)
    return modularity_from_information(factor_information(codes, number_values(factors)[0], bins))
