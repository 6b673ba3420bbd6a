"""The FactorVAE score: does fixing a factor always calm the same code."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.factor_sampling import CachedEncoder, FactorData, draw_factors, draw_votes, seeded
from zoo.metrics.disentanglement.points import check_codes

__all__ = ["factor_vae_accuracy", "factor_vae_score"]


def factor_vae_accuracy(
    variances: Tensor,
    fixed: Tensor,
    variances_eval: Tensor,
    fixed_eval: Tensor,
    variance: Tensor,
    threshold: float = 0.05,
) -> dict[str, float]:
    r"""Counts how often the code of least relative variance is the one that votes for the fixed factor.

    Every code stands for the factor that most votes of the first part gave it, the lowest of several.

    Arguments:
        variances: The variance of each code within a vote, with shape (V, D).
        fixed: The factor that is fixed in it, with shape (V,).
        variances_eval: The variances within fresh votes, with shape (W, D).
        fixed_eval: The factors fixed in them, with shape (W,).
        variance: The variance of each code over all data, with shape (D,).
        threshold: The smallest standard deviation of a code that takes part. A constant code never does; in the reference
            it wins all votes by 0/0 if the threshold is 0.

    Returns:
        ``eval_accuracy``, ``train_accuracy``, ``num_train``, ``num_eval``, and ``active_dims``, the number of codes that
        take part. Accuracies are 0 if none does.

    Raises:
        ZooError: if a variance is not finite.
    """
    variances, variances_eval, variance = check_codes(variances), check_codes(variances_eval), check_codes(variance[None])
    active = ((variance.sqrt() >= threshold) & (variance > 0))[0]
    result = {"eval_accuracy": 0.0, "train_accuracy": 0.0}
    if active.any():
        calmest, calmest_eval = (v[:, active].div(variance[:, active]).argmin(dim=1) for v in (variances, variances_eval))
        fixed, fixed_eval = fixed.to(calmest), fixed_eval.to(calmest)
        factors = int(torch.cat([fixed, fixed_eval]).max()) + 1
        counts = (calmest * factors + fixed).bincount(minlength=int(active.sum()) * factors).view(-1, factors)
        winner = counts.argmax(dim=1)
        result = {
            "eval_accuracy": (winner[calmest_eval] == fixed_eval).double().mean().item(),
            "train_accuracy": (winner[calmest] == fixed).double().mean().item(),
        }
    return {**result, "num_train": len(fixed), "num_eval": len(fixed_eval), "active_dims": int(active.sum())}


def factor_vae_score(
    encode: Callable[[Any], Any],
    data: FactorData,
    *,
    num_train: int = 10000,
    num_eval: int = 5000,
    batch_size: int = 64,
    variance_points: int = 10000,
    threshold: float = 0.05,
    seed: int = 0,
    cache_codes: bool | None = None,
    encode_batch: int = 1024,
    progress: bool = False,
) -> dict[str, float]:
    r"""Computes the FactorVAE score, the accuracy of a majority vote on fresh votes; about 1/K by chance.

    For one vote, draw a factor k and B observations that agree in it. With s the variance over all data, the vote is cast
    for k by the code

    .. math:: d^* = \arg\min_d \mathrm{Var}_b[z_{b,d}] / s_d

    and each code stands for the factor that most of its votes name. Codes need not be aligned with factors one to one:
    rotated codes score 0.98. A factor of one value takes part, and costs score.

    Arguments:
        encode: Maps observations to codes with shape (n, D); or a :class:`~zoo.metrics.CachedEncoder`, whose
            codes several scores share.
        data: What has ``factor_sizes`` and renders: see :class:`~zoo.metrics.FactorData`.
        num_train: The number of votes to take the majority of.
        num_eval: The number of fresh votes.
        batch_size: The number B of observations in a vote.
        variance_points: The number of points to estimate s from.
        threshold: The smallest standard deviation of a code that takes part.
        seed: The seed of the factors, and of rendering that uses torch's random numbers.
        cache_codes: Whether to encode each combination of factors once: see :class:`~zoo.metrics.CachedEncoder`.
        encode_batch: The largest number of observations that are encoded at a time.
        progress: Whether to show a progress bar.

    Returns:
        ``eval_accuracy`` (the score), ``train_accuracy``, ``num_train``, ``num_eval``, and ``active_dims``, the number of
        codes that take part. The score is 0 if none does.

    Raises:
        ZooError: if there is one factor only, or a code is not finite.

    References:
        | Disentangling by Factorising (Kim and Mnih, 2018), section 4
        | https://arxiv.org/abs/1802.05983
    """
    if len(data.factor_sizes) < 2:
        raise ZooError("factor_vae_score tells factors apart: it needs at least 2 factors, got 1")
    if batch_size < 2:
        raise ZooError(
            f"factor_vae_score takes a variance within each vote: batch_size must be at least 2, got {batch_size}"
        )
    table = encode if isinstance(encode, CachedEncoder) else CachedEncoder(encode, data, cache_codes, encode_batch)
    variances, labels = [], []
    with seeded(seed) as generator:
        variance = table(draw_factors(data, variance_points, generator)).double().var(dim=0)
        for fixed, factors in draw_votes(data, num_train + num_eval, batch_size, generator, progress):
            column = fixed[:, None, None].expand(-1, batch_size, 1)
            factors.scatter_(2, column, factors.gather(2, column)[:, :1].expand_as(column))
            variances.append(table(factors.flatten(0, 1)).view(*factors.shape[:2], -1).double().var(dim=1))
            labels.append(fixed)
    x, y = torch.cat(variances), torch.cat(labels)
    return factor_vae_accuracy(x[:num_train], y[:num_train], x[num_train:], y[num_train:], variance, threshold)
