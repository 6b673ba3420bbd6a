"""A training on several processes, in parts: what each process saw, and the weights; tasks that a test runs."""

from pathlib import Path

import torch
import torch.distributed as dist
from launch import main
from pytorch_lightning import Callback, Trainer, seed_everything
from test_resuming import BATCH, Drops, Few


class Seen(Callback):
    """The examples and the noise of this process, batch by batch; a checkpoint after ``save_at`` batches."""

    def __init__(self, path: Path | None, save_at: int):
        self.path, self.save_at, self.batches = path, save_at, []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.batches.append((trainer.current_epoch, batch.label.tolist(), batch.x.sum().item()))
        if self.path is not None and trainer.global_step == self.save_at:
            trainer.save_checkpoint(self.path)


def train(folder: Path, path: Path | None = None, save_at: int = 0, resume: Path | None = None, size: int = BATCH) -> dict:
    """Two epochs."""
    count = dist.get_world_size() if dist.is_initialized() else 1
    rank = dist.get_rank() if dist.is_initialized() else 0
    seed_everything(10 + rank if resume is None else 20 + rank, verbose=False)
    seen, model = Seen(path, save_at), Drops(Few.spec)
    trainer = Trainer(
        accelerator="cpu",
        devices=count,
        strategy="ddp" if count > 1 else "auto",
        max_epochs=2,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        callbacks=[seen],
        default_root_dir=folder,
    )
    trainer.fit(model, Few(size, seed=3), ckpt_path=resume, weights_only=resume is not None)
    return {"seen": seen.batches, "weights": model.state_dict(), "random": torch.get_rng_state()}


def whole(folder: Path) -> dict:
    """Without interruption, with a checkpoint inside the first epoch."""
    count = dist.get_world_size() if dist.is_initialized() else 1
    return train(folder, folder / f"from-{count}.ckpt", save_at=2)


def rest(folder: Path) -> dict:
    """What follows the checkpoint of as many processes."""
    count = dist.get_world_size() if dist.is_initialized() else 1
    return train(folder, resume=folder / f"from-{count}.ckpt")


def rest_of_two(folder: Path) -> dict:
    """What follows the checkpoint of two processes, on however many there are now."""
    return train(folder, resume=folder / "from-2.ckpt")


if __name__ == "__main__":
    main(whole, rest, rest_of_two)
