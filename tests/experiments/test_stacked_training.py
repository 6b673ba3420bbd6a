"""Several trainings as one: each leaves what it leaves alone, and any command goes on from there."""

import csv
import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor

import zoo
from callbacks import ExponentialMovingAverage, SampleGrid
from datamodules import Digits, DSprites, Toy
from zoo import registry
from zoo.errors import ZooError
from zoo.experiments.stacked_training import fit_stacked, pays, why_not_stacked
from zoo.models import GAN, VAE, FactorVAE
from zoo.models.base import GenerativeModule
from zoo.runs.training import fit
from zoo.schedules import KLSchedule

SMALL = {"network": "mlp", "hidden": 8, "latent_dim": 3}
QUIET = {"enable_progress_bar": False, "log_every_n_steps": 5, "accelerator": "cpu"}


def vae(seed: int, **options: Any) -> VAE:
    torch.manual_seed(seed)
    return VAE(Digits().spec, **{**SMALL, **options})


def digits(seed: int, **options: Any) -> Digits:
    return Digits(batch_size=100, seed=seed, **options)  # 1,297 examples: the last batch of an epoch has 97


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stored(folder: Path, name: str = "last") -> dict[str, Any]:
    return torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def record(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())


def assert_same(one: Any, other: Any, path: str = "") -> None:
    """Equal in structure, in types, and in numbers to what float32 has."""
    if "optim_progress" in path or "optim_step_progress" in path:
        return  # Lightning's counts of optimizers' steps; zoo.batches counts batches
    assert type(one) is type(other), path
    if isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_same(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for number, pair in enumerate(zip(one, other, strict=True)):
            assert_same(*pair, f"{path}/{number}")
    elif isinstance(one, Tensor):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5, msg=lambda message: f"{path}: {message}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-4, abs=1e-5), path
    else:
        assert one == other, path


def assert_same_run(one: Path, other: Path) -> None:
    """All that two runs have left, but for the time that they took."""
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (one, other)]
    assert names[0] == names[1]
    assert len(rows(one)) == len(rows(other))
    for mine, theirs in zip(rows(one), rows(other), strict=True):
        assert {name for name, value in mine.items() if value} == {name for name, value in theirs.items() if value}
        assert_same(*({name: float(value) for name, value in row.items() if value} for row in (mine, theirs)))
    for name in ("last", "best"):
        assert_same(stored(one, name), stored(other, name))
    assert (one / "config.yaml").read_text() == (other / "config.yaml").read_text()
    told = ("model", "data", "seed", "parameters", "state", "error", "batches", "examples")
    assert [record(one)[name] for name in told] == [record(other)[name] for name in told]
    assert [point[:2] for point in record(one)["clock"]] == [point[:2] for point in record(other)["clock"]]


@pytest.mark.parametrize(
    ("options", "trainer"),
    [
        ({}, {"max_epochs": 2}),
        ({"kl": KLSchedule(warmup=10), "schedule": "cosine"}, {"max_steps": 17, "gradient_clip_val": 0.5}),
        ({"posterior": "planar", "posterior_options": {"steps": 1}}, {"max_steps": 15, "val_check_interval": 4}),
        ({"network": "conv", "hidden": 512}, {"max_steps": 3}),
    ],
    ids=["epochs", "schedules", "interval", "conv"],
)
def test_member_k_is_run_k(options, trainer, tmp_path):
    """Files, rows, checkpoints, random states: those of a run of that model and seed alone."""
    seeds = [3, 5]
    together = fit_stacked(
        [vae(seed, **options) for seed in seeds],
        [digits(seed) for seed in seeds],
        seeds,
        root=tmp_path / "one",
        callbacks=[[SampleGrid()] for _ in seeds],
        **QUIET,
        **trainer,
    )
    for run, seed in zip(together, seeds, strict=True):
        alone = fit(
            vae(seed, **options),
            digits(seed),
            root=tmp_path / "alone",
            wandb="off",
            seed=seed,
            callbacks=[SampleGrid()],
            **QUIET,
            **trainer,
        )
        assert_same_run(run.folder, alone.folder)
        assert record(run.folder)["members"] == 2
        assert not run.diverged
        assert all(each.untyped_storage().nbytes() == each.nbytes for each in run.model.parameters())
        assert_same(run.trainer.callback_metrics, alone.trainer.callback_metrics)


