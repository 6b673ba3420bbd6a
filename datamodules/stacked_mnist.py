"""Stacked MNIST: three random digits of MNIST as the channels of one image, 1,000 known modes."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from datamodules.base import DataModule
from datamodules.loader import Arrays
from datamodules.mnist import MNIST
from zoo.spec import Batch, DataSpec

__all__ = ["StackedMNIST"]

_CHANNELS = 3
_HELD_OUT = 26_000  # stacks of each held-out split: as many as scores of mode coverage take


class StackedMNIST(DataModule):
    """Images of three channels, each a digit of MNIST, with the three-digit number that they show as their label, 0 to 999.

    Splits: those of :class:`MNIST`, so that none shares a digit with another. An epoch of training has 50,000 stacks: each
    training digit is the first channel of one, and the other two are drawn afresh for each batch, by the seed, the epoch and
    the place in it. Validation and test have 26,000 stacks each, drawn once for all.

    Arguments:
        root: Folder where MNIST's files are, or will be downloaded to.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Attributes:
        channels: The data of each channel, MNIST itself, whose classifier tells which mode a sample is of.

    Raises:
        ZooError: where files are missing and can't be downloaded, are damaged, or hold something else.

    References:
        | Unrolled Generative Adversarial Networks (Metz et al., 2017)
        | https://arxiv.org/abs/1611.02163
    """

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        super().__init__(batch_size, eval_batch_size, seed, on_device)
        self.channels = MNIST(root, seed=self.seed)

    @property
    def root(self) -> Path:
        """Where the files are."""
        return self.channels.root

    @property
    def spec(self) -> DataSpec:
        """28x28 pictures of three channels and 256 levels."""
        return DataSpec("stacked_mnist", (_CHANNELS, 28, 28), levels=256)

    def prepare_data(self) -> None:
        """Download what is not there."""
        self.channels.prepare_data()

    def load(self) -> dict[str, Arrays]:
        """The three splits; only training is drawn anew."""
        self.channels.setup()
        draw = np.random.RandomState(0)  # NumPy promises never to change this stream
        parts = {name: Stacks(split.x, label=split.label) for name, split in self.channels.splits.items()}
        held_out = {}
        for name in ("val", "test"):
            index = torch.from_numpy(draw.randint(0, len(parts[name]), (_HELD_OUT, _CHANNELS)))
            x, _, label = parts[name].stack(index)
            held_out[name] = Arrays(x, label=label)
        return {"train": parts["train"], **held_out}


class Stacks(Arrays):
    """Images (N, 1, H, W) with labels 0 .. 9; each is the first channel of an example, and random ones are the others."""

    @property
    def random(self) -> bool:
        """They are drawn."""
        return True

    def take(self, index: Tensor, generator: Callable[[], Generator]) -> Batch:
        """The stacks whose first channels are the images at ``index`` (B,)."""
        others = (len(index), _CHANNELS - 1)
        drawn = torch.randint(len(self), others, generator=generator(), device=self.device)
        return self.stack(torch.cat([index[:, None], drawn], dim=1))

    def stack(self, index: Tensor) -> Batch:
        """The stacks of the images at ``index`` (B, 3)."""
        assert self.label is not None
        places = torch.tensor([100, 10, 1], device=self.device)
        return Batch(self.x[index].squeeze(2), label=(self.label[index].long() * places).sum(dim=1))
