"""VAE with an autoregressive-flow prior."""

from typing import Any

from zoo.models.vae import VAE, AnyPrior
from zoo.spec import DataSpec

__all__ = ["AFPriorVAE"]


class AFPriorVAE(VAE):
    """A VAE whose prior is p(z) = N(f(z); 0, I) |det df/dz|, f a masked autoregressive flow from latents to noise.

    It is the same model as a VAE with prior N(0, I) on eps = f(z) and the posterior of eps that f induces, an inverse
    autoregressive flow: log p(x|z) + log p(z) - log q(z|x) = log p(x|f^-1(eps)) + log N(eps) - log q(eps|x), for every z.

    Arguments:
        spec: The data's description; the command line fills it in.
        prior: ``maf`` (affine steps) or ``spline`` (rational-quadratic splines); any other prior of VAE is accepted.
        options: Those of VAE.

    References:
        | Variational Lossy Autoencoder (Chen et al., 2017), section 3.2
        | https://arxiv.org/abs/1611.02731
    """

    def __init__(self, spec: DataSpec | dict, prior: AnyPrior = "maf", **options: Any):
        super().__init__(spec, prior=prior, **options)
