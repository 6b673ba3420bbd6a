"""Invertible 1x1 convolution: every pixel's channels are multiplied by one matrix."""

import torch
from torch import Tensor, nn

from zoo.precision import without_autocast
from zoo.transforms.base import Transform

__all__ = ["Invertible1x1Conv"]


class Invertible1x1Conv(Transform):
    r"""Creates the map y = W x of every pixel's channels, log|det| = H·W·log|det W|, that starts near the identity.

    Shapes: x (B, C, H, W), log_det (B,). Units: nats.

    Arguments:
        channels: The number of channels, C.
        noise: W starts as the identity plus ``noise`` times standard normal numbers.

    References:
        | Glow: Generative Flow with Invertible 1x1 Convolutions (Kingma and Dhariwal, 2018), section 3.2
        | https://arxiv.org/abs/1807.03039
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019)
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> f, x = Invertible1x1Conv(3), torch.randn(8, 3, 4, 4)
        >>> y, log_det = f(x)
        >>> torch.allclose(f.inverse(y)[0], x, atol=1e-5)
        True
    """

    def __init__(self, channels: int, noise: float = 0.001) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(channels) + noise * torch.randn(channels, channels))

    def _log_det(self, x: Tensor) -> Tensor:
        return (x.shape[-2] * x.shape[-1] * torch.linalg.slogdet(self.weight).logabsdet).expand(len(x))

    @without_autocast
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return torch.einsum("dc,bchw->bdhw", self.weight, x), self._log_det(x)

    @without_autocast
    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        # inv_ex, as inv waits for the device to say whether the matrix is singular.
        weight = torch.linalg.inv_ex(self.weight).inverse
        return torch.einsum("dc,bchw->bdhw", weight, y), -self._log_det(y)
