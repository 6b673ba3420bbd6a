"""Priors p(z): modules that are called without arguments and give a distribution of latents."""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, constraints
from torch.nn.functional import softplus

from zoo.distributions.component import Component, Family
from zoo.distributions.normal import factorized_normal
from zoo.errors import ZooError
from zoo.options import MOST_LAYERS, MOST_UNITS, require_between
from zoo.transforms import AffineAutoregressive, SplineAutoregressive, Transform, autoregressive_flow

__all__ = [
    "PRIORS",
    "FlowDistribution",
    "FlowPrior",
    "MAFPrior",
    "MixtureOfGaussians",
    "Prior",
    "SplinePrior",
    "StandardNormal",
    "VampPrior",
]


class FlowDistribution(Distribution):
    """z = f^-1(eps), eps ~ base: log p(z) = log base(f(z)) + log|det df/dz|, in one pass of f.

    Arguments:
        base: A distribution of event shape (d,).
        transform: The map f from latents to noise.
    """

    arg_constraints: dict = {}  # noqa: RUF012 (the base class's attribute)
    support = constraints.real_vector
    has_rsample = True

    def __init__(self, base: Distribution, transform: Transform):
        self.base, self.transform = base, transform
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Reparameterized samples."""
        return self.transform.inverse(self.base.rsample(torch.Size(sample_shape)))[0]

    def log_prob(self, value: Tensor) -> Tensor:
        """Nats per example."""
        noise, log_det = self.transform(value)
        return self.base.log_prob(noise) + log_det


class Prior(Component):
    """A module that is called without arguments and gives a distribution of event shape (d,).

    Arguments:
        latent_dim: d.
    """

    given: ClassVar[tuple[str, ...]] = ("latent_dim",)
    zero: Tensor

    def __init__(self, latent_dim: int):
        super().__init__()
        self.latent_dim = latent_dim
        self.register_buffer("zero", torch.zeros(latent_dim), persistent=False)

    @abstractmethod
    def forward(self) -> Distribution:
        """The distribution, of event shape (d,)."""

    def normal(self, temperature: float = 1.0) -> Independent:
        """N(0, temperature^2 I) on the module's device."""
        return factorized_normal(self.zero, torch.full_like(self.zero, temperature))

    @abstractmethod
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """n latents (n, d); ``temperature`` scales the noise that they are made of."""


class StandardNormal(Prior):
    """p(z) = N(0, I). Argument: see Prior."""

    def forward(self) -> Distribution:
        """N(0, I)."""
        return self.normal()

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Latents (n, d) of N(0, temperature^2 I)."""
        return self.normal(temperature).sample((n,))


class MixtureOfGaussians(Prior):
    """p(z) = sum_m w_m N(z; mu_m, diag sigma_m^2) with learned weights, means and scales.

    Arguments:
        latent_dim: d.
        components: The number M.
    """

    def __init__(self, latent_dim: int, components: int = 100):
        require_between(1, MOST_UNITS, components=components)
        super().__init__(latent_dim)
        self.logits = nn.Parameter(torch.zeros(components))
        self.means = nn.Parameter(torch.randn(components, latent_dim))
        self.raw_scales = nn.Parameter(torch.full((components, latent_dim), math.log(math.e - 1)))  # sigma = 1

    def forward(self) -> Distribution:
        """The mixture."""
        return self._mixture(1.0)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Latents (n, d), the components' scales multiplied by ``temperature``."""
        return self._mixture(temperature).sample((n,)) if n else self.zero.new_zeros(0, self.latent_dim)

    def _mixture(self, temperature: float) -> Distribution:
        components = factorized_normal(self.means, temperature * (softplus(self.raw_scales) + 1e-5))
        return _mixture(self.logits, components)


def _mixture(logits: Tensor, components: Distribution) -> MixtureSameFamily:
    """The mixture of M components, unchecked: see :func:`factorized_normal`."""
    return MixtureSameFamily(Categorical(logits=logits, validate_args=False), components, validate_args=False)


