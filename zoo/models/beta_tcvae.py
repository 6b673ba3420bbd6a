"""VAE with a penalty on the total correlation of the aggregate posterior, estimated from the batch."""

import math
from typing import Any

import torch
from torch import Tensor

from zoo.distributed import gather
from zoo.distributions.posteriors import SampledPosterior
from zoo.errors import ZooError
from zoo.models.vae import VAE
from zoo.options import require_at_least
from zoo.spec import Batch, DataSpec

__all__ = ["BetaTCVAE", "total_correlation"]


def total_correlation(z: Tensor, mean: Tensor, stddev: Tensor) -> Tensor:
    """Estimate of KL(q(z) || prod_l q(z_l)) in nats, q(z) = 1/N sum_i N(z; mean_i, diag stddev_i^2), a scalar.

    E_j [log q(z_j) - sum_l log q(z_jl)], unbiased for the mixture if z is drawn from it. If the mixture stands for that of
    all data, the estimate is too high: each z_j lies in a component of its own, and log q(z_j) >= log q(z_j|x_j) - log N.

    Arguments:
        z: Latents (B, d).
        mean, stddev: Of the components, (N, d).
    """
    standard = (z.unsqueeze(1) - mean) / stddev  # (B, N, d)
    log_q = -standard.square() / 2 - stddev.log() - math.log(2 * math.pi) / 2
    joint, marginals = log_q.sum(-1).logsumexp(1), log_q.logsumexp(1).sum(-1)  # (B,)
    return (joint - marginals).mean() + (mean.shape[1] - 1) * math.log(len(mean))


class BetaTCVAE(VAE):
    """Minimizes E_q[-log p(x|z)] + KL(q(z|x) || p(z)) + (beta - 1) TC, TC = KL(q(z) || prod_l q(z_l)).

    TC is estimated with the batch's posteriors in the place of q(z), those of all processes together. Logged besides:
    ``total_correlation``, the estimate. The paper's minibatch-weighted estimate differs by a constant that depends on the
    size of the data set, and that of the study of Locatello et al. 2019 by (d - 1) log N; the gradients are the same.

    Arguments:
        spec: The data's description; the command line fills it in.
        beta: The weight of the total correlation.
        options: Those of VAE; the posterior must be a diagonal Gaussian.

    References:
        | Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018)
        | https://arxiv.org/abs/1802.04942
    """

    def __init__(self, spec: DataSpec | dict, beta: float = 6.0, **options: Any):
        super().__init__(spec, **options)
        require_at_least(0, beta=beta)
        self.beta = beta
        gaussian = self.posterior(torch.zeros(1, self.encoder_features)).gaussian
        if gaussian is None or gaussian[1].dim() != 2:
            raise ZooError("the total correlation of a batch needs a diagonal Gaussian: --model.posterior diagonal")

    def penalty(self, batch: Batch, q: SampledPosterior, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(beta - 1) TC."""
        if q.gaussian is None:  # which the constructor refused
            raise ZooError("the total correlation of a batch needs a Gaussian posterior")
        mean, stddev = gather(torch.cat(q.gaussian, 1)).chunk(2, 1)
        tc = total_correlation(z, mean, stddev)
        return (self.beta - 1) * tc, {"total_correlation": tc}
