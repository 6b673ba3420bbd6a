"""Gated PixelCNN: masked convolutions in two stacks, which see all pixels before one in the order of the rows."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from zoo.errors import ZooError
from zoo.nets.module_list import module_list

__all__ = ["GatedPixelCNN", "MaskedConv2d"]


class MaskedConv2d(nn.Conv2d):
    """Creates a convolution of the pixels to the left of one and of that pixel's earlier colors, (B, ...) to (B, ...).

    Channels are shared out among the colors in turn: channel h is of color h mod C. At the pixel itself, outputs of a color
    see inputs of the colors before theirs and, unless ``strict``, of their own.

    Arguments:
        inputs, outputs: The numbers of channels.
        colors: The number of colors, C.
        width: The pixels it sees, the pixel itself among them; the others are to its left.
        strict: Whether a color does not see itself: mask A of the paper, else mask B.

    References:
        | Pixel Recurrent Neural Networks (van den Oord et al., 2016), section 3.4
        | https://arxiv.org/abs/1601.06759

    Example:
        >>> layer = MaskedConv2d(1, 4, colors=1, width=2, strict=True)
        >>> x = torch.randn(1, 1, 1, 3)
        >>> torch.equal(layer(x)[..., 1], layer(x * torch.tensor([1.0, 0.0, 0.0]))[..., 1])
        True
    """

    mask: Tensor
    bias: Tensor

    def __init__(self, inputs: int, outputs: int, colors: int, width: int = 1, strict: bool = False):
        super().__init__(inputs, outputs, (1, width))
        of, to = torch.arange(inputs) % colors, torch.arange(outputs)[:, None] % colors
        mask = torch.ones(outputs, inputs, 1, width, dtype=torch.bool)
        mask[:, :, 0, -1] = of < to if strict else of <= to
        self.register_buffer("mask", mask, persistent=False)
        self.past = width - 1  # pixels to the left

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H, W)."""
        return conv2d(pad(x, (self.past, 0, 0, 0)), self.weight * self.mask, self.bias)

    def matrix(self) -> Tensor:
        """The weights as a matrix of a pixel's inputs and those to its left, (width * inputs, outputs), tap by tap."""
        return (self.weight * self.mask)[:, :, 0].permute(2, 1, 0).flatten(0, 1)


def _gate(x: Tensor) -> Tensor:
    """tanh(a) sigmoid(b), a and b the halves of the channels."""
    a, b = x.chunk(2, 1)
    return a.tanh() * b.sigmoid()


