"""MMD² under every relabeling of two pooled samples, from kernel matrices that are made block by block and never held."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.two_sample.examples import chunks, order

__all__ = ["PooledMMD", "TwoSampleTest", "check_permutations", "p_value", "pool", "pooled_mmd"]

_LABELS = 2**24  # labels in a block of them: 64 MB
_BLOCK = 2**19  # numbers in a block of a kernel matrix, which stays in the cache


class TwoSampleTest(NamedTuple):
    """A two-sample test.

    Attributes:
        statistic: What was measured; large where the samples differ.
        p_value: How likely so large a statistic is for two samples of one distribution: exact for any size, by permutations.
        permutations: How many.
    """

    statistic: float
    p_value: float
    permutations: int


class PooledMMD(NamedTuple):
    """MMD² of several kernels under several labelings.

    Attributes:
        values: (kernels, B + 1), unbiased; the true labels come first.
        squares: (kernels,) sums of k(z_i, z_j)² over i != j.
    """

    values: Tensor
    squares: Tensor


def check_permutations(permutations: int) -> None:
    r"""Raises a ZooError for fewer permutations than one."""
    if permutations < 1:
        raise ZooError(f"permutations {permutations}: 1 or more are needed; 1000 give a p-value to three digits")


def pool(x: Tensor, y: Tensor, permutations: int, seed: int) -> tuple[Tensor, Tensor]:
    r"""Pools two samples, and draws permutations of whose is whose.

    Arguments:
        x: The first sample, with shape (N, D).
        y: The second, with shape (M, D).
        permutations: How many, B.
        seed: Their seed.

    Returns:
        The pooled examples (N + M, D), in an order of their own, and labels (B + 1, N + M), true for N of them: the true
        ones, and B permutations of them.
    """
    z = torch.cat([x, y])
    places = order(z)
    labels = torch.zeros(permutations + 1, len(z), dtype=torch.bool)
    labels[0] = places.cpu() < len(x)
    generator = torch.Generator().manual_seed(seed)
    for row in labels[1:]:
        row[torch.randperm(len(z), generator=generator)[: len(x)]] = True
    return z[places], labels.to(z.device)


def pooled_mmd(blocks: Callable[[Tensor, Tensor], Iterable[Tensor]], z: Tensor, labels: Tensor, count: int) -> PooledMMD:
    r"""Computes the unbiased :math:`\mathrm{MMD}^2` of pooled examples under each of several labelings.

    With :math:`u_i = 1` for the N examples that are taken for the first sample and :math:`K` the kernel matrix with a zero
    diagonal, the sums over pairs within the first sample, of one of each, and within the second are :math:`a = u^\top K u`,
    :math:`b - a` and :math:`\mathbf{1}^\top K \mathbf{1} - 2 b + a`, where :math:`b = u^\top K \mathbf{1}`: one product of
    a matrix for all labelings.

    Arguments:
        blocks: Maps rows (n, D) and (m, D) of the examples to (n, m) blocks of every kernel's matrix.
        z: The pooled examples, with shape (N + M, D).
        labels: The labelings, with shape (B + 1, N + M).
        count: The number of kernels.
    """
    total, n = len(z), int(labels[0].sum())
    m, share = total - n, n / total
    # Signs around 0 keep the sums small: single precision does for them, and double for all that is left.
    signs = [part.to(torch.float32) - share for part in labels.split(max(1, _LABELS // total))]
    within = z.new_zeros(count, len(labels))  # sᵀ K s
    rows_of, squares = z.new_zeros(count, total), z.new_zeros(count)
    exact, true = z.new_zeros(count), labels[0].to(z)
    for rows in chunks(total, total, _BLOCK):
        # The matrix is symmetric: what is left of the diagonal counts twice.
        before, own = slice(0, rows.start), torch.arange(rows.stop - rows.start, device=z.device)
        for g, block in enumerate(blocks(z[rows], z[: rows.stop])):
            block[own, own + rows.start] = 0
            rows_of[g, rows] += block.sum(dim=1, dtype=z.dtype)
            rows_of[g, before] += block[:, before].sum(dim=0, dtype=z.dtype)
            squares[g] += 2 * (block[:, before] ** 2).sum(dtype=z.dtype) + (block[:, rows] ** 2).sum(dtype=z.dtype)
            block[:, before] *= 2
            exact[g] += true[rows] @ (block.to(z.dtype) @ true[: rows.stop])
            single, start = block.to(torch.float32), 0
            for sign in signs:
                products = (sign[:, : rows.stop] @ single.T).mul_(sign[:, rows])
                within[g, start : start + len(sign)] += products.sum(dim=1, dtype=z.dtype)
                start += len(sign)
    b = rows_of @ labels.T.to(z)  # (kernels, B + 1)
    all_pairs = rows_of.sum(dim=1, keepdim=True)
    a = within + 2 * share * b - share**2 * all_pairs
    a[:, 0] = exact
    values = a / (n * (n - 1)) + (all_pairs - 2 * b + a) / (m * (m - 1)) - 2 * (b - a) / (n * m)
    return PooledMMD(values, squares)


def p_value(statistics: Tensor) -> float:
    r"""Computes :math:`(1 + \#\{b : s_b \ge s_0\}) / (B + 1)` of statistics (B + 1,), the first of which was observed.

    Those that are equal but for rounding count as equal.
    """
    observed, permuted = statistics[0], statistics[1:]
    margin = 1e-5 * (permuted - permuted.mean()).abs().mean()
    return (1 + int((permuted >= observed - margin).sum())) / len(statistics)
