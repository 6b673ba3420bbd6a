"""A small convolutional classifier of images of any size, whose last hidden layer serves as features."""

import math

from torch import Tensor, nn

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """Images (B, C, H, W) to logits (B, classes): 3x3 convolutions with ReLU, then a linear layer of features, and one more.

    The first convolution keeps the size; each of the others halves it, until a side is 4 or less.

    Arguments:
        shape: (C, H, W).
        classes: The number of classes.
        dim: The number of features.
        width: Channels of the first convolution; the others have twice as many as the one before, up to four times these.
    """

    def __init__(self, shape: tuple[int, int, int], classes: int, dim: int = 64, width: int = 16):
        super().__init__()
        channels, height, breadth = shape
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
        inner = width
        for _ in range(max(1, math.ceil(math.log2(min(height, breadth) / 4)))):
            outer = min(2 * inner, 4 * width)
            layers += [nn.Conv2d(inner, outer, 3, 2, 1), nn.ReLU()]
            inner, height, breadth = outer, (height + 1) // 2, (breadth + 1) // 2
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        self.hidden = nn.Linear(inner * height * breadth, dim)
        self.output = nn.Linear(dim, classes)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, dim), before the nonlinearity."""
        return self.hidden(self.convolutions(x))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, classes)."""
        return self.output(self.features(x).relu())
