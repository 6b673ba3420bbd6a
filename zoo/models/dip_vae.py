"""VAE with a penalty on the distance of its codes' covariance from the identity."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.distributed import gather
from zoo.distributions.posteriors import SampledPosterior
from zoo.errors import ZooError
from zoo.models.vae import VAE
from zoo.options import require_at_least
from zoo.precision import autocast_off
from zoo.spec import Batch, DataSpec

__all__ = ["DIPVAE", "code_covariance"]


def code_covariance(mean: Tensor, scale: Tensor | None = None) -> Tensor:
    """Cov(mu) over the batch, 1/B sum_i (mu_i - mu)(mu_i - mu)^T, plus the mean of the posteriors' own covariances: (d, d).

    In the precision of ``mean`` whatever autocast says.

    Arguments:
        mean: Posterior means (B, d).
        scale: Standard deviations (B, d) or Cholesky factors (B, d, d) of the posteriors; Cov(mu) alone if not given.
    """
    with autocast_off(mean.device.type):
        centered = mean - mean.mean(0)
        covariance = centered.T @ centered / len(mean)
        if scale is None:
            return covariance
        own = scale @ scale.mT if scale.dim() == 3 else scale.square().diag_embed()
        return covariance + own.mean(0)


class DIPVAE(VAE):
    """Minimizes E_q[-log p(x|z)] + KL(q(z|x) || p(z)) + l_od sum_{i != j} C_ij^2 + l_d sum_i (C_ii - 1)^2.

    Variant I: C = Cov(mu), of the posterior means. Variant II: C = Cov(mu) + E[Sigma], the covariance of q(z) itself. Both
    over the batch, of all processes together. Logged besides: ``off_diagonal`` and ``diagonal``, the two sums.

    Arguments:
        spec: The data's description; the command line fills it in.
        variant: ``I`` or ``II``.
        lambda_od: l_od, the weight of the covariances.
        lambda_d: l_d, the weight of the variances; 10 l_od (I) or l_od (II) if not given.
        options: Those of VAE; the posterior must be Gaussian.

    References:
        | Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018)
        | https://arxiv.org/abs/1711.00848
    """

    def __init__(
        self,
        spec: DataSpec | dict,
        variant: Literal["I", "II"] = "I",
        lambda_od: float = 10.0,
        lambda_d: float | None = None,
        **options: Any,
    ):
        super().__init__(spec, **options)
        require_at_least(0, lambda_od=lambda_od, lambda_d=lambda_d)
        if variant not in ("I", "II"):
            raise ZooError(f"variant {variant!r} of DIP-VAE is not known; there are I, II")
        if self.posterior(torch.zeros(1, self.encoder_features)).gaussian is None:
            raise ZooError("a DIP-VAE needs a Gaussian posterior: --model.posterior diagonal or full")
        self.variant, self.lambda_od = variant, lambda_od
        self.lambda_d = (10 if variant == "I" else 1) * lambda_od if lambda_d is None else lambda_d

    def penalty(self, batch: Batch, q: SampledPosterior, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """l_od sum_{i != j} C_ij^2 + l_d sum_i (C_ii - 1)^2."""
        if q.gaussian is None:  # which the constructor refused
            raise ZooError("a DIP-VAE needs a Gaussian posterior")
        mean, scale = q.gaussian
        covariance = code_covariance(gather(mean), gather(scale) if self.variant == "II" else None)
        variances = covariance.diagonal()
        off_diagonal = covariance.square().sum() - variances.square().sum()
        diagonal = (variances - 1).square().sum()
        metrics = {"off_diagonal": off_diagonal, "diagonal": diagonal}
        return self.lambda_od * off_diagonal + self.lambda_d * diagonal, metrics
