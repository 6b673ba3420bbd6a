"""Starts a Flow++ from data on two CPU processes: what each has after a step of length 0; run by a test."""

from pathlib import Path

import torch
from launch import main
from pytorch_lightning import Trainer, seed_everything
from torch.utils.data import DataLoader

from datamodules import Digits
from zoo.models import FlowPlusPlus
from zoo.spec import Batch

SMALL = {"filters": 8, "blocks": 1, "components": 2, "couplings": (2, 1, 1), "dequantizer_couplings": 1}
SMALL |= {"dequantizer_blocks": 1, "warmup": 0}


def build(data: Digits) -> FlowPlusPlus:
    seed_everything(0, verbose=False)
    return FlowPlusPlus(data.spec, **SMALL, lr=0.0)


def start(folder: Path) -> dict[str, dict]:
    """The state, from a datamodule and from a loader."""
    data, found = Digits(batch_size=32, seed=0), {}
    data.setup()
    for way in ("datamodule", "loader"):
        model = build(data)
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy=model.strategy,
            max_steps=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            default_root_dir=folder,
        )
        loader = DataLoader(data.splits["train"].x[:64], 32, collate_fn=lambda images: Batch(torch.stack(images)))
        trainer.fit(model, data if way == "datamodule" else loader)
        found[way] = model.state_dict()
    return found


if __name__ == "__main__":
    main(start)
