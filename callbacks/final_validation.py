"""A validation of the weights that training ends with."""

from pytorch_lightning import Callback, LightningModule, Trainer

__all__ = ["FinalValidation"]


class FinalValidation(Callback):
    """Validates after the last batch, whatever the interval: a run that is shorter has its figures and scores too.

    It is a validation like any other, before the last checkpoints are written, and the only one after that batch.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        """Ask for it, as Lightning asks where training is stopped early."""
        last_epoch = trainer.is_last_batch and trainer.current_epoch + 1 == trainer.max_epochs
        if last_epoch or trainer.global_step == trainer.max_steps:
            if trainer.check_val_every_n_epoch is not None:
                trainer.check_val_every_n_epoch = 1
            trainer.should_stop = True
