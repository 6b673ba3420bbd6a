"""Posteriors q(z|x): modules that turn an encoder's features into distributions of latents."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence, register_kl
from torch.nn.functional import softplus

from zoo.distributions.normal import factorized_normal
from zoo.errors import ZooError
from zoo.precision import widen_half
from zoo.transforms import (
    Compose,
    GatedAutoregressive,
    Planar,
    Radial,
    SplineAutoregressive,
    Sylvester,
    Transform,
    autoregressive_flow,
)

__all__ = ["POSTERIORS", "DiagonalGaussian", "FlowPosterior", "FullGaussian", "Posterior", "SampledPosterior"]


class SampledPosterior:
    """q(z|x) for a batch of B examples: z0 ~ ``base``, z = f(z0), log q(z|x) = log q0(z0) - log|det df/dz0|.

    Arguments:
        base: A distribution of batch shape (B,) and event shape (d,).
        transform: The map f, or None for the base itself.
        context: (B, c) features that f depends on.
    """

    def __init__(self, base: Distribution, transform: Transform | None = None, context: Tensor | None = None):
        self.base, self.transform, self.context = base, transform, context

    def rsample_and_log_prob(self, sample_shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        """Reparameterized latents (*sample_shape, B, d) and their log-densities (*sample_shape, B) in nats."""
        z = self.base.rsample(sample_shape)
        log_q = self.base.log_prob(z)
        if self.transform is None:
            return z, log_q
        z, log_det = self.transform(z, self.context)
        return z, log_q - log_det

    @property
    def mean(self) -> Tensor:
        """(B, d): the mean of a Gaussian; for a flow, the image of the base's mean."""
        return self.base.mean if self.transform is None else self.transform(self.base.mean, self.context)[0]

    @property
    def gaussian(self) -> tuple[Tensor, Tensor] | None:
        """The mean (B, d) of a Gaussian and its standard deviations (B, d), or its Cholesky factor (B, d, d); else None."""
        if self.transform is None and isinstance(self.base, MultivariateNormal):
            return self.base.loc, self.base.scale_tril
        if self.transform is None and isinstance(self.base, Independent) and isinstance(self.base.base_dist, Normal):
            return self.base.mean, self.base.stddev
        return None

    def kl(self, prior: Distribution) -> Tensor | None:
        """KL(q(z|x) || p(z)) per example, (B,), in closed form; None where there is none."""
        if self.transform is not None:
            return None
        try:
            return kl_divergence(self.base, prior)
        except NotImplementedError:
            return None


@register_kl(MultivariateNormal, Independent)
def _kl_multivariate_normal_independent(q: MultivariateNormal, p: Independent) -> Tensor:
    """Full covariance against a factorized normal, log-determinants from the Cholesky factor."""
    if not isinstance(p.base_dist, Normal):
        raise NotImplementedError
    mean, scale = p.base_dist.mean, p.base_dist.stddev
    whitened = q.scale_tril / scale.unsqueeze(-1)
    trace, distance = whitened.square().sum((-2, -1)), ((q.loc - mean) / scale).square().sum(-1)
    log_det = whitened.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return (trace + distance - q.loc.shape[-1]) / 2 - log_det


class Posterior(nn.Module):
    """A module that is called with an encoder's features (B, features) and gives a :class:`SampledPosterior`.

    Arguments:
        features: The size of the encoder's output.
        latent_dim: d.
    """

    def __init__(self, features: int, latent_dim: int):
        super().__init__()
        self.features, self.latent_dim = features, latent_dim

    def forward(self, features: Tensor) -> SampledPosterior:
        """The posterior of the examples that ``features`` (B, features) were computed from."""
        raise NotImplementedError


