"""The logit of a mixture-of-logistics CDF: its value, its derivative and its inverse, all in log space."""

__all__ = ["mixture_logit", "mixture_logit_inverse"]

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, softplus

HALVINGS = {torch.float32: 24, torch.float64: 53}  # of the interval that is searched: as many as there are digits


def mixture_logit(x: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    r"""y = logit(Σₖ πₖ σ(vₖ)) with vₖ = (x - μₖ) exp(-log sₖ), and log ∂y/∂x, for x (...) and parameters (..., K).

    y = lse(log π + log σ(v)) - lse(log π + log σ(-v)): never the logarithm of a probability that rounds to 1, as
    logit(exp(log CDF)) takes already at y = 17 in float32. π is softmax(logits); its normaliser cancels.

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
    above = below - v
    log_cdf, log_survival = (logits + below).logsumexp(-1), (logits + above).logsumexp(-1)
    y = log_cdf - log_survival
    # ∂y/∂x = f / (F (1 - F)). Each density is weighed by its component's share of the smaller tail: F or 1 - F may be
    # exp(-1e6), and the quotient is still exact.
    right = y > 0
    share = logits + torch.where(right.unsqueeze(-1), above, below)
    share = share - torch.where(right, log_survival, log_cdf).unsqueeze(-1)
    log_density = (share + torch.where(right.unsqueeze(-1), below, above) - log_scales).logsumexp(-1)
    return y, log_density + softplus(-y.abs())


def mixture_logit_inverse(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    r"""The x with ``mixture_logit(x, ...)`` = y, for y (...) and parameters (..., K).

    The CDF lies between those of its components, so x lies between the points μₖ + sₖ y at which they reach y: a finite
    interval for every y. Bisection with a fixed number of steps, so that nothing waits for the device, and two steps of
    Newton's method. The last of them gives x its derivatives.

    Example:
        >>> parameters = torch.randn(3, 8, 4).unbind()
        >>> x = mixture_logit_inverse(torch.linspace(-100, 100, 8), *parameters)
        >>> torch.allclose(mixture_logit(x, *parameters)[0], torch.linspace(-100, 100, 8), rtol=1e-4)
        True
    """
    with torch.no_grad():
        low, high = _bisect(y, logits, means, log_scales)
        reach = high - low
        x = (low + high) / 2
        x = torch.clamp(x - _newton_step(x, y, logits, means, log_scales), low - reach, high + reach)
    return x - _newton_step(x, y, logits, means, log_scales).clamp(-reach, reach)


def _newton_step(x: Tensor, y: Tensor, *parameters: Tensor) -> Tensor:
    value, log_slope = mixture_logit(x, *parameters)
    # Between two far modes the slope is 0 to any precision, and any x of the interval as good as another.
    return (value - y) * torch.exp(-log_slope.detach().clamp_min(-60))


def _bisect(y: Tensor, logits: Tensor, means: Tensor, log_scales: Tensor) -> tuple[Tensor, Tensor]:
    """An interval that holds the x with ``mixture_logit(x, ...)`` = y, and is a rounding error wide."""
    at_components = torch.addcmul(means, log_scales.exp(), y.unsqueeze(-1))
    low, high = at_components.amin(-1), at_components.amax(-1)
    # Σ exp(log πₖ + log σ(vₖ)) is compared with σ(y), divided by it, in the tail where y lies: there the CDF, or its
    # complement, has relative precision.
    right = y > 0
    rate = torch.exp(-log_scales) * torch.where(right, -1, 1).unsqueeze(-1)
    level = logits.log_softmax(-1) - logsigmoid(-y.abs()).unsqueeze(-1)
    for _ in range(HALVINGS[y.dtype]):
        middle = (low + high) / 2
        v = (middle.unsqueeze(-1) - means).mul_(rate)
        too_far_out = logsigmoid(v).add_(level).exp_().sum(-1) < 1
        too_high = too_far_out == right
        low, high = torch.where(too_high, low, middle), torch.where(too_high, middle, high)
    return low, high
