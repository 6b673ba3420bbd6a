"""A validation of the weights that training ends with."""

from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

__all__ = ["FinalValidation"]


class FinalValidation(Callback):
    """Validates after the last batch, whatever the interval: a run that is shorter has its metrics and scores too.

    It is a validation like any other, before the last checkpoints are written, and the only one after that batch. Where
    the interval did not ask for it, torch's random state is put back after it, so that a run which is resumed goes on
    as if it had not been stopped.
    """

    def __init__(self) -> None:
        self._unasked = False
        self._random: list[torch.Tensor] = []
        self._interval: int | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Ask for it where training goes on from a checkpoint of its last batch: what was left of that comes now."""
        self._unasked, self._random, self._interval = False, [], trainer.check_val_every_n_epoch
        if trainer.fit_loop.restarted_mid_epoch:
            self._ask_if_last(trainer, trainer.fit_loop.batch_idx)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for it, as Lightning asks where training is stopped early."""
        self._ask_if_last(trainer, batch_idx)

    def _ask_if_last(self, trainer: Trainer, batch_idx: int) -> None:
        last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if not (last_epoch or trainer.global_step == trainer.max_steps):
            return
        self._unasked = trainer.enable_validation and not self._due(trainer, batch_idx)
        if trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1
        trainer.should_stop = True

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the random state, where the interval did not ask for this validation."""
        if self._unasked:
            self._random = [torch.get_rng_state()]
            if pl_module.device.type == "cuda":
                self._random.append(torch.cuda.get_rng_state(pl_module.device))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the random state back; checkpoints hold it, and are written after this."""
        if self._random:
            torch.set_rng_state(self._random[0])
        if len(self._random) > 1:
            torch.cuda.set_rng_state(self._random[1], pl_module.device)
        self._unasked, self._random = False, []

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the Trainer its interval back, for a training that goes on with the same one."""
        trainer.check_val_every_n_epoch = self._interval

    def _due(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether the Trainer's interval asks for a validation after this batch."""
        epochs, batches = trainer.check_val_every_n_epoch, trainer.val_check_batch
        if batches is None:  # an interval of time
            return False
        if epochs is None:
            return (trainer.fit_loop.total_batch_idx + 1) % batches == 0
        return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % batches == 0
