"""What hostile files are made from."""

from pathlib import Path

import pytest
from pytorch_lightning import Trainer

from datamodules import Digits
from zoo.models import VAE


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """The checkpoint of a small VAE."""
    data = Digits()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(max_steps=1, accelerator="cpu", **quiet)
    trainer.fit(VAE(data.spec, network="mlp", hidden=8, latent_dim=2), data)
    path = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    trainer.save_checkpoint(path)
    return path