def test_two_losses_and_data_that_are_drawn(tmp_path):
    """FactorVAE steps two optimizers; noisy sprites have other noise for every seed, held out too."""
    data = {"resolution": 16, "size": 80, "batch_size": 20}
    spec = DSprites(**data).spec
    options = {"network": "mlp", "hidden": 8, "latent_dim": 3, "discriminator_width": 8}

    def model(seed: int) -> FactorVAE:
        torch.manual_seed(seed)
        return FactorVAE(spec, **options)

    (_, run) = fit_stacked(
        [model(0), model(1)], DSprites(**data), [0, 1], root=tmp_path / "one", max_epochs=2, **QUIET
    )  # fmt: skip
    alone = fit(model(1), DSprites(**data, seed=1), root=tmp_path / "alone", wandb="off", seed=1, max_epochs=2, **QUIET)
    assert_same_run(run.folder, alone.folder)


@pytest.mark.parametrize(
    ("name", "options"),
    [("made", {"hidden": 8}), ("memorizer", {"examples": 50}), ("noise_mixture", {"base": "vae", "base_options": SMALL})],
)
def test_other_models(name, options, tmp_path):
    """What is no VAE: densities, models that take their examples from the data, a model in a model."""

    def model(seed: int) -> GenerativeModule:
        torch.manual_seed(seed)
        return registry.find_class(registry.MODELS[name].path)(Digits().spec, **options)

    (_, run) = fit_stacked([model(0), model(1)], digits(0), [0, 1], root=tmp_path / "one", max_steps=5, **QUIET)
    alone = fit(model(1), digits(1), root=tmp_path / "alone", wandb="off", seed=1, max_steps=5, **QUIET)
    assert_same_run(run.folder, alone.folder)


@pytest.mark.parametrize("batches", [8, 13], ids=["inside", "end"])
def test_a_member_goes_on_alone(batches, tmp_path):
    """From its last checkpoint, inside an epoch and at its end, by the ordinary command's function."""
    seeds = [0, 1]
    parts = {"max_steps": batches, **QUIET}
    runs = fit_stacked([vae(seed) for seed in seeds], [digits(seed) for seed in seeds], seeds, root=tmp_path / "a", **parts)
    went_on = fit(
        vae(1), digits(1), root=tmp_path, wandb="off", resume=runs[1].folder / "checkpoints" / "last.ckpt",
        max_steps=20, **QUIET,
    )  # fmt: skip
    whole = fit(vae(1), digits(1), root=tmp_path / "b", wandb="off", seed=1, max_steps=20, **QUIET)
    assert went_on.folder.resolve() == runs[1].folder.resolve()
    assert_same(stored(went_on.folder)["state_dict"], stored(whole.folder)["state_dict"])
    assert_same(stored(went_on.folder)["optimizer_states"], stored(whole.folder)["optimizer_states"])
    assert record(went_on.folder)["examples"] == record(whole.folder)["examples"]


def test_one_that_diverges_stops_no_other(tmp_path, capfd):
    """Its run says so; the others are what they are without it."""
    models = [vae(0), vae(1, lr=1e30), vae(2)]
    runs = fit_stacked(models, [digits(seed) for seed in range(3)], [0, 1, 2], root=tmp_path / "a", max_epochs=2, **QUIET)
    assert [record(run.folder)["state"] for run in runs] == ["finished", "diverged", "finished"]
    assert [run.diverged for run in runs] == [False, True, False]
    assert "the weights are not finite at batch 13" in record(runs[1].folder)["error"]
    assert record(runs[1].folder)["batches"] == 13
    assert not list(runs[1].folder.glob("checkpoints/*"))
    assert f"{runs[1].folder}: the weights are not finite" in "".join(capfd.readouterr())
    alone = fit(vae(2), digits(2), root=tmp_path / "b", wandb="off", seed=2, max_epochs=2, **QUIET)
    assert_same_run(runs[2].folder, alone.folder)


