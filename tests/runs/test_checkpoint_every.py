"""last.ckpt every so many batches or minutes: it is written then, and a run goes on from it bit for bit."""

import time
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback

from datamodules import Digits
from zoo.errors import ZooError
from zoo.models import GAN, VAE
from zoo.runs import fit
from zoo.runs.checkpoints import read
from zoo.runs.run_checkpoint import read_interval

QUIET = {"wandb": "off", "enable_progress_bar": False, "log_every_n_steps": 1, "limit_val_batches": 1}
MODELS = {"vae": (VAE, {"network": "mlp", "hidden": 4, "latent_dim": 2}), "gan": (GAN, {"network": "mlp", "width": 4})}


class Killed(Exception):
    pass


class Kill(Callback):
    """Ends a training after a batch, and notes when last.ckpt was written."""

    def __init__(self, at=None, pause=0.0):
        self.at, self.pause, self.written = at, pause, []

    def on_train_batch_start(self, trainer, *args):
        time.sleep(self.pause)
        if trainer.global_step == self.at:
            raise Killed
        last = Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"
        at = read(last)["global_step"] if last.exists() else None
        if at is not None and at not in self.written:
            self.written.append(at)


def train(tmp_path, name, watch, **options):
    torch.manual_seed(0)
    cls, small = MODELS[name]
    data = Digits()
    return fit(cls(data.spec, **small), data, root=tmp_path, seed=0, callbacks=[watch], **QUIET, **options)


@pytest.mark.parametrize("more", [{}, {"accumulate_grad_batches": 2}], ids=["", "accumulated"])
@pytest.mark.parametrize("name", MODELS)
def test_every_so_many_batches(tmp_path, name, more):
    if name == "gan" and more:
        return
    how = {"max_steps": 30, "checkpoint_every": 8, **more}  # an epoch has 21
    watch = Kill()
    whole = train(tmp_path / "whole", name, watch, **how)
    assert watch.written == [8, 16, 24]
    assert read(whole.folder / "checkpoints" / "last.ckpt")["global_step"] == 30, "after the last batch in any case"
    with pytest.raises(Killed):
        train(tmp_path / "part", name, Kill(at=19), **how)
    (last,) = (tmp_path / "part").rglob("last.ckpt")
    assert read(last)["global_step"] == 16
    resumed = train(tmp_path / "part", name, Kill(), resume=last, **how)
    found, expected = read(last), read(whole.folder / "checkpoints" / "last.ckpt")
    torch.testing.assert_close(found["state_dict"], expected["state_dict"], rtol=0, atol=0)
    assert (resumed.folder / "metrics.csv").read_bytes() == (whole.folder / "metrics.csv").read_bytes()


def test_every_so_many_seconds(tmp_path):
    watch = Kill(pause=0.1)
    run = train(tmp_path, "vae", watch, max_steps=12, checkpoint_every="0.3s")
    assert 2 <= len(watch.written) <= 5
    assert read(run.folder / "checkpoints" / "last.ckpt")["global_step"] == 12


def test_intervals():
    assert [read_interval(given) for given in (None, 500, "500", "10m", "10 min", "1.5h", "30s")] == [
        None, 500, 500, timedelta(minutes=10), timedelta(minutes=10), timedelta(minutes=90), timedelta(seconds=30)
    ]  # fmt: skip
    for given in ("often", "0", 0, "-5", "1.5", "10d", "0m", ""):
        with pytest.raises(ZooError, match="a number of batches"):
            read_interval(given)


def test_what_cant_be_makes_no_folder(tmp_path):
    with pytest.raises(ZooError, match="checkpoint_every often"):
        train(tmp_path, "vae", Kill(), max_steps=2, checkpoint_every="often")
    assert not list(tmp_path.iterdir())
