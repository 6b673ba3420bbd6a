"""The beta-VAE score: which factor do two batches share, judged by how far apart their codes are."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.factor_sampling import CachedEncoder, FactorData, draw_factors, draw_votes, seeded
from zoo.metrics.disentanglement.logistic import fit_logistic
from zoo.metrics.disentanglement.points import check_points, check_varying, number_values, number_values_as

__all__ = ["beta_vae_accuracy", "beta_vae_score"]


def beta_vae_accuracy(differences: Tensor, fixed: Tensor, differences_eval: Tensor, fixed_eval: Tensor) -> dict[str, float]:
    r"""Fits a logistic regression that names the shared factor of a vote, and returns its accuracies.

    Differences are not standardized: the penalty :math:`\frac{1}{2} \|w\|^2` all but silences codes of tiny scale.

    Arguments:
        differences: The mean distance of paired codes in each vote, with shape (V, D).
        fixed: The factor that the pairs share, with shape (V,).
        differences_eval: Those of fresh votes, with shape (W, D).
        fixed_eval: The factors that they share, with shape (W,).

    Returns:
        ``eval_accuracy``, ``train_accuracy``, ``num_train``, ``num_eval``, and ``active_dims``, the number of codes that
        differ at all.

    Raises:
        ZooError: if votes are missing, all share one factor, or a difference is not finite.
    """
    x, fixed = check_points(differences, fixed[:, None])
    x_eval, fixed_eval = check_points(differences_eval, fixed_eval[:, None])
    check_varying(fixed, "beta_vae_score")
    labels, (classes,) = number_values(fixed)
    weights = fit_logistic(x, labels[:, 0], classes)
    labels_eval = number_values_as(fixed, fixed_eval)

    def accuracy(inputs: Tensor, targets: Tensor) -> float:
        logits = inputs @ weights[:, :-1].T + weights[:, -1]
        return (logits.argmax(dim=1) == targets[:, 0]).double().mean().item()

    return {
        "eval_accuracy": accuracy(x_eval, labels_eval),
        "train_accuracy": accuracy(x, labels),
        "num_train": len(x),
        "num_eval": len(x_eval),
        "active_dims": int((x > 0).any(dim=0).sum()),
    }


def beta_vae_score(
    encode: Callable[[Any], Any],
    data: FactorData,
    *,
    num_train: int = 10000,
    num_eval: int = 5000,
    batch_size: int = 64,
    seed: int = 0,
    cache_codes: bool | None = None,
    encode_batch: int = 1024,
    progress: bool = False,
) -> dict[str, float]:
    r"""Computes the beta-VAE score, the accuracy on fresh votes; 1/K by chance.

    For one vote, draw a factor k and B pairs of observations whose factor k agrees, and is drawn anew for each pair. From

    .. math:: \frac{1}{B} \sum_b |z_b - z_b'| \in \mathbb{R}^D

    a linear classifier must tell k. It saturates easily, and does not ask for one code per factor: rotated codes reach 1.

    Arguments:
        encode: Maps observations to codes with shape (n, D); or a :class:`~zoo.metrics.CachedEncoder`, whose
            codes several scores share.
        data: What has ``factor_sizes`` and renders: see :class:`~zoo.metrics.FactorData`.
        num_train: The number of votes to fit on.
        num_eval: The number of fresh votes.
        batch_size: The number B of pairs in a vote.
        seed: The seed of the factors, and of rendering that uses torch's random numbers.
        cache_codes: Whether to encode each combination of factors once: see :class:`~zoo.metrics.CachedEncoder`.
        encode_batch: The largest number of observations that are encoded at a time.
        progress: Whether to show a progress bar.

    Returns:
        ``eval_accuracy`` (the score), ``train_accuracy``, ``num_train``, ``num_eval``, and ``active_dims``, the number of
        codes that vary at all.

    Raises:
        ZooError: if there is one factor only, or a code is not finite.

    References:
        | beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017), section 3
        | https://openreview.net/forum?id=Sy2fzU9gl
    """
    if len(data.factor_sizes) < 2:
        raise ZooError("beta_vae_score tells factors apart: it needs at least 2 factors, got 1")
    table = encode if isinstance(encode, CachedEncoder) else CachedEncoder(encode, data, cache_codes, encode_batch)
    features, labels = [], []
    with seeded(seed) as generator:
        for fixed, first in draw_votes(data, num_train + num_eval, batch_size, generator, progress):
            second = draw_factors(data, first[..., 0].numel(), generator).view(first.shape)
            column = fixed[:, None, None].expand(-1, batch_size, 1)
            second.scatter_(2, column, first.gather(2, column))
            features.append(_mean_distance(*(table(f.flatten(0, 1)).view(*f.shape[:2], -1) for f in (first, second))))
            labels.append(fixed)
    x, y = torch.cat(features), torch.cat(labels)
    return beta_vae_accuracy(x[:num_train], y[:num_train], x[num_train:], y[num_train:])


def _mean_distance(first: Tensor, second: Tensor) -> Tensor:
    """The distance of paired codes (V, B, D), averaged over a vote: (V, D)."""
    return (first - second).abs().mean(dim=1)
