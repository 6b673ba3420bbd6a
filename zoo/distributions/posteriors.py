"""Posteriors q(z|x): modules that turn an encoder's features into distributions of latents."""

import math
from abc import abstractmethod
from collections.abc import Iterator
from typing import ClassVar, Literal, TypeGuard

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence, register_kl
from torch.nn.functional import softplus

from zoo.distributed import randn
from zoo.distributions.component import Component, Family
from zoo.distributions.normal import factorized_normal
from zoo.options import MOST_LAYERS, MOST_UNITS, require_at_least, require_between
from zoo.precision import autocast_off, widen_half
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

__all__ = [
    "POSTERIORS",
    "DiagonalGaussian",
    "FlowPosterior",
    "FullGaussian",
    "HouseholderSylvesterPosterior",
    "IAFPosterior",
    "OrthogonalSylvesterPosterior",
    "PlanarPosterior",
    "Posterior",
    "RadialPosterior",
    "SampledPosterior",
    "SplineIAFPosterior",
    "TriangularSylvesterPosterior",
]

_PER_CALL = 2**14  # latents sent through a flow at once where many draws are made for one mean


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
        # A full covariance multiplies noise by its factor, and where there is no formula log_prob finds that noise again.
        with autocast_off(self.base.mean.device.type):
            z, log_q = _rsample_and_log_prob(self.base, sample_shape)
        if self.transform is None:
            return z, log_q
        z, log_det = self.transform(z, self.context)
        return z, log_q - log_det

    @property
    def location(self) -> Tensor:
        """(B, d): the base's mean, sent through f. The mean of z where there is no f, and no more than a point of q else."""
        return self.base.mean if self.transform is None else self.transform(self.base.mean, self.context)[0]

    def mean(self, samples: int = 64, seed: int = 0) -> Tensor:
        """E[z], (B, d): in closed form without f, else the mean of f over draws of z0, the same draws at every call.

        Those of a Gaussian z0 are made of noise that all examples share, in pairs on opposite sides of its mean. So an
        example's mean does not depend on what else is in the batch, means of different examples differ only as their
        posteriors do, and what is linear in f has no error. Torch's random state stays as it is.

        Arguments:
            samples: The number of draws, an even one.
            seed: That of the noise.
        """
        require_at_least(2, samples=samples)
        if self.transform is None:
            return self.base.mean
        total = torch.zeros_like(self.base.mean)
        for z0 in self._fixed_draws(samples // 2, seed):
            total = total + self.transform(z0, self.context)[0].sum(0)
        return total / (2 * (samples // 2))

    def _fixed_draws(self, pairs: int, seed: int) -> Iterator[Tensor]:
        """2 ``pairs`` draws of z0 in chunks (2k, B, d), a function of the seed."""
        per_call = max(1, _PER_CALL // max(1, 2 * len(self.base.mean)))
        if (gaussian := _parameters(self.base)) is None:
            devices = [self.base.mean.device] if self.base.mean.is_cuda else []
            for start in range(0, pairs, per_call):
                with torch.random.fork_rng(devices):
                    torch.manual_seed(seed + start)
                    z0 = self.base.rsample((2 * min(per_call, pairs - start),))
                yield z0
            return
        mean, scale = gaussian
        noise = torch.randn(pairs, 1, mean.shape[-1], generator=torch.Generator().manual_seed(seed)).to(mean)
        for chunk in noise.split(per_call):
            # not as a product of matrices, which autocast would narrow
            step = (scale * chunk.unsqueeze(-2)).sum(-1) if scale.dim() == 3 else scale * chunk  # (k, B, d)
            yield torch.cat([mean + step, mean - step])

    @property
    def gaussian(self) -> tuple[Tensor, Tensor] | None:
        """The mean (B, d) of a Gaussian and its standard deviations (B, d), or its Cholesky factor (B, d, d); else None."""
        return _parameters(self.base) if self.transform is None else None

    def kl(self, prior: Distribution) -> Tensor | None:
        """KL(q(z|x) || p(z)) per example, (B,), in closed form; None where there is none."""
        if self.transform is not None:
            return None
        try:
            return kl_divergence(self.base, prior)
        except NotImplementedError:
            return None

    def kl_of_dimensions(self, prior: Distribution) -> Tensor | None:
        """The same for each dimension, (B, d), of which it is the sum; None unless both are normals of independent ones."""
        if self.transform is not None or not (_independent_normals(self.base) and _independent_normals(prior)):
            return None
        return kl_divergence(self.base.base_dist, prior.base_dist)


def _rsample_and_log_prob(base: Distribution, sample_shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """What ``base.rsample`` gives, from noise that processes can have in common, and its log-density, of that very noise."""
    if (gaussian := _parameters(base)) is None:
        z = base.rsample(sample_shape)
        return z, base.log_prob(z)
    mean, scale = gaussian
    noise = randn(*sample_shape, *mean.shape, rows=-2, device=mean.device, dtype=mean.dtype)
    is_full = scale.dim() == mean.dim() + 1
    z = mean + ((scale @ noise.unsqueeze(-1)).squeeze(-1) if is_full else scale * noise)
    log_det = (scale.diagonal(dim1=-2, dim2=-1) if is_full else scale).log().sum(-1)
    return z, -(noise.square() + math.log(2 * math.pi)).sum(-1) / 2 - log_det


def _independent_normals(distribution: Distribution) -> TypeGuard[Independent]:
    return isinstance(distribution, Independent) and isinstance(distribution.base_dist, Normal)


def _parameters(base: Distribution) -> tuple[Tensor, Tensor] | None:
    """The mean of a Gaussian and its standard deviations or Cholesky factor; else None."""
    if isinstance(base, MultivariateNormal):
        return base.loc, base.scale_tril
    return (base.mean, base.stddev) if _independent_normals(base) else None


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


class Posterior(Component):
    """A module that is called with an encoder's features (B, features) and gives a :class:`SampledPosterior`.

    Arguments:
        features: The size of the encoder's output.
        latent_dim: d.
    """

    given: ClassVar[tuple[str, ...]] = ("features", "latent_dim")

    def __init__(self, features: int, latent_dim: int):
        super().__init__()
        self.features, self.latent_dim = features, latent_dim

    @abstractmethod
    def forward(self, features: Tensor) -> SampledPosterior:
        """The posterior of the examples that ``features`` (B, features) were computed from."""


class DiagonalGaussian(Posterior):
    """q(z|x) = N(mu(h), diag sigma(h)^2), mu and the raw sigma linear maps of the features h.

    Arguments:
        features, latent_dim: See Posterior.
        scale: ``softplus``, or ``exp``: the linear map gives log sigma^2, with Glorot-uniform weights and zero biases, as
            in the study of Locatello et al. 2019, arXiv:1811.12359; beyond 56, or below -56, it counts as that.

    References:
        | Auto-Encoding Variational Bayes (Kingma and Welling, 2014)
        | https://arxiv.org/abs/1312.6114
    """

    def __init__(self, features: int, latent_dim: int, scale: Literal["softplus", "exp"] = "softplus"):
        super().__init__(features, latent_dim)
        self.scale, self.heads = scale, nn.Linear(features, 2 * latent_dim)
        if scale == "exp":
            nn.init.zeros_(self.heads.bias)
            for head in self.heads.weight.detach().chunk(2):
                nn.init.xavier_uniform_(head)

    def forward(self, features: Tensor) -> SampledPosterior:
        """Gaussians with batch shape (B,), in float32 whatever autocast says."""
        mean, raw = widen_half(self.heads(features)).chunk(2, -1)
        scale = softplus(raw) + 1e-5 if self.scale == "softplus" else (raw / 2).clamp(-28, 28).exp()
        return SampledPosterior(factorized_normal(mean, scale))


class FullGaussian(Posterior):
    """q(z|x) = N(mu(h), L L^T), L lower triangular with a softplus diagonal. Arguments: see Posterior."""

    index: Tensor

    def __init__(self, features: int, latent_dim: int):
        super().__init__(features, latent_dim)
        self.heads = nn.Linear(features, latent_dim + latent_dim * (latent_dim + 1) // 2)
        self.register_buffer("index", torch.tril_indices(latent_dim, latent_dim), persistent=False)

    def forward(self, features: Tensor) -> SampledPosterior:
        """Gaussians with batch shape (B,)."""
        mean, raw = widen_half(self.heads(features)).tensor_split((self.latent_dim,), -1)
        flat = raw.new_zeros(*raw.shape[:-1], self.latent_dim**2)
        place = (self.index[0] * self.latent_dim + self.index[1]).expand(raw.shape)
        lower = flat.scatter(-1, place, raw).unflatten(-1, (self.latent_dim, self.latent_dim))  # (B, d, d)
        diagonal = softplus(lower.diagonal(dim1=-2, dim2=-1)) + 1e-5
        scale = lower.tril(-1) + torch.diag_embed(diagonal)
        return SampledPosterior(MultivariateNormal(mean, scale_tril=scale, validate_args=False))


class FlowPosterior(Posterior):
    """q(z|x), z = f(z0; h): a diagonal Gaussian sent through a flow whose parameters depend on the features h.

    log q(z|x) = log q0(z0|x) - log|det df/dz0|. A subclass's constructor calls this one, then sets ``transform``.

    Arguments:
        features, latent_dim: See Posterior.

    Attributes:
        gaussian: q0.
        transform: f, with a context of ``features`` numbers.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770
    """

    transform: Transform

    @abstractmethod
    def __init__(self, features: int, latent_dim: int):
        super().__init__(features, latent_dim)
        self.gaussian = DiagonalGaussian(features, latent_dim)

    def forward(self, features: Tensor) -> SampledPosterior:
        """The Gaussian's samples, transformed."""
        return SampledPosterior(self.gaussian(features).base, self.transform, features)


class PlanarPosterior(FlowPosterior):
    """q(z|x) by planar maps, z + u tanh(w^T z + b).

    The map is :class:`~zoo.transforms.Planar`.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of maps, K.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 16):
        require_between(1, MOST_LAYERS, steps=steps)
        super().__init__(features, latent_dim)
        self.transform = Compose(Planar(latent_dim, features) for _ in range(steps))


class RadialPosterior(FlowPosterior):
    """q(z|x) by radial maps, z + beta (z - c) / (alpha + |z - c|).

    The map is :class:`~zoo.transforms.Radial`.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of maps, K.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 16):
        require_between(1, MOST_LAYERS, steps=steps)
        super().__init__(features, latent_dim)
        self.transform = Compose(Radial(latent_dim, features) for _ in range(steps))


class OrthogonalSylvesterPosterior(FlowPosterior):
    """q(z|x) by maps z + Q R1 tanh(R2 Q^T z + b), Q of orthonormal columns.

    The map is :class:`~zoo.transforms.Sylvester`.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of maps, K.
        directions: The number of columns of Q, M <= d; d if not given.

    References:
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018)
        | https://arxiv.org/abs/1803.05649
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 4, directions: int | None = None):
        require_between(1, MOST_LAYERS, steps=steps)
        super().__init__(features, latent_dim)
        self.transform = Compose(Sylvester(latent_dim, features, "orthogonal", directions) for _ in range(steps))


class HouseholderSylvesterPosterior(FlowPosterior):
    """q(z|x) by maps z + Q R1 tanh(R2 Q^T z + b), Q a product of Householder reflections.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of maps, K.
        reflections: The number of reflections.

    References:
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018)
        | https://arxiv.org/abs/1803.05649
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 4, reflections: int = 8):
        require_between(1, MOST_LAYERS, steps=steps, reflections=reflections)
        super().__init__(features, latent_dim)
        maps = (Sylvester(latent_dim, features, "householder", reflections=reflections) for _ in range(steps))
        self.transform = Compose(maps)


class TriangularSylvesterPosterior(FlowPosterior):
    """q(z|x) by maps z + Q R1 tanh(R2 Q^T z + b), Q the identity and the reversal of dimensions, in turn.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of maps, K.

    References:
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018)
        | https://arxiv.org/abs/1803.05649
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 4):
        require_between(1, MOST_LAYERS, steps=steps)
        super().__init__(features, latent_dim)
        maps = (Sylvester(latent_dim, features, "triangular", reverse=bool(k % 2)) for k in range(steps))
        self.transform = Compose(maps)


class IAFPosterior(FlowPosterior):
    """q(z|x) by steps s z + (1 - s) m, (m, s) = MADE(z, h).

    The map is :class:`~zoo.transforms.GatedAutoregressive`.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of steps, K, their order reversed between them.
        hidden: Hidden units of each of a step's two layers.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 4, hidden: int = 320):
        require_between(1, MOST_LAYERS, steps=steps)
        require_between(1, MOST_UNITS, hidden=hidden)
        super().__init__(features, latent_dim)
        networks = {"context_features": features, "hidden": (hidden, hidden)}
        self.transform = autoregressive_flow(GatedAutoregressive, latent_dim, steps, **networks)


class SplineIAFPosterior(FlowPosterior):
    """q(z|x) by splines of each z_i, their knots by MADE(z, h).

    The map is :class:`~zoo.transforms.SplineAutoregressive`.

    Arguments:
        features, latent_dim: See Posterior.
        steps: The number of steps, K, their order reversed between them.
        hidden: Hidden units of each of a step's two layers.

    References:
        | Neural Spline Flows (Durkan et al., 2019)
        | https://arxiv.org/abs/1906.04032
    """

    def __init__(self, features: int, latent_dim: int, steps: int = 4, hidden: int = 320):
        require_between(1, MOST_LAYERS, steps=steps)
        require_between(1, MOST_UNITS, hidden=hidden)
        super().__init__(features, latent_dim)
        networks = {"context_features": features, "hidden": (hidden, hidden)}
        self.transform = autoregressive_flow(SplineAutoregressive, latent_dim, steps, **networks)


POSTERIORS = Family[Posterior](
    "posterior",
    Posterior,
    {
        "diagonal": DiagonalGaussian,
        "full": FullGaussian,
        "planar": PlanarPosterior,
        "radial": RadialPosterior,
        "sylvester_orthogonal": OrthogonalSylvesterPosterior,
        "sylvester_householder": HouseholderSylvesterPosterior,
        "sylvester_triangular": TriangularSylvesterPosterior,
        "iaf": IAFPosterior,
        "spline_iaf": SplineIAFPosterior,
    },
)
