"""Parameters of a transform: one set per example, from its context, or one set for all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from zoo.errors import ZooError

__all__ = ["AmortizedParameters"]


class AmortizedParameters(nn.Module):
    """Creates the parameters of a transform: one set per example, linear in its context, or one learned set for all.

    Shapes: a context (B, c) gives tensors (B, size), one for each of ``sizes``; without context features, (size,).
    At the start all examples have nearly the same parameters, drawn from N(0, scale²).

    Arguments:
        sizes: The number of values of each parameter.
        context_features: The number of features of the context, c; 0 for learned parameters.
        scale: The standard deviation of the parameters at the start.

    Raises:
        ZooError: if there are context features and no context is given.

    References:
        | Sylvester Normalizing Flows for Variational Inference (van den Berg et al., 2018), section 4
        | https://arxiv.org/abs/1803.05649

    Example:
        >>> w, b = AmortizedParameters([5, 1], context_features=8)(torch.randn(32, 8))
        >>> w.shape, b.shape
        (torch.Size([32, 5]), torch.Size([32, 1]))
    """

    weight: nn.Parameter | None

    def __init__(self, sizes: Sequence[int], context_features: int = 0, scale: float = 0.1) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.bias = nn.Parameter(scale * torch.randn(sum(sizes)))
        if context_features > 0:
            spread = 0.1 * scale / context_features**0.5
            self.weight = nn.Parameter(spread * torch.randn(sum(sizes), context_features))
        else:
            self.register_parameter("weight", None)

    def forward(self, context: Tensor | None = None) -> tuple[Tensor, ...]:
        """The parameters, (B, size) each for a context (B, c), and (size,) without context features."""
        if self.weight is None:
            return self.bias.split(self.sizes)
        if context is None:
            raise ZooError(f"a context of {self.weight.shape[1]} features per example is needed, none was given")
        return nn.functional.linear(context, self.weight, self.bias).split(self.sizes, dim=-1)
