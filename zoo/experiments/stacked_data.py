"""The data of models that are trained as one: every member's examples, in the order and with the noise of its own seed."""

from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor

from zoo.experiments.members import Member
from zoo.resuming import Resumption
from zoo.spec import Batch

__all__ = ["HeldOutBatches", "StackedData", "parts", "why_not_data"]


def why_not_data(data: Sequence[LightningDataModule]) -> str | None:
    """Why these can't be the data of models that are trained as one, in a line; None where they can."""
    kind = type(data[0])
    if any(not hasattr(each, "splits") or not hasattr(each, "init_args") for each in data):
        return (
            f"models that are trained as one share examples, which {kind.__name__}, no DataModule of the zoo, does not tell"
        )
    told = [{name: value for name, value in vars(each)["init_args"].items() if name != "seed"} for each in data]
    if any(type(each) is not kind for each in data) or any(each != told[0] for each in told):
        return "models that are trained as one have one data set, and these differ in more than their seed"
    return None


class HeldOutBatches:
    """A validation batch of each member; one for all where their noise does not differ.

    Arguments:
        batches: The members'.
    """

    def __init__(self, batches: Sequence[Batch]):
        self.batches = list(batches)


def parts(value: Any, members: int) -> Sequence[Any]:
    """Each member's part of what a Trainer gives to callbacks: of batches, and of a step's losses."""
    if isinstance(value, HeldOutBatches):
        return value.batches
    if isinstance(value, Batch):
        fields = ([None] * members if each is None else each.unbind() for each in value)
        return [Batch(cast(Tensor, x), factors, label) for x, factors, label in zip(*fields, strict=True)]
    if isinstance(value, dict) and all(isinstance(each, Tensor) for each in value.values()):
        return [
            dict(zip(value, each, strict=True)) for each in zip(*(each.unbind() for each in value.values()), strict=True)
        ]
    return [value] * members


class StackedData(LightningDataModule):
    """The examples of one data set for all members; each has its own data module, and all share its splits.

    Arguments:
        members: Whose data they are.
    """

    def __init__(self, members: Sequence[Member]):
        super().__init__()
        self.members = list(members)

    def prepare_data(self) -> None:
        """Whatever files there have to be."""
        self.members[0].data.prepare_data()

    def setup(self, stage: str) -> None:
        """Load the splits, once, onto the training device."""
        trainer = cast(Trainer, self.trainer)
        Resumption.attach(trainer)
        first: Any = self.members[0].data
        first.setup(stage)
        if first.on_device:
            device = trainer.strategy.root_device
            first.splits = {name: split.to(device) for name, split in first.splits.items()}
        for member in self.members[1:]:
            data: Any = member.data
            data.splits = first.splits
            data.setup(stage)

    def train_dataloader(self) -> "_TrainBatches":
        """Every member's epochs."""
        loaders = []
        for member in self.members:
            view: Any = member.trainer
            view.train_dataloader = member.data.train_dataloader()
            loaders.append(view.train_dataloader)
        return _TrainBatches(loaders)

    def val_dataloader(self) -> "_HeldOut":
        """Each validation example once, for every member."""
        return _HeldOut([member.data.val_dataloader() for member in self.members])

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """The same batch on the training device."""
        if isinstance(batch, HeldOutBatches):
            moved: dict[int, Batch] = {}
            for each in batch.batches:
                if id(each) not in moved:
                    moved[id(each)] = self.members[0].data.transfer_batch_to_device(each, device, dataloader_idx)
            return HeldOutBatches([moved[id(each)] for each in batch.batches])
        return self.members[0].data.transfer_batch_to_device(batch, device, dataloader_idx)


class _Batches:
    def __init__(self, loaders: list[Any]):
        self.loaders = loaders

    def __len__(self) -> int:
        return len(self.loaders[0])


class _TrainBatches(_Batches):
    """Batches (K, B, ...) of K loaders."""

    def __iter__(self) -> Iterator[Batch]:
        for batches in zip(*self.loaders, strict=True):
            x, factors, label = (None if each[0] is None else torch.stack(each) for each in zip(*batches, strict=True))
            yield Batch(cast(Tensor, x), factors, label)


class _HeldOut(_Batches):
    """The members' batches side by side; one for all where nothing in them is drawn."""

    def __iter__(self) -> Iterator[HeldOutBatches]:
        if self.loaders[0].source.transform is None:
            yield from (HeldOutBatches([batch] * len(self.loaders)) for batch in self.loaders[0])
            return
        yield from (HeldOutBatches(batches) for batches in zip(*self.loaders, strict=True))
