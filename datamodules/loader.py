"""Batches gathered at once from tensors that stay on the training device: seeded, sharded, resumable."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from pytorch_lightning import Trainer
from torch import Generator, Tensor

from zoo.errors import ZooError
from zoo.lightning import overfits
from zoo.spec import Batch

__all__ = ["Arrays", "EvalLoader", "Position", "TrainLoader"]


class Arrays:
    """Examples held as tensors, gathered by index.

    Arguments:
        x: (N, ...) levels of an integer type, or float vectors.
        factors: (N, K) class indices, or None.
        label: (N,) classes, or None.
        transform: ``(x, generator) -> x`` on the gathered batch, on its device: binarization, unpacking, noise.
        weights: (N,) float64, how frequent the examples are in training, in any unit; None where all are alike.
    """

    def __init__(
        self,
        x: Tensor,
        factors: Tensor | None = None,
        label: Tensor | None = None,
        transform: Callable[[Tensor, Generator], Tensor] | None = None,
        weights: Tensor | None = None,
    ):
        self.x, self.factors, self.label, self.transform, self.weights = x, factors, label, transform, weights

    def __len__(self) -> int:
        return len(self.x)

    @property
    def random(self) -> bool:
        """Whether what :meth:`take` gives is drawn, and differs from what is stored."""
        return self.transform is not None

    @property
    def device(self) -> torch.device:
        """Where the examples are, and where batches are made."""
        return self.x.device

    def to(self, device: torch.device) -> "Arrays":
        """The same examples on another device."""
        factors, label = (t if t is None else t.to(device) for t in (self.factors, self.label))
        return type(self)(self.x.to(device), factors, label, self.transform, self.weights)

    def subset(self, index: Tensor | slice) -> "Arrays":
        """The examples at ``index`` (M,), copied; those of a slice are not."""
        factors, label, weights = (t if t is None else t[index] for t in (self.factors, self.label, self.weights))
        return type(self)(self.x[index], factors, label, self.transform, weights)

    def take(self, index: Tensor, generator: Callable[[], Generator]) -> Batch:
        """The batch of the examples at ``index`` (B,); ``generator()`` gives the batch's own random stream."""
        x = self.x[index]
        if self.transform is not None:
            x = self.transform(x, generator())
        factors, label = (t if t is None else t[index].long() for t in (self.factors, self.label))
        return Batch(x, factors, label)


class Position(NamedTuple):
    """A place in the stream of training examples.

    Attributes:
        epoch: The pass over the examples, from 0 on; its order is one of its own.
        examples: How many of that order, over all processes, are behind.
    """

    epoch: int = 0
    examples: int = 0


class _Loader:
    """Cuts an order of examples into global batches and gives each process its share."""

    _kind: int  # keeps the noise of training apart from that of evaluation

    def __init__(self, source: Arrays, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1):
        if batch_size < 1:
            raise ZooError(f"batch_size {batch_size}: 1 or more is needed")
        if len(source) < world_size:
            raise ZooError(f"{len(source)} examples can't be shared by {world_size} processes: use fewer, or more data")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.rank, self.world_size = rank, world_size

    @property
    def global_batch_size(self) -> int:
        """The examples of all processes in a batch that is full."""
        return self.batch_size * self.world_size

    def __len__(self) -> int:
        return self.batches_from(0)

    def batches_from(self, start: int) -> int:
        """How many global batches the examples from number ``start`` of an order make."""
        full, rest = divmod(len(self.source) - start, self.global_batch_size)
        if full == 0:
            return int(rest > 0)
        return full + (rest >= self.world_size)  # as stop_of says

    def stop_of(self, start: int) -> int:
        """Where the global batch that starts at example ``start`` ends.

        The last one is what is left; what is too little to give every process an example joins the batch before it.
        """
        stop = start + self.global_batch_size
        return stop if len(self.source) - stop >= self.world_size else len(self.source)

    def batch(self, order: Tensor, epoch: int, start: int) -> Batch:
        """This process's share of the global batch that starts at example ``start`` of the order of ``epoch``.

        Shares are disjoint, and together they are the batch. Only where fewer examples than processes are left, after a run
        that went on with more processes, does every process get all of them: the mean of the gradients is then theirs.
        Noise is that of the global batch, of which each process keeps its part: it depends on the seed, the epoch and the
        number of the batch's first example, and on nothing else.
        """
        index, own = order[start : self.stop_of(start)], slice(None)
        if len(index) >= self.world_size:
            shares = index.tensor_split(self.world_size)
            first = sum(map(len, shares[: self.rank]))
            own = slice(first, first + len(shares[self.rank]))

        def generator() -> Generator:
            sequence = np.random.SeedSequence((self.seed, epoch), spawn_key=(self._kind, start))
            return Generator(self.source.device).manual_seed(int(sequence.generate_state(1, np.uint64)[0]))

        if not self.source.random or self.world_size == 1:
            return self.source.take(index[own], generator)
        x, factors, label = self.source.take(index, generator)
        return Batch(x[own], None if factors is None else factors[own], None if label is None else label[own])


