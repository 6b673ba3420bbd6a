"""Stops a run whose loss is no longer a number, before a checkpoint of it is written."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["NonFiniteGuard"]


class NonFiniteGuard(Callback):
    """Raises ZooError once the training loss was NaN or infinite, and says at which batch.

    Losses are kept on the device, without waiting for them, and read every ``every_n_batches`` batches and before any
    checkpoint is written, so the last checkpoint is always from before.

    Arguments:
        every_n_batches: How often losses are read.
    """

    def __init__(self, every_n_batches: int = 50):
        self.every_n_batches = every_n_batches
        self._losses: list[tuple[int, Tensor]] = []  # with their batches, since they were last read

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss."""
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        if loss is None:  # the step was skipped
            return
        self._losses.append((trainer.global_step, loss.detach()))
        if len(self._losses) >= self.every_n_batches:
            self._read(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Read the losses before a checkpoint is written."""
        self._read(trainer)

    def _read(self, trainer: Trainer) -> None:
        if not self._losses:
            return
        numbers, losses = zip(*self._losses, strict=True)
        self._losses.clear()
        bad = ~torch.stack(losses).isfinite()
        earliest = torch.where(bad.any(), torch.tensor(numbers, device=bad.device)[bad.int().argmax()], -1)
        # All processes stop together: the one that waits for the others would wait for ever.
        first = int(trainer.strategy.reduce(earliest, reduce_op="max"))
        if first >= 0:
            raise ZooError(
                f"the loss was not finite at batch {first}; training stopped, and the last checkpoint is from before. "
                "Lower the learning rate (--model.lr), or resume from it with --ckpt_path."
            )
