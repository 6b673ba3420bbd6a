"""The logit of a mixture-of-logistics CDF: its value, its derivative and its inverse, all in log space."""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

__all__ = ["bounded_log_scale", "mixture_logit", "mixture_logit_inverse"]


def bounded_log_scale(raw: Tensor, least: float = -7) -> Tensor:
    """The log-scale of a logistic from what a network gives: -7 to 7, so that neither the scale nor its inverse overflows.

    Arguments:
        raw: What the network gives.
        least: Another lower bound, of levels that lie closer than 256 in [-1, 1].

    Example:
        >>> bounded_log_scale(torch.tensor([-200.0, 0.5, 200.0]))
        tensor([-7.0000,  0.5000,  7.0000])
    """
    return raw.clamp(least, 7)


def mixture_logit(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    r"""y = logit(Σₖ πₖ σ(vₖ)) with vₖ = (x - μₖ) exp(-log sₖ), and log ∂y/∂x, for x (...) and parameters (..., K).

    y = lse(log π + log σ(v)) - lse(log π + log σ(-v)): never the logarithm of a probability that rounds to 1, as
    logit(exp(log CDF)) takes already at y = 17 in float32. π is softmax(logits); its normalizer cancels.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019), section 3.2
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> one = torch.zeros(2, 1)  # of a single standard logistic: the identity
        >>> mixture_logit(torch.tensor([-1.0, 1000.0]), one, one, one)[0]
        tensor([  -1., 1000.])
    """
    v = (x.unsqueeze(-1) - means) * torch.exp(-log_scales)
    below = logsigmoid(v)
    above = below - v  # log σ(-v)
    left, right = logits + below, logits + above
    log_cdf, log_survival = left.logsumexp(-1), right.logsumexp(-1)
    y = log_cdf - log_survival
    # ∂y/∂x = f / (F (1 - F)), f divided by the smaller of the two first: both may be exp(-1e6), the quotient is still
    # exact. The other one is 1 / (1 + exp(-|y|)).
    tail = torch.minimum(log_cdf, log_survival).unsqueeze(-1)
    log_ratio = (left + above - tail - log_scales).logsumexp(-1)
    return y, log_ratio + softplus(-y.abs())


def mixture_logit_inverse(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    r"""The x with ``mixture_logit(x, ...)`` = y, and log ∂y/∂x there, for y (...) and parameters (..., K).

    The CDF lies between those of its components, so x lies between the points μₖ + sₖ y at which they reach y: a finite
    interval for every y. Bisection with a fixed number of steps, so that nothing waits for the device, and two steps of
    Newton's method. The last of them gives x its derivatives.

    Example:
        >>> y, parameters = torch.linspace(-100, 100, 8), torch.randn(3, 8, 4).unbind()
        >>> x, _ = mixture_logit_inverse(y, *parameters)
        >>> torch.allclose(mixture_logit(x, *parameters)[0], y, rtol=1e-4)
        True
    """
    with torch.no_grad():
        low, high = _bisect(y, logits, means, log_scales)
        reach = high - low
        x = (low + high) / 2
        step, _ = _newton_step(x, y, logits, means, log_scales)
        x = torch.clamp(x - step, low - reach, high + reach)
    step, log_slope = _newton_step(x, y, logits, means, log_scales)
    x = x - step + (step - step.clamp(-reach, reach)).detach()  # the derivatives are those of the whole step
    if torch.is_grad_enabled():  # the slope has derivatives by x too, which the last step has only now
        _, log_slope = mixture_logit(x, logits, means, log_scales)
    return x, log_slope


def _newton_step(x: Tensor, y: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
    value, log_slope = mixture_logit(x, *parameters)
    # Between two far modes the slope is 0 to any precision, and any x of the interval as good as another.
    return (value - y) * torch.exp(-log_slope.detach().clamp_min(-60)), log_slope


def _bisect(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """An interval that holds the x with ``mixture_logit(x, ...)`` = y, and is small beside the narrowest components."""
    at_components = torch.addcmul(means, log_scales.exp(), y.unsqueeze(-1))
    low, high = at_components.amin(-1), at_components.amax(-1)
    # For y < 0, Σ πₖ σ(vₖ) is compared with σ(y); for y > 0, the complements. Far in a tail σ(v) is exp(v), and both
    # sides are multiplied by exp(lift), so that they don't underflow. (It isn't for a component so rare, π < exp(-40),
    # that it decides only where it is no longer in its tail: there x stays within the interval, but may be inexact.)
    right = y > 0
    rate = torch.exp(-log_scales) * torch.where(right, -1, 1).unsqueeze(-1)
    lift = (y.abs() + 0.7 * math.log(torch.finfo(y.dtype).tiny)).clamp_min(0)
    weights, target = logits.softmax(-1), torch.sigmoid(lift - y.abs())
    offset = torch.addcmul(lift.unsqueeze(-1), means, rate, value=-1)
    v = torch.empty_like(offset)
    for _ in range(53 if y.dtype == torch.float64 else 20):
        middle = (low + high) / 2
        torch.addcmul(offset, middle.unsqueeze(-1), rate, out=v)  # ±(x - μ)/s + lift
        too_far_out = v.sigmoid_().mul_(weights).sum(-1) < target
        too_high = too_far_out == right
        low, high = torch.where(too_high, low, middle), torch.where(too_high, middle, high)
    return low, high
