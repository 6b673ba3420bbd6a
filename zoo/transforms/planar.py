"""Planar flow: the density is stretched and squeezed along one direction."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from zoo.precision import without_autocast
from zoo.transforms.amortized import AmortizedParameters
from zoo.transforms.base import Transform

__all__ = ["Planar", "log_slope", "planar", "solve_tanh_residual"]


def log_slope(s: Tensor, slope: Tensor) -> Tensor:
    """log(1 + (slope - 1)·tanh'(s)), the log-derivative of s + (slope - 1)·tanh(s), for slope > 0.

    Written as a sum of positive terms, tanh² + slope·tanh': no rounding makes it the logarithm of a negative number.

    Example:
        >>> log_slope(torch.tensor([0.0, 100.0]), torch.tensor([1e-30, 1e-30]))
        tensor([-69.0776,   0.0000])
    """
    sech2 = 4 * torch.sigmoid(2 * s) * torch.sigmoid(-2 * s)
    return torch.log(torch.tanh(s) ** 2 + slope * sech2)


def _constrain(w: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """û, the vector u moved along w so far that 1 + wᵀû > 0, and 1 + wᵀû itself, which is softplus(wᵀu)."""
    tiny = torch.finfo(w.dtype).tiny
    wu = (w * u).sum(-1, keepdim=True)
    norm2 = (w * w).sum(-1, keepdim=True)
    slope = softplus(wu).clamp_min(tiny)  # where softplus underflows, the slope still isn't 0
    u_hat = u + (slope - 1 - wu) * w / norm2.clamp_min(tiny)
    # w = 0 has no direction to move along: û stays u there, and the map is a translation.
    return u_hat, torch.lerp(1 + wu, slope, norm2 / norm2.clamp_min(tiny))


def planar(x: Tensor, w: Tensor, u: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """y = x + û tanh(wᵀx + b) and log|det ∂y/∂x| for given, unconstrained w (..., d), u (..., d) and b (..., 1).

    Example:
        >>> w, u, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0]])
        >>> planar(torch.tensor([[0.0, 3.0]]), w, u, b)
        (tensor([[0., 3.]]), tensor([-0.3665]))
    """
    u_hat, slope = _constrain(w, u)
    s = (w * x).sum(-1, keepdim=True) + b
    return x + u_hat * torch.tanh(s), log_slope(s, slope).squeeze(-1)


def solve_tanh_residual(target: Tensor, gain: Tensor, slope: Tensor, shift: Tensor) -> Tensor:
    """The v with v + gain·tanh(slope·v + shift) = target, for gain·slope > -1, where the left side increases.

    Bisection: |gain| bounds the root on both sides, and 64 halvings exhaust float64. One Newton step ends it, which
    gives the root its derivative by every argument (the implicit function theorem).

    Example:
        >>> v = solve_tanh_residual(torch.tensor([1.0]), torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor([0.0]))
        >>> v + 0.5 * torch.tanh(v)
        tensor([1.])
    """
    with torch.no_grad():
        reach = gain.abs().expand_as(target)
        low, high = target - reach, target + reach
        for _ in range(64):
            middle = (low + high) / 2
            above = middle + gain * torch.tanh(slope * middle + shift) > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        v = (low + high) / 2
        derivative = log_slope(slope * v + shift, 1 + gain * slope).exp().clamp_min(torch.finfo(v.dtype).tiny)
    return v - (v + gain * torch.tanh(slope * v + shift) - target) / derivative


class Planar(Transform):
    r"""Creates a planar map y = x + û tanh(wᵀx + b), invertible for every value of its parameters.

    û = u + (softplus(wᵀu) - 1 - wᵀu) w/‖w‖² has 1 + wᵀû = softplus(wᵀu) > 0, hence

    log|det| = log(1 + wᵀû tanh'(wᵀx + b)) = log(tanh² + softplus(wᵀu)·tanh').

    The inverse is exact to rounding: along w the map is a scalar increasing function, solved by bisection.

    Shapes: x (..., d), context (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context that gives w, u and b for each example; 0 learns one
            set for all examples.

    Raises:
        ZooError: if there are context features and no context is given.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770

    Example:
        >>> flow, h = Planar(3, context_features=8), torch.randn(32, 8)
        >>> y, log_det = flow(torch.randn(32, 3), h)
        >>> y.shape, log_det.shape
        (torch.Size([32, 3]), torch.Size([32]))
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        # ‖w‖ is near 1: the slope of tanh is then seen by data of unit variance, in any dimension.
        self.parameters_of = AmortizedParameters([features, features, 1], context_features, scale=features**-0.5)

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return planar(x, *self.parameters_of(context))

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        w, u, b = self.parameters_of(context)
        u_hat, slope = _constrain(w, u)
        # With s = wᵀx + b the map reads wᵀy + b = s + wᵀû tanh(s).
        target = (w * y).sum(-1, keepdim=True) + b
        s = solve_tanh_residual(target, slope - 1, torch.ones_like(b), torch.zeros_like(b))
        return y - u_hat * torch.tanh(s), -log_slope(s, slope).squeeze(-1)
