"""Exponential moving average of a network's weights."""

from copy import deepcopy

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from zoo.errors import ZooError

__all__ = ["ExponentialMovingAverage"]


class ExponentialMovingAverage(Callback):
    """Keeps theta_ema <- decay theta_ema + (1 - decay) theta of one submodule and puts it in its place in validation.

    The average is updated after every batch, from a copy of the weights at the first one; in its first batches the
    decay is lower, min(decay, (1 + batches) / (10 + batches)), so that the random start is soon forgotten. Buffers
    (batch normalization's running means) are copied. The checkpoint holds the average beside the trained weights:
    training goes on from the latter, and :func:`zoo.load` gives a model with the former.

    Arguments:
        module: Name of the model's submodule: ``generator``.
        decay: The average's memory is about 1 / (1 - decay) batches.

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
        self._stored: dict | None = None

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Copy the submodule, or take the stored average up again."""
        trained = getattr(pl_module, self.module, None)
        if not isinstance(trained, nn.Module):
            names = ", ".join(name for name, _ in pl_module.named_children())
            raise ZooError(f"{type(pl_module).__name__} has no submodule {self.module!r} to average; it has {names}")
        self.average = deepcopy(trained).requires_grad_(False).eval()
        if self._stored is not None:
            self.average.load_state_dict(self._stored)
            self._stored = None

    @torch.no_grad()
    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs, batch, batch_idx: int) -> None:
        """One update of the average."""
        self.updates += 1
        weight = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        trained = getattr(pl_module, self.module)
        averaged, latest = list(self.average.parameters()), list(trained.parameters())
        torch._foreach_lerp_(averaged, latest, weight)
        for ours, theirs in zip(self.average.buffers(), trained.buffers(), strict=True):
            ours.copy_(theirs)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validate the average."""
        self._swap(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        self._swap(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave the average in the model: what is used after training."""
        getattr(pl_module, self.module).load_state_dict(self.average.state_dict())

    def _swap(self, model: LightningModule) -> None:
        if self.average is not None:
            trained = getattr(model, self.module)
            setattr(model, self.module, self.average)
            self.average = trained

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Store the average under the names of the weights that it stands for."""
        if self.average is not None:
            state = {f"{self.module}.{name}": tensor for name, tensor in self.average.state_dict().items()}
            checkpoint["zoo_average"] = {"weights": state, "updates": self.updates}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict) -> None:
        """Find the stored average; :meth:`on_fit_start` puts it in place."""
        if (stored := checkpoint.get("zoo_average")) is not None:
            prefix = f"{self.module}."
            self._stored = {name.removeprefix(prefix): tensor for name, tensor in stored["weights"].items()}
            self.updates = stored["updates"]
