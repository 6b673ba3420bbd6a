"""run.json: how a training ended and what it took, whole or in parts; what an evaluation says of where a model came from."""

import hashlib
import json
import os
import signal

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback

import zoo
from callbacks import ExponentialMovingAverage, TrainingStopped
from datamodules import Digits
from zoo.errors import ZooError
from zoo.evaluation import evaluate
from zoo.models import GAN, MADE, VAE
from zoo.runs import fit
from zoo.runs.run_record import origin

QUIET = {"wandb": "off", "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
BATCH = 200  # which does not divide the training split: the last batch of an epoch is a part of one


class At(Callback):
    """Does something after a batch."""

    def __init__(self, batch, act):
        self.batch, self.act = batch, act

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if pl_module.training_batches == self.batch:
            self.act(pl_module)


def raises(error):
    def act(model):
        raise error

    return act


def train(folder, **options):
    data = Digits(batch_size=BATCH)
    torch.manual_seed(0)
    return fit(VAE(data.spec, network="mlp", hidden=8, latent_dim=2), data, root=folder, seed=3, **{**QUIET, **options})


def record(folder):
    return json.loads((folder / "vae-digits/1/run.json").read_text())


def test_a_run_that_finished(tmp_path):
    run = train(tmp_path, max_epochs=2)
    said = record(tmp_path)
    assert (said["schema"], said["state"], said["error"], said["command"]) == (1, "finished", None, None)
    assert (said["model"], said["data"], said["seed"], said["processes"]) == ("vae", "digits", 3, 1)
    assert (said["batches"], said["examples"]) == (14, 2 * len(run.data.splits["train"]))
    assert said["parameters"] == sum(each.numel() for each in run.model.parameters())
    assert 0 < said["seconds"] < 600 and said["peak_memory_bytes"] > 1e7
    assert said["versions"].keys() >= {"python", "torch", "numpy"} and "cores" in said["machine"]
    batches, examples, seconds = zip(*said["clock"], strict=True)
    assert batches == (7, 14) and examples[-1] == said["examples"] and 0 < seconds[0] < seconds[1] == said["seconds"]


@pytest.mark.parametrize(
    ("act", "expected", "state", "error", "options"),
    [
        (
            lambda model: next(model.decoder.parameters()).data.fill_(torch.nan),
            ZooError,
            "diverged",
            "not finite",
            {"limit_val_batches": 0},
        ),
        (lambda model: next(model.encoder.parameters()).data.fill_(torch.nan), ValueError, "diverged", "", {}),
        (raises(RuntimeError("no more memory\nsecond line")), RuntimeError, "failed", "no more memory", {}),
        (raises(RuntimeError()), RuntimeError, "failed", "RuntimeError", {}),
        (lambda model: os.kill(os.getpid(), signal.SIGTERM), TrainingStopped, "stopped", None, {}),
    ],
)
def test_a_run_that_did_not(tmp_path, act, expected, state, error, options):
    with pytest.raises(expected):
        train(tmp_path, max_epochs=3, callbacks=[At(9, act)], **options)
    said = record(tmp_path)
    assert said["state"] == state
    assert said["error"] is None if error is None else error in said["error"]
    assert said["error"] is None or "\n" not in said["error"]
    assert said["clock"][0][0] == 7 or options


@pytest.mark.parametrize("batch", [3, 7, 9])
def test_parts_add_up(tmp_path, batch):
    """Examples are those of the run that was not stopped, wherever it was; seconds grow."""
    with pytest.raises(TrainingStopped):
        train(tmp_path, max_epochs=2, callbacks=[At(batch, lambda model: os.kill(os.getpid(), signal.SIGTERM))])
    first = record(tmp_path)
    assert first["batches"] == batch
    data = Digits(batch_size=BATCH)
    model = VAE(data.spec, network="mlp", hidden=8, latent_dim=2)
    fit(model, data, resume=tmp_path / "vae-digits/1/checkpoints/last.ckpt", seed=3, max_epochs=2, **QUIET)
    said = record(tmp_path)
    assert (said["state"], said["batches"], said["examples"]) == ("finished", 14, 2 * len(data.splits["train"]))
    assert said["seconds"] > first["seconds"]
    times = [point[2] for point in said["clock"]]
    assert times == sorted(times) and [point[0] for point in said["clock"]] == sorted({batch, 7, 14})


def test_a_damaged_record_costs_no_run(tmp_path):
    train(tmp_path, max_epochs=1)
    (tmp_path / "vae-digits/1/run.json").write_text('{"clock": [[1, "x"]]')
    data = Digits(batch_size=BATCH)
    model = VAE(data.spec, network="mlp", hidden=8, latent_dim=2)
    fit(model, data, resume=tmp_path / "vae-digits/1/checkpoints/last.ckpt", seed=3, max_epochs=2, **QUIET)
    assert record(tmp_path)["state"] == "finished"


def test_the_command_is_noted(cli, monkeypatch):
    monkeypatch.setattr("zoo.environment.command", lambda: "python -m zoo.fit --model gan")
    status, _, err = cli("fit", "--model", "gan", "--trainer.max_steps", 2)
    assert status == 0, err
    with open("runs/gan-digits/1/run.json") as file:
        assert json.load(file)["command"] == "python -m zoo.fit --model gan"


def test_the_origin_of_a_model(tmp_path):
    run = train(tmp_path, max_epochs=1, callbacks=[ExponentialMovingAverage("decoder", decay=0.5)])
    said = origin(run.checkpoint, zoo.load(run.checkpoint))
    assert said["checkpoint_sha256"] == hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()
    assert (said["weights"], said["trained_batches"]) == ("best, averaged", 7)
    assert (said["training"]["seed"], said["training"]["state"]) == (3, "finished")
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(run.checkpoint.read_bytes())
    assert (origin(alone, run.model)["weights"], origin(alone, run.model)["training"]) == ("alone, averaged", None)


def test_an_evaluation_holds_what_a_comparison_needs(cli, tmp_path):
    run = train(tmp_path, max_epochs=1)
    status, _, err = cli("evaluate", "--ckpt", run.checkpoint, "--samples", 3, "--examples", 130)
    assert status == 0, err
    said = json.loads((run.folder / "evaluation.json").read_text())
    assert (said["schema"], said["levels"], said["weights"], said["training"]["batches"]) == (1, 17, "best", 7)
    assert said["checkpoint_sha256"] == hashlib.sha256(run.checkpoint.read_bytes()).hexdigest()
    nll = said["protocol"]["test/nll"]
    assert (nll["kind"], nll["draws"], nll["n"]) == ("bound", 3, 130)
    x = run.data.splits["test"].x[:130]
    assert nll["examples_sha256"] == hashlib.sha256(x.numpy().tobytes()).hexdigest()
    assert said["protocol"]["test/elbo"] == {"kind": "bound", "n": 250, "draws": 1}
    assert said["protocol"]["test/kl"] == {"n": 250, "draws": 1}
    counts = {"test/nll_standard_error", "test/nll_examples", "test/nll_samples", "test/nll_seconds"}
    assert said["protocol"].keys() == said["metrics"].keys() - counts
    assert said["samples_per_second"] > 0 and said["parameters"] == sum(each.numel() for each in run.model.parameters())
    with np.load(run.folder / "evaluation.npz", allow_pickle=False) as file:
        log_p = file["log_p"]
    assert (log_p.shape, log_p.dtype) == ((130,), np.float64)
    assert -log_p.mean() == pytest.approx(said["metrics"]["test/nll"])
    assert hashlib.sha256(log_p.tobytes()).hexdigest() == said["log_p_sha256"]


def test_what_there_is_not_is_null():
    data = Digits()
    said = evaluate(GAN(data.spec), data, accelerator="cpu", progress=False).to_dict()
    assert said["log_p_sha256"] is None and said["checkpoint"] is None
    assert "test/nll" not in said["protocol"]
    assert said["missing"]["test/nll"] == "GAN has no likelihood"


def test_what_is_exact_is_told():
    data = Digits()
    said = evaluate(MADE(data.spec, hidden=8), data, accelerator="cpu", progress=False).to_dict()
    assert said["protocol"]["test/nll"] == said["protocol"]["test/bits_per_dim"] == {"kind": "exact", "n": 250}
    assert said["missing"] == {"test/nll_bits_per_dim": "not asked for: --samples K"}
