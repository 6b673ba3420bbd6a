"""VAE with a flow posterior."""

from zoo.models.vae import VAE, AnyPosterior
from zoo.spec import DataSpec

__all__ = ["FlowPosteriorVAE"]


class FlowPosteriorVAE(VAE):
    """A VAE with z = f(z0), z0 ~ N(mu(x), diag sigma(x)^2): log q(z|x) = log q(z0|x) - log|det df/dz0|.

    The flow's parameters, or the context of its networks, are computed from x.

    References:
        Rezende & Mohamed, Variational Inference with Normalizing Flows, 2015, arXiv:1505.05770 (planar, radial);
        van den Berg et al., Sylvester Normalizing Flows for Variational Inference, 2018, arXiv:1803.05649;
        Kingma et al., Improved Variational Inference with Inverse Autoregressive Flow, 2016, arXiv:1606.04934.

    Arguments:
        spec: The data's description; the command line fills it in.
        posterior: ``planar``, ``radial``, ``sylvester_orthogonal``, ``sylvester_householder``, ``sylvester_triangular``,
            ``iaf``, ``spline_iaf``; any other posterior of VAE is accepted.
        options: Those of VAE.
    """

    def __init__(self, spec: DataSpec | dict, posterior: AnyPosterior = "planar", **options):
        super().__init__(spec, posterior=posterior, **options)
