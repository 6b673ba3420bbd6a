"""Normal scores of any continuous distribution, Φ⁻¹(F(z)), and back, with all digits in both tails."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.special import erfcx, log_ndtr, ndtr, ndtri

__all__ = ["from_normal_scores", "inside_support", "normal_scores"]

_MIDDLE = 4.0  # the score up to which a CDF in float64 has digits enough on both sides
_FARTHEST = 1e150  # a score whose square is a number still
_PER_CALL = 1024  # rows whose integrals are computed at once
_SMALLEST, _LARGEST = -744.0, 709.0  # logarithms of numbers of float64


def normal_scores(z: Tensor, prior: Distribution) -> Tensor:
    r"""s = Φ⁻¹(F(z)) of each element, F the CDF of ``prior``: z (..., d) in float64, d the prior's batch shape.

    In float64 F is 1 to all digits where s is beyond 8, and 0 for many distributions. So in the tails log F, or
    log(1 - F), is the integral of the density over what lies farther out, by double exponential quadrature, and s follows
    from it by Newton's method on log Φ. The derivative is p(z)/φ(s).

    References:
        | Double Exponential Formulas for Numerical Integration (Takahasi and Mori, 1974)
        | https://doi.org/10.2977/prims/1195192451

    Example:
        >>> prior = torch.distributions.Laplace(torch.zeros(1), torch.ones(1))
        >>> [round(s, 4) for s in normal_scores(torch.tensor([[-1000.0], [1000.0]]).double(), prior).flatten().tolist()]
        [-44.6313, 44.6313]
    """
    return _Scores.apply(z, prior)


def from_normal_scores(s: Tensor, prior: Distribution) -> Tensor:
    """z = F⁻¹(Φ(s)), the inverse of :func:`normal_scores`."""
    return _FromScores.apply(s, prior)


def inside_support(z: Tensor, prior: Distribution) -> Tensor:
    """z (..., d), where it is or was rounded to a bound of the prior's support moved to the next number within."""
    low, high = (bound.to(z) for bound in _bounds(prior))
    infinity = z.new_tensor(math.inf)
    return z.clamp(low.nextafter(infinity), high.nextafter(-infinity))


def _bounds(prior: Distribution) -> tuple[Tensor, Tensor]:
    """The ends of the support, (d,) each in float64; infinite where there are none."""
    try:
        support: Any = prior.support
    except NotImplementedError:
        support = None
    ends = getattr(support, "lower_bound", -math.inf), getattr(support, "upper_bound", math.inf)
    device = prior.icdf(torch.tensor(0.5)).device
    low, high = (torch.as_tensor(end, dtype=torch.float64, device=device).expand(prior.batch_shape) for end in ends)
    return low, high


class _Elementwise(torch.autograd.Function):
    """A function of each element of (..., d), whose derivative is given by its value."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple, x: Tensor, prior: Distribution) -> tuple[Tensor, int]:
        return cls.apply(x.movedim(in_dims[0], 0), prior), 0

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Distribution], output: Tensor) -> None:
        ctx.prior = inputs[1]
        ctx.save_for_backward(inputs[0], output)


class _Scores(_Elementwise):
    @staticmethod
    def forward(z: Tensor, prior: Distribution) -> Tensor:
        # Some CDFs of torch refuse what is so far out that their own formulas round it.
        low, high = (prior.icdf(ndtr(z.new_full(prior.batch_shape, end))) for end in (-1.1 * _MIDDLE, 1.1 * _MIDDLE))
        s = ndtri(prior.cdf(z.clamp(low, high)))
        return _with_tails(s, s, z, lambda z, s: _tail_scores(z, s.sign(), prior))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        z, s = ctx.saved_tensors
        return gradient * _log_slope(z, s, ctx.prior).exp(), None


class _FromScores(_Elementwise):
    @staticmethod
    def forward(s: Tensor, prior: Distribution) -> Tensor:
        z = prior.icdf(ndtr(s.clamp(-_MIDDLE, _MIDDLE)))
        return _with_tails(z, s, z, lambda start, s: _tail_quantiles(s, start, prior))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        s, z = ctx.saved_tensors
        return gradient * (-_log_slope(z, s, ctx.prior)).exp(), None


def _log_slope(z: Tensor, s: Tensor, prior: Distribution) -> Tensor:
    """log p(z) - log φ(s), the log-derivative of the scores, within what has an exponential."""
    return (prior.log_prob(z) + s.square() / 2 + math.log(2 * math.pi) / 2).clamp(-700, 700)


def _with_tails(values: Tensor, s: Tensor, z: Tensor, tails: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``values`` (..., d), those of scores beyond the middle replaced by ``tails(z, s)``, of the rows that have such."""
    flat, s, z = (x.reshape(-1, x.shape[-1]) for x in (values.clone(), s, z))
    for rows in (s.abs() > _MIDDLE).any(-1).nonzero().squeeze(-1).split(_PER_CALL):
        flat[rows] = torch.where(s[rows].abs() > _MIDDLE, tails(z[rows], s[rows]), flat[rows])
    return flat.view_as(values)


