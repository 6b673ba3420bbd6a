"""Stops a run whose loss is no longer a number, before a checkpoint of it is written."""

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from zoo.errors import ZooError

__all__ = ["NonFiniteGuard"]


class NonFiniteGuard(Callback):
    """Raises ZooError once the training loss was NaN or infinite, and says at which batch.

    The batch is noted on the device, without waiting for it; the note is read every ``every_n_batches`` batches and
    before any checkpoint is written, so the last checkpoint is always from before.

    Arguments:
        every_n_batches: How often the note is read.
    """

    def __init__(self, every_n_batches: int = 50):
        self.every_n_batches = every_n_batches
        self._first: torch.Tensor | None = None  # the first bad batch, -1 while there is none

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        """Note the first batch with a loss that is not finite."""
        loss = (outputs["loss"] if isinstance(outputs, dict) else outputs).detach()
        if self._first is None:
            self._first = torch.full((), -1, dtype=torch.long, device=loss.device)
        bad = ~loss.isfinite() & (self._first < 0)
        self._first = torch.where(bad, trainer.global_step, self._first)
        if trainer.global_step % self.every_n_batches == 0:
            self._read(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Read the note before a checkpoint is written."""
        self._read(trainer)

    def _read(self, trainer: Trainer) -> None:
        if self._first is None:
            return
        # All processes stop together: the one that waits for the others would wait for ever.
        first = int(trainer.strategy.reduce(self._first.clone(), reduce_op="max"))
        if first >= 0:
            raise ZooError(
                f"the loss was not finite at batch {first}; training stopped, and the last checkpoint is from before. "
                "Lower the learning rate (--model.lr), or resume from it with --ckpt_path."
            )
