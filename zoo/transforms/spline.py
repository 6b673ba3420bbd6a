"""Neural spline autoregressive flow: each dimension is mapped by a monotonic spline."""

from typing import TYPE_CHECKING, Unpack

import torch
from torch import Tensor

from zoo.nets.made import MADEOptions
from zoo.transforms.autoregressive import Autoregressive

if TYPE_CHECKING:
    from zuko.transforms import MonotonicRQSTransform

__all__ = ["SplineAutoregressive", "monotonic_spline", "spline_inverse"]


# The knots are cumsum(softmax(g(w))), whose gradient torch 2.13 compiles to wrong numbers on the CPU.
@torch.compiler.disable
def monotonic_spline(widths: Tensor, heights: Tensor, derivatives: Tensor, bound: float = 5.0) -> "MonotonicRQSTransform":
    """zuko's monotonic rational-quadratic splines from their unconstrained parameters, (..., K), (..., K), (..., K - 1)."""
    from zuko.transforms import MonotonicRQSTransform

    return MonotonicRQSTransform(widths, heights, derivatives, bound=bound)


@torch.compiler.disable
def spline_inverse(spline: "MonotonicRQSTransform", y: Tensor) -> Tensor:
    r"""The x with spline(x) = y, element by element.

    In a bin of slope s, between knots of slopes d₀ and d₁, the share z of its width at the share θ of its height solves a
    quadratic equation of discriminant e² + 4s²θ(1 - θ), e = d₀(1 - θ) - d₁θ. So written it is never negative, and z is a
    quotient of positive terms, for whatever parameters. What no inverse can find again is what y has not kept: where the
    spline is so flat that many x have one y.

    References:
        | Neural Spline Flows (Durkan et al., 2019), appendix A.3, whose discriminant and root these are
        | https://arxiv.org/abs/1906.04032
    """
    inside, x0, x1, y0, y1, d0, d1, s = spline.bin(spline.searchsorted(spline.vertical, y) - 1)
    theta = torch.where(inside, (y - y0) / (y1 - y0), 0.5).clamp(0, 1)
    rest = 1 - theta
    e = d0 * rest - d1 * theta
    root = (e.square() + 4 * s.square() * theta * rest).sqrt()
    # z/(1 - z) is 2sθ/(e + root), of e < 0 the same by other terms: (root - e)/(2s(1 - θ)).
    above, below = 2 * s * theta, 2 * s * rest
    z = torch.where(e < 0, (root - e) / (root - e + below), above / (above + e.clamp_min(0) + root))
    return torch.where(inside, x0 + z * (x1 - x0), y)


class SplineAutoregressive(Autoregressive):
    r"""Creates a neural spline autoregressive step: y_i is a monotonic rational-quadratic spline of x_i.

    Outside of [-bound, bound] the map is the identity; inside, the widths, heights and slopes of the bins are
    MADE(x, context)_i. The spline itself is zuko's.

    Shapes: x (..., d), context (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context; 0 for none.
        bins: The number of bins.
        bound: The bound of the interval that is mapped.
        options: Those of :class:`zoo.nets.made.MADE`: ``hidden``, ``order``, ``activation``.

    Raises:
        ImportError: if zuko is not installed.
        ZooError: if ``order`` is not a permutation, or if there are context features and no context is given.

    References:
        | Neural Spline Flows (Durkan et al., 2019)
        | https://arxiv.org/abs/1906.04032

    Example:
        >>> import torch
        >>> step, noise = SplineAutoregressive(3, hidden=(32, 32)), torch.randn(8, 3)
        >>> z, _ = step.inverse(noise)
        >>> torch.allclose(step(z)[0], noise, atol=1e-4)
        True
    """

    def __init__(
        self,
        features: int,
        context_features: int = 0,
        bins: int = 8,
        bound: float = 5.0,
        **options: Unpack[MADEOptions],
    ) -> None:
        super().__init__(features, context_features, outputs=3 * bins - 1, **options)
        self.sizes, self.bound = [bins, bins, bins - 1], bound

    def _spline(self, parameters: Tensor) -> "MonotonicRQSTransform":
        widths, heights, derivatives = parameters.split(self.sizes, dim=-1)
        return monotonic_spline(widths, heights, derivatives, bound=self.bound)

    def univariate(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self._spline(parameters).call_and_ladj(x)

    def univariate_inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        return spline_inverse(self._spline(parameters), y)
