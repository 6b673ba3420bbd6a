"""Interventional robustness score: how little a code moves when everything but one factor changes."""

import torch
from torch import Tensor

from zoo.metrics.disentanglement.mutual_information import discretize
from zoo.metrics.disentanglement.points import check_points

__all__ = ["irs"]


def irs(codes: Tensor, factors: Tensor, bins: int = 20, quantile: float = 0.99) -> Tensor:
    r"""Computes the interventional robustness score, in :math:`[0, 1]`; 1 if each code depends on one factor only.

    With :math:`\mu_v` the mean code of the :math:`N_v` points whose factor k has the value v, and :math:`\mu` that of all,

    .. math:: \mathrm{IRS} = \sum_d \frac{m_d}{\sum_e m_e} \max_k ( 1 - \frac{1}{n_k\, m_d} \sum_{v} Q_{0.99}
        |z_d - \mu_{v,d}| ) \qquad m_d = \max |z_d - \mu_d|

    Factors of more than ``bins`` values are merged into equal-width bins. A constant code has no weight; the score is 0
    if all codes are constant.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).
        bins: The largest number of values of a factor.
        quantile: The quantile of deviations; 1 for the maximum of the paper.

    Raises:
        ZooError: if a code is not finite.

    References:
        | Robustly Disentangled Causal Mechanisms (Suter et al., 2019), section 4
        | https://arxiv.org/abs/1811.00007
    """
    codes, factors = check_points(codes, factors)
    codes = codes[:, codes.amax(dim=0) > codes.amin(dim=0)]
    if not codes.shape[1]:
        return codes.new_zeros(())
    reach = (codes - codes.mean(dim=0)).abs().amax(dim=0)
    deviations = []
    for column in discretize(factors, bins).T:
        groups = [codes[column == value] for value in column.unique()]
        deviations.append(torch.stack([_spread(group, quantile) for group in groups]).mean(dim=0))
    robustness = 1 - torch.stack(deviations).amin(dim=0) / reach
    return (robustness * reach).sum() / reach.sum()


def _spread(group: Tensor, quantile: float) -> Tensor:
    """The quantile over points of a group's (n, D) distance from its mean, linearly interpolated."""
    place = quantile * (len(group) - 1)
    # Only the few largest distances are sorted, all that a high quantile needs.
    largest = (group - group.mean(dim=0)).abs().T.topk(len(group) - int(place), dim=1).values  # (D, n - place)
    upper = largest[:, -2] if largest.shape[1] > 1 else largest[:, -1]
    return torch.lerp(largest[:, -1], upper, place - int(place))