class _GatedLayer(nn.Module):
    """One layer of both stacks: (above, left) -> (above, left, skip), (B, inputs, H, W) to (B, channels, H, W) each.

    ``above``, the vertical stack, sees a pixel's row and those above it; ``left``, the horizontal one, what is to the left
    of the pixel and, by way of the vertical stack of the row above, all rows above.
    """

    def __init__(self, inputs: int, channels: int, colors: int, kernel: int, context: int, first: bool, last: bool):
        super().__init__()
        self.reach = kernel // 2
        self.above = nn.Conv2d(inputs, 2 * channels, (self.reach + 1, kernel))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.left = MaskedConv2d(inputs, 2 * channels, colors, self.reach + 1, strict=first)
        # The first layer's inputs see the pixel itself and go no further; of the last, only ``skip`` is asked for.
        self.residual = None if first or last else MaskedConv2d(channels, channels, colors)
        self.skip = MaskedConv2d(channels, channels, colors)
        self.context = nn.Linear(context, 4 * channels, bias=False) if context > 0 else None

    def shifts(self, context: Tensor | None) -> tuple[Tensor | float, Tensor | float]:
        """What the context adds to the gates of the two stacks, (B, 2 channels, 1, 1) each, (B, K) given."""
        if self.context is None:
            return 0.0, 0.0
        above, left = self.context(context)[..., None, None].chunk(2, 1)
        return above, left

    def rows(self, x: Tensor, shift: Tensor | float) -> tuple[Tensor, Tensor]:
        """The vertical stack of H rows, ``x`` having ``reach`` more above them, and what the rows below get of it.

        (B, inputs, reach + H, W) -> (B, channels, H, W), (B, 2 channels, H, W).
        """
        features = self.above(pad(x, (self.reach, self.reach, 0, 0)))
        return _gate(features + shift), self.link(features)

    def forward(self, above: Tensor, left: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, inputs, H, W) twice and (B, K) -> (B, channels, H, W) three times."""
        shift_above, shift_left = self.shifts(context)
        above, linked = self.rows(pad(above, (0, 0, self.reach, 0)), shift_above)
        out = _gate(self.left(left) + pad(linked, (0, 0, 1, -1)) + shift_left)
        return above, out if self.residual is None else left + self.residual(out), self.skip(out)


class GatedPixelCNN(nn.Module):
    r"""Creates a gated PixelCNN: its outputs at a pixel depend on the pixels before it, and on its own earlier colors.

    Pixels are in the order of their rows, top to bottom and left to right; the colors of a pixel follow one another. A
    vertical stack of convolutions sees the rows above, a horizontal one what is to the left, and there is no blind spot:
    a deep enough network sees every pixel before. A context shifts all gates.

    Shapes: x (B, C, H, W), context (B, K), outputs (B, P, C, H, W).

    Arguments:
        shape: (C, H, W).
        outputs: The number of outputs of each value, P.
        layers: The number of gated layers.
        channels: Channels of each stack; rounded up to a multiple of C, since each is of one color.
        head: Channels between the gated layers and the outputs.
        kernel: The odd size of the convolutions.
        first_kernel: The same of the first layer.
        context_features: The number of features of a context that every output may depend on, K; 0 for none.

    Raises:
        ZooError: if a size is not positive, a kernel is even, or a context is missing.

    References:
        | Conditional Image Generation with PixelCNN Decoders (van den Oord et al., 2016)
        | https://arxiv.org/abs/1606.05328

    Example:
        >>> net = GatedPixelCNN((1, 8, 8), outputs=2, layers=3, channels=8)
        >>> net(torch.randn(4, 1, 8, 8)).shape
        torch.Size([4, 2, 1, 8, 8])
        >>> jacobian = torch.func.jacrev(lambda x: net(x.view(1, 1, 8, 8)).flatten(2).sum(1))(torch.randn(64))[0]
        >>> torch.equal(jacobian, jacobian.tril(-1))
        True
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        outputs: int,
        layers: int = 5,
        channels: int = 32,
        head: int = 32,
        kernel: int = 3,
        first_kernel: int = 7,
        context_features: int = 0,
    ) -> None:
        super().__init__()
        colors, _, _ = self.shape = shape
        sizes = {"outputs": outputs, "layers": layers, "channels": channels, "head": head}
        if wrong := [f"{name} {size}" for name, size in sizes.items() if size < 1]:
            raise ZooError(f"{wrong[0]}: 1 or more is needed")
        for name, size in {"kernel": kernel, "first_kernel": first_kernel}.items():
            if size < 3 or size % 2 == 0:
                raise ZooError(f"{name} {size}: an odd number is needed, 3 or more")
        self.outputs = outputs
        channels = -(-channels // colors) * colors
        self.layers = module_list(
            _GatedLayer(
                colors if place == 0 else channels,
                channels,
                colors,
                first_kernel if place == 0 else kernel,
                context_features,
                first=place == 0,
                last=place == layers - 1,
            )
            for place in range(layers)
        )
        self.hidden = MaskedConv2d(channels, head, colors)
        self.output = MaskedConv2d(head, outputs * colors, colors)

    def _check(self, context: Tensor | None) -> None:
        if (wanted := self.layers[0].context) is not None and context is None:
            raise ZooError(f"a context of {wanted.in_features} features is needed, none was given")

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(B, C, H, W), (B, K) -> (B, P, C, H, W)."""
        self._check(context)
        above, left, skips = x, x, []
        for layer in self.layers:
            above, left, skip = layer(above, left, context)
            skips.append(skip)
        hidden = self.hidden(torch.stack(skips).sum(0).relu()).relu()
        return self.output(hidden).unflatten(1, (self.outputs, self.shape[0]))

    @torch.no_grad()
    def ancestral(self, draw: Callable[[Tensor], Tensor], n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """x whose values are draw(their outputs given those before them), for about the work of one pass in all.

        What the layers computed is kept. A pixel costs one position of the horizontal stack, of which no earlier one is
        computed again, and a row one row of the vertical stack.

        Arguments:
            draw: A function of the outputs (n, P) of a value, which gives the n values.
            n: The number of examples.
            context: (n, K).

        Returns:
            x (n, C, H, W), and the outputs at x, (n, P, C, H, W), as ``forward`` gives them.

        Example:
            >>> net = GatedPixelCNN((1, 5, 4), outputs=1, layers=2, channels=8)
            >>> x, means = net.ancestral(lambda mean: mean[:, 0] + torch.randn(8), 8)
            >>> torch.allclose(net(x), means, atol=1e-5)
            True
        """
        self._check(context)
        colors, height, breadth = self.shape
        x = self.output.weight.new_zeros(n, colors, height, breadth)
        outputs = x.new_zeros(n, self.outputs, colors, height, breadth)
        stack = _Sampler(self, n, context)
        for row in range(height):
            stack.begin_row(x[:, :, row - 1] if row else None)
            for column in range(breadth):
                for color in range(colors):
                    outputs[:, :, color, row, column] = found = stack.outputs_at(column, color)
                    x[:, color, row, column] = value = draw(found)
                    stack.left[0][:, column + stack.reaches[0], color] = value
        return x, outputs


class _Sampler:
    """What of the layers of a network is known while pixels are drawn: rows above, and this row to the left of a pixel."""

    def __init__(self, net: GatedPixelCNN, n: int, context: Tensor | None) -> None:
        self.layers, self.reaches = list(net.layers), [layer.reach for layer in net.layers]
        self.colors, _, self.breadth = net.shape
        self.inputs = [layer.above.in_channels for layer in self.layers]
        weight = net.output.weight
        # Of each layer's inputs the rows that the next row's vertical stack sees, and this row with zeros to its left.
        sizes = list(zip(self.inputs, self.reaches, strict=True))
        self.above = [weight.new_zeros(n, inputs, reach + 1, self.breadth) for inputs, reach in sizes]
        self.left = [weight.new_zeros(n, reach + self.breadth, inputs) for inputs, reach in sizes]
        self.shifts = [layer.shifts(context) for layer in self.layers]
        self.matrices = [layer.left.matrix() for layer in self.layers]
        self.after = [_joined([layer.residual, layer.skip]) for layer in self.layers]
        self.head = [(conv.matrix(), conv.bias) for conv in (net.hidden, net.output)]
        self.gates: list[Tensor] = []  # of each layer, the gates of the row but for what is to the left: (W, n, 2 channels)

    def begin_row(self, before: Tensor | None) -> None:
        """Compute what the vertical stack tells a row, from the row above it, (n, C, W); None above the first."""
        self.gates = []
        for place, layer in enumerate(self.layers):
            shift_above, shift_left = self.shifts[place]
            gates = layer.left.bias[None, :, None, None] + shift_left  # (n or 1, 2 channels, 1, 1)
            if before is not None:
                rows = self.above[place]
                self.above[place] = rows = torch.cat((rows[:, :, 1:], before.unsqueeze(2)), 2)
                out, linked = layer.rows(rows, shift_above)
                before, gates = out[:, :, 0], gates + linked
            shape = (len(self.left[0]), -1, 1, self.breadth)
            self.gates.append(gates.expand(shape)[:, :, 0].permute(2, 0, 1).contiguous())
            self.left[place].zero_()

    def outputs_at(self, column: int, color: int) -> Tensor:
        """The outputs (n, P) of a color of the pixel in a column of the row."""
        skips = []
        for place, (matrix, (weight, bias)) in enumerate(zip(self.matrices, self.after, strict=True)):
            inputs, reach, left = self.inputs[place], self.reaches[place], self.left[place]
            window = left.flatten(1)[:, column * inputs : (column + reach + 1) * inputs]  # (n, (reach + 1) inputs)
            out = _gate(torch.addmm(self.gates[place][column], window, matrix))
            residual, skip = torch.addmm(bias, out, weight).tensor_split([weight.shape[1] - out.shape[1]], 1)
            skips.append(skip)
            if place + 1 < len(self.layers):
                here = left[:, column + reach] + residual if self.layers[place].residual is not None else out
                self.left[place + 1][:, column + self.reaches[place + 1]] = here
        hidden = torch.stack(skips).sum(0)
        for matrix, bias in self.head:
            hidden = torch.addmm(bias, hidden.relu(), matrix)
        return hidden.unflatten(1, (-1, self.colors))[:, :, color]


def _joined(convolutions: list[MaskedConv2d | None]) -> tuple[Tensor, Tensor]:
    """The matrix and bias of convolutions of one pixel side by side."""
    found = [each for each in convolutions if each is not None]
    return torch.cat([each.matrix() for each in found], 1), torch.cat([each.bias for each in found])
