"""Masked network: one pass gives the parameters of every dimension from those before it in an order."""

from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from zoo.errors import ZooError
from zoo.nets.module_list import module_list

__all__ = ["MADE", "MADEOptions", "MaskedLinear"]


class MaskedLinear(nn.Linear):
    """Creates a linear layer y = (W ∘ M)x + b with a fixed binary mask M.

    Arguments:
        mask: The mask, a boolean (outputs, inputs) matrix.

    References:
        | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015)
        | https://arxiv.org/abs/1502.03509

    Example:
        >>> layer = MaskedLinear(torch.tensor([[True, False]]))
        >>> torch.equal(layer(torch.tensor([[1.0, 2.0]])), layer(torch.tensor([[1.0, 3.0]])))
        True
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        outputs, inputs = mask.shape
        super().__init__(inputs, outputs)
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return linear(x, self.weight * self.mask, self.bias)


class MADEOptions(TypedDict, total=False):
    """The options of a :class:`MADE` that flows made of them pass on."""

    hidden: Sequence[int]
    order: Sequence[int] | Tensor | None
    activation: Callable[[Tensor], Tensor]


class MADE(nn.Module):
    r"""Creates a masked multilayer perceptron: the outputs of dimension i depend on the x_j before i in an order alone.

    Inputs have degrees 1, ..., d in the order, hidden units degrees 1, ..., d-1 in turn; a hidden unit sees units of
    its degree or less, an output only those of a strictly smaller degree. With a context there are hidden units of
    degree 0 too: they see the context alone and carry it to the first dimension.

    Shapes: x (..., d), context (B, c), outputs (..., d, P).

    Arguments:
        features: The number of dimensions, d.
        outputs: The number of outputs of each dimension, P.
        hidden: The numbers of units of the hidden layers.
        context_features: The number of features of a context that every output may depend on; 0 for none.
        order: The place of each dimension in the order; 0, ..., d-1 if None.
        activation: The activation, a function of a tensor.

    Raises:
        ZooError: if ``order`` is not a permutation, there is no hidden layer, or a context is missing.

    References:
        | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015)
        | https://arxiv.org/abs/1502.03509

    Example:
        >>> net = MADE(3, outputs=2, hidden=(16, 16))
        >>> net(torch.randn(8, 3)).shape
        torch.Size([8, 3, 2])
        >>> jacobian = torch.func.jacrev(net)(torch.randn(3)).abs().sum(1)
        >>> torch.equal(jacobian, jacobian.tril(-1))
        True
    """

    order: Tensor
    ranked: Tensor

    def __init__(
        self,
        features: int,
        outputs: int = 2,
        hidden: Sequence[int] = (256, 256),
        context_features: int = 0,
        order: Sequence[int] | Tensor | None = None,
        activation: Callable[[Tensor], Tensor] = torch.relu,
    ) -> None:
        super().__init__()
        order = torch.arange(features) if order is None else torch.as_tensor(order)
        if sorted(order.tolist()) != list(range(features)):
            raise ZooError(f"order {order.tolist()}: each of 0, ..., {features - 1} is needed exactly once")
        if not hidden:
            raise ZooError("hidden=(): at least one hidden layer is needed")
        self.features, self.outputs = features, outputs
        self.register_buffer("order", order)
        self.register_buffer("ranked", order.argsort(), persistent=False)  # the dimension at each place of the order
        self._ranked: list[int] = self.ranked.tolist()  # the same, readable without waiting for the device
        self.register_load_state_dict_post_hook(_rank_anew)

        for sizes in pairwise((features, *hidden, features * outputs)):
            nn.Linear(*sizes, device="meta")  # whoever counts weights (zoo.load) hears of them before masks take memory
        lowest = 0 if context_features > 0 or features == 1 else 1
        degrees = [torch.arange(1, features + 1)]
        for width in hidden:
            places = max(features - lowest, 1)
            if width >= places:
                degree = lowest + torch.arange(width) % places
            else:
                degree = torch.linspace(lowest, features - 1, width).round().long()
            # Sorted, the units of one degree are neighbors: ``ancestral`` reads slices of the weights.
            degrees.append(degree.sort().values)
        masks = [after[:, None] >= before for before, after in pairwise(degrees)]
        self.layers = module_list(MaskedLinear(mask) for mask in masks)
        last = torch.arange(1, features + 1).repeat_interleave(outputs)
        self.output = MaskedLinear(last[:, None] > degrees[-1])
        self.activation = activation
        self.context = nn.Linear(context_features, hidden[0], bias=False) if context_features > 0 else None
        # Of each hidden layer, how many units have each degree 0, ..., d-1.
        self._counts = [torch.bincount(degree, minlength=features).tolist() for degree in degrees[1:]]

    def _check(self, context: Tensor | None) -> None:
        if self.context is not None and context is None:
            raise ZooError(f"a context of {self.context.in_features} features is needed, none was given")

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """(..., d), (B, c) -> (..., d, P)."""
        self._check(context)
        first, *others = self.layers
        hidden = first(x.index_select(-1, self.ranked))  # (..., width)
        if self.context is not None:
            hidden = hidden + self.context(context)
        for layer in others:
            hidden = layer(self.activation(hidden))
        out = self.output(self.activation(hidden)).unflatten(-1, (self.features, self.outputs))
        return out.index_select(-2, self.order)  # (..., d, P)

    def ancestral(
        self, draw: Callable[[int, Tensor], Tensor], shape: Sequence[int], context: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """x with x_i = draw(i, parameters of x_i given those before it), all dimensions for the work of one pass.

        Dimensions are drawn one after another. A hidden unit of degree k depends on the first k of them alone, so it is
        computed once, when these are known, and not again in each of d passes.

        Arguments:
            draw: A function of a dimension i and its outputs (N, P), which gives the N values of x_i.
            shape: The leading shape of x; N is the number of its elements.
            context: The context, (B, c), where B is the last of ``shape``.

        Returns:
            x (*shape, d) and the outputs at x, (*shape, d, P), as ``forward`` gives them.

        Example:
            >>> net = MADE(3, outputs=1)
            >>> x, means = net.ancestral(lambda i, mean: mean.squeeze(-1) + torch.randn(8), (8,))
            >>> torch.allclose(net(x), means, atol=1e-5)
            True
        """
        self._check(context)
        known = self._constants(shape, context)  # (c + 1, N)
        ones = known[-1:]
        # Units stand in rows and examples in columns: the units of one degree are one block of memory. Of x and of each
        # hidden layer a table holds what is known so far; the rest is 0, which does the work of the masks.
        tables = [_Table([1] * self.features, known), *(_Table(counts, ones) for counts in self._counts)]
        weights = [[layer.weight, layer.bias.unsqueeze(-1)] for layer in (*self.layers, self.output)]
        if self.context is not None:
            weights[0].insert(1, self.context.weight)
        *whole, heads = (torch.cat(parts, dim=1) for parts in weights)
        blocks = [block.split(counts) for block, counts in zip(whole, self._counts, strict=True)]
        levels = list(zip(blocks, self._counts, tables[:-1], tables[1:], strict=True))
        activation, by_place = self.activation, []
        for place, head in enumerate(heads.split(self.outputs)):
            for block, counts, below, table in levels:
                if counts[place]:
                    table.write(place, activation(block[place] @ below.rows))
            by_place.append(head @ tables[-1].rows)  # (P, N)
            tables[0].write(place, draw(self._ranked[place], by_place[-1].T))
        x = tables[0].rows[self.order].T  # (N, d)
        parameters = torch.stack(by_place)[self.order].permute(2, 0, 1)  # (N, d, P)
        return x.reshape(*shape, self.features), parameters.reshape(*shape, self.features, self.outputs)

    def _constants(self, shape: Sequence[int], context: Tensor | None) -> Tensor:
        """What the first layer sees beside x: the context of each of the N examples, and a 1, the input of the bias."""
        ones = self.output.weight.new_ones(1, torch.Size(shape).numel())
        if self.context is None or context is None:
            return ones
        return torch.cat((context.expand(*shape, -1).reshape(ones.shape[1], -1).T, ones))


def _rank_anew(net: MADE, incompatible: Any) -> None:
    """After a state is loaded: what follows from its order."""
    net.ranked = net.order.argsort()
    net._ranked = net.ranked.tolist()


class _Table:
    """Rows that become known a block at a time, in place, or in a copy where autograd must keep each version."""

    def __init__(self, counts: Sequence[int], constants: Tensor) -> None:
        self.counts, self.ends = counts, list(accumulate(counts))
        self.rows = torch.cat((constants.new_zeros(sum(counts), constants.shape[1]), constants))
        self.blocks = self.rows[: sum(counts)].split(counts)

    def write(self, place: int, block: Tensor) -> None:
        if torch.is_grad_enabled():
            start, end = self.ends[place] - self.counts[place], self.ends[place]
            self.rows = self.rows.slice_scatter(block.view(end - start, -1), 0, start, end)
        else:
            self.blocks[place].copy_(block)