class TrainLoader(_Loader):
    """Shuffled epochs; each ``iter`` gives the batches of the next one, or the rest of one that was not finished.

    Each epoch holds every example once, or, where examples have weights, as many draws in proportion to these. Its order
    depends on the seed and the epoch alone, so that any place in it is one where another loader can go on, with another
    batch size or number of processes too. With a Trainer, epochs are the Trainer's: where it ends one early
    (``limit_train_batches``), the next begins with an order of its own; and where it overfits (``overfit_batches``), every
    epoch gives the batches of the first.

    Arguments:
        source: The examples.
        batch_size: Examples per batch and process.
        seed: Seed of the order and of the noise.
        rank: The number of this process.
        world_size: The number of processes.
        start: Where to begin.
        trainer: The Trainer that iterates over this loader.

    Attributes:
        position: Where the stream is: behind the batch that was given last.
        before: The same, before that batch.

    Example:
        >>> numbers = Arrays(torch.arange(5.0))
        >>> loader = TrainLoader(numbers, 2)
        >>> head = next(iter(loader)).x
        >>> loader.position
        Position(epoch=0, examples=2)
        >>> rest = [batch.x for batch in TrainLoader(numbers, 3, start=loader.position)]
        >>> torch.cat([head, *rest]).sort().values.tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0]
    """

    _kind = 0

    def __init__(
        self,
        source: Arrays,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        start: Position = Position(),  # noqa: B008 - it can't be changed
        trainer: Trainer | None = None,
    ):
        super().__init__(source, batch_size, seed, rank, world_size)
        if start.examples > len(source):
            raise ZooError(f"example {start.examples} of an epoch is no place to begin: there are {len(source)} examples")
        self.position = self.before = start
        self.trainer = trainer

    @property
    def batches_behind(self) -> int:
        """The batches of this epoch that were given, as this loader would have cut it."""
        return len(self) - self.batches_from(self.position.examples)

    def order(self, epoch: int) -> Tensor:
        """The numbers of the examples in the order of ``epoch``, (N,)."""
        shuffle = Generator().manual_seed(int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]))
        if self.source.weights is None:
            return torch.randperm(len(self.source), generator=shuffle).to(self.source.device)
        ends = self.source.weights.cumsum(0)
        draws = torch.rand(len(ends), generator=shuffle, dtype=torch.float64) * ends[-1]
        return torch.searchsorted(ends, draws, right=True).clamp(max=len(ends) - 1).to(self.source.device)

    def __iter__(self) -> Iterator[Batch]:
        epoch, start = self.position
        if start == len(self.source):
            epoch, start = epoch + 1, 0
        if self.trainer is not None and self.trainer.current_epoch > self.position.epoch:
            epoch, start = self.trainer.current_epoch, 0
        drawn = 0 if self.trainer is not None and overfits(self.trainer) else epoch
        order = self.order(drawn)
        while start < len(self.source):
            stop = self.stop_of(start)
            self.before, self.position = Position(epoch, start), Position(epoch, stop)
            yield self.batch(order, drawn, start)
            start = stop


class EvalLoader(_Loader):
    """Every example once, in order, with the same noise at each pass.

    Arguments as for :class:`TrainLoader`, but for ``batch_size``: examples per batch of all processes, so that batches are
    the same for any number of them; one for each process at least.
    """

    _kind = 1

    @property
    def global_batch_size(self) -> int:
        """The examples of all processes in a batch that is full."""
        return max(self.batch_size, self.world_size)

    def whole(self) -> "EvalLoader":
        """The loader that one process has: of every batch all examples."""
        return EvalLoader(self.source, self.batch_size, self.seed)

    def __iter__(self) -> Iterator[Batch]:
        order, start = torch.arange(len(self.source), device=self.source.device), 0
        while start < len(self.source):
            yield self.batch(order, 0, start)
            start = self.stop_of(start)
