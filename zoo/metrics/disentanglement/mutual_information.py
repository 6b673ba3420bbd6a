"""Plug-in mutual information between codes cut into equal-width bins and the values of factors."""

import torch
from torch import Tensor

__all__ = ["contingency", "discretize", "entropy", "factor_information", "mutual_information"]


def discretize(values: Tensor, bins: int = 20) -> Tensor:
    r"""Cuts every column into equal-width bins between its own minimum and maximum.

    Bin :math:`b` is :math:`[e_b, e_{b+1})` with :math:`e_b = \min + b (\max - \min) / \mathrm{bins}`; the last bin holds
    the maximum too. A constant column falls into one bin. One outlier widens all bins of its column.

    Arguments:
        values: The columns to cut, with shape (N, D).
        bins: The number of bins.

    Returns:
        The bin of every value, int64 in :math:`0 … \mathrm{bins} - 1`, with shape (N, D).
    """
    columns = values.double().T.contiguous()  # (D, N)
    low, high = columns.aminmax(dim=1, keepdim=True)
    inner = low + torch.arange(1, bins, device=values.device) * ((high - low) / bins)  # (D, bins - 1)
    return torch.searchsorted(inner, columns, right=True).T


def contingency(first: Tensor, second: Tensor) -> Tensor:
    r"""Counts how often every label of one column meets every label of another.

    Arguments:
        first: Labels from 0 up, with shape (N, D).
        second: Labels from 0 up, with shape (N, K).

    Returns:
        The counts in double precision, with shape (D, K, A, B) for labels below :math:`A` and :math:`B`.
    """
    a, b, k = int(first.max()) + 1, int(second.max()) + 1, second.shape[1]
    cells = second.T + b * a * torch.arange(k, device=second.device)[:, None]  # (K, N)
    # One column at a time: all D * K * N joint labels at once would not fit for wide codes.
    tables = [torch.bincount((cells + b * column).flatten(), minlength=k * a * b) for column in first.T]
    return torch.stack(tables).view(-1, k, a, b).double()


def mutual_information(counts: Tensor) -> Tensor:
    r"""Returns the mutual information :math:`\sum_{ab} p_{ab} \log \frac{p_{ab}}{p_a p_b}` of contingency tables, in nats.

    The estimate is too high by about :math:`(A-1)(B-1) / 2N`. It is exactly zero where a label is constant.

    Arguments:
        counts: The tables, with shape (..., A, B).
    """
    total = counts.sum(dim=(-2, -1), keepdim=True)
    # Ratios of whole numbers: independent labels give log(1) = 0 without rounding.
    ratio = counts * total / (counts.sum(-1, keepdim=True) * counts.sum(-2, keepdim=True)).clamp(min=1)
    return (torch.special.xlogy(counts, ratio) / total).sum(dim=(-2, -1)).clamp(min=0)


def entropy(labels: Tensor) -> Tensor:
    r"""Returns the plug-in entropy :math:`-\sum_a p_a \log p_a` of every column of labels (N, K), in nats."""
    counts = torch.stack([column.bincount(minlength=int(labels.max()) + 1) for column in labels.T])
    return torch.special.entr(counts.double() / len(labels)).sum(dim=1)


def factor_information(codes: Tensor, labels: Tensor, bins: int = 20) -> Tensor:
    r"""Returns the mutual information of every discretized code with every factor, in nats.

    Arguments:
        codes: The codes, with shape (N, D).
        labels: The factors' values numbered from 0, with shape (N, K).
        bins: The number of bins of a code. No code can tell more than :math:`\log \mathrm{bins}` about a factor.

    Returns:
        The matrix of mutual information, with shape (D, K).
    """
    return mutual_information(contingency(discretize(codes, bins), labels))
