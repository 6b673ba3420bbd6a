"""The frame of every data set: a spec, three fixed splits, and loaders that work on the training device."""

import inspect
import os
from abc import ABC, abstractmethod
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.parsing import collect_init_args
from torch import Generator

from datamodules.loader import Arrays, EvalLoader, Position, TrainLoader
from zoo.data_check import check_classes, check_examples
from zoo.errors import ZooError
from zoo.options import check_given, options_of, require_at_least
from zoo.resuming import Resumption
from zoo.spec import Batch, DataSpec

__all__ = ["DataModule"]

_TRANSFORMED = 64  # examples of a split that pass its transform, to be looked at

PLACE = ("epoch", "examples", "of")  # the epoch, the examples of it that are behind, the examples of an epoch


class DataModule(LightningDataModule, ABC):
    """A data set that says what it is (:attr:`spec`) and loads its splits (:meth:`load`); loaders come from here.

    Arguments:
        batch_size: Training examples per batch and process.
        eval_batch_size: Examples per batch of validation and test, of all processes together; four times ``batch_size`` if
            not given.
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
        given = collect_init_args(frame, [], classes=(DataModule,))[-1] if frame else {}
        paths = {name: os.fspath(value) for name, value in given.items() if isinstance(value, os.PathLike)}
        self.init_args: dict[str, Any] = {**given, **paths}
        check_given(self.init_args, options_of(type(self)), type(self).__name__)
        require_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size or 4 * batch_size
        self.seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
        if self.seed < 0:
            raise ZooError(f"seed {self.seed}: 0 or more is needed")
        self.on_device = on_device
        self.splits: dict[str, Arrays] = {}
        self._start, self._examples = Position(), 0

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """What models must know of the data; known before anything is loaded."""

    @abstractmethod
    def load(self) -> dict[str, Arrays]:
        """The splits ``train``, ``val`` and ``test``."""

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, once; a training starts at the stream's beginning, unless :meth:`load_state_dict` follows.

        Raises:
            ZooError: if the examples, factors or labels of a split are not what :attr:`spec` says.
        """
        if not self.splits:
            splits = self.load()
            for split, source in splits.items():
                _check(source, self.spec, f"the {split} split")
            self.splits = splits
        if stage == "fit":
            self._start = Position()
            if self.trainer is not None:
                Resumption.attach(self.trainer)

    def state_dict(self) -> dict[str, Any]:
        """Where the stream of training examples is; Lightning stores it in every checkpoint.

        It is counted in examples, so that a run goes on with the very next one whatever the batch size and the number of
        processes are then. Where a subclass gives training loaders of another kind, it is the seed alone.
        """
        loader = None if self.trainer is None else self.trainer.train_dataloader
        if loader is None:
            (epoch, examples), of = self._start, self._examples
        elif isinstance(loader, TrainLoader):
            (epoch, examples), of = loader.position, len(loader.source)
        else:
            return {"seed": self.seed}
        return {"seed": self.seed, **dict(zip(PLACE, (epoch, examples, of), strict=True))}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training go on at a stored place, in the order and with the noise of the stored seed."""
        seed, epoch, examples, of = numbers = [state_dict.get("seed", -1), *(state_dict.get(n, 0) for n in PLACE)]
        if not all(isinstance(number, int) and number >= 0 for number in numbers) or examples > of:
            raise ZooError(f"the checkpoint's place in the data can't be understood: {state_dict}")
        self.seed, self._start, self._examples = seed, Position(epoch, examples), of

    def train_dataloader(self) -> TrainLoader:
        """Shuffled epochs of the training split (see :class:`TrainLoader`)."""
        source, start = self._placed("train"), self._start
        if start.examples and len(source) != self._examples:
            if start.examples < self._examples:
                raise ZooError(
                    f"the checkpoint is {start.examples} examples into an epoch of {self._examples}, and the data have "
                    f"{len(source)}: give the run's own data, or a checkpoint written at the end of an epoch."
                )
            start = Position(start.epoch + 1)
        return TrainLoader(source, self.batch_size, self.seed, *self._place(), start, self.trainer)

    def val_dataloader(self) -> EvalLoader:
        """Each validation example once."""
        return EvalLoader(self._placed("val"), self.eval_batch_size, self.seed, *self._place())

    def test_dataloader(self) -> EvalLoader:
        """Each test example once."""
        return EvalLoader(self._placed("test"), self.eval_batch_size, self.seed, *self._place())

    def predict_dataloader(self) -> EvalLoader:
        """That of the test split: what ``Trainer.predict`` goes through."""
        return self.test_dataloader()

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """The batch itself where it was made on the device: Lightning would look through it for tensors to move."""
        if batch.x.device == device:
            return batch
        if device.type == "cuda":  # from pinned memory the copy doesn't wait for the device
            factors, label = (t if t is None else t.pin_memory() for t in (batch.factors, batch.label))
            batch = Batch(batch.x.pin_memory(), factors, label)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _place(self) -> tuple[int, int]:
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _placed(self, split: str) -> Arrays:
        self.setup()
        device = self.trainer.strategy.root_device if self.trainer and self.on_device else torch.device("cpu")
        try:
            return self.splits[split].to(device)
        except torch.OutOfMemoryError:
            raise ZooError(f"the {split} split does not fit on {device}: add --data.on_device false.") from None


def _check(source: Arrays, spec: DataSpec, where: str) -> None:
    """Every example as it is stored, or where it is drawn, the first ones as they become."""
    x = source.x
    if source.random:
        first = torch.arange(min(len(source), _TRANSFORMED), device=source.device)
        x = source.take(first, lambda: Generator(source.device).manual_seed(0)).x
    check_examples(x, spec, where)
    check_classes(source.factors, source.label, len(source), spec, where)
