"""The network of Flow++'s couplings: gated convolutions and gated attention, with a context beside the input.

Inside, tensors are (B, H, W, C): layers over channels take them as they are, and convolutions as channels_last.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.errors import ZooError

__all__ = ["ContextNet", "GatedAttention", "GatedAttentionNet", "GatedConv", "concat_elu"]


def concat_elu(x: Tensor) -> Tensor:
    """elu([x, -x]) over the last dimension, (..., C) -> (..., 2C).

    Example:
        >>> concat_elu(torch.tensor([1.0, -1.0]))
        tensor([ 1.0000, -0.6321, -0.6321,  1.0000])
    """
    return F.elu(torch.cat((x, -x), -1), inplace=True)


class _Conv(nn.Conv2d):
    """A 3x3 convolution of (B, H, W, C)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


_Layer = TypeVar("_Layer", bound=nn.Linear | nn.Conv2d)


def _scaled(layer: _Layer, scale: float = 1.0) -> _Layer:
    """The layer, with bias 0 and such weights that inputs of variance 1 give outputs of standard deviation ``scale``."""
    nn.init.normal_(layer.weight, std=scale * layer.weight[0].numel() ** -0.5)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class GatedConv(nn.Module):
    """x + a·sigmoid(b), (a, b) = conv(dropout(concat_elu(conv3x3(concat_elu(x)) + linear(concat_elu(context))))).

    Arguments:
        channels: Channels in and out.
        context_channels: Channels of the context; 0 for none.
        dropout: Probability that a hidden unit is dropped.
        pointwise: Whether the second convolution is 1x1, not 3x3.

    Raises:
        ZooError: if there are context channels and no context is given.
    """

    def __init__(self, channels: int, context_channels: int = 0, dropout: float = 0.0, pointwise: bool = True):
        super().__init__()
        self.first = _scaled(_Conv(2 * channels, channels))
        self.context = _scaled(nn.Linear(2 * context_channels, channels)) if context_channels else None
        self.dropout = nn.Dropout(dropout)
        self.second = _scaled((nn.Linear if pointwise else _Conv)(2 * channels, 2 * channels), 0.1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, H, W, C), (B, H, W, c) -> (B, H, W, C)."""
        h = self.first(concat_elu(x))
        if self.context is not None:
            if context is None:
                raise ZooError(f"a context of {self.context.in_features // 2} channels is needed, none was given")
            h = h + self.context(concat_elu(context))
        return x + F.glu(self.second(self.dropout(concat_elu(h))), -1)


class GatedAttention(nn.Module):
    """x + a·sigmoid(b), (a, b) = linear(dropout(attention over all pixels of x + position)).

    Without attention, a pixel sees itself alone: the largest of what would be query, key and value takes the place
    of the attention's output, so the number of parameters stays the same, as in the paper's ablation.

    Arguments:
        channels: Channels in and out, a multiple of ``heads``.
        heads: Number of heads.
        dropout: Probability that a unit of the attention's output is dropped.
        attention: Whether pixels see each other.

    Raises:
        ZooError: if there is attention and ``channels`` is no multiple of ``heads``.
    """

    def __init__(self, channels: int, heads: int = 4, dropout: float = 0.0, attention: bool = True):
        super().__init__()
        if attention and (heads < 1 or channels % heads):
            raise ZooError(f"{channels} filters and {heads} heads: give a number of filters that is a multiple of heads")
        self.heads, self.attention = heads, attention
        self.first = _scaled(nn.Linear(channels, 3 * channels))
        self.dropout = nn.Dropout(dropout)
        self.second = _scaled(nn.Linear(channels, 2 * channels), 0.1)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """(B, H, W, C), (H, W, C) -> (B, H, W, C)."""
        h = self.first(x + position)
        if self.attention:
            heads = h.flatten(1, 2).unflatten(-1, (3, self.heads, -1))  # (B, HW, 3, heads, C / heads)
            q, k, v = heads.permute(2, 0, 3, 1, 4)  # (B, heads, HW, C / heads) each
            h = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape)
        else:
            h = h.unflatten(-1, (3, -1)).amax(-2)
        return x + F.glu(self.second(self.dropout(h)), -1)


class GatedAttentionNet(nn.Module):
    """Images (B, channels, H, W) to (B, outputs, H, W): 3x3 convolution, blocks, 3x3 convolution.

    A block is a gated convolution, LayerNorm, gated attention, LayerNorm. All blocks share one learned position
    embedding. The outputs start small, with standard deviation 0.1.

    Arguments:
        channels, outputs: Channels in and out.
        size: (H, W).
        filters: Channels of the blocks.
        blocks: Number of blocks.
        context_channels: Channels of the context; 0 for none.
        attention: Whether pixels see each other in the attention; see :class:`GatedAttention`.
        heads: Heads of the attention.
        dropout: Of the blocks.

    Raises:
        ZooError: if ``filters`` isn't a positive multiple of ``heads``, or if there are context channels and no context is
            given.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019)
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> net = GatedAttentionNet(3, 12, size=(8, 4), filters=16, blocks=1, context_channels=2)
        >>> net(torch.randn(5, 3, 8, 4), torch.randn(5, 2, 8, 4)).shape
        torch.Size([5, 12, 8, 4])
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        size: tuple[int, int],
        filters: int = 96,
        blocks: int = 10,
        context_channels: int = 0,
        attention: bool = True,
        heads: int = 4,
        dropout: float = 0.2,
    ):
        super().__init__()
        if filters < 1 or blocks < 0:
            raise ZooError(f"{filters} filters and {blocks} blocks: give 1 or more filters, and 0 or more blocks")
        self.context_channels = context_channels
        self.position = nn.Parameter(0.01 * torch.randn(*size, filters))
        self.first = _scaled(_Conv(channels, filters))
        self.convs = nn.ModuleList(GatedConv(filters, context_channels, dropout) for _ in range(blocks))
        self.attentions = nn.ModuleList(GatedAttention(filters, heads, dropout, attention) for _ in range(blocks))
        self.norms = nn.ModuleList(nn.LayerNorm(filters) for _ in range(2 * blocks))
        self.last = _scaled(_Conv(filters, outputs), 0.1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, channels, H, W), (B, context_channels, H, W) -> (B, outputs, H, W)."""
        if self.context_channels and context is None:
            raise ZooError(f"a context of {self.context_channels} channels is needed: give context, (B, c, H, W)")
        x = self.first(x.permute(0, 2, 3, 1))
        context = None if context is None or not self.context_channels else context.permute(0, 2, 3, 1)
        for i, (conv, attention) in enumerate(zip(self.convs, self.attentions, strict=True)):
            x = self.norms[2 * i](conv(x, context))
            x = self.norms[2 * i + 1](attention(x, self.position))
        return self.last(x).permute(0, 3, 1, 2)


class ContextNet(nn.Module):
    """What a conditional flow sees of its context, (B, channels, H, W) -> (B, features, H, W), for all its couplings.

    A 3x3 convolution, then gated convolutions.

    Arguments:
        channels: Channels of the context.
        features: Channels of the output.
        blocks: Number of gated convolutions.
        dropout: Of the gated convolutions.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019)
        | https://arxiv.org/abs/1902.00275

    Example:
        >>> ContextNet(6)(torch.randn(5, 6, 8, 4)).shape
        torch.Size([5, 32, 8, 4])
    """

    def __init__(self, channels: int, features: int = 32, blocks: int = 3, dropout: float = 0.2):
        super().__init__()
        convs = (GatedConv(features, dropout=dropout, pointwise=False) for _ in range(blocks))
        self.layers = nn.Sequential(_scaled(_Conv(channels, features)), *convs)

    def forward(self, context: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, features, H, W)."""
        return self.layers(context.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
