"""Exponential moving average of a network's weights."""

from copy import deepcopy
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from zoo.errors import ZooError

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(Callback):
    """Keeps theta_ema <- decay theta_ema + (1 - decay) theta of one submodule and puts it in its place in validation.

    The average is updated after every batch, from a copy of the weights at the first one; in its first batches the
    decay is lower, min(decay, (1 + batches) / (10 + batches)), so that the random start is soon forgotten. Buffers
    (batch normalization's running means) are copied. A checkpoint holds the average beside the trained weights, whenever it
    is written: training goes on from the latter, and :func:`zoo.load` gives a model with the former. After training the
    model has the average; where the same Trainer goes on with it, it has the trained weights back.

    Arguments:
        module: Name of the model's submodule: ``generator``.
        decay: The average's memory is about 1 / (1 - decay) batches.

    Attributes:
        average: The submodule with averaged weights, in evaluation mode.
        updates: The batches that are in it.

    References:
        | The Unusual Effectiveness of Averaging in GAN Training (Yazici et al., 2019)
        | https://arxiv.org/abs/1806.04498
    """

    def __init__(self, module: str = "generator", decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ZooError(f"decay {decay}: at least 0 and less than 1 is needed")
        self.module, self.decay = module, decay
        self.average: nn.Module | None = None
        self.updates = 0
        self._stored: dict[str, Tensor] | None = None  # the average of a checkpoint
        self._replaced: nn.Module | None = None  # the trained submodule, while the average is in its place
        self._trained: dict[str, Tensor] | None = None  # the trained weights, after training has ended

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the submodule, or take up the average of a checkpoint, or of the training that ended with this model."""
        trained = getattr(pl_module, self.module, None)
        if not isinstance(trained, nn.Module):
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ZooError(f"{type(pl_module).__name__} has no submodule {self.module!r} to average; it has {names}")
        if self._stored is None and self._trained is not None and self._left_in(trained):
            trained.load_state_dict(self._trained)
        else:
            self.average = deepcopy(trained).requires_grad_(False).eval()
            if self._stored is None:
                self.updates = 0
            else:
                self.average.load_state_dict(self._stored)
        self._stored = self._trained = None

    def _left_in(self, module: nn.Module) -> bool:
        """Whether a module has the weights that the last training left in it."""
        assert self.average is not None
        average, found = self.average.state_dict(), module.state_dict()
        return average.keys() == found.keys() and all(
            tensor.shape == found[name].shape and torch.equal(tensor.to(found[name].device), found[name])
            for name, tensor in average.items()
        )

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One update of the average."""
        assert self.average is not None
        self.updates += 1
        update = get_ema_multi_avg_fn(min(self.decay, (1 + self.updates) / (10 + self.updates)))
        trained = getattr(pl_module, self.module)
        update(list(self.average.parameters()), list(trained.parameters()), self.updates)
        for ours, theirs in zip(self.average.buffers(), trained.buffers(), strict=True):
            ours.copy_(theirs)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average, in a training."""
        if trainer.state.fn == TrainerFn.FITTING and self.average is not None:
            self._replaced = getattr(pl_module, self.module)
            setattr(pl_module, self.module, self.average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        if self._replaced is not None:
            setattr(pl_module, self.module, self._replaced)
            self._replaced = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Put the trained weights back where validation was interrupted."""
        self.on_validation_end(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model: what is used after training."""
        if self.average is not None and self._trained is None:
            module = getattr(pl_module, self.module)
            self._trained = {name: tensor.clone() for name, tensor in module.state_dict().items()}
            module.load_state_dict(self.average.state_dict())

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same, where nothing was left to train."""
        self.on_train_end(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the average under the names of the weights that it stands for, and these weights in their own place."""
        if self.average is None:
            return
        average = self.average.state_dict()
        checkpoint["zoo_average"] = {
            "weights": {f"{self.module}.{name}": tensor for name, tensor in average.items()},
            "updates": self.updates,
        }
        trained = self._trained if self._replaced is None else self._replaced.state_dict()
        if trained is not None and (self._replaced is not None or self._left_in(getattr(pl_module, self.module))):
            checkpoint["state_dict"].update({f"{self.module}.{name}": tensor for name, tensor in trained.items()})

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find the average of a checkpoint that training goes on from; :meth:`on_fit_start` takes it up."""
        if trainer.state.fn != TrainerFn.FITTING:
            return
        self._stored = self._trained = None
        if (stored := checkpoint.get("zoo_average")) is not None:
            prefix = f"{self.module}."
            self._stored = {name.removeprefix(prefix): tensor for name, tensor in stored["weights"].items()}
            self.updates = stored["updates"]
