"""``run.json``: what a training says of itself beside its metrics, for whoever compares it with others."""

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.graceful_stop import TrainingStopped
from callbacks.non_finite_guard import DivergedError
from zoo import environment, trained
from zoo.errors import ZooError
from zoo.files import read_json, write_atomically
from zoo.models.base import GenerativeModule
from zoo.runs.checkpoints import read
from zoo.runs.export import weights_of
from zoo.runs.folder import run_of

__all__ = ["RunRecord", "origin"]

SCHEMA = 1  # of run.json
_MOST = 512  # points of the clock
_TOLD = ("seed", "state", "command", "batches", "examples", "seconds", "peak_memory_bytes", "machine", "versions", "commit")


class RunRecord(Callback):
    """Writes ``run.json``: state, seed, command, parameters, time, examples seen, memory, machine, versions, commit.

    ``state`` is ``running``, which a run that was killed stays for ever; ``finished``; ``stopped``, by a signal;
    ``diverged``, where a loss or a weight was not finite; or ``failed``, with the error's first line. ``clock`` says when
    which batch was done, ``[batches, examples, seconds]`` at validations and checkpoints; a run that goes on counts on from
    there.

    Arguments:
        folder: Where the file is; None on a process that was not told, which writes nothing.
        names: The names of model and data in the folder's.
        seed: The run's; that of the process if not given.
        members: How many models were trained as one with this one, itself among them; time and memory are those of all.

    Raises:
        WriteError: where it can't be written at the start of a training or at a checkpoint.
    """

    def __init__(self, folder: Path | None, names: tuple[str, str], seed: int | None = None, members: int = 1):
        self.path = folder / "run.json" if folder else None
        self.names, self.seed, self.members = names, seed, members
        self._clock: list[list[float]] = []
        self._facts: dict[str, Any] = {}
        self._began, self._before = 0.0, 0.0
        self._examples, self._batches = 0, 0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up what an earlier part of the run has noted, and write that this part has begun."""
        if self.path is None or not trainer.is_global_zero:
            return
        device = trainer.strategy.root_device
        on = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        self._facts = {
            "schema": SCHEMA,
            "model": self.names[0],
            "data": self.names[1],
            "seed": int(os.environ.get("PL_GLOBAL_SEED", 0)) if self.seed is None else self.seed,
            "command": environment.command(),
            "parameters": sum(each.numel() for each in pl_module.parameters()),
            "processes": trainer.world_size,
            "members": self.members,
            "machine": environment.machine(on),
            "versions": environment.versions(),
            "commit": environment.commit(),
        }
        self._batches = int(getattr(pl_module, "training_batches", trainer.global_step))
        if self._batches and self.path.exists():
            with contextlib.suppress(ZooError, TypeError, ValueError):
                clock = [[float(x) for x in point] for point in read_json(self.path).get("clock", [])]
                self._clock = [point for point in clock if point[0] <= self._batches]
        if self._clock:
            self._examples, self._before = int(self._clock[-1][1]), self._clock[-1][2]
        self._began = time.perf_counter()
        self._write(trainer, "running")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the examples, all processes' shares as large as this one's."""
        self._batches = int(getattr(pl_module, "training_batches", trainer.global_step))
        x = getattr(batch, "x", None)
        self._examples += trainer.world_size * (len(x) if x is not None else 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the time."""
        self._note()

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note the time, and write the file: what belongs to a checkpoint is on the disk before it is."""
        self._note()
        if trainer.is_global_zero:
            self._write(trainer, "running")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Write how the training ended."""
        finite = all(bool(each.isfinite().all()) for each in pl_module.parameters())
        state = "diverged" if isinstance(exception, DivergedError) or not finite else "failed"
        if isinstance(exception, TrainingStopped | KeyboardInterrupt):
            state = "stopped"
        lines = str(exception).splitlines() or [type(exception).__name__]
        self._end(trainer, state, None if state == "stopped" else lines[0][:500])

    def finish(self, trainer: Trainer) -> None:
        """Write that the training came to its end."""
        self._end(trainer, "finished")

    def _end(self, trainer: Trainer, state: str, error: str | None = None) -> None:
        self._note()
        if self._facts:  # where the disk is full, that is told already
            with contextlib.suppress(ZooError):
                self._write(trainer, state, error)

    def _note(self) -> None:
        if not self._facts or not self._batches:
            return
        point = [self._batches, self._examples, round(self._before + time.perf_counter() - self._began, 3)]
        if self._clock and self._clock[-1][0] == point[0]:
            self._clock.pop()
        self._clock.append(point)
        if len(self._clock) > _MOST:
            self._clock = [*self._clock[1:-1:2], self._clock[-1]]

    def _write(self, trainer: Trainer, state: str, error: str | None = None) -> None:
        if self.path is None:
            return
        device = trainer.strategy.root_device
        on_gpu = device.type == "cuda"
        facts = {
            **self._facts,
            "state": state,
            "error": error,
            "batches": self._batches,
            "examples": self._examples,
            "seconds": self._clock[-1][2] if self._clock else 0.0,
            "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if on_gpu else environment.peak_memory(),
            "clock": self._clock,
        }
        with write_atomically(self.path, text=True) as file:
            file.write(json.dumps(facts) + "\n")


def origin(checkpoint: str | Path, model: GenerativeModule) -> dict[str, Any]:
    """Where a model came from, as ``evaluation.json`` stores it.

    Arguments:
        checkpoint: The file.
        model: What was loaded from it.

    Returns:
        ``checkpoint``, its path; ``checkpoint_sha256``; ``weights``, as :func:`zoo.runs.export.weights_of` calls them;
        ``training``, what ``run.json``, or the card of a trained model, says of the training, or None.
    """
    with open(checkpoint, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    run, card = run_of(checkpoint), trained.find(checkpoint)
    training = None if card is None else {name: getattr(card, name) for name in _TOLD if hasattr(card, name)}
    if run is not None and (run / "run.json").exists():
        with contextlib.suppress(ZooError):  # a damaged one is told by whoever reads the run
            told = read_json(run / "run.json")
            training = {name: told.get(name) for name in _TOLD}
    return {
        "checkpoint": str(checkpoint),
        "checkpoint_sha256": digest,
        "weights": weights_of(checkpoint, read(checkpoint)),
        "trained_batches": model.training_batches,
        "training": training,
    }
