"""Unsupervised disentanglement ranking: of models of one setting, those whose codes the others find again."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.points import check_codes, standardize

__all__ = ["UDR", "udr"]

CORRELATIONS = ("lasso", "spearman")


class UDR(NamedTuple):
    r"""What :func:`udr` found of M models.

    Attributes:
        scores: The score of each model, with shape (M,).
        pairs: :math:`\mathrm{UDR}_{ab}` of models a and b, with shape (M, M); NaN on the diagonal.
        informative: The number of informative codes of each model, with shape (M,).
    """

    scores: Tensor
    pairs: Tensor
    informative: Tensor


def udr(
    codes: Sequence[Any], kl: Sequence[Any], correlation: str = "lasso", threshold: float = 0.01, alpha: float = 0.1
) -> UDR:
    r"""Computes how far models of one setting, trained with different seeds, agree up to order and sign of their codes.

    With the matrix :math:`R_{ij}` of how strongly code i of model a and code j of model b depend on each other, of the
    informative ones, :math:`n_a` and :math:`n_b` in number,

    .. math:: \mathrm{UDR}_{ab} = \frac{1}{2} \left( \frac{1}{n_b} \sum_j \frac{(\max_i R_{ij})^2}{\sum_i R_{ij}}
        + \frac{1}{n_a} \sum_i \frac{(\max_j R_{ij})^2}{\sum_j R_{ij}} \right)

    with 0 for 0/0, and for a pair of which one model has no informative code. The score of model b is the median over all
    other models a. No factors are needed. A model that fails in the same way with every seed scores high too.

    Arguments:
        codes: The codes of the same N points by each model, with shapes (N, D); D may differ.
        kl: The mean KL divergence of each code from the prior, in nats, with shapes (D,).
        correlation: ``"lasso"``: absolute weights of the linear regressions of b's codes on a's, standardized, with the
            penalty :math:`\alpha \|w\|_1` beside half the mean squared error; or ``"spearman"``, absolute rank
            correlation.
        threshold: Codes whose KL divergence exceeds it are informative.
        alpha: The Lasso's penalty.

    Raises:
        ZooError: if there is one model only, points or codes do not match, or a code is not finite.

    References:
        | Unsupervised Model Selection for Variational Disentangled Representation Learning (Duan et al., 2020), section 4
        | https://arxiv.org/abs/1905.12614

    Example:
        >>> z = torch.randn(500, 3)
        >>> found = udr([z, -z.flip(1), z @ torch.linalg.qr(torch.randn(3, 3))[0]], torch.ones(3, 3))
        >>> found.scores.argmin().item(), found.pairs.isnan().diagonal().all().item()
        (2, True)
    """
    if correlation not in CORRELATIONS:
        raise ZooError(f"no correlation {correlation!r}: choose {' or '.join(CORRELATIONS)}")
    if len(codes) < 2 or len(kl) != len(codes):
        raise ZooError(f"udr compares models: codes and kl of 2 or more are needed, got {len(codes)} and {len(kl)}")
    z = [check_codes(each) for each in codes]
    informative = [torch.as_tensor(each).to(z[0].device) > threshold for each in kl]
    for own, mask in zip(z, informative, strict=True):
        if len(own) != len(z[0]) or mask.shape != own.shape[1:]:
            shapes = ", ".join(str(tuple(shape)) for shape in (z[0].shape, own.shape, mask.shape))
            raise ZooError(f"udr needs codes of the same points and a KL divergence of each code, got shapes {shapes}")
    # Only the informative codes of each are left: the others neither predict nor are predicted.
    z = [own.to(z[0].device)[:, mask] for own, mask in zip(z, informative, strict=True)]
    counts = [own.shape[1] for own in z]
    every = torch.cat([_ranks(own) if correlation == "spearman" else own for own in z], dim=1)
    every = standardize(every, every) if every.numel() else every
    covariance = every.T @ every / len(every)
    pairs = covariance.new_full((len(z), len(z)), torch.nan)
    for a, rows in enumerate(covariance.split(counts)):
        strength = rows.abs() if correlation == "spearman" else _lasso(rows.split(counts, dim=1)[a], rows, alpha).abs()
        for b, block in enumerate(strength.split(counts, dim=1)):
            if a != b:
                pairs[a, b] = _relative_strength(block)
    others = [torch.cat([column[:b], column[b + 1 :]]) for b, column in enumerate(pairs.T)]
    return UDR(torch.stack([column.quantile(0.5) for column in others]), pairs, torch.tensor(counts))


def _relative_strength(strength: Tensor) -> Tensor:
    """The score of a pair by its matrix (n_a, n_b)."""
    if not strength.numel():
        return strength.new_zeros(())
    halves = [(strength.amax(dim).square() / strength.sum(dim)).nan_to_num(0).mean() for dim in (0, 1)]
    return (halves[0] + halves[1]) / 2


def _ranks(codes: Tensor) -> Tensor:
    """The ranks of codes (N, D), from 1 up; ties have the mean of theirs."""
    columns = codes.T.contiguous()
    ordered = columns.sort(dim=1).values
    return ((torch.searchsorted(ordered, columns) + torch.searchsorted(ordered, columns, right=True) + 1) / 2).T.to(codes)


def _lasso(gram: Tensor, products: Tensor, alpha: float, sweeps: int = 1000) -> Tensor:
    r"""Minimizes :math:`\frac{1}{2N} \|y - X w\|^2 + \alpha \|w\|_1` for all targets at once by coordinate descent.

    Arguments:
        gram: :math:`X^\top X / N`, with shape (D, D) and 1 on its diagonal, or 0 for a constant column.
        products: :math:`X^\top Y / N`, with shape (D, T).
        alpha: The penalty.
        sweeps: The largest number of passes over the coordinates; it ends when none moves by more than 1e-9.
    """
    weights = torch.zeros_like(products)
    for _ in range(sweeps):
        largest = weights.new_zeros(())
        for d, row in enumerate(gram):
            left = products[d] - row @ weights + row[d] * weights[d]
            weight = torch.where(row[d] > 0, torch.nn.functional.softshrink(left, alpha), 0)
            largest = torch.maximum(largest, (weight - weights[d]).abs().amax())
            weights[d] = weight
        if largest <= 1e-9:
            break
    return weights
