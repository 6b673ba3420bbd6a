"""Gated PixelCNN: masked convolutions as an autoregressive model of images with levels."""

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.models.autoregressive import AutoregressiveModel
from zoo.nets.pixelcnn import GatedPixelCNN
from zoo.options import MOST_LAYERS, MOST_UNITS, require_between
from zoo.spec import DataSpec

__all__ = ["PixelCNN"]


class PixelCNN(AutoregressiveModel):
    r"""Maximizes log p(x) = Σᵢ log p(x_i | x_<i), exact, all factors by one pass of gated masked convolutions.

    Pixels are in the order of their rows, the colors of a pixel one after another. Logged: nll and bits_per_dim; with
    classes conditional_nll = -log p(x|y).

    Arguments:
        spec: The data's description; the command line fills it in.
        layers: The number of gated layers.
        channels: Channels of each of the two stacks.
        head: Channels between the gated layers and the likelihood's numbers.
        kernel: The odd size of the convolutions.
        first_kernel: The same of the first layer.
        options: Those of :class:`~zoo.models.autoregressive.AutoregressiveModel`: ``likelihood``, ``likelihood_options``,
            ``classes``, ``lr``, ``lr_decay``.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)
        | https://arxiv.org/abs/1606.05328
    """

    def __init__(
        self,
        spec: DataSpec | dict,
        layers: int = 5,
        channels: int = 32,
        head: int = 32,
        kernel: int = 3,
        first_kernel: int = 7,
        **options: Any,
    ):
        super().__init__(spec, **options)
        if not self.spec.is_image:
            raise ZooError(f"pixelcnn takes images (C, H, W); {self.spec.name} has shape {self.spec.shape}: use made.")
        require_between(1, MOST_LAYERS, layers=layers)
        require_between(1, MOST_UNITS, channels=channels, head=head)
        require_between(1, 255, kernel=kernel, first_kernel=first_kernel)
        shape, outputs = self.spec.image_shape, self.likelihood.outputs
        self.net = GatedPixelCNN(shape, outputs, layers, channels, head, kernel, first_kernel, self.classes or 0)

    @property
    def ranked(self) -> Tensor:
        """The dimension at each place of the order: rows, columns, colors."""
        return torch.arange(self.spec.dims).view(self.spec.shape).permute(1, 2, 0).flatten()

    def parameters_of(self, x: Tensor, context: Tensor | None) -> Tensor:
        """(B, C, H, W), (B, K) -> (B, outputs, C, H, W)."""
        return self.net(x, context)

    def ancestral(self, n: int, context: Tensor | None) -> Tensor:
        """Draws all values for about the work of one pass, (n, C, H, W); context (n, K)."""
        return self.net.ancestral(self.draw, n, context)[0]
