"""How a model is asked while it is evaluated."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from zoo.metrics.disentanglement.factor_sampling import seeded
from zoo.spec import Batch

__all__ = ["first_test_examples", "inference", "whole_test_split"]


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


def whole_test_split(data: LightningDataModule) -> Collection[Batch]:
    """The test batches as one process has them, in each process: those of the data's own loaders hold its share only."""
    loader = data.test_dataloader()
    return loader.whole() if hasattr(loader, "whole") else loader


def first_test_examples(data: LightningDataModule, n: int) -> Tensor:
    """The first n test examples (n, *shape), from as many batches as hold them; all where there are fewer."""
    found: list[Tensor] = []
    for batch in whole_test_split(data):
        found.append(batch.x)
        if sum(map(len, found)) >= n:
            break
    return torch.cat(found)[:n]
