"""The networks of the large study of disentanglement: convolutions for images, and a discriminator of latents."""

import math
from typing import ClassVar

from torch import Tensor, nn

from zoo.nets.conv import pad_to_multiple

__all__ = ["LatentDiscriminator", "LocatelloDecoder", "LocatelloEncoder"]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class LocatelloEncoder(nn.Module):
    """Images to features: convolutions 32k4, 32k4, 64k2, 64k2 of stride 2 and a linear layer, each followed by a ReLU.

    64 x 64 images come to 4 x 4 pixels of 64 channels. Images of other sizes are extended to the next multiple of 16 by
    repeating their last row and column. Glorot-uniform weights, zero biases.

    Arguments:
        shape: (C, H, W).
        features: Size of the output; 256 in the study.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2019), appendix
        | https://arxiv.org/abs/1811.12359
    """

    channels_last: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self, shape: tuple[int, int, int], features: int = 256):
        super().__init__()
        channels, height, breadth = shape
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 4, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 2, 2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 2, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * math.ceil(height / 16) * math.ceil(breadth / 16), features),
            nn.ReLU(),
        )
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, features)."""
        return self.layers(pad_to_multiple(x, 16))


class LocatelloDecoder(nn.Module):
    """Latents to images: linear layers to 256 and to 4 x 4 x 64, then transposed convolutions 64k4, 32k4, 32k4 and k4.

    All have stride 2; ReLU between. Other sizes begin with ceil(H/16) x ceil(W/16) pixels, and what exceeds H x W is cut
    off. Reference and initial weights as for :class:`LocatelloEncoder`.

    Arguments:
        latent_dim: Size of the input.
        shape: (channels, H, W) of the output.
    """

    channels_last: ClassVar[tuple[str, ...]] = ("cpu",)

    def __init__(self, latent_dim: int, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape
        inner = (64, math.ceil(shape[1] / 16), math.ceil(shape[2] / 16))
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, 256),
            nn.ReLU(),
            nn.Linear(256, math.prod(inner)),
            nn.ReLU(),
            nn.Unflatten(1, inner),
            nn.ConvTranspose2d(64, 64, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 32, 4, 2, 1),
            nn.ReLU(),
            nn.ConvTranspose2d(32, shape[0], 4, 2, 1),
        )
        self.apply(_initialize)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, H, W)."""
        return self.layers(z)[..., : self.shape[1], : self.shape[2]]


class LatentDiscriminator(nn.Module):
    """Latents (B, latent_dim) to two logits (B, 2): linear layers with leaky ReLU (slope 0.2) between.

    Initial weights as in the study.

    Arguments:
        latent_dim: Size of the input.
        width: Hidden units of each layer.
        depth: Hidden layers.

    References:
        | Disentangling by Factorising (Kim and Mnih, 2018), appendix
        | https://arxiv.org/abs/1802.05983
    """

    def __init__(self, latent_dim: int, width: int = 1000, depth: int = 6):
        super().__init__()
        layers: list[nn.Module] = []
        for size in (latent_dim, *[width] * (depth - 1)):
            layers += [nn.Linear(size, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))
        self.apply(_initialize)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, 2)."""
        return self.layers(z)
