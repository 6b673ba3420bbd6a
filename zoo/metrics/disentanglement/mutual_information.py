"""Mutual information between codes and the values of factors: by counts in equal-width bins, by nearest neighbors."""

import torch
from torch import Tensor

__all__ = ["contingency", "discretize", "entropy", "factor_information", "mutual_information", "neighbor_information"]


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


def neighbor_information(codes: Tensor, labels: Tensor, neighbors: int = 10) -> Tensor:
    r"""Returns the mutual information of every code, not cut into bins, with every factor, in nats.

    .. math:: \psi(N) + \frac{1}{N} \sum_n ( \psi(k_n) - \psi(N_{y_n}) - \psi(m_n) )

    with the digamma function :math:`\psi`. Of the :math:`N_{y_n}` points that share the n-th one's value, the
    :math:`k_n` nearest to it in the code reach to some distance; so near lie :math:`m_n` points of all, itself included and
    the last of these neighbors excluded. :math:`k_n` is ``neighbors``, or :math:`N_{y_n} - 1` where that is less. Points
    whose value nobody shares take no part, and what falls below 0 is 0, as in scikit-learn's ``mutual_info_classif``.

    Equal codes have neighbors at distance 0, for which the estimate is not made: noise of 1e-10 of the code's scale tells
    them apart, the same at every call. A constant code tells nothing.

    Arguments:
        codes: The codes, with shape (N, D).
        labels: The factors' values numbered from 0, with shape (N, K).
        neighbors: The number of neighbors.

    Returns:
        The matrix of mutual information, with shape (D, K).

    References:
        | Mutual Information between Discrete and Continuous Data Sets (Ross, 2014)
        | https://doi.org/10.1371/journal.pone.0087357
    """
    if not codes.numel():
        return labels.new_zeros(codes.shape[1], labels.shape[1], dtype=torch.float64)
    columns = codes.double().T.contiguous()  # (D, N)
    varying = columns.amax(dim=1) > columns.amin(dim=1)
    columns = (columns - columns.mean(dim=1, keepdim=True)) / columns.std(dim=1, correction=0, keepdim=True)
    columns = columns.masked_fill(~varying[:, None], 0)
    noise = torch.randn(columns.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(columns)
    columns = columns + 1e-10 * noise
    information = [_neighbor_information(columns, label, neighbors).where(varying, 0) for label in labels.T]
    return torch.stack(information, dim=1).clamp(min=0)


def _neighbor_information(columns: Tensor, labels: Tensor, neighbors: int) -> Tensor:
    """The same of the codes (D, N) with one factor (N,): (D,)."""
    counts = labels.bincount()
    shared = counts[labels] > 1
    columns, labels = columns[:, shared], labels[shared]
    points = columns.shape[1]
    if not points:
        return columns.new_zeros(len(columns))

    # Sorted by value, and by code within a value: the k nearest neighbors are a window around each point.
    by_code = columns.argsort(dim=1)
    order = by_code.gather(1, labels[by_code].argsort(dim=1, stable=True))
    x, y = columns.gather(1, order), labels[order]  # (D, N); y is the same in every row
    ends = counts.masked_fill(counts == 1, 0).cumsum(0)
    first, last = (ends - counts)[y], ends[y] - 1
    k = (counts[y] - 1).clamp(max=neighbors)
    place = torch.arange(points, device=x.device)
    radius = torch.full_like(x, torch.inf)
    for left in range(neighbors + 1):  # so many of the neighbors lie to the left
        low, high = place - left, place - left + k
        inside = (left <= k) & (low >= first) & (high <= last)
        low, high = low.clamp(min=0), high.clamp(0, points - 1)
        reach = torch.maximum(x - x.gather(1, low.expand_as(x)), x.gather(1, high) - x)
        radius = torch.minimum(radius, reach.masked_fill(~inside, torch.inf))

    every = columns.gather(1, by_code)
    nearer = _count_below(every, x, radius) + _count_below(-every.flip(1), -x, radius) - 1  # the point itself, once
    return (
        torch.special.digamma(x.new_tensor(float(points)))
        + (torch.special.digamma(k.double()) - torch.special.digamma(counts[y].double())).mean(dim=1)
        - torch.special.digamma(nearer.double()).mean(dim=1)
    )


def _count_below(values: Tensor, x: Tensor, radius: Tensor) -> Tensor:
    """How many of the values (D, N), in increasing order, are x (D, N) or less by less than a radius (D, N)."""
    start = torch.searchsorted(values, x - radius, right=True)
    # x - radius was rounded: whether the values next to it are nearer than the radius is asked of the differences.
    for _ in range(2):
        before = values.gather(1, (start - 1).clamp(min=0))
        start = start - ((start > 0) & (x - before < radius)).long()
        here = values.gather(1, start.clamp(max=values.shape[1] - 1))
        start = start + ((x - here >= radius) & (here < x)).long()
    return torch.searchsorted(values, x, right=True) - start
