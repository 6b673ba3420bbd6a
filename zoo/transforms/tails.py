"""Normal scores of any continuous distribution, h(F(z)), and back, with the digits of both tails."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.special import erfcx, log_ndtr, ndtr, ndtri

from zoo.errors import ZooError

__all__ = ["from_normal_scores", "normal_scores"]

_MIDDLE = 4.0  # standard scores up to which a CDF in float64 has digits enough on both sides
_FARTHEST = 1e150  # its square is a number still


def normal_scores(z: Tensor, prior: Distribution) -> Tensor:
    r"""s = Φ⁻¹(F(z)) of each element, F the CDF of ``prior``, z (..., d) in float64, d the prior's batch shape.

    F in float64 is 0 or 1 to all digits where s is beyond 8, and often before. In the tails log F, or log(1 - F), is the
    integral of the density over what lies farther out, by double exponential quadrature; s follows from the asymptotic
    expansion of log Φ by Newton's method. The derivative is p(z)/φ(s), of which no digit is lost either.

    References:
        | Double Exponential Formulas for Numerical Integration (Takahasi and Mori, 1974)
        | https://doi.org/10.2977/prims/1195192451

    Example:
        >>> prior = torch.distributions.Laplace(torch.zeros(1), torch.ones(1))
        >>> normal_scores(torch.tensor([[-1000.0], [1000.0]]).double(), prior).flatten().tolist()
        [-44.62089..., 44.62089...]
    """
    return _Scores.apply(z, prior)


def from_normal_scores(s: Tensor, prior: Distribution) -> Tensor:
    """z = F⁻¹(Φ(s)), the inverse of :func:`normal_scores`; what would be rounded to a bound of the support stays within."""
    return _FromScores.apply(s, prior)


def _log_slope(z: Tensor, s: Tensor, prior: Distribution) -> Tensor:
    """log p(z) - log φ(s), the log-derivative of the scores."""
    return prior.log_prob(z) + s.square() / 2 + math.log(2 * math.pi) / 2


class _Elementwise(torch.autograd.Function):
    """A map of each element that vmap needs not know of: the last dimension is the prior's, whatever stands before it."""

    @staticmethod
    def _vmapped(cls: type, in_dims: tuple, x: Tensor, prior: Distribution) -> tuple[Tensor, int]:
        return cls.apply(x.movedim(in_dims[0], 0), prior), 0


class _Scores(_Elementwise):
    @staticmethod
    def forward(z: Tensor, prior: Distribution) -> Tensor:
        inner = prior.cdf(z).clamp(1e-10, 1 - 1e-10)
        s = ndtri(inner)
        rows = (s.abs() > _MIDDLE).any(-1)
        s[rows] = torch.where(s[rows].abs() > _MIDDLE, _tail_scores(z[rows], prior), s[rows])
        return s

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Distribution], output: Tensor) -> None:
        ctx.prior = inputs[1]
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        z, s = ctx.saved_tensors
        return gradient * _log_slope(z, s, ctx.prior).exp(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, z: Tensor, prior: Distribution) -> tuple[Tensor, int]:
        return _Elementwise._vmapped(_Scores, in_dims, z, prior)


class _FromScores(_Elementwise):
    @staticmethod
    def forward(s: Tensor, prior: Distribution) -> Tensor:
        z = prior.icdf(ndtr(s.clamp(-_MIDDLE, _MIDDLE)))
        rows = (s.abs() > _MIDDLE).any(-1)
        z[rows] = torch.where(s[rows].abs() > _MIDDLE, _tail_quantiles(s[rows], prior), z[rows])
        return z

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Distribution], output: Tensor) -> None:
        ctx.prior = inputs[1]
        ctx.save_for_backward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        s, z = ctx.saved_tensors
        return gradient * (-_log_slope(z, s, ctx.prior)).exp(), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple, s: Tensor, prior: Distribution) -> tuple[Tensor, int]:
        return _Elementwise._vmapped(_FromScores, in_dims, s, prior)
