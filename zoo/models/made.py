"""MADE: a masked multilayer perceptron as an autoregressive model of data with levels."""

from typing import Any, Literal

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.models.autoregressive import AutoregressiveModel
from zoo.nets import made
from zoo.options import MOST_UNITS, require_between
from zoo.spec import DataSpec

__all__ = ["MADE"]


class MADE(AutoregressiveModel):
    r"""Maximizes log p(x) = Σᵢ log p(x_i | x_<i), exact, all factors by one pass of a masked multilayer perceptron.

    Images are read as vectors. The order of their dimensions is that of the rows, or a random one. Logged: nll and
    bits_per_dim; with classes conditional_nll = -log p(x|y).

    Arguments:
        spec: The data's description; the command line fills it in.
        hidden: Units of the hidden layer, or a list of those of several.
        order: ``natural``, dimensions as they are numbered (images row by row, channel by channel), or ``random``.
        order_seed: Which random order.
        options: Those of :class:`~zoo.models.autoregressive.AutoregressiveModel`: ``likelihood``, ``likelihood_options``,
            ``classes``, ``lr``, ``lr_decay``.

    References:
        | MADE: Masked Autoencoder for Distribution Estimation (Germain et al., 2015)
        | https://arxiv.org/abs/1502.03509
    """

    def __init__(
        self,
        spec: DataSpec | dict,
        hidden: int | list[int] = 512,
        order: Literal["natural", "random"] = "natural",
        order_seed: int = 0,
        **options: Any,
    ):
        super().__init__(spec, **options)
        if order not in ("natural", "random"):
            raise ZooError(f"order {order!r} is not known; there are natural, random")
        widths = [hidden] if isinstance(hidden, int) else list(hidden)
        if not widths:
            raise ZooError("hidden []: one hidden layer or more is needed")
        for width in widths:
            require_between(1, MOST_UNITS, hidden=width)
        require_between(0, 2**63 - 1, order_seed=order_seed)
        dims, generator = self.spec.dims, torch.Generator().manual_seed(order_seed)
        self.net = made.MADE(
            dims,
            self.likelihood.outputs,
            widths,
            context_features=self.classes or 0,
            order=torch.arange(dims) if order == "natural" else torch.randperm(dims, generator=generator),
        )

    @property
    def ranked(self) -> Tensor:
        """The dimension at each place of the order."""
        return self.net.ranked

    def parameters_of(self, x: Tensor, context: Tensor | None) -> Tensor:
        """(B, *shape), (B, K) -> (B, outputs, *shape)."""
        return self.net(x.flatten(1), context).mT.unflatten(2, self.spec.shape)

    def ancestral(self, n: int, context: Tensor | None) -> Tensor:
        """Draws all values for the work of one pass, (n, *shape); context (n, K)."""
        x, _ = self.net.ancestral(lambda i, parameters: self.draw(parameters), (n,), context)
        return x.view(n, *self.spec.shape)
