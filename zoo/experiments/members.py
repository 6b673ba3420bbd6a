"""One of the models that are trained as one, with what a run has of its own: folder, metrics, checkpoints, random states."""

import contextlib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningDataModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Generator, Tensor
from torchmetrics import Metric

from callbacks.non_finite_guard import DivergedError, NonFiniteGuard
from zoo.experiments.stack import Stack
from zoo.lightning import checkpoint_of
from zoo.models.base import GenerativeModule
from zoo.progress import say
from zoo.runs.loggers import MetricsCSV
from zoo.runs.run_checkpoint import RunCheckpoint
from zoo.runs.run_record import RunRecord

__all__ = ["Member", "MemberTrainer"]


class Member:
    """A model of a stack as a run.

    Arguments:
        number: Its place in the stack.
        model: The model.
        data: Its data, in the order and with the noise of its seed.
        seed: The seed.
        random: The random states that its training begins with, as :func:`zoo.resuming.random_state` gives them.
        folder: Its run folder.
        record: Writes its ``run.json``.
        callbacks: Its pictures and scores.
        keeps: Whether checkpoints are kept.
        every: When the newest state is written, as :class:`~zoo.runs.run_checkpoint.RunCheckpoint` takes it.

    Attributes:
        trainer: What it sees of the Trainer.
        watching: Its callbacks but those that write checkpoints.
        writing: Those.
        metrics: The newest of each metric by its full name, as ``Trainer.callback_metrics`` has them.
        error: Why it stopped before the others; None while it is trained.
    """

    def __init__(
        self,
        number: int,
        model: GenerativeModule,
        data: LightningDataModule,
        seed: int,
        random: dict[str, Any],
        folder: Path,
        record: RunRecord,
        callbacks: Sequence[Callback],
        keeps: bool = True,
        every: int | timedelta | None = None,
    ):
        self.number, self.model, self.data, self.seed, self.folder, self.record = number, model, data, seed, folder, record
        self.csv = MetricsCSV(folder)
        self.watching: list[Callback] = [*callbacks, record, NonFiniteGuard()]
        where = folder / "checkpoints"
        best = [RunCheckpoint(where, "best", model.monitor, model.monitor_mode)] if model.monitor else []
        self.writing: list[RunCheckpoint] = [*best, RunCheckpoint(where, "last", every=every)] if keeps else []
        self.metrics: dict[str, Tensor] = {}
        self.error: DivergedError | None = None
        self.trainer: Trainer
        self._random, self._generator = random, Generator()
        self._logged: dict[str, Any] = {}
        self._before_validation: tuple[dict[str, Any], dict[str, Any]] | None = None

    def attach(self, trainer: Trainer) -> None:
        """Be trained by a Trainer of all members."""
        self.trainer = cast(Trainer, MemberTrainer(trainer, self))
        self.model.trainer = self.data.trainer = self.trainer

    def begin(self, device: torch.device) -> Generator:
        """Move to the device; the stream of its training there."""
        self.model.to(device)
        self._generator = Generator(device).manual_seed(self.seed)  # a GPU's, from which nothing was drawn until now
        if device.type != "cuda":
            self._generator.set_state(self._random["torch"])
        return self._generator

    @contextlib.contextmanager
    def drawing(self) -> Iterator[None]:
        """A context in which torch's global streams are this member's."""
        device = self._generator.device
        on_gpu = device.type == "cuda"
        before = torch.get_rng_state(), torch.cuda.get_rng_state(device) if on_gpu else None
        torch.set_rng_state(self._random["torch"] if on_gpu else self._generator.get_state())
        if on_gpu:
            torch.cuda.set_rng_state(self._generator.get_state(), device)
        try:
            yield
        finally:
            if on_gpu:
                self._random["torch"] = torch.get_rng_state()
                self._generator.set_state(torch.cuda.get_rng_state(device))
                torch.cuda.set_rng_state(cast(Tensor, before[1]), device)
            else:
                self._generator.set_state(torch.get_rng_state())
            torch.set_rng_state(before[0])

    @property
    def random(self) -> dict[str, Any]:
        """Its random states now."""
        if self._generator.device.type == "cuda":
            return {**self._random, "cuda": self._generator.get_state()}
        return {**self._random, "torch": self._generator.get_state()}

    @random.setter
    def random(self, states: dict[str, Any]) -> None:
        self._random = dict(states)
        self._generator.set_state(states["cuda" if self._generator.device.type == "cuda" else "torch"])

    def stop(self, error: DivergedError) -> None:
        """Be trained no more, and say why in ``run.json``."""
        self.error = error
        self.record.on_exception(self.trainer, self.model, error)
        self.csv.finalize("")
        say(f"{self.folder}: {str(error).splitlines()[0]}")

    def begin_validation(self) -> None:
        """Log to this member, and note what a validation changes: one that a checkpoint is written in is done again."""
        self.model.eval()
        vars(self.model)["log"] = self.keep
        self._logged.clear()
        self._before_validation = self.random, self._states()

    def end_validation(self) -> None:
        """Log as any model again."""
        self.model.train()
        vars(self.model).pop("log", None)
        self._before_validation = None

    def keep(self, name: str, value: Any, *args: Any, **kwargs: Any) -> None:
        """``LightningModule.log`` of a validation."""
        self._logged[name] = value

    def logged(self) -> dict[str, Tensor]:
        """What a validation has logged, means over its examples."""
        found = {}
        for name, value in self._logged.items():
            value = value.compute() if isinstance(value, Metric) else torch.as_tensor(value)
            found[name] = value.detach()
        return found

    def note(self, metrics: dict[str, Tensor], row: bool) -> None:
        """Take up new metrics, and write them into the row of this batch."""
        self.metrics.update(metrics)
        if row:
            numbers = {name: float(value) for name, value in metrics.items()}
            self.csv.log_metrics({**numbers, "epoch": self.trainer.current_epoch}, self.trainer.global_step)
            self.csv.save()

    def checkpoint(self, stack: Stack) -> dict[str, Any]:
        """What a Trainer of this model alone would write into a checkpoint now."""
        checkpoint = checkpoint_of(self.trainer)
        progress = checkpoint["zoo_progress"]
        random, states = self.random, self._states()
        if progress["moment"] == "validation" and self._before_validation is not None:
            random, states = self._before_validation
        weights = self.model.state_dict()
        for name, weight in weights.items():
            weights[name] = weight.clone()  # of a view all of the stack would be written
        checkpoint |= {
            "state_dict": weights,
            "optimizer_states": stack.optimizer_states(self.number),
            "hparams_name": "kwargs",
            "hyper_parameters": dict(self.model.hparams),
            "callbacks": states,
            type(self.data).__qualname__: self.data.state_dict(),
            "zoo_progress": {**progress, "metrics": {name: value.cpu() for name, value in self.metrics.items()}},
            "zoo_random_states": [random],
            "zoo_latest_metrics": {name: value.cpu() for name, value in self.model.latest_metrics.items()},
        }
        self.model.on_save_checkpoint(checkpoint)
        for callback in (*self.watching, *self.writing, self.csv):
            callback.on_save_checkpoint(self.trainer, self.model, checkpoint)
        return checkpoint

    def _states(self) -> dict[str, Any]:
        states = {each.state_key: deepcopy(each.state_dict()) for each in (*self.watching, *self.writing)}
        return {key: state for key, state in states.items() if state}


