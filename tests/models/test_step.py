"""A training step: nothing in it waits for the device, and what is logged of it is what every step's log would hold."""

import csv
from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import Timer
from torch.utils._python_dispatch import TorchDispatchMode

from callbacks import MetricsProgressBar, NonFiniteGuard
from datamodules import Digits
from zoo.models import DIPVAE, GAN, VAE, AnnealedVAE, BetaTCVAE, FactorVAE, FlowPlusPlus
from zoo.runs.loggers import MetricsCSV

WAITING = {"aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::unique_dim", "aten::_unique2"}


class Waits(TorchDispatchMode, Callback):
    """Notes the operations from the third to the eighth step that need a value of the device on the host."""

    def __init__(self):
        super().__init__()
        self.seen: list[str] = []
        self.watching = False

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.name().partition(".")[0]
        if self.watching and name in WAITING:
            self.seen.append(name)
        return function(*args, **kwargs or {})

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.watching = 2 <= batch_idx < 8


def fit(model, folder: Path, *callbacks: Callback, **options) -> Trainer:
    folder.mkdir(exist_ok=True)
    options = {"max_steps": 10, "limit_val_batches": 0, "log_every_n_steps": 100, **options}
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=MetricsCSV(folder),
        enable_checkpointing=False,
        enable_model_summary=False,
        default_root_dir=folder,
        callbacks=list(callbacks),
        **options,
    )
    trainer.fit(model, Digits(batch_size=32))
    return trainer


def rows(folder: Path) -> list[dict]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


MODELS = {
    "gan": lambda spec: GAN(spec, width=8),
    "diagonal, normal": lambda spec: VAE(spec, "mlp", 4, 32),
    "full, mixture": lambda spec: VAE(spec, "conv", 4, posterior="full", prior="mixture"),
    "full, vamp": lambda spec: VAE(spec, "mlp", 4, 32, posterior="full", prior="vamp", likelihood="discretized_logistic"),
    "iaf, maf": lambda spec: VAE(spec, "mlp", 4, 32, "iaf", {"hidden": 16}, "maf", {"hidden": 16}),
    "spline_iaf, spline": lambda spec: VAE(spec, "mlp", 4, 32, "spline_iaf", {"hidden": 16}, "spline", {"hidden": 16}),
    "planar": lambda spec: VAE(spec, "gated_conv", 4, posterior="planar"),
    "radial": lambda spec: VAE(spec, "mlp", 4, 32, posterior="radial"),
    "sylvester": lambda spec: VAE(spec, "mlp", 4, 32, posterior="sylvester_orthogonal"),
    "annealed": lambda spec: AnnealedVAE(spec, network="mlp", hidden=32),
    "total correlation": lambda spec: BetaTCVAE(spec, network="mlp", hidden=32),
    "covariance": lambda spec: DIPVAE(spec, network="mlp", hidden=32),
    "discriminator": lambda spec: FactorVAE(spec, network="mlp", hidden=32, discriminator_width=16),
    "flow": lambda spec: FlowPlusPlus(
        spec, couplings=(1, 1, 0), filters=8, blocks=1, components=2, dequantizer_couplings=1, dropout=0.1
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_nothing_waits_for_the_device(name, tmp_path):
    """What would make the host wait on a GPU is asked for on the CPU too: it is counted there."""
    model, waits = MODELS[name](Digits().spec), Waits()
    with waits:
        fit(model, tmp_path, waits, NonFiniteGuard(every_n_batches=100), MetricsProgressBar())
    assert waits.seen == []


def test_waits_are_counted(tmp_path):
    """The test above can fail: Lightning's own bar asks for numbers."""
    waits = Waits()
    with waits:
        fit(MODELS["diagonal, normal"](Digits().spec), tmp_path, waits, enable_progress_bar=True, log_every_n_steps=1)
    assert "aten::_local_scalar_dense" in waits.seen


@pytest.mark.parametrize("name", ["gan", "diagonal, normal"])
def test_rows_hold_the_metrics_of_their_own_step(name, tmp_path):
    """Logged at every step or at every third one, over two epochs: the same numbers, and nothing of other steps."""
    for every in (1, 3):
        torch.manual_seed(0)
        fit(MODELS[name](Digits().spec), tmp_path / str(every), log_every_n_steps=every, max_steps=60)
    each, third = rows(tmp_path / "1"), rows(tmp_path / "3")
    assert [int(row["step"]) for row in third] == list(range(3, 61, 3))
    assert third == [row for row in each if int(row["step"]) % 3 == 0]


def test_the_newest_metrics_are_there_at_the_end_whatever_is_logged(tmp_path):
    """For whoever asks the Trainer: callbacks that watch a training metric, and a notebook after ``fit``."""
    trainer = fit(MODELS["diagonal, normal"](Digits().spec), tmp_path)
    model = trainer.lightning_module
    assert trainer.callback_metrics["train/loss"] == model.latest_metrics["train/loss"]
    assert not (tmp_path / "metrics.csv").exists(), "no row was due"


def test_a_run_that_is_stopped_logs_its_last_step(tmp_path):
    """Lightning writes a row when a callback stops the run, between two rows of its rhythm: with that step's metrics."""

    class Stop(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
            trainer.should_stop = batch_idx == 6

    model = MODELS["diagonal, normal"](Digits().spec)
    fit(model, tmp_path, Stop(), log_every_n_steps=5, max_steps=100)
    fifth, last = rows(tmp_path)[:2]
    assert (fifth["step"], last["step"]) == ("5", "7")
    assert float(last["train/loss"]) == pytest.approx(model.latest_metrics["train/loss"].item())


def test_lightnings_own_bar_shows_metrics(tmp_path):
    bars = fit(MODELS["diagonal, normal"](Digits().spec), tmp_path, Timer("00:00:10:00"), log_every_n_steps=1)
    assert {"train/elbo", "train/kl", "train/reconstruction"} <= set(bars.progress_bar_metrics)
