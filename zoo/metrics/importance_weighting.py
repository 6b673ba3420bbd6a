"""The importance-weighted bound on log p(x), with bounded memory and its standard error."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["Bound", "importance_weighted_bound"]


class Bound(NamedTuple):
    """Per example, in nats: the bound (B,) and its standard error (B,)."""

    log_p: Tensor
    standard_error: Tensor


@torch.no_grad()
def importance_weighted_bound(log_weights: Callable[[int], Tensor], samples: int, chunk: int) -> Bound:
    """log 1/K sum_k w_k from draws of log w = log p(x, z) - log q(z|x), z ~ q(z|x).

    Its expectation rises with K and tends to log p(x). Sums are kept as running log-sum-exps in float64, so memory does
    not grow with K. The standard error is sd(w) / (mean(w) sqrt(K)), to first order in 1/K; it is infinite for K = 1. The
    draws themselves estimate it: where q has lighter tails than p(z|x), w may have no variance, and the error is too small.

    Arguments:
        log_weights: Gives k fresh draws of log w for each of B examples, (k, B).
        samples: K, exactly.
        chunk: Draws made at once.

    Returns:
        The bound and its standard error, in nats.

    Raises:
        ZooError: for fewer than one sample.

    References:
        | Importance Weighted Autoencoders (Burda et al., 2016)
        | https://arxiv.org/abs/1509.00519
    """
    if samples < 1:
        raise ZooError(f"samples {samples}: 1 or more is needed")

    def log_sums(draws: int) -> tuple[Tensor, Tensor]:  # of w and of w^2
        log_w = log_weights(draws).double()
        return log_w.logsumexp(0), (2 * log_w).logsumexp(0)

    first, second = log_sums(min(chunk, samples))
    for start in range(chunk, samples, chunk):
        sums = log_sums(min(chunk, samples - start))
        first, second = first.logaddexp(sums[0]), second.logaddexp(sums[1])
    # var(w)/mean(w)^2 = K sum w^2 / (sum w)^2 - 1, with K - 1 degrees of freedom
    spread = (math.log(samples) + second - 2 * first).exp() - 1
    error = (spread.clamp_min(0) / (samples - 1)).sqrt() if samples > 1 else torch.full_like(first, math.inf)
    return Bound(first - math.log(samples), error)
