"""Stops a run whose loss or weights are no longer numbers, before a checkpoint of it is written."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from zoo.errors import ZooError
from zoo.options import require_at_least

__all__ = ["DivergedError", "NonFiniteGuard"]


class DivergedError(ZooError):
    """A loss or a weight is not finite."""


class NonFiniteGuard(Callback):
    """Raises ZooError once the training loss or a weight was NaN or infinite, and says at which batch, and what is left.

    Losses are kept on the device, without waiting for them, and read every ``every_n_batches`` batches, at the end of
    training, and before any checkpoint is written. Before one is written, and at the end, the weights are looked through as
    well, the averaged ones too: a gradient can be NaN where the loss is not. So a checkpoint never holds such weights, and
    the last one is always from before. Buffers that are infinite from the start, such as masks, count for nothing.

    Arguments:
        every_n_batches: How often losses are read.
    """

    def __init__(self, every_n_batches: int = 50):
        require_at_least(1, every_n_batches=every_n_batches)
        self.every_n_batches = every_n_batches
        self._losses: list[tuple[int, Tensor]] = []  # with their batches, since they were last read
        self._masks: frozenset[str] = frozenset()  # the buffers that are infinite from the start

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note which buffers are infinite."""
        buffers = dict(pl_module.named_buffers())
        infinite = () if _finite(buffers.values()) else (name for name, buffer in buffers.items() if not _finite([buffer]))
        self._masks = frozenset(infinite)

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Keep the loss."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if loss is None:  # the step was skipped
            return
        self._losses.append((trainer.global_step, loss.detach()))
        if len(self._losses) >= self.every_n_batches:
            self._read(trainer)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the losses, and look through the weights, before a checkpoint is written."""
        self._read(trainer)
        self._look_through(trainer, checkpoint["state_dict"])

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The same at the end, for a run that writes no checkpoint then."""
        self._read(trainer)
        self._look_through(trainer, pl_module.state_dict())

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
            raise DivergedError(f"the loss was not finite at batch {first}; training stopped. {_what_is_left(trainer)}")

    def _look_through(self, trainer: Trainer, weights: Mapping[str, Any]) -> None:
        """Raise where a weight is not finite, on any process."""
        tensors = {name: each for name, each in weights.items() if isinstance(each, Tensor) and name not in self._masks}
        for callback in cast(Any, trainer).callbacks:  # public, and not declared
            if isinstance(average := getattr(callback, "average", None), nn.Module):
                tensors |= {f"the average's {name}": weight for name, weight in average.state_dict().items()}
        bad = torch.tensor(not _finite(tensors.values()), device=trainer.strategy.root_device, dtype=torch.int64)
        if int(trainer.strategy.reduce(bad, reduce_op="max")):
            name = next((name for name, weight in tensors.items() if not _finite([weight])), "those of another process")
            what = f"the weights are not finite at batch {trainer.global_step} ({name})"
            raise DivergedError(f"{what}, though the loss is; training stopped. {_what_is_left(trainer)}")


def _finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all floating-point tensors are finite: one pass over all of them, and one number that is waited for."""
    floats = [tensor.detach() for tensor in tensors if tensor.is_floating_point() and tensor.numel()]
    return bool(get_total_norm(floats, float("inf")).isfinite()) if floats else True


def _what_is_left(trainer: Trainer) -> str:
    """The newest checkpoint that can be gone on with, and what to do."""
    folders = {each.dirpath for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)} - {None}
    found = [path for folder in folders for path in Path(str(folder)).glob("*.ckpt")]
    for path in sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True):
        try:
            weights = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
            sound = _finite(weight for weight in weights.values() if isinstance(weight, Tensor))
        except Exception:  # not a checkpoint, or damaged
            continue
        if sound:
            return f"Lower the learning rate (--model.lr), or go on from before with --ckpt_path {path}."
    return "There is no checkpoint from before: start again with a lower learning rate (--model.lr)."
