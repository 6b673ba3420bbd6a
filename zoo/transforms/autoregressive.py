"""Autoregressive flows: each dimension is mapped by a function whose parameters depend on those before it."""

from abc import abstractmethod
from typing import Any, Unpack

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from zoo.nets.made import MADE, MADEOptions
from zoo.precision import without_autocast
from zoo.transforms.base import Compose, Transform

__all__ = ["AffineAutoregressive", "Autoregressive", "GatedAutoregressive", "autoregressive_flow"]


class Autoregressive(Transform):
    r"""Creates an autoregressive map y_i = g(x_i; θ_i) with θ_i = MADE(x, context)_i, a function of the x_j before i.

    The Jacobian is triangular, so log|det| = Σᵢ log g'(x_i; θ_i). ``forward`` is one parallel pass. ``inverse`` takes
    the d dimensions one after another, and computes each hidden unit once for all of them. A subclass gives g, its
    inverse and the number of its parameters.

    Shapes: x (..., d), context (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context; 0 for none.
        outputs: The number of parameters of g.
        options: Those of :class:`zoo.nets.made.MADE`: ``hidden``, ``order``, ``activation``.

    Raises:
        ZooError: if ``order`` is not a permutation, or if there are context features and no context is given.

    References:
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017)
        | https://arxiv.org/abs/1705.07057

    Example:
        >>> class Shift(Autoregressive):
        ...     def univariate(self, x, parameters):
        ...         return x + parameters.squeeze(-1), torch.zeros_like(x)
        ...     def univariate_inverse(self, y, parameters):
        ...         return y - parameters.squeeze(-1)
        >>> y, log_det = Shift(3, outputs=1)(torch.randn(8, 3))
        >>> y.shape, log_det.shape
        (torch.Size([8, 3]), torch.Size([8]))
    """

    def __init__(self, features: int, context_features: int = 0, *, outputs: int, **options: Unpack[MADEOptions]) -> None:
        super().__init__()
        self.net = MADE(features, outputs, context_features=context_features, **options)
        with torch.no_grad():
            # All examples start with nearly the same parameters, near those of θ = 0.
            self.net.output.weight.mul_(0.1)
            self.net.output.bias.mul_(0.1)

    @abstractmethod
    def univariate(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """g(x; θ) and log g'(x; θ), element by element, for x (...) and θ (..., P)."""

    @abstractmethod
    def univariate_inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        """The x with g(x; θ) = y, element by element, for y (...) and θ (..., P)."""

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_derivative = self.univariate(x, self.net(x, context))
        return y, log_derivative.sum(-1)

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        columns = y.reshape(-1, y.shape[-1]).T.contiguous().unbind()
        x, parameters = self.net.ancestral(
            lambda i, theta: self.univariate_inverse(columns[i], theta), y.shape[:-1], context
        )
        return x, -self.univariate(x, parameters)[1].sum(-1)

    @without_autocast
    def sequential_inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """``inverse`` as it is usually written, d passes of the whole network: slow, short, and its reference."""
        x = torch.zeros_like(y)
        for _ in range(y.shape[-1]):
            x = self.univariate_inverse(y, self.net(x, context))
        return x, -self.forward(x, context)[1]


class AffineAutoregressive(Autoregressive):
    r"""Creates a step of a masked autoregressive flow, y_i = (x_i - μ_i) exp(-α_i), (μ_i, a_i) = MADE(x, context)_i.

    α = arsinh(a), and log|det| = -Σᵢ αᵢ. As a prior, x is the latent and y the noise: densities take one pass, samples
    d short steps. Through arsinh the scale exp(α) grows as a does, not as exp(a): the d steps, each fed by those
    before, don't overflow.

    Shapes: x (..., d), context (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context; 0 for none.
        options: Those of :class:`zoo.nets.made.MADE`: ``hidden``, ``order``, ``activation``.

    Raises:
        ZooError: if ``order`` is not a permutation, or if there are context features and no context is given.

    References:
        | Masked Autoregressive Flow for Density Estimation (Papamakarios et al., 2017)
        | https://arxiv.org/abs/1705.07057

    Example:
        >>> step, noise = AffineAutoregressive(3, hidden=(32, 32)), torch.randn(8, 3)
        >>> z, _ = step.inverse(noise)
        >>> torch.allclose(step(z)[0], noise, atol=1e-5)
        True
    """

    def __init__(self, features: int, context_features: int = 0, **options: Unpack[MADEOptions]) -> None:
        super().__init__(features, context_features, outputs=2, **options)

    def univariate(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, a = parameters.unbind(-1)
        log_scale = torch.asinh(a)
        return (x - mean) * torch.exp(-log_scale), -log_scale

    def univariate_inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        mean, a = parameters.unbind(-1)
        return torch.addcmul(mean, torch.exp(torch.asinh(a)), y)


class GatedAutoregressive(Autoregressive):
    r"""Creates a gated step of an inverse autoregressive flow, y_i = σ_i x_i + (1 - σ_i) m_i, (m, s) = MADE(x, h).

    The gate is σ = sigmoid(s + 1.5), open at the start, and log|det| = Σᵢ logsigmoid(sᵢ + 1.5). As a posterior, x is
    the sample of the encoder's Gaussian and h its context: log q(y) = log q(x) - log|det|, in one pass.

    Shapes: x (..., d), context h (B, c), log_det (...). Units: nats.

    Arguments:
        features: The number of dimensions, d.
        context_features: The number of features of the context h; 0 for none.
        gate_bias: The number added to s, 1.5 above.
        options: Those of :class:`zoo.nets.made.MADE`: ``hidden``, ``order``, ``activation``.

    Raises:
        ZooError: if ``order`` is not a permutation, or if there are context features and no context is given.

    References:
        | Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016)
        | https://arxiv.org/abs/1606.04934

    Example:
        >>> step = GatedAutoregressive(3, context_features=8, hidden=(32, 32))
        >>> y, log_det = step(torch.randn(16, 3), torch.randn(16, 8))
        >>> bool((log_det < 0).all())
        True
    """

    def __init__(
        self, features: int, context_features: int = 0, gate_bias: float = 1.5, **options: Unpack[MADEOptions]
    ) -> None:
        super().__init__(features, context_features, outputs=2, **options)
        self.gate_bias = gate_bias

    def univariate(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mean, gate = parameters.unbind(-1)
        gate = gate + self.gate_bias
        # 1 - sigmoid(s) is sigmoid(-s), without the cancellation.
        return torch.sigmoid(gate) * x + torch.sigmoid(-gate) * mean, logsigmoid(gate)

    def univariate_inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        mean, gate = parameters.unbind(-1)
        gate = gate + self.gate_bias
        # (1 - σ)/σ is exp(-s): the division disappears.
        return y + torch.exp(-gate) * (y - mean)


def autoregressive_flow(step: type[Autoregressive], features: int, steps: int = 4, **options: Any) -> Compose:
    """Creates a flow of autoregressive steps whose order is reversed between them.

    Arguments:
        step: The class of the steps.
        features: The number of dimensions, d.
        steps: The number of steps.
        options: Those of the steps.

    Example:
        >>> prior = autoregressive_flow(AffineAutoregressive, 2, steps=2, hidden=(32,))
        >>> [transform.net.order.tolist() for transform in prior.transforms]
        [[0, 1], [1, 0]]
    """
    forwards = torch.arange(features)
    return Compose(step(features, order=forwards.flip(0) if k % 2 else forwards, **options) for k in range(steps))
