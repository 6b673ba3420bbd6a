"""Activation normalization: a learned scale and shift that start from data."""

from typing import Literal

import torch
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.precision import without_autocast
from zoo.transforms.base import Transform

__all__ = ["ActNorm"]


class ActNorm(Transform):
    r"""Creates the map y = exp(s)·x + t with one s and t per element, as in Flow++, or per channel, as in Glow.

    ``initialize`` sets them so that y has mean 0 and variance 1 over one batch, and does nothing when it is called
    again: ``initialized`` is a buffer, so it holds after a reload too. Before, the map is the identity.

    Shapes: x (B, C, H, W), log_det (B,). Units: nats.

    Arguments:
        shape: (C, H, W).
        per: ``"element"`` or ``"channel"``.

    Raises:
        ZooError: if ``per`` is none of these.

    References:
        | Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma and Dhariwal, 2018), section 3.1
        | https://arxiv.org/abs/1807.03039
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019), the published code
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> norm, x = ActNorm((3, 4, 4)), 5 + 2 * torch.randn(64, 3, 4, 4)
        >>> norm.initialize(x)
        >>> y, log_det = norm(x)
        >>> round(y.std(correction=0).item(), 3)
        1.0
    """

    initialized: Tensor

    def __init__(self, shape: tuple[int, int, int], per: Literal["element", "channel"] = "element") -> None:
        super().__init__()
        if per not in ("element", "channel"):
            raise ZooError(f"{per!r}: an actnorm is per 'element' or per 'channel'")
        c, h, w = shape
        size = (c, h, w) if per == "element" else (c, 1, 1)
        self.repeats = 1 if per == "element" else h * w
        self.averaged = (0,) if per == "element" else (0, 2, 3)
        self.log_scale = nn.Parameter(torch.zeros(size))
        self.shift = nn.Parameter(torch.zeros(size))
        self.register_buffer("initialized", torch.tensor(False))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Sets scale and shift from one batch, (B, C, H, W), if that hasn't been done. What never varies is not scaled."""
        if self.initialized:
            return
        x = x.to(self.shift.dtype)
        variance, mean = torch.var_mean(x, self.averaged, correction=0, keepdim=True)
        scale = torch.where(variance > 1e-10, variance, 1).rsqrt()[0]
        self.log_scale.copy_(scale.log())
        self.shift.copy_(-mean[0] * scale)
        self.initialized.fill_(True)

    @property
    def _bounded(self) -> Tensor:
        """s where neither its exponential nor the inverse's overflows float32."""
        return self.log_scale.clamp(-60, 60)

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.repeats * self._bounded.sum()).expand(len(x))

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.addcmul(self.shift, x, self._bounded.exp()), self._log_det(x)

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return (y - self.shift) * torch.exp(-self._bounded), -self._log_det(y)