def test_a_loss_that_is_no_number_is_seen_between_validations(tmp_path):
    """As for one model alone: when losses are read, and before a checkpoint is written."""
    runs = fit_stacked([vae(0), vae(1, lr=1e30)], digits(0), [0, 0], root=tmp_path, max_steps=60,
                       limit_val_batches=0, **QUIET)  # fmt: skip
    assert [record(run.folder)["state"] for run in runs] == ["finished", "diverged"]
    assert "the loss was not finite at batch" in record(runs[1].folder)["error"]


def test_when_all_have_diverged_training_ends(tmp_path):
    with pytest.raises(ZooError, match="not finite"):
        fit_stacked([vae(0, lr=1e30), vae(1, lr=1e30)], digits(0), [0, 0], root=tmp_path, max_epochs=500, **QUIET)
    assert [record(path.parent)["state"] for path in sorted(tmp_path.rglob("run.json"))] == ["diverged", "diverged"]


def test_settings(tmp_path):
    """Members with one seed and learning rates, weights of the KL term, of their own; each config.yaml has them."""
    settings = [{"lr": 1e-3}, {"lr": 1e-2}, {"lr": 1e-2, "kl": KLSchedule(beta=4.0)}]
    runs = fit_stacked(
        [vae(0, **each) for each in settings], digits(0), [0, 0, 0], root=tmp_path / "a", max_steps=8, **QUIET
    )
    alone = fit(vae(0, **settings[2]), digits(0), root=tmp_path / "b", wandb="off", seed=0, max_steps=8, **QUIET)
    assert_same_run(runs[2].folder, alone.folder)
    models = [zoo.load(run.checkpoint) for run in runs]
    assert [(model.lr, model.kl.beta) for model in models] == [(1e-3, 1.0), (1e-2, 1.0), (1e-2, 4.0)]
    assert len({float(model.state_dict()["decoder.0.weight"].sum()) for model in models}) == 3
    assert models[0].sample(4).shape == (4, 1, 8, 8)


