"""Batches gathered at once from tensors that stay on the training device: seeded, sharded, resumable."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Generator, Tensor

from zoo.errors import ZooError
from zoo.spec import Batch

__all__ = ["Arrays", "EvalLoader", "TrainLoader"]


class Arrays:
    """Examples held as tensors, gathered by index.

    Arguments:
        x: (N, ...) uint8 levels or float vectors.
        factors: (N, K) class indices, or None.
        label: (N,) classes, or None.
        transform: ``(x, generator) -> x`` on the gathered batch, on its device: binarization, unpacking, noise.
    """

    def __init__(
        self,
        x: Tensor,
        factors: Tensor | None = None,
        label: Tensor | None = None,
        transform: Callable[[Tensor, Generator], Tensor] | None = None,
    ):
        self.x, self.factors, self.label, self.transform = x, factors, label, transform

    def __len__(self) -> int:
        return len(self.x)

    @property
    def device(self) -> torch.device:
        """Where the examples are, and where batches are made."""
        return self.x.device

    def to(self, device: torch.device) -> "Arrays":
        """The same examples on another device."""
        factors, label = (t if t is None else t.to(device) for t in (self.factors, self.label))
        return Arrays(self.x.to(device), factors, label, self.transform)

    def subset(self, index: Tensor | slice) -> "Arrays":
        """The examples at ``index`` (M,), copied; those of a slice are not."""
        factors, label = (t if t is None else t[index] for t in (self.factors, self.label))
        return Arrays(self.x[index], factors, label, self.transform)

    def take(self, index: Tensor, generator: Callable[[], Generator]) -> Batch:
        """The batch of the examples at ``index`` (B,); ``generator()`` gives the batch's own random stream."""
        x = self.x[index]
        if self.transform is not None:
            x = self.transform(x, generator())
        factors, label = (t if t is None else t[index].long() for t in (self.factors, self.label))
        return Batch(x, factors, label)


class _Loader:
    """Cuts an order of examples into global batches of batch_size x world_size and gives each process its share."""

    def __init__(self, source: Arrays, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        if batch_size < 1:
            raise ZooError(f"batch_size {batch_size}: 1 or more is needed")
        if len(source) < world_size:
            raise ZooError(f"{len(source)} examples can't be shared by {world_size} processes: use fewer, or more data")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        full, rest = divmod(len(self.source), self.batch_size * self.world_size)
        # A remainder too small to give every process an example joins the last full batch.
        return full + (rest >= self.world_size) or 1

    def share(self, order: Tensor, batch: int) -> Tensor:
        """This process's part of global batch number ``batch``: parts are disjoint, and together they are ``order``."""
        step = self.batch_size * self.world_size
        stop = None if batch == len(self) - 1 else (batch + 1) * step
        return order[batch * step : stop].tensor_split(self.world_size)[self.rank]

    def batch(self, order: Tensor, epoch: int, number: int) -> Batch:
        """Batch ``number`` of ``epoch``, with noise that depends on nothing but the seed and these numbers."""

        def generator() -> Generator:
            state = np.random.SeedSequence((self.seed, epoch, number, self.rank)).generate_state(1)[0]
            return Generator(self.source.device).manual_seed(int(state))

        return self.source.take(self.share(order, number), generator)


class TrainLoader(_Loader):
    """An endless stream of shuffled epochs; each ``iter`` gives the next ``len(loader)`` batches of it.

    The stream does not start again where a loop stopped early or a run was resumed: it goes on with the very next
    batch. Each epoch holds every example once, in an order that depends on the seed and the epoch alone.

    Arguments:
        source: The examples.
        batch_size: Examples per batch and process.
        seed: Seed of the order and of the noise.
        rank: The number of this process.
        world_size: The number of processes.
    """

    epoch = 0
    position = 0  # batches of this epoch already given

    def state_dict(self) -> dict:
        """Where the stream is; Lightning stores it in the checkpoint."""
        return {"epoch": self.epoch, "position": self.position, "seed": self.seed}

    def load_state_dict(self, state: dict) -> None:
        """Go on from a stored place."""
        self.epoch, self.position, self.seed = state["epoch"], state["position"], state["seed"]

    def __iter__(self) -> Iterator[Batch]:
        order, ordered = None, None
        for _ in range(len(self)):
            if self.position >= len(self):
                self.epoch, self.position = self.epoch + 1, 0
            if ordered != (self.seed, self.epoch):
                ordered = (self.seed, self.epoch)
                shuffle = Generator().manual_seed(int(np.random.SeedSequence(ordered).generate_state(1)[0]))
                order = torch.randperm(len(self.source), generator=shuffle).to(self.source.device)
            self.position += 1
            yield self.batch(order, self.epoch, self.position - 1)


class EvalLoader(_Loader):
    """Every example once, in order, with the same noise at each pass. Arguments as for :class:`TrainLoader`."""

    def __iter__(self) -> Iterator[Batch]:
        order = torch.arange(len(self.source), device=self.source.device)
        for number in range(len(self)):
            yield self.batch(order, 0, number)
