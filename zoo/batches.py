"""Training that is counted in batches, whatever the optimizers do: one convention for all that is typed or shown."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, cast

from pytorch_lightning import Trainer
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.trainer.connectors.logger_connector.logger_connector import _LoggerConnector

from zoo.lean_batch import LeanBatch
from zoo.lightning import is_fast_dev_run

__all__ = ["BatchLoop", "Unprofiled", "count_batches", "last_batch"]


class BatchLoop(_TrainingEpochLoop):
    """Lightning's loop over an epoch's batches, whose steps are the batches that were trained on.

    Lightning counts steps of optimizers: fewer than batches where gradients are accumulated, more where one takes several.
    Here ``Trainer.global_step``, ``max_steps``, ``every_n_train_steps`` and the rows of loggers count batches, from 1 on.
    What no one listens to at a batch is not called, where that is all the difference (:mod:`zoo.lean_batch`).
    """

    _lean: LeanBatch | None = None

    def on_run_start(self, data_fetcher: Any) -> None:
        """Begin an epoch, or the rest of one: see who listens to its batches."""
        super().on_run_start(data_fetcher)
        self._lean = LeanBatch.of(self.trainer, data_fetcher)

    def advance(self, data_fetcher: Any) -> None:
        """Train on the next batch."""
        if self._lean is not None and self._lean.is_of(self.trainer) and not self.restarting:
            self._lean.advance(self, data_fetcher)
        else:
            super().advance(data_fetcher)

    @property
    def global_step(self) -> int:
        """The batches that were trained on, of all parts of a run."""
        return cast(Any, self.batch_progress.total).processed

    @property
    def _batches_that_stepped(self) -> int:
        return self.global_step

    @_batches_that_stepped.setter
    def _batches_that_stepped(self, value: int) -> None:
        """Lightning counts it up itself; nothing is to be kept."""


class _BatchRows(_LoggerConnector):
    """Lightning's connection to loggers, with a row every ``log_every_n_steps`` batches, whether or not the batch steps."""

    @property
    def should_update_logs(self) -> bool:
        trainer = self.trainer
        if not isinstance(trainer._active_loop, type(trainer.fit_loop)):
            return super().should_update_logs
        every = cast(Any, trainer).log_every_n_steps
        return every != 0 and (trainer.global_step % every == 0 or trainer.should_stop)

    def update_train_step_metrics(self) -> None:
        if self.should_update_logs or is_fast_dev_run(self.trainer):
            self.log_metrics(self.metrics["log"])


def count_batches(trainer: Trainer) -> None:
    """Let a Trainer count batches, unless it has a loop of one's own.

    Example:
        >>> trainer = Trainer(accelerator="cpu", logger=False)
        >>> count_batches(trainer)
        >>> type(trainer.fit_loop.epoch_loop).__name__
        'BatchLoop'
    """
    loop: Any = trainer.fit_loop.epoch_loop
    if type(loop) is _TrainingEpochLoop:
        vars(loop).pop("_batches_that_stepped")
        loop.__class__ = BatchLoop
        cast(Any, trainer._logger_connector).__class__ = _BatchRows


class Unprofiled(PassThroughProfiler):
    """Measures nothing, as Lightning's own does, without a generator for each of the hundred calls of a batch."""

    _nothing: ClassVar[AbstractContextManager] = nullcontext()

    def profile(self, action_name: str) -> Any:
        """A context that does nothing."""
        return self._nothing


def last_batch(trainer: Trainer) -> int | None:
    """The number of the last batch of a training, of all its parts, from 1 on; None where nothing bounds it."""
    progress: Any = trainer.fit_loop.epoch_loop.batch_progress
    bounds = []
    if trainer.max_steps > 0:
        bounds.append(trainer.max_steps)
    epochs, batches = trainer.max_epochs, trainer.num_training_batches
    if epochs and epochs > 0 and isinstance(batches, int):  # float("inf") where nobody knows
        behind = progress.total.processed - progress.current.processed
        bounds.append(behind + (epochs - trainer.current_epoch) * batches)
    return min(bounds, default=None)