class Stopping(SampleGrid):
    """Sends SIGTERM after the fifth batch."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_signal_stops_all_and_each_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(Stopping, "__module__", "callbacks")
    with pytest.raises(SystemExit) as stopped:
        fit_stacked(
            [vae(0), vae(1)], digits(0), [0, 1], root=tmp_path / "a", callbacks=[[Stopping()], []], max_steps=20, **QUIET
        )
    assert stopped.value.code == 128 + signal.SIGTERM
    folders = [tmp_path / "a/vae-digits" / number for number in "12"]
    assert [record(folder)["state"] for folder in folders] == ["stopped", "stopped"]
    last = folders[1] / "checkpoints/last.ckpt"
    went_on = fit(vae(1), digits(1), root=tmp_path, wandb="off", resume=last, max_steps=20, **QUIET)
    whole = fit(vae(1), digits(1), root=tmp_path / "b", wandb="off", seed=1, max_steps=20, **QUIET)
    assert_same(stored(went_on.folder)["state_dict"], stored(whole.folder)["state_dict"])
    assert [row["step"] for row in rows(went_on.folder)] == [row["step"] for row in rows(whole.folder)]


class Foreign(Callback):
    pass


@pytest.mark.parametrize(
    ("model", "data", "callback", "options", "reason"),
    [
        (lambda: GAN(Digits().spec), digits, None, {}, "GAN has a training_step of its own"),
        (lambda: vae(0), digits, Foreign, {}, "Foreign is not known to work"),
        (lambda: vae(0), digits, lambda: ExponentialMovingAverage("decoder", 0.9), {}, "ExponentialMovingAverage"),
        (lambda: vae(0), digits, None, {"accumulate_grad_batches": 2}, "have no accumulate_grad_batches 2"),
        (lambda: vae(0), digits, None, {"precision": "16-mixed"}, "have no precision 16-mixed"),
        (lambda: vae(0), digits, None, {"devices": 2}, "have no devices 2"),
        (lambda: vae(0), lambda seed: digits(0, eval_batch_size=100 + seed), None, {}, "differ in more than their seed"),
    ],
)
def test_why_trainings_are_not_one(model, data, callback, options, reason, tmp_path):
    """A line, before anything is written."""
    callbacks = [[callback()] if callback else [] for _ in range(2)]
    with pytest.raises(ZooError, match=reason):
        fit_stacked([model(), model()], [data(0), data(1)], [0, 1], root=tmp_path, callbacks=callbacks, **QUIET, **options)
    assert not any(tmp_path.iterdir())


def test_the_trainers_own_errors_leave_no_folder(tmp_path):
    with pytest.raises(ZooError, match="no option max_step"):
        fit_stacked([vae(0), vae(1)], digits(0), [0, 1], root=tmp_path, max_step=3)
    with pytest.raises(ZooError, match="Lightning can't train"):
        fit_stacked([vae(0), vae(1)], digits(0), [0, 1], root=tmp_path, max_steps=-7, **QUIET)
    assert not any(tmp_path.iterdir())


def test_where_it_pays():
    """By what was measured: few weights in products of matrices on a CPU."""
    toy = Toy("ring").spec
    small, large = VAE(toy, hidden=64), VAE(toy, hidden=1024)
    conv, tiny = VAE(DSprites().spec, "conv"), VAE(Digits().spec, "conv")
    assert pays([small] * 10, {"accelerator": "cpu"})
    assert not pays([small], {"accelerator": "cpu"})
    assert not pays([large] * 10, {"accelerator": "cpu"})
    assert not pays([conv] * 10, {"accelerator": "cpu"})
    assert pays([tiny] * 10, {"accelerator": "cpu"})
    assert pays([conv] * 10, {"accelerator": "gpu"})
    assert not pays([small] * 2, {"accelerator": "gpu"})
    assert why_not_stacked([small] * 2, [Toy("ring", seed=seed) for seed in (0, 1)], [[], []], {}) is None


FIT = ("--model", "vae", "--data", "digits", "--model.network", "mlp", "--model.hidden", 8, "--model.latent_dim", 2,
       "--trainer.max_steps", 6, "--trainer.accelerator", "cpu")  # fmt: skip


def test_the_command(cli, tmp_path):
    """Member 4 of --seeds is the run of --seed 4, with the preset's pictures; the other commands work on it."""
    status, out, _ = cli("fit", *FIT, "--seeds", "0..1,4", "--name", "together")
    assert status == 0
    assert "3 x VAE" in out
    folders = [Path("runs/vae-digits") / f"together-s{seed}" for seed in (0, 1, 4)]
    assert [record(folder)["seed"] for folder in folders] == [0, 1, 4]
    assert cli("fit", *FIT, "--seed", 4, "--name", "alone")[0] == 0
    assert_same_run(folders[2], Path("runs/vae-digits/alone"))
    assert (
        cli("fit", "--ckpt_path", folders[1] / "checkpoints/last.ckpt", "--trainer.max_steps", 8, "--wandb", "off")[0] == 0
    )
    assert record(folders[1])["batches"] == 8
    assert cli("evaluate", "--ckpt", folders[0] / "checkpoints/best.ckpt")[0] == 0
    status, out, _ = cli("compare", "runs")
    assert status == 0
    assert "vae" in out


def test_what_can_not_be_one_is_trained_one_after_another(cli):
    command = (
        "--model",
        "gan",
        "--data",
        "toy_ring",
        "--trainer.max_steps",
        2,
        "--seeds",
        "0,1",
        "--trainer.accelerator",
        "cpu",
    )
    status, _, error = cli("fit", *command, "--wandb", "off")
    assert status == 0
    assert "2 seeds one after another: GAN has a training_step of its own" in error
    assert [record(Path(f"runs/gan-toy_ring/{number}"))["seed"] for number in (1, 2)] == [0, 1]
    status, _, error = cli("fit", *command, "--stack", "on")
    assert status == 2
    assert "GAN has a training_step of its own" in error


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (("--seeds", "3..1"), "0..9 or 0,3,5 is accepted"),
        (("--seeds", "1,1"), "each once"),
        (("--seeds", "a"), "0..9 or 0,3,5 is accepted"),
        (("--seeds", "0,1", "--seed", "2"), "one of them is enough"),
        (("--stack", "on"), "type --seeds 0..9 too"),
        (("--seeds", "0,1", "--ckpt_path", "x.ckpt"), "without --seeds"),
    ],
)
def test_what_is_no_list_of_seeds(typed, error, cli):
    status, _, said = cli("fit", "--model", "vae", *typed)
    assert status == 2
    assert error in said
