"""last.ckpt and best.ckpt of a run folder: when they are written, and what they know of each other."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from zoo.errors import ZooError
from zoo.lightning import is_fast_dev_run
from zoo.runs.checkpoints import read

__all__ = ["RunCheckpoint", "read_interval"]


def read_interval(given: str | int | None) -> int | timedelta | None:
    """What ``--checkpoint_every`` says: batches, or minutes (``10m``), hours, seconds; ZooError for anything else.

    Example:
        >>> read_interval("500"), read_interval("10m")
        (500, datetime.timedelta(seconds=600))
    """
    if given is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?) *(s|m|min|h|)", str(given))
    seconds = {"s": 1, "m": 60, "min": 60, "h": 3600}
    if found is None or float(found[1]) <= 0 or (not found[2] and not found[1].isdecimal()):
        raise ZooError(f"checkpoint_every {given}: a number of batches (500), or of minutes (10m) or hours (1h), is needed")
    return timedelta(seconds=float(found[1]) * seconds[found[2]]) if found[2] else int(found[1])


class RunCheckpoint(ModelCheckpoint):
    """Writes ``<folder>/<name>.ckpt``: at ends of epochs, at an interval, or after a validation that is the best so far.

    What it stores of itself is the best score and no path, so that a run goes on in a folder that was moved or copied; and
    the score counts as long as the file is there. After a kill the file may be of a later moment than the checkpoint that a
    run goes on from: it is not overwritten by a worse one. Give the best one to the Trainer before the last one, which then
    knows its score.

    Arguments:
        folder: Where the file is; None on a process that was not told.
        name: The file's name, without its suffix.
        monitor: The metric to judge by; if not given, the newest state is kept.
        mode: Whether less of it is better, or more.
        every: Batches, or time, between two writings of the newest state, in place of the ends of epochs; it is written
            after the last batch as well.
    """

    def __init__(
        self,
        folder: Path | None,
        name: str,
        monitor: str | None = None,
        mode: Literal["min", "max"] = "min",
        every: int | timedelta | None = None,
    ):
        super().__init__(
            folder,
            name,
            monitor,
            mode=mode,
            enable_version_counter=False,
            auto_insert_metric_name=False,
            every_n_train_steps=every if isinstance(every, int) else None,
            train_time_interval=every if isinstance(every, timedelta) else None,
        )
        self._found: Tensor | None = None  # the score of the file that was there before

    @property
    def state_key(self) -> str:
        """Its name among the callbacks of a checkpoint."""
        return f"{type(self).__name__}[{self.filename}]"

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look for a file of an earlier part of the run."""
        super().setup(trainer, pl_module, stage)
        if stage == "fit" and self.monitor is not None:
            found = self._score_of_file() if trainer.is_global_zero else None
            self._found = trainer.strategy.broadcast(found)

    def _score_of_file(self) -> Tensor | None:
        try:
            score = read(self.format_checkpoint_name({}))["callbacks"][self.state_key]["score"]
        except (ZooError, KeyError, TypeError):  # there is none, or none that can be used
            return None
        return score if isinstance(score, Tensor) else None

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, and the batch that was written last."""
        return {"score": self.best_model_score, "step": self._last_global_step_saved}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the batch, and the best score if a file that can be used is there."""
        self._last_global_step_saved = state_dict["step"]
        path, score = self.format_checkpoint_name({}), state_dict["score"]
        if self.monitor is not None and self._found is not None and score is not None:
            self.best_model_score = self.current_score = self.kth_value = score
            self.best_model_path = self.kth_best_model_path = path
            self.best_k_models = {path: score}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the last one if that was not done: the run went on from a checkpoint that was written just before it."""
        written = self._last_global_step_saved == trainer.global_step
        if self.monitor is None and not written and not is_fast_dev_run(trainer):
            self._save_checkpoint(trainer, self.format_checkpoint_name({}))

    def _should_save_on_train_epoch_end(self, trainer: Trainer) -> bool:
        # What follows a validation is done again by a run that goes on; of the end of an epoch, what others write is not.
        return self.monitor is None or not trainer.enable_validation

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        """Write, unless the file is that of a better model, of a part of the run that is done again."""
        self._last_global_step_saved = trainer.global_step  # for the state that is written now
        found, self._found = self._found, None
        if found is not None and self.best_model_score is not None:
            better = torch.lt if self.mode == "min" else torch.gt
            if better(found.to(self.best_model_score.device), self.best_model_score):
                self._found = found
                return
        super()._save_checkpoint(trainer, filepath)
