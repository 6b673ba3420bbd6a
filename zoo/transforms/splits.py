"""Images into two halves and back, and space into depth: the layouts that couplings work on."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from zoo.errors import ZooError
from zoo.transforms.base import Transform

__all__ = ["ChannelSplit", "CheckerboardSplit", "ColumnSplit", "SpaceToDepth", "Split"]

Shape = tuple[int, int, int]


class Split(nn.Module, ABC):
    """Creates a division of images (B, C, H, W) into two halves, themselves images: ``forward`` splits, ``inverse`` joins.

    ``shapes`` holds the (C, H, W) of the two halves. Only the places of the numbers change: there is no log-determinant.

    Arguments:
        shape: (C, H, W) of the images.
        halves: (C, H, W) of the halves.
    """

    def __init__(self, shape: Shape, halves: tuple[Shape, Shape]) -> None:
        super().__init__()
        self.shape, self.shapes = tuple(shape), halves

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two halves, (B, C, H, W) -> (B, *shapes[0]), (B, *shapes[1])."""

    @abstractmethod
    def inverse(self, a: Tensor, b: Tensor) -> Tensor:
        """The image of two halves."""


class ColumnSplit(Split):
    """Creates the split into even and odd columns, the "checkerboard" of Flow++ as it was published.

    Of an odd number of columns, the first half has one more.

    Arguments:
        shape: (C, H, W) of the images.

    Raises:
        ZooError: if there is only one column.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019), the published code
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> ColumnSplit((1, 1, 5))(torch.arange(5).view(1, 1, 1, 5))
        (tensor([[[[0, 2, 4]]]]), tensor([[[[1, 3]]]]))
    """

    def __init__(self, shape: Shape) -> None:
        c, h, w = shape
        if w < 2:
            raise ZooError(f"images of shape {tuple(shape)} have a single column: use a channel or checkerboard split")
        super().__init__(shape, ((c, h, w - w // 2), (c, h, w // 2)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[..., ::2], x[..., 1::2]

    def inverse(self, a: Tensor, b: Tensor) -> Tensor:
        b = pad(b, (0, a.shape[-1] - b.shape[-1]))
        return torch.stack((a, b), -1).flatten(-2)[..., : self.shape[-1]]


class CheckerboardSplit(Split):
    """Creates the split into the pixels with (i + j) even, and those with (i + j) odd, in the rows where they stand.

    A half of H x W pixels is H x W/2 where W is even, otherwise H/2 x W.

    Arguments:
        shape: (C, H, W) of the images.

    Raises:
        ZooError: if both sides are odd.

    References:
        | Density Estimation using Real NVP (Dinh et al., 2016), section 3.4
        | https://arxiv.org/abs/1605.08803

    Example:
        >>> a, b = CheckerboardSplit((1, 2, 4))(torch.arange(8).view(1, 1, 2, 4))
        >>> a, b
        (tensor([[[[0, 2],
                  [5, 7]]]]), tensor([[[[1, 3],
                  [4, 6]]]]))
    """

    odd: Tensor

    def __init__(self, shape: Shape) -> None:
        c, h, w = shape
        if h % 2 and w % 2:
            raise ZooError(f"images of shape {tuple(shape)} have odd sides: use a column split, which takes any width")
        half = (c, h, w // 2) if w % 2 == 0 else (c, h // 2, w)
        super().__init__(shape, (half, half))
        self.transposed = w % 2 == 1
        odd = torch.arange(w if self.transposed else h) % 2 == 1
        self.register_buffer("odd", odd.unsqueeze(-1), persistent=False)  # rows that begin with the other color

    def _exchange(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return torch.where(self.odd, b, a), torch.where(self.odd, a, b)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.mT if self.transposed else x
        a, b = self._exchange(x[..., ::2], x[..., 1::2])
        return (a.mT, b.mT) if self.transposed else (a, b)

    def inverse(self, a: Tensor, b: Tensor) -> Tensor:
        a, b = (a.mT, b.mT) if self.transposed else (a, b)
        x = torch.stack(self._exchange(a, b), -1).flatten(-2)
        return x.mT if self.transposed else x


class ChannelSplit(Split):
    """Creates the split into the first half of the channels and the rest; of an odd number the first half has one more.

    Arguments:
        shape: (C, H, W) of the images.

    Raises:
        ZooError: if there is only one channel.

    References:
        | Density Estimation using Real NVP (Dinh et al., 2016), section 3.4
        | https://arxiv.org/abs/1605.08803

    Example:
        >>> ChannelSplit((3, 8, 8)).shapes
        ((2, 8, 8), (1, 8, 8))
    """

    def __init__(self, shape: Shape) -> None:
        c, h, w = shape
        if c < 2:
            raise ZooError(f"images of shape {tuple(shape)} have a single channel: use a column or checkerboard split")
        super().__init__(shape, ((c - c // 2, h, w), (c // 2, h, w)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.split([self.shapes[0][0], self.shapes[1][0]], 1)
        return a, b

    def inverse(self, a: Tensor, b: Tensor) -> Tensor:
        return torch.cat((a, b), 1)


class SpaceToDepth(Transform):
    """Creates the map of 2x2 pixels to one pixel with four times the channels; its log-determinant is 0.

    The channels are ordered by row, column and color, so the first half of them holds the upper rows.

    Shapes: x (B, C, H, W), y (B, 4C, H/2, W/2), log_det (B,).

    Raises:
        ZooError: by ``forward``, if a side is odd.

    References:
        | Density Estimation using Real NVP (Dinh et al., 2016), section 3.6
        | https://arxiv.org/abs/1605.08803

    Example:
        >>> SpaceToDepth()(torch.arange(4.0).view(1, 1, 2, 2))[0].flatten()
        tensor([0., 1., 2., 3.])
        >>> SpaceToDepth()(torch.zeros(1, 3, 8, 6))[0].shape
        torch.Size([1, 12, 4, 3])
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if x.shape[-1] % 2 or x.shape[-2] % 2:
            raise ZooError(f"images of shape {tuple(x.shape[1:])}: space to depth needs two even sides")
        x = x.unflatten(-2, (-1, 2)).unflatten(-1, (-1, 2))  # (B, C, H/2, 2, W/2, 2)
        return x.permute(0, 3, 5, 1, 2, 4).flatten(1, 3), x.new_zeros(len(x))

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y = y.unflatten(1, (2, 2, -1))  # (B, 2, 2, C, H/2, W/2)
        return y.permute(0, 3, 4, 1, 5, 2).flatten(4).flatten(2, 3), y.new_zeros(len(y))
