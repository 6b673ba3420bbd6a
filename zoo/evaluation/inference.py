"""How a model is asked while it is evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from zoo.metrics.disentanglement.factor_sampling import seeded

__all__ = ["inference"]


@contextmanager
def inference(model: nn.Module, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients, and random numbers of the seed's own; afterwards all three are as they were.

    Example:
        >>> model = nn.Dropout()
        >>> with inference(model, seed=3):
        ...     model.training, torch.is_grad_enabled()
        (False, False)
        >>> model.training
        True
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), seeded(seed):
            yield
    finally:
        for module, mode in modes:
            module.training = mode
