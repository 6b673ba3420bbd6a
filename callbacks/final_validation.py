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
        self._random: list[torch.Tensor] | None = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Ask for it, as Lightning asks where training is stopped early."""
        last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if not (last_epoch or trainer.global_step == trainer.max_steps):
            return
        if trainer.enable_validation and not self._due(trainer, batch_idx):
            self._random = [torch.get_rng_state()]
            if pl_module.device.type == "cuda":
                self._random.append(torch.cuda.get_rng_state(pl_module.device))
        if trainer.check_val_every_n_epoch is not None:
            trainer.check_val_every_n_epoch = 1
        trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the random state back; checkpoints hold it, and are written after this."""
        if self._random is None:
            return
        torch.set_rng_state(self._random[0])
        if len(self._random) > 1:
            torch.cuda.set_rng_state(self._random[1], pl_module.device)
        self._random = None

    def _due(self, trainer: Trainer, batch_idx: int) -> bool:
        """Whether the Trainer's interval asks for a validation after this batch."""
        epochs, batches = trainer.check_val_every_n_epoch, trainer.val_check_batch
        if batches is None:  # an interval of time
            return False
        if epochs is None:
            return (trainer.fit_loop.total_batch_idx + 1) % batches == 0
        return (trainer.current_epoch + 1) % epochs == 0 and (batch_idx + 1) % batches == 0
