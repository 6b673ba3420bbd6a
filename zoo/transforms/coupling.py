"""Coupling of two halves of an image: one is mapped element by element with parameters computed from the other."""

from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from zoo.errors import ZooError
from zoo.nets.gated_attention import GatedAttentionNet
from zoo.precision import autocast_while_training
from zoo.transforms.mixture_logistic import bounded_log_scale, mixture_logit, mixture_logit_inverse
from zoo.transforms.spline import monotonic_spline, spline_inverse

__all__ = ["Coupling"]


class _Map(Protocol):
    """A map g, element by element: x (...) and parameters (..., size) of each of the sizes.

    Both directions give log ∂g/∂x beside the value.
    """

    sizes: tuple[int, ...]

    def forward(self, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]: ...
    def inverse(self, y: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]: ...


class _Affine:
    """x itself: what remains is the scale and shift that follow every map."""

    sizes: tuple[int, ...] = ()

    def forward(self, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.zeros_like(x)

    def inverse(self, y: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        return y, torch.zeros_like(y)


class _MixtureLogistic:
    """logit of the CDF of a mixture of logistics, whose log-scales are bounded."""

    def __init__(self, components: int) -> None:
        self.sizes: tuple[int, ...] = (components, components, components)

    def forward(self, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        logits, means, log_scales = parameters
        return mixture_logit(x, logits, means, bounded_log_scale(log_scales))

    def inverse(self, y: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        logits, means, log_scales = parameters
        return mixture_logit_inverse(y, logits, means, bounded_log_scale(log_scales))


class _Spline:
    """Monotonic rational-quadratic spline on [-5, 5], the identity outside; the spline itself is zuko's."""

    def __init__(self, bins: int) -> None:
        self.sizes: tuple[int, ...] = (bins, bins, bins - 1)

    def forward(self, x: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        widths, heights, derivatives = parameters
        return monotonic_spline(widths, heights, derivatives).call_and_ladj(x)

    def inverse(self, y: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        widths, heights, derivatives = parameters
        spline = monotonic_spline(widths, heights, derivatives)
        x = spline_inverse(spline, y)
        return x, spline.call_and_ladj(x)[1]


MAPS: dict[str, Callable[[int], _Map]] = {
    "mixture_logistic": _MixtureLogistic,
    "affine": lambda components: _Affine(),
    "spline": _Spline,
}


class Coupling(nn.Module):
    r"""Creates the map y = exp(s)·g(x; θ) + t of one half of an image, (s, t, θ) = net(other half, context), s = tanh(raw).

    g is the logit of a mixture-of-logistics CDF (Flow++), the identity (RealNVP, Glow) or a spline; the network is the
    same for all. It is float32 that g is computed in, under autocast too; and so is the network but in training steps,
    which alone never go both ways.

    A width that differs between the halves, as with an odd number of columns, is evened out for the network: the
    narrower half gets a column of zeros, or the last column of parameters goes unused.

    Shapes: x and y (B, *changed), given (B, *given), context (B, c, H, W) on the pixels of the wider half, log_det (B,).
    Units: nats.

    Arguments:
        given: (C, H, W) of the half that the parameters are computed from.
        changed: (C, H, W) of the half that is mapped.
        kind: ``"mixture_logistic"``, ``"affine"`` or ``"spline"``.
        components: Components of the mixture, or bins of the spline.
        network: Options of :class:`zoo.nets.gated_attention.GatedAttentionNet`: ``filters``, ``blocks``,
            ``context_channels``, ``attention``, ``heads``, ``dropout``.

    Raises:
        ZooError: if ``kind`` is none of these, if there are no components, if ``filters`` isn't a multiple of ``heads``, or
            if there are context channels and no context is given.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019), section 3.2
        | https://arxiv.org/abs/1902.00275
        | Density Estimation using Real NVP (Dinh et al., 2016)
        | https://arxiv.org/abs/1605.08803
        | Neural Spline Flows (Durkan et al., 2019)
        | https://arxiv.org/abs/1906.04032

    Example:
        >>> coupling = Coupling((3, 8, 4), (3, 8, 4), components=4, filters=16, blocks=1).eval()
        >>> x, given = torch.randn(2, 5, 3, 8, 4)
        >>> y, log_det = coupling(x, given)
        >>> torch.allclose(coupling.inverse(y, given)[0], x, atol=1e-4)
        True
    """

    def __init__(
        self,
        given: tuple[int, int, int],
        changed: tuple[int, int, int],
        kind: Literal["mixture_logistic", "affine", "spline"] = "mixture_logistic",
        components: int = 32,
        **network: Any,
    ) -> None:
        super().__init__()
        if kind not in MAPS:
            raise ZooError(f"coupling={kind!r}: give one of {', '.join(MAPS)}")
        if components < 1:
            raise ZooError(f"components={components}: give 1 or more")
        self.map, self.changed, self.missing = MAPS[kind](components), changed, max(changed[2] - given[2], 0)
        size = (given[1], given[2] + self.missing)
        self.net = GatedAttentionNet(given[0], changed[0] * (2 + sum(self.map.sizes)), size, **network)

    def _theta(self, given: Tensor, context: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, list[Tensor]]:
        with autocast_while_training(self, given.device.type):
            raw = self.net(pad(given, (0, self.missing)), context)[..., : self.changed[2]]
        raw = raw.permute(0, 2, 3, 1).unflatten(-1, (self.changed[0], -1)).to(dtype)  # (B, H, W, C, outputs)
        log_scale, shift, *parameters = raw.split([1, 1, *self.map.sizes], -1)
        return log_scale.squeeze(-1).tanh(), shift.squeeze(-1), parameters

    @staticmethod
    def _widened(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, torch.float32))  # (B, H, W, C)

    def forward(self, x: Tensor, given: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y (B, *changed) and log|det ∂y/∂x| (B,)."""
        x = self._widened(x)
        log_scale, shift, parameters = self._theta(given, context, x.dtype)
        y, log_derivative = self.map.forward(x, *parameters)
        y = torch.addcmul(shift, y, log_scale.exp())
        return y.permute(0, 3, 1, 2), (log_derivative + log_scale).flatten(1).sum(1)

    def inverse(self, y: Tensor, given: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x (B, *changed) and log|det ∂x/∂y| (B,)."""
        y = self._widened(y)
        log_scale, shift, parameters = self._theta(given, context, y.dtype)
        x, log_derivative = self.map.inverse((y - shift) * torch.exp(-log_scale), *parameters)
        return x.permute(0, 3, 1, 2), -(log_derivative + log_scale).flatten(1).sum(1)
