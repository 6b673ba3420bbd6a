"""The frame of every data set: a spec, three fixed splits, and loaders that work on the training device."""

import inspect
import os
from abc import ABC, abstractmethod
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.parsing import collect_init_args

from datamodules.loader import Arrays, EvalLoader, TrainLoader
from zoo.errors import ZooError
from zoo.spec import Batch, DataSpec

__all__ = ["DataModule"]


class DataModule(LightningDataModule, ABC):
    """A data set that says what it is (:attr:`spec`) and loads its splits (:meth:`load`); loaders come from here.

    Arguments:
        batch_size: Training examples per batch and process.
        eval_batch_size: The same for validation and test; four times ``batch_size`` if not given.
        seed: Seed of shuffling and noise; the run's ``--seed_everything`` if not given. Splits do not depend on it.
        on_device: Keep the whole data set on the training device, in its compact form. Turn off where it doesn't fit.

    Attributes:
        init_args: What the constructor was given, by name: the same class and these make the same data again.
    """

    def __init__(
        self,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        super().__init__()
        frame = inspect.currentframe()
        self.init_args: dict[str, Any] = collect_init_args(frame, [], classes=(DataModule,))[-1] if frame else {}
        if batch_size < 1:
            raise ZooError(f"batch_size {batch_size}: 1 or more is needed")
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or 4 * batch_size
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        if self.seed < 0:
            raise ZooError(f"seed {self.seed}: 0 or more is needed")
        self.on_device = on_device
        self.splits: dict[str, Arrays] = {}

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """What models must know of the data; known before anything is loaded."""

    @abstractmethod
    def load(self) -> dict[str, Arrays]:
        """The splits ``train``, ``val`` and ``test``."""

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once."""
        if not self.splits:
            self.splits = self.load()

    def train_dataloader(self) -> TrainLoader:
        """Shuffled batches of the training split, without end (see :class:`TrainLoader`)."""
        return TrainLoader(self._placed("train"), self.batch_size, self.seed, *self._place())

    def val_dataloader(self) -> EvalLoader:
        """Each validation example once."""
        return EvalLoader(self._placed("val"), self.eval_batch_size, self.seed, *self._place())

    def test_dataloader(self) -> EvalLoader:
        """Each test example once."""
        return EvalLoader(self._placed("test"), self.eval_batch_size, self.seed, *self._place())

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch itself where it was made on the device: Lightning would look through it for tensors to move."""
        return batch if batch.x.device == device else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _placed(self, split: str) -> Arrays:
        self.setup()
        device = self.trainer.strategy.root_device if self.trainer and self.on_device else torch.device("cpu")
        try:
            return self.splits[split].to(device)
        except torch.OutOfMemoryError:
            raise ZooError(f"the {split} split does not fit on {device}: add --data.on_device false.") from None