class DiagonalGaussian(Posterior):
    """q(z|x) = N(mu(h), diag sigma(h)^2), mu and the raw sigma linear maps of the features h.

    References: Kingma & Welling, Auto-Encoding Variational Bayes, 2014, arXiv:1312.6114.

    Arguments:
        features, latent_dim: see Posterior.
        scale: ``softplus``, or ``exp``: the linear map gives log sigma^2, with Glorot-uniform weights and zero biases, as
            in the study of Locatello et al. 2019, arXiv:1811.12359.
    """

    def __init__(self, features: int, latent_dim: int, scale: Literal["softplus", "exp"] = "softplus"):
        super().__init__(features, latent_dim)
        if scale not in ("softplus", "exp"):
            raise ZooError(f"scale {scale!r} of a Gaussian is not known; there are softplus, exp")
        self.scale, self.heads = scale, nn.Linear(features, 2 * latent_dim)
        if scale == "exp":
            nn.init.zeros_(self.heads.bias)
            for head in self.heads.weight.detach().chunk(2):
                nn.init.xavier_uniform_(head)

    def forward(self, features: Tensor) -> SampledPosterior:
        """Gaussians with batch shape (B,)."""
        return SampledPosterior(self.gaussian(features))

    def gaussian(self, features: Tensor) -> Independent:
        """The Gaussian itself, in float32 whatever autocast says."""
        mean, raw = widen_half(self.heads(features)).chunk(2, -1)
        return factorized_normal(mean, softplus(raw) + 1e-5 if self.scale == "softplus" else (raw / 2).exp())


class FullGaussian(Posterior):
    """q(z|x) = N(mu(h), L L^T), L lower triangular with a softplus diagonal. Arguments: see Posterior."""

    def __init__(self, features: int, latent_dim: int):
        super().__init__(features, latent_dim)
        self.heads = nn.Linear(features, latent_dim + latent_dim * (latent_dim + 1) // 2)
        self.register_buffer("index", torch.tril_indices(latent_dim, latent_dim), persistent=False)

    def forward(self, features: Tensor) -> SampledPosterior:
        """Gaussians with batch shape (B,)."""
        mean, raw = widen_half(self.heads(features)).tensor_split((self.latent_dim,), -1)
        lower = raw.new_zeros(*raw.shape[:-1], self.latent_dim, self.latent_dim)  # (B, d, d)
        lower[..., self.index[0], self.index[1]] = raw
        diagonal = lower.diagonal(dim1=-2, dim2=-1)
        scale = lower + torch.diag_embed(softplus(diagonal) + 1e-5 - diagonal)
        return SampledPosterior(MultivariateNormal(mean, scale_tril=scale, validate_args=False))


class FlowPosterior(DiagonalGaussian):
    """q(z|x): a diagonal Gaussian sent through an amortized flow, whose parameters depend on the features.

    Arguments:
        features: The size of the encoder's output.
        latent_dim: d.
        flow: ``planar``, ``radial``, ``sylvester_orthogonal``, ``sylvester_householder``, ``sylvester_triangular``,
            ``iaf`` (gated steps with context) or ``spline_iaf``.
        steps: The number of steps K; 16 planar or radial, 4 else, if not given.
        hidden: Hidden units of each layer of the autoregressive networks.
        directions: The number of columns of Q in ``sylvester_orthogonal``; d if not given.
        reflections: The number of reflections in ``sylvester_householder``.
    """

    def __init__(
        self,
        features: int,
        latent_dim: int,
        flow: str,
        steps: int | None = None,
        hidden: int = 320,
        directions: int | None = None,
        reflections: int = 8,
    ):
        super().__init__(features, latent_dim)
        kind, _, variant = flow.partition("_")
        if kind in ("planar", "radial"):
            step = Planar if kind == "planar" else Radial
            self.transform = Compose(step(latent_dim, context_features=features) for _ in range(steps or 16))
        elif kind == "sylvester":
            self.transform = Compose(
                Sylvester(latent_dim, features, variant, directions, reflections, reverse=bool(k % 2))
                for k in range(steps or 4)
            )
        else:
            step = GatedAutoregressive if flow == "iaf" else SplineAutoregressive
            widths = (hidden, hidden)
            self.transform = autoregressive_flow(step, latent_dim, steps or 4, context_features=features, hidden=widths)

    def forward(self, features: Tensor) -> SampledPosterior:
        """The Gaussian's samples, transformed."""
        return SampledPosterior(self.gaussian(features), self.transform, features)


_FLOWS = ("planar", "radial", "sylvester_orthogonal", "sylvester_householder", "sylvester_triangular", "iaf", "spline_iaf")

# name -> what makes the posterior from (features, latent_dim, **options)
POSTERIORS: dict[str, Callable[..., Posterior]] = {
    "diagonal": DiagonalGaussian,
    "full": FullGaussian,
    **{flow: partial(FlowPosterior, flow=flow) for flow in _FLOWS},
}