class MemberTrainer:
    """A Trainer as one of its members sees it: with the member's own model, data, folder, callbacks, loggers and metrics.

    Arguments:
        trainer: The Trainer of all members, which has all the rest.
        member: The member.
    """

    def __init__(self, trainer: Trainer, member: Member):
        self.trainer, self.member = trainer, member
        self.train_dataloader: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.trainer, name)

    @property
    def lightning_module(self) -> GenerativeModule:
        """The member's model."""
        return self.member.model

    @property
    def datamodule(self) -> LightningDataModule:
        """Its data."""
        return self.member.data

    @property
    def default_root_dir(self) -> str:
        """Its run folder."""
        return str(self.member.folder)

    @property
    def callbacks(self) -> list[Callback]:
        """Its callbacks."""
        return [*self.member.watching, *self.member.writing]

    @property
    def checkpoint_callbacks(self) -> list[ModelCheckpoint]:
        """Those that write its checkpoints."""
        return [*self.member.writing]

    @property
    def loggers(self) -> list[MetricsCSV]:
        """Its metrics.csv."""
        return [self.member.csv]

    @property
    def callback_metrics(self) -> dict[str, Tensor]:
        """Its newest metrics."""
        return self.member.metrics

    def save_checkpoint(self, filepath: str | Path, *args: Any, **kwargs: Any) -> None:
        """Write its checkpoint."""
        module: Any = self.trainer.lightning_module
        module.take_up_metrics()
        self.trainer.strategy.save_checkpoint(self.member.checkpoint(module.stack), filepath)
