"""Multilayer perceptrons."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import Tensor, nn

__all__ = ["GatedLinear", "gated_mlp", "mlp"]


def mlp(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes, (B, sizes[0]) -> (B, sizes[-1]), with an activation between every two.

    Example:
        >>> mlp((2, 16, 1))
        Sequential(
          (0): Linear(in_features=2, out_features=16, bias=True)
          (1): ReLU()
          (2): Linear(in_features=16, out_features=1, bias=True)
        )
    """
    layers = [layer for pair in pairwise(sizes) for layer in (nn.Linear(*pair), activation())]
    return nn.Sequential(*layers[:-1])


class GatedLinear(nn.Module):
    r"""A linear layer times a gate of its own, :math:`(A x + a) \odot \sigma(B x + b)`.

    Arguments:
        inputs: The size of x.
        outputs: That of the result.

    References:
        | Language Modeling with Gated Convolutional Networks (Dauphin et al., 2017)
        | https://arxiv.org/abs/1612.08083
    """

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.linear = nn.Linear(inputs, 2 * outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs) -> (B, outputs)."""
        return nn.functional.glu(self.linear(x), dim=-1)


def gated_mlp(sizes: Sequence[int]) -> nn.Sequential:
    """Gated layers of the given sizes, (B, sizes[0]) -> (B, sizes[-1]).

    Example:
        >>> [tuple(layer.linear.weight.shape) for layer in gated_mlp((2, 16, 1))]
        [(32, 2), (2, 16)]
    """
    return nn.Sequential(*(GatedLinear(*pair) for pair in pairwise(sizes)))
