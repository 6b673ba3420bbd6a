"""VAE with a flow posterior."""

from typing import Any

from zoo.models.vae import VAE, AnyPosterior
from zoo.spec import DataSpec

__all__ = ["FlowPosteriorVAE"]


class FlowPosteriorVAE(VAE):
    """A VAE with z = f(z0), z0 ~ N(mu(x), diag sigma(x)^2): log q(z|x) = log q(z0|x) - log|det df/dz0|.

    The flow's parameters, or the context of its networks, are computed from x.

    Arguments:
        spec: The data's description; the command line fills it in.
        posterior: ``planar``, ``radial``, ``sylvester_orthogonal``, ``sylvester_householder``, ``sylvester_triangular``,
            ``iaf``, ``spline_iaf``; any other posterior of VAE is accepted.
        options: Those of VAE.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018)
        | https://arxiv.org/abs/1803.05649
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934
    """

    def __init__(self, spec: DataSpec | dict, posterior: AnyPosterior = "planar", **options: Any):
        super().__init__(spec, posterior=posterior, **options)
