"""Convolutional encoders and decoders for images of any size."""

import math
from typing import ClassVar

import torch
from torch import Tensor, nn

__all__ = ["ConvDecoder", "ConvEncoder", "GatedConv2d", "GatedConvDecoder", "GatedConvEncoder", "pad_to_multiple"]


def _halved(size: int, times: int) -> int:
    return math.ceil(size / 2**times)


class ConvEncoder(nn.Module):
    """Images (B, C, H, W) to features (B, features): 4x4 convolutions of stride 2 with ReLU, then a linear layer.

    Arguments:
        shape: (C, H, W).
        features: Size of the output.
        width: Channels of the first convolution; the second has twice as many.
    """

    def __init__(self, shape: tuple[int, int, int], features: int = 256, width: int = 32):
        super().__init__()
        self.shape, self.features = shape, features
        inner = _halved(shape[1], 2) * _halved(shape[2], 2) * 2 * width
        self.layers = nn.Sequential(
            nn.Conv2d(shape[0], width, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(inner, features),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, features)."""
        return self.layers(pad_to_multiple(x, 4))


class ConvDecoder(nn.Module):
    """Latents (B, latent_dim) to (B, channels, H, W): the mirror image of :class:`ConvEncoder`.

    Arguments:
        latent_dim: Size of the input.
        shape: (channels, H, W) of the output.
        features, width: As in the encoder.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], features: int = 256, width: int = 32):
        super().__init__()
        self.shape = shape
        inner = (2 * width, _halved(shape[1], 2), _halved(shape[2], 2))
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, features),
            nn.ReLU(),
            nn.Linear(features, math.prod(inner)),
            nn.ReLU(),
            nn.Unflatten(1, inner),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, shape[0], 4, 2, 1),
        )

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, H, W)."""
        return self.layers(z)[..., : self.shape[1], : self.shape[2]]


class GatedConv2d(nn.Module):
    """h * sigmoid(g), both halves of one convolution's channels.

    Arguments:
        channels, width: Channels in and out.
        kernel, stride, padding: Of the convolution.
        transposed: Whether it is a transposed convolution; with stride 2 it doubles the size exactly.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int | tuple[int, int],
        stride: int,
        padding: int,
        transposed: bool = False,
    ):
        super().__init__()
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if transposed:
            self.conv = nn.ConvTranspose2d(channels, 2 * width, kernel, stride, padding, output_padding=stride - 1)
        else:
            self.conv = nn.Conv2d(channels, 2 * width, kernel, stride, padding)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, width, H', W')."""
        h, gate = self.conv(x).chunk(2, 1)
        return h * gate.sigmoid()


class GatedConvEncoder(nn.Module):
    """Images to 256 features: gated convolutions 32k5, 32k5s2, 64k5, 64k5s2, 64k5, then one over all that is left.

    Arguments:
        shape: (C, H, W).
        features: Size of the output.

    References:
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018)
        | https://arxiv.org/abs/1803.05649
    """

    channels_last: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self, shape: tuple[int, int, int], features: int = 256):
        super().__init__()
        self.shape, self.features = shape, features
        left = (_halved(shape[1], 2), _halved(shape[2], 2))
        plan = [(shape[0], 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2), (64, 64, 1)]
        layers: list[nn.Module] = [GatedConv2d(i, o, 5, stride, 2) for i, o, stride in plan]
        self.layers = nn.Sequential(*layers, GatedConv2d(64, features, left, 1, 0), nn.Flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, features)."""
        return self.layers(pad_to_multiple(x, 4))


class GatedConvDecoder(nn.Module):
    """Latents to (B, channels, H, W): gated transposed convolutions 64, 64, 32 (doubling), 32, 32 (doubling), 32, and 1x1.

    Reference as for :class:`GatedConvEncoder`, which it mirrors.

    Arguments:
        latent_dim: Size of the input.
        shape: (channels, H, W) of the output.
    """

    channels_last: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self, latent_dim: int, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape
        left = (_halved(shape[1], 2), _halved(shape[2], 2))
        plan = [(64, 64, 1), (64, 32, 2), (32, 32, 1), (32, 32, 2), (32, 32, 1)]
        layers: list[nn.Module] = [GatedConv2d(i, o, 5, stride, 2, transposed=True) for i, o, stride in plan]
        first = GatedConv2d(latent_dim, 64, left, 1, 0, transposed=True)
        self.layers = nn.Sequential(nn.Unflatten(1, (latent_dim, 1, 1)), first, *layers, nn.Conv2d(32, shape[0], 1))

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, H, W)."""
        return self.layers(z)[..., : self.shape[1], : self.shape[2]]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """x (..., H, W) with its last row and column repeated until both sizes are multiples."""
    right, below = -x.shape[-1] % multiple, -x.shape[-2] % multiple
    return torch.nn.functional.pad(x, (0, right, 0, below), mode="replicate") if right or below else x
