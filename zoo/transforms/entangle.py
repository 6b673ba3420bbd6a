"""Entangling map: the factorized prior stays what it was, and every latent mixes all the old ones."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from zoo.errors import ZooError
from zoo.precision import without_autocast
from zoo.transforms.base import Transform
from zoo.transforms.normal_scores import from_normal_scores, inside_support, normal_scores

__all__ = ["Entangle", "dct4"]


def dct4(features: int) -> Tensor:
    """The orthogonal matrix √(2/d) cos(π(2i+1)(2j+1)/4d), float64: symmetric, its own inverse, and without a zero.

    A cosine is 0 where (2i+1)(2j+1) = 2d·(an odd number): odd on the left, even on the right, so nowhere.

    References:
        | The Discrete Cosine Transform (Strang, 1999), type IV
        | https://doi.org/10.1137/S0036144598336745

    Example:
        >>> dct4(2)
        tensor([[ 0.9239,  0.3827],
                [ 0.3827, -0.9239]], dtype=torch.float64)
    """
    odd = 2 * torch.arange(features, dtype=torch.float64) + 1
    return math.sqrt(2 / features) * torch.cos(math.pi / (4 * features) * torch.outer(odd, odd))


class Entangle(Transform):
    r"""Creates the map f = g⁻¹ ∘ h⁻¹ ∘ A ∘ h ∘ g, which mixes all latents of a factorized prior and leaves it the same.

    g is the marginal CDFs of the prior, h the normal quantile function, A an orthogonal matrix without a zero. h(g(z))
    is N(0, I), which A leaves as it is, so f(z) has the law of z while ∂f_i/∂z_j ≠ 0 for all i and j: a decoder of
    f⁻¹(z) explains data as well with entangled latents as with disentangled ones. The Gaussian densities before and
    after A are equal (‖Av‖ = ‖v‖), which leaves

    log|det ∂f/∂z| = log p(z) - log p(f(z)).

    For a normal prior, f is the affine map loc + scale·A((z - loc)/scale), and log|det| = 0. Other priors go through
    :func:`~zoo.transforms.normal_scores.normal_scores`, in float64 whatever the dtype of z, which have all digits however
    far in a tail. What a bound of the support would round f(z) to, as 1 - 1e-20 of a uniform prior, is the last number
    within.

    Shapes: z (..., d), log_det (...). Units: nats.

    Arguments:
        prior: A distribution over d independent dimensions, such as ``Laplace(torch.zeros(d), torch.ones(d))``, that
            defines ``cdf`` and ``icdf``; also as ``Independent`` of one.
        orthogonal: The matrix A, (d, d); the type-IV cosine transform if None.

    Raises:
        ZooError: if A is not orthogonal, has a zero, its size or the prior's is not d, or the prior has no CDF.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2018), theorem 1
        | https://arxiv.org/abs/1811.12359

    Example:
        >>> prior = torch.distributions.Laplace(torch.zeros(5), torch.ones(5))
        >>> z, f = prior.sample((8,)), Entangle(prior)
        >>> y, log_det = f(z)
        >>> torch.allclose(prior.log_prob(z).sum(-1), prior.log_prob(y).sum(-1) + log_det, atol=1e-4)
        True
    """

    orthogonal: Tensor

    def __init__(self, prior: Distribution, orthogonal: Tensor | None = None) -> None:
        super().__init__()
        self.prior = prior.base_dist if isinstance(prior, Independent) else prior
        if len(self.prior.batch_shape) != 1 or self.prior.event_shape:
            raise ZooError(
                f"a prior of batch shape {tuple(prior.batch_shape)} and event shape {tuple(prior.event_shape)}: "
                "give one of d independent dimensions, such as Normal(torch.zeros(d), torch.ones(d))"
            )
        try:
            self.prior.icdf(self.prior.cdf(self.prior.icdf(torch.tensor(0.5))))
        except NotImplementedError:
            raise ZooError(f"a prior {type(self.prior).__name__}: its CDF and quantiles are needed, cdf and icdf") from None
        features = self.prior.batch_shape[0]
        a = dct4(features) if orthogonal is None else orthogonal.to(torch.float64)
        if a.shape != (features, features):
            raise ZooError(f"orthogonal of shape {tuple(a.shape)}: the prior has {features} dimensions")
        # The tolerance is that of a matrix made in float32.
        if (a @ a.T - torch.eye(features, dtype=a.dtype, device=a.device)).abs().max() > 1e-5:
            raise ZooError("orthogonal: AAᵀ is not the identity")
        if (a.abs() < 1e-7).any():
            raise ZooError("orthogonal: A has a zero entry, and would leave a latent unmixed")
        self.register_buffer("orthogonal", a)

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._mix(x, self.orthogonal)

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._mix(y, self.orthogonal.T)

    def _mix(self, z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.prior, Normal):
            scores = (z - self.prior.loc) / self.prior.scale
            y = self.prior.loc + self.prior.scale * (scores @ a.T.to(scores.dtype))
            return y.to(z.dtype), z.new_zeros(z.shape[:-1])
        wide = inside_support(z.double(), self.prior)
        scores = normal_scores(wide, self.prior)
        mixed = inside_support(from_normal_scores(scores @ a.T.double(), self.prior).to(z.dtype), self.prior)
        log_det = (self.prior.log_prob(z.double()) - self.prior.log_prob(mixed.double())).sum(-1)
        return mixed, log_det.to(z.dtype)
