"""What a training will take, said once it can be known; and that it is still at its first batch, where that lasts."""

import resource
import sys
import threading
import time
import warnings
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from zoo.batches import last_batch
from zoo.progress import say

__all__ = ["TrainingEstimate", "duration"]

_DAY = 24 * 3600.0
_SIZES = ("filters", "blocks", "hidden", "width", "latent_dim")  # options of models that say how large networks are


def duration(seconds: float) -> str:
    """A time as a person says it.

    Example:
        >>> [duration(seconds) for seconds in (0.0021, 0.4, 75, 5000, 300000)]
        ['2.1 ms', '0.4 s', '75 s', '83 min', '3.5 days']
    """
    for unit, size, most in (("ms", 1e-3, 1e-1), ("s", 1.0, 100), ("min", 60.0, 100 * 60), ("h", 3600.0, 2 * _DAY)):
        if seconds < most:
            return f"{seconds / size:.2g} {unit}" if seconds < 10 * size else f"{seconds / size:.0f} {unit}"
    return f"{seconds / _DAY:.2g} days"


class TrainingEstimate(Callback):
    """Says after the first batch how long one takes, how long it is to the end without validations, and the memory in use.

    Where batches are fast, later ones are measured, since the first one takes longer. Where training will take more than a
    day on this device, a warning says what would be less; and before that it says that the first batch is still computed.

    Arguments:
        enough: Seconds of batches from which an estimate is made.
        patience: Seconds after which it is said that no batch is done yet.
        long: Seconds to the end from which on there is a warning.
    """

    def __init__(self, enough: float = 1.0, patience: float = 20.0, long: float = _DAY):
        self.enough, self.patience, self.long = enough, patience, long
        self._waiting: threading.Timer | None = None
        self._begin: float | None = None  # of the batches that are measured
        self._done, self._first, self._said = 0, True, False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begin to wait."""
        self._begin, self._done, self._first, self._said = None, 0, True, False
        if stage == "fit" and trainer.is_global_zero:
            self._waiting = threading.Timer(self.patience, self._still_waiting)
            self._waiting.daemon = True
            self._waiting.start()

    def _still_waiting(self) -> None:
        say(f"no batch is done after {self.patience:.0f} s: the first one, and what comes before it, take longest.")

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Note when the first one begins."""
        if self._begin is None:
            self._begin = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Estimate, as soon as that is possible."""
        if self._said or self._begin is None:
            return
        self._stop_waiting()
        self._done += 1
        if time.perf_counter() - self._begin >= self.enough:
            if pl_module.device.type == "cuda":
                torch.cuda.synchronize(pl_module.device)  # once in a run: what was begun is done now
            self._said = True
            if trainer.is_global_zero:
                self._say(trainer, pl_module, (time.perf_counter() - self._begin) / self._done)
        elif self._first:
            self._begin, self._done, self._first = time.perf_counter(), 0, False

    def _say(self, trainer: Trainer, model: LightningModule, seconds: float) -> None:
        last = last_batch(trainer)
        left = None if last is None else (last - trainer.global_step) * seconds
        to_go = "no end is set" if left is None else f"about {duration(left)} to batch {last:,}, validations aside"
        say(f"{duration(seconds)} a batch, {to_go}; {_memory(model):.1f} GB of memory")
        if left is not None and left > self.long:
            hour = max(1, int(3600 / seconds))
            sizes = [f"--model.{name} (now {model.hparams[name]})" for name in _SIZES if model.hparams.get(name)]
            gpu = model.device.type == "cpu" and torch.cuda.is_available()
            warnings.warn(
                f"training takes {duration(left)} on this device. Fewer batches: --trainer.max_steps {hour} takes an hour"
                f"{'; a GPU: --gpus 1' if gpu else ''}{'; smaller networks: ' + ', '.join(sizes) if sizes else ''}.",
                stacklevel=2,
            )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Wait no more."""
        self._stop_waiting()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """The same."""
        self._stop_waiting()


def _memory(model: LightningModule) -> float:
    """The most memory that was in use until now, in GB: of the GPU that the model is on, or of this process."""
    if model.device.type == "cuda":
        return torch.cuda.max_memory_allocated(model.device) / 1e9
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * (1 if sys.platform == "darwin" else 1024) / 1e9