class VampPrior(Prior):
    """p(z) = 1/M sum_m q(z | u_m): the posterior of M learned pseudo-examples, on the scale that the encoder sees.

    Arguments:
        latent_dim: d.
        components: The number M.

    Attributes:
        posterior_of: Set by the model, a method of it: pseudo-examples (M, *shape) to Gaussians of batch shape (M,). A copy
            of the model has its own.

    References:
        | VAE with a VampPrior (Tomczak and Welling, 2018)
        | https://arxiv.org/abs/1705.07120
    """

    def __init__(self, latent_dim: int, components: int = 100):
        require_between(1, MOST_UNITS, components=components)
        super().__init__(latent_dim)
        self.components = components
        self.posterior_of: Callable[[Tensor], Distribution] | None = None
        self.pseudo: nn.Parameter | None = None

    def bind(self, shape: tuple[int, ...], posterior_of: Callable[[Tensor], Distribution]) -> None:
        """Make the pseudo-examples, of the data's shape; ``posterior_of`` is the model's encoder and posterior."""
        self.pseudo = nn.Parameter(0.1 * torch.randn(self.components, *shape))
        self.posterior_of = posterior_of

    def _components(self) -> Distribution:
        if self.pseudo is None or self.posterior_of is None:
            raise ZooError("a VampPrior is a mixture of a model's posteriors: make it as the prior of a VAE")
        return self.posterior_of(self.pseudo)

    def forward(self) -> Distribution:
        """The mixture."""
        return _mixture(self.zero.new_zeros(self.components), self._components())

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Latents (n, d): a component each, its noise scaled by ``temperature``."""
        components = self._components()
        chosen = torch.randint(self.components, (n,), device=self.zero.device)
        # The deviations of a fresh draw, scaled: right for a full covariance as for a diagonal one.
        deviation = components.sample((n,))[torch.arange(n, device=chosen.device), chosen] - components.mean[chosen]
        return components.mean[chosen] + temperature * deviation


class FlowPrior(Prior):
    """p(z) = N(f(z); 0, I) |det df/dz|, f a flow from latents to noise.

    A subclass's constructor calls this one, then sets ``transform``.

    Argument: see Prior.

    Attributes:
        transform: f.

    References:
        | Variational Lossy Autoencoder (Chen et al., 2017)
        | https://arxiv.org/abs/1611.02731
    """

    transform: Transform

    @abstractmethod
    def __init__(self, latent_dim: int):
        super().__init__(latent_dim)

    def forward(self) -> Distribution:
        """The flow's distribution."""
        return FlowDistribution(self.normal(), self.transform)

    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """Latents (n, d) from noise of N(0, temperature^2 I)."""
        return self.transform.inverse(self.normal(temperature).sample((n,)))[0]


class MAFPrior(FlowPrior):
    """p(z) by steps (z - m) exp(-a), (m, a) = MADE(z).

    The map is :class:`~zoo.transforms.AffineAutoregressive`.

    Arguments:
        latent_dim: d.
        steps: The number of steps, their order reversed between them.
        hidden: Hidden units of each of a step's two layers.

    References:
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017)
        | https://arxiv.org/abs/1705.07057
    """

    def __init__(self, latent_dim: int, steps: int = 4, hidden: int = 320):
        require_between(1, MOST_LAYERS, steps=steps)
        require_between(1, MOST_UNITS, hidden=hidden)
        super().__init__(latent_dim)
        self.transform = autoregressive_flow(AffineAutoregressive, latent_dim, steps, hidden=(hidden, hidden))


class SplinePrior(FlowPrior):
    """p(z) by splines of each z_i, their knots by MADE(z).

    The map is :class:`~zoo.transforms.SplineAutoregressive`.

    Arguments:
        latent_dim: d.
        steps: The number of steps, their order reversed between them.
        hidden: Hidden units of each of a step's two layers.

    References:
        | Neural Spline Flows (Durkan et al., 2019)
        | https://arxiv.org/abs/1906.04032
    """

    def __init__(self, latent_dim: int, steps: int = 4, hidden: int = 320):
        require_between(1, MOST_LAYERS, steps=steps)
        require_between(1, MOST_UNITS, hidden=hidden)
        super().__init__(latent_dim)
        self.transform = autoregressive_flow(SplineAutoregressive, latent_dim, steps, hidden=(hidden, hidden))


PRIORS = Family[Prior](
    "prior",
    Prior,
    {
        "normal": StandardNormal,
        "mixture": MixtureOfGaussians,
        "vamp": VampPrior,
        "maf": MAFPrior,
        "spline": SplinePrior,
    },
)
