"""Radial flow: the density is stretched and squeezed around one point."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from zoo.precision import without_autocast
from zoo.transforms.amortized import AmortizedParameters
from zoo.transforms.base import Transform

__all__ = ["Radial", "radial"]


def _log_det(r: Tensor, alpha: Tensor, gap: Tensor, features: int) -> Tensor:
    """(d-1)·log(1 + βh) + log(1 + βh + βh'r) with β = gap - α, both written as quotients of positive terms."""
    reach = alpha + r
    tangential = torch.log(r + gap) - torch.log(reach)
    along = torch.log(r * r + 2 * alpha * r + alpha * gap) - 2 * torch.log(reach)
    return ((features - 1) * tangential + along).squeeze(-1)


def radial(x: Tensor, center: Tensor, alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """y = x + β h(r) (x - z₀) and log|det ∂y/∂x| for a center z₀ (..., d) and unconstrained α', β' (..., 1).

    h(r) = 1/(α + r), r = ‖x - z₀‖, α = softplus(α'), β = -α + softplus(β').

    Example:
        >>> x, center = torch.tensor([[3.0, 4.0]]), torch.zeros(1, 2)
        >>> radial(x, center, torch.tensor([[0.5]]), torch.tensor([[2.5]]))
        (tensor([[3.8059, 5.0745]]), tensor([0.2808]))
    """
    alpha, gap = softplus(alpha), softplus(beta)
    r = torch.linalg.vector_norm(x - center, dim=-1, keepdim=True)
    y = x + (gap - alpha) / (alpha + r) * (x - center)
    return y, _log_det(r, alpha, gap, x.shape[-1])


class Radial(Transform):
    r"""Creates a radial map y = x + β h(r) (x - z₀), invertible for every value of its parameters.

    h(r) = 1/(α + r) with r = ‖x - z₀‖, α = softplus(α') > 0 and β = -α + softplus(β') > -α, hence

    log|det| = (d - 1)·log(1 + βh) + log(1 + βh + βh'r), both logarithms of positive numbers.

    The inverse is analytic: the distance ρ = ‖y - z₀‖ = r + βr/(α + r) leaves a quadratic equation for r.

    Shapes: x (..., d), context (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context that gives z₀, α' and β' for each example; 0 learns one
            set for all examples.

    Raises:
        ZooError: if there are context features and no context is given.

    References:
        | Variational Inference with Normalizing Flows (Rezende and Mohamed, 2015)
        | https://arxiv.org/abs/1505.05770

    Example:
        >>> flow, h = Radial(3, context_features=8), torch.randn(32, 8)
        >>> y, log_det = flow(torch.randn(32, 3), h)
        >>> y.shape, log_det.shape
        (torch.Size([32, 3]), torch.Size([32]))
    """

    def __init__(self, features: int, context_features: int = 0) -> None:
        super().__init__()
        # α' and β' near each other leave β near 0: the map starts near the identity.
        self.parameters_of = AmortizedParameters([features, 1, 1], context_features, scale=0.1)

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return radial(x, *self.parameters_of(context))

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        center, alpha, beta = self.parameters_of(context)
        alpha, gap = softplus(alpha), softplus(beta)
        rho = torch.linalg.vector_norm(y - center, dim=-1, keepdim=True)
        # r² + (gap - ρ)r - αρ = 0; the root is taken in the form that subtracts no two numbers of one sign.
        p = gap - rho
        root = torch.sqrt(p * p + 4 * alpha * rho)
        # p.clamp_min(0), as where p < 0 the other term would be divided by 0, and its gradient would be NaN.
        r = torch.where(p > 0, 2 * alpha * rho / (p.clamp_min(0) + root), (root - p) / 2)
        # 1 + βh is (r + gap)/(α + r), so the direction from the center is kept and the distance divided by it.
        x = center + (y - center) * (alpha + r) / (r + gap)
        return x, -_log_det(r, alpha, gap, y.shape[-1])
