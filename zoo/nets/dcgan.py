"""The convolutional generator and discriminator of DCGAN, for images of any size."""

import math
from itertools import pairwise

from torch import Tensor, nn
from torch.nn.functional import pad

from zoo.nets.batch_norm import BatchNorm2d

__all__ = ["DCGANDiscriminator", "DCGANGenerator"]


def _channels(height: int, breadth: int, width: int) -> list[int]:
    """Channels at each resolution, finest first: halved until the shorter side is below 4 pixels, doubled up to 8 width."""
    stages = max(1, int(math.log2(min(height, breadth) / 2)))
    return [width * 2 ** min(stage, 3) for stage in range(stages)]


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class DCGANGenerator(nn.Module):
    """Latents (B, latent_dim) to images (B, C, H, W), without a final nonlinearity.

    A linear layer to an image of 2 or 3 pixels, then 4x4 transposed convolutions of stride 2, each halving the channels
    (``8 width`` at most), with batch normalization, by the global batch, and ReLU between; what exceeds H x W is cut off.
    The paper's begins with 4 x 4 pixels: the stage more is what 8 x 8 images need.

    Arguments:
        latent_dim: Size of the latent.
        shape: (C, H, W) of the images.
        width: Channels before the last layer.

    References:
        | Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (Radford et al., 2016)
        | https://arxiv.org/abs/1511.06434
    """

    def __init__(self, latent_dim: int, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        self.shape = shape
        _, height, breadth = shape
        channels = _channels(height, breadth, width)[::-1]
        scale = 2 ** len(channels)
        self.first = (channels[0], math.ceil(height / scale), math.ceil(breadth / scale))
        self.project = nn.Linear(latent_dim, math.prod(self.first), bias=False)
        layers: list[nn.Module] = [BatchNorm2d(channels[0]), nn.ReLU()]
        for before, after in pairwise(channels):
            layers += [nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False), BatchNorm2d(after), nn.ReLU()]
        layers.append(nn.ConvTranspose2d(width, shape[0], 4, 2, 1))
        self.layers = nn.Sequential(*layers)
        self.apply(_initialize)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, C, H, W)."""
        h = self.project(z).view(-1, *self.first)  # (B, channels[0], ~H / scale, ~W / scale)
        return self.layers(h)[..., : self.shape[1], : self.shape[2]]


class DCGANDiscriminator(nn.Module):
    """Images (B, C, H, W) to logits (B,).

    4x4 convolutions of stride 2, each doubling the channels (``8 width`` at most), with leaky ReLU (slope 0.2) between,
    then a linear layer. There is no batch normalization: it would make the logit of one image depend on the others,
    which gradient penalties do not allow. Reference and arguments as for :class:`DCGANGenerator`.
    """

    def __init__(self, shape: tuple[int, int, int], width: int = 64):
        super().__init__()
        layers: list[nn.Module] = []
        before, height, breadth = shape
        for after in _channels(height, breadth, width):
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
            before, height, breadth = after, max(1, height // 2), max(1, breadth // 2)
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * height * breadth, 1))
        self.apply(_initialize)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B,)."""
        below, right = (max(0, 2 - side) for side in x.shape[-2:])  # a single row or column is taken twice
        return self.layers(pad(x, (0, right, 0, below), mode="replicate") if below or right else x).squeeze(-1)
