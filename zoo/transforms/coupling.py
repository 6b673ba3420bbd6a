"""Coupling of two halves of an image: one is mapped element by element with parameters computed from the other."""

__all__ = ["Coupling"]

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.errors import ZooError
from zoo.nets.gated_attention import GatedAttentionNet
from zoo.transforms.base import Transform
from zoo.transforms.mixture_logistic import mixture_logit, mixture_logit_inverse


class _Affine:
    """x itself: what remains is the scale and shift that follow every map."""

    parameters = 0

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return x, torch.zeros_like(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        return y


class _MixtureLogistic:
    """logit of the CDF of a mixture of logistics, whose log-scales are at least -7."""

    def __init__(self, components: int) -> None:
        self.parameters = 3 * components

    def _read(self, parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = parameters.chunk(3, -1)
        return logits, means, log_scales.clamp_min(-7)

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return mixture_logit(x, *self._read(parameters))

    def inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        return mixture_logit_inverse(y, *self._read(parameters))


class _Spline:
    """Monotonic rational-quadratic spline on [-5, 5], the identity outside; the spline itself is zuko's."""

    def __init__(self, bins: int) -> None:
        from zuko.transforms import MonotonicRQSTransform

        self.sizes, self.parameters, self.spline = [bins, bins, bins - 1], 3 * bins - 1, MonotonicRQSTransform

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        return self.spline(*parameters.split(self.sizes, -1)).call_and_ladj(x)

    def inverse(self, y: Tensor, parameters: Tensor) -> Tensor:
        return self.spline(*parameters.split(self.sizes, -1)).inv(y)


MAPS = {"mixture_logistic": _MixtureLogistic, "affine": lambda components: _Affine(), "spline": _Spline}


class Coupling(Transform):
    r"""Creates the map y = exp(s)·g(x; θ) + t of one half of an image, (s, t, θ) = net(other half, context), s = tanh(raw).

    g is the logit of a mixture-of-logistics CDF (Flow++), the identity (RealNVP, Glow) or a spline; the network is the
    same for all. It is float32 that g is computed in, under autocast too.

    A width that differs between the halves, as with an odd number of columns, is evened out for the network: the
    narrower half gets a column of zeros, or the last column of parameters goes unused.

    Shapes: x and y (B, *changed), given (B, *given), context (B, c, H, W) on the pixels of the wider half, log_det (B,).
    Units: nats.

    Raises:
        ZooError: if ``kind`` is none of these, or if ``filters`` isn't a multiple of ``heads``.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019), section 3.2
        | https://arxiv.org/abs/1902.00275
        | Density Estimation using Real NVP (Dinh et al., 2016)
        | https://arxiv.org/abs/1605.08803
        | Neural Spline Flows (Durkan et al., 2019)
        | https://arxiv.org/abs/1906.04032

    Arguments:
        given: (C, H, W) of the half that the parameters are computed from.
        changed: (C, H, W) of the half that is mapped.
        kind: ``"mixture_logistic"``, ``"affine"`` or ``"spline"``.
        components: Components of the mixture, or bins of the spline.
        network: Options of :class:`zoo.nets.gated_attention.GatedAttentionNet`: ``filters``, ``blocks``,
            ``context_channels``, ``attention``, ``heads``, ``dropout``.

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
        **network,
    ) -> None:
        super().__init__()
        if kind not in MAPS:
            raise ZooError(f"coupling={kind!r}: give one of {', '.join(MAPS)}")
        self.map, self.changed, self.missing = MAPS[kind](components), changed, max(changed[2] - given[2], 0)
        size = (given[1], given[2] + self.missing)
        self.net = GatedAttentionNet(given[0], changed[0] * (2 + self.map.parameters), size, **network)

    def _theta(self, given: Tensor, context: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        raw = self.net(pad(given, (0, self.missing)), context)[..., : self.changed[2]]
        raw = raw.permute(0, 2, 3, 1).unflatten(-1, (self.changed[0], -1)).to(dtype)  # (B, H, W, C, 2 + parameters)
        return raw[..., 0].tanh(), raw[..., 1], raw[..., 2:]

    @staticmethod
    def _widened(x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).to(torch.promote_types(x.dtype, torch.float32))  # (B, H, W, C)

    def forward(self, x: Tensor, given: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self._widened(x)
        log_scale, shift, parameters = self._theta(given, context, x.dtype)
        y, log_derivative = self.map.forward(x, parameters)
        y = torch.addcmul(shift, y, log_scale.exp())
        return y.permute(0, 3, 1, 2), (log_derivative + log_scale).flatten(1).sum(1)

    def inverse(self, y: Tensor, given: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = self._widened(y)
        log_scale, shift, parameters = self._theta(given, context, y.dtype)
        x = self.map.inverse((y - shift) * torch.exp(-log_scale), parameters)
        log_derivative = self.map.forward(x, parameters)[1]
        return x.permute(0, 3, 1, 2), -(log_derivative + log_scale).flatten(1).sum(1)