def _tail_scores(z: Tensor, side: Tensor, prior: Distribution) -> Tensor:
    """Scores of z (N, d) in the lower tail (side -1) or the upper one (1): the x with log Φ(-x) = log mass, by Newton."""
    log_mass = _log_mass(z, side, prior).clamp(-(_FARTHEST**2) / 2, -1.0)
    x = (-2 * log_mass - (-4 * math.pi * log_mass).log()).clamp_min(0).sqrt()
    for _ in range(6):  # the hazard φ(x)/Φ(-x) is √(2/π)/erfcx(x/√2)
        x = x + (log_ndtr(-x) - log_mass) * erfcx(x / math.sqrt(2)) * math.sqrt(math.pi / 2)
    return side * x.clamp_max(_FARTHEST)


def _log_mass(z: Tensor, side: Tensor, prior: Distribution) -> Tensor:
    """log of the probability of what lies farther out than z (N, d), on the side that is asked for (-1 or 1)."""
    low, high = _bounds(prior)
    reach = torch.where(side < 0, z - low, high - z)
    t = torch.linspace(-4.0, 4.0, 97, dtype=z.dtype, device=z.device).view(-1, 1, 1)
    # A bounded tail is cut by u = reach σ(π sinh t), an unbounded one by u = scale exp(π/2 sinh t): du/dt is small at the
    # ends faster than any exponential, so that equal steps are exact to rounding.
    w = math.pi * t.sinh()
    bounded = torch.sigmoid(w), torch.nn.functional.logsigmoid(w) + torch.nn.functional.logsigmoid(-w)
    unbounded = (w / 2).exp(), w / 2 - math.log(2)
    is_bounded = reach.isfinite()
    scale = torch.where(is_bounded, reach, _scale(z, side, prior))
    u = scale * torch.where(is_bounded, bounded[0], unbounded[0])
    log_weight = torch.where(is_bounded, bounded[1], unbounded[1]) + (math.pi * t.cosh() * (t[1] - t[0])).log()
    log_p = prior.log_prob(inside_support(z + side * u, prior))  # where its formula overflows, NaN may stand for -inf
    return (torch.where(log_p.isnan(), -math.inf, log_p) + log_weight).logsumexp(0) + scale.log()


def _scale(z: Tensor, side: Tensor, prior: Distribution) -> Tensor:
    """How far out from z the density falls to about 1/e, by its slope there."""
    median = prior.icdf(torch.full_like(z, 0.5))
    step = (z - median).abs() * 1e-3
    drop = prior.log_prob(z) - prior.log_prob(inside_support(z + side * step, prior))
    distance = (z - median).abs()
    return torch.where(drop.isnan(), distance, (step / drop.abs()).clamp_min(1e-300)).minimum(distance)


def _tail_quantiles(s: Tensor, start: Tensor, prior: Distribution) -> Tensor:
    """F⁻¹(Φ(s)) for s (N, d) beyond the middle, from the quantiles at its end: a root in the logarithm of a distance.

    The distance is that from the median, or where the tail is bounded from the bound. Newton's method on the logarithm of
    -log mass, kept within an interval that holds the root.
    """
    (low, high), side = _bounds(prior), s.sign()
    bound = torch.where(side < 0, low, high)
    is_bounded = bound.isfinite()
    origin = torch.where(is_bounded, bound, prior.icdf(torch.full_like(s, 0.5)))
    direction = torch.where(is_bounded, -side, side)
    v = (start - origin).abs().log()
    near, far = torch.where(is_bounded, _SMALLEST, v), torch.where(is_bounded, v, _LARGEST)
    target = log_ndtr(-s.abs())
    for _ in range(60):
        z = inside_support(origin + direction * v.exp(), prior)
        log_mass = _log_mass(z, side, prior).clamp_min(-1e300)
        larger = (log_mass < target) == is_bounded  # the distance that is looked for
        near, far = torch.where(larger, v, near), torch.where(larger, far, v)
        slope = direction * side * (prior.log_prob(z) - log_mass + v).exp() / -log_mass
        following = v + ((-target).log() - (-log_mass).log()) / slope
        trusted = ((following > near) & (following < far)) | ((following - v).abs() < 1e-6)
        following = torch.where(trusted, following, (near + far) / 2)
        v, step = following, (following - v).abs()
        if ((step < 1e-8) | (step * v.exp() < 1e-16 * origin.abs())).all():  # Newton's method leaves the square of it
            break
    return inside_support(origin + direction * v.exp(), prior)
