"""The convolutional generator and discriminator of DCGAN, for images of any size."""

import math

import torch
from torch import Tensor, nn

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]


def _stages(height: int, width: int) -> int:
    """How many times the image is halved: until its shorter side is below 8 pixels."""
    return max(1, int(math.log2(min(height, width) / 4)))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DCGANGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, C, H, W), without a final nonlinearity.

    A linear layer to a small image, then 4x4 transposed convolutions of stride 2, each halving the channels, with batch
    normalisation and ReLU between; what exceeds H x W is cut off.

    References:
        Radford, Metz, Chintala, Unsupervised Representation Learning with Deep Convolutional Generative Adversarial
        Networks, 2016, arXiv:1511.06434.

    Arguments:
        latent_dim: Size of the latent.
        shape: (C, H, W) of the images.
        width: Channels before the last layer.
    """

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        self.shape = shape
        stages = _stages(*shape[1:])
        first = width * 2 ** (stages - 1)
        self.first = (first, math.ceil(shape[1] / 2**stages), math.ceil(shape[2] / 2**stages))
        self.project = nn.Linear(latent_dim, math.prod(self.first), bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(first), nn.ReLU()]
        for stage in reversed(range(1, stages)):
            channels = width * 2 ** (stage - 1)
            layers += [
                nn.ConvTranspose2d(2 * channels, channels, 4, 2, 1, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(),
            ]
        layers.append(nn.ConvTranspose2d(width, shape[0], 4, 2, 1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialise)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, C, H, W)."""
        h = self.project(z).view(-1, *self.first)  # (B, width * 2^(stages-1), ~H / 2^stages, ~W / 2^stages)
        return self.layers(h)[..., : self.shape[1], : self.shape[2]]


class DCGANDiscriminator(nn.Module):
    """Images (B, C, H, W) to logits (B,).

    4x4 convolutions of stride 2, each doubling the channels, with leaky ReLU (slope 0.2) between, then a linear layer.
    There is no batch normalisation: it would make the logit of one image depend on the others, which gradient
    penalties do not allow. Reference and arguments as for :class:`DCGANGenerator`.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        layers: list[nn.Module] = []
        channels, height, breadth = shape
        for stage in range(_stages(height, breadth)):
            layers += [nn.Conv2d(channels, width * 2**stage, 4, 2, 1), nn.LeakyReLU(0.2)]
            channels, height, breadth = width * 2**stage, height // 2, breadth // 2
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * breadth, 1))
        self.apply(_initialise)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B,)."""
        return torch.squeeze(self.layers(x), -1)
