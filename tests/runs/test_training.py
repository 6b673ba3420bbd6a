"""`zoo.runs.fit`: a training from Python has the folder, the files and the configuration of one that was typed."""

import csv
from pathlib import Path

import pytest
import torch
import yaml
from blocks import Blocks
from PIL import Image
from pytorch_lightning.callbacks import Timer
from pytorch_lightning.loggers import CSVLogger

import zoo
from callbacks import MetricsProgressBar, SampleGrid
from datamodules import Digits
from zoo import GAN, registry
from zoo.errors import ZooError
from zoo.models import VAE
from zoo.runs import fit

QUIET = {"wandb": "off", "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = Digits(batch_size=100)
    torch.manual_seed(0)
    return fit(VAE(data.spec, hidden=8, latent_dim=2), data, seed=3, max_steps=4, val_check_interval=2, **QUIET)


def steps(folder: Path) -> list[int]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_the_run_folder(run):
    assert run.folder == Path("runs/vae-digits/1")
    assert run.checkpoint == run.folder / "checkpoints/best.ckpt"
    assert steps(run.folder) == [1, 2, 3, 4]
    model = zoo.load(run.checkpoint)
    assert model.latent_dim == 2
    assert run.trainer.global_step == 4
    assert run.trainer.callback_metrics["val/elbo"].isfinite()


def test_the_commands_go_on_with_it(cli, run):
    """What they need to know of a run they find in its config.yaml, as of one that was typed."""
    status, out, err = cli("evaluate", "--ckpt", run.checkpoint)
    assert status == 0, err
    assert "VAE on digits" in out
    config = yaml.safe_load((run.folder / "config.yaml").read_text())
    assert config["data"] == {"class_path": "datamodules.Digits", "init_args": Digits(batch_size=100).init_args}
    assert config["model"]["init_args"]["hidden"] == 8
    assert config["seed_everything"] == 3
    status, out, err = cli("fit", "--ckpt_path", run.folder / "checkpoints/last.ckpt", "--trainer.max_steps", 6)
    assert status == 0, err
    assert out.splitlines()[-1] == f"run: {run.folder.resolve()}"
    assert yaml.safe_load((run.folder / "config.yaml").read_text()) == config, "that of the start stays"
    status, out, err = cli("fit", "--config", run.folder / "config-2.yaml", "--wandb", "off")
    assert status == 0, err
    assert out.splitlines()[-1] == "run: runs/vae-digits/2"
    assert steps(Path("runs/vae-digits/2")) == [1, 2, 3, 4, 5, 6], "as many as it had in the end"


def test_python_goes_on_with_it(run):
    data = Digits(batch_size=100)
    again = fit(
        VAE(data.spec, hidden=8, latent_dim=2), data, resume=run.folder / "checkpoints/last.ckpt", max_steps=6, **QUIET
    )
    assert again.folder == run.folder.resolve()
    assert steps(run.folder) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ZooError, match=r"checkpoint of zoo.models.vae.VAE, not of zoo.models.gan.GAN"):
        fit(GAN(data.spec), data, resume=run.checkpoint, max_steps=8, **QUIET)


def test_what_was_given_is_used(tmp_path):
    data = Digits()
    given = [SampleGrid(), MetricsProgressBar()]
    logger = CSVLogger(tmp_path / "other")
    options = {**QUIET, "enable_progress_bar": True, "enable_checkpointing": False, "logger": logger, "callbacks": given}
    run = fit(GAN(data.spec), data, root=tmp_path / "here", max_steps=2, **options)
    assert run.folder == tmp_path / "here/gan-digits/1"
    assert [each for each in run.trainer.callbacks if isinstance(each, MetricsProgressBar)] == [given[1]]
    assert not (run.folder / "checkpoints").exists()
    assert (run.folder / "pictures/samples.png").exists()
    assert steps(run.folder) == [1, 2]
    assert list((tmp_path / "other").rglob("metrics.csv"))
    assert "callbacks" not in yaml.safe_load((run.folder / "config.yaml").read_text())["trainer"]


def test_one_callback_needs_no_list(tmp_path):
    data, timer = Digits(), Timer()
    run = fit(GAN(data.spec), data, root=tmp_path, max_steps=1, callbacks=timer, **QUIET)
    assert timer in run.trainer.callbacks


def test_data_that_keep_no_options_are_named_when_they_are_needed(cli, tmp_path):
    """A datamodule of another kind can train; the command then asks for it."""

    class Foreign(Blocks):
        def __init__(self):
            super().__init__()
            del self.init_args

    data = Foreign()
    run = fit(VAE(data.spec, hidden=8), data, root=tmp_path / "runs", max_steps=1, **QUIET)
    assert run.folder.parent.name == "vae-foreign"
    status, _, err = cli("evaluate", "--ckpt", run.checkpoint)
    assert status == 2
    assert "--data NAME" in err
    assert len(err.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_step": 3}, "the Trainer has no option max_step. Did you mean max_steps?"),
        ({"default_root_dir": "x"}, "run folders are made under root"),
        ({"devices": 2, "strategy": "ddp"}, "ddp can't train GAN"),
        ({"resume": "none.ckpt"}, "no checkpoint none.ckpt"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_written(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    data = Digits()
    with pytest.raises(ZooError, match=message):
        fit(GAN(data.spec), data, **{**QUIET, **options})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("name", registry.DATA)
def test_every_data_set_keeps_what_it_was_made_with(name, tmp_path):
    cls = registry.find_class(registry.DATA[name].path)
    picture = tmp_path / "scream.png"
    Image.new("RGB", (80, 80)).save(picture)
    required = {"scream_dsprites": {"image": str(picture)}, "folder": {"root": str(tmp_path)}}
    options = {"batch_size": 7, "seed": 5, **required.get(name, {})}
    made = cls(**options)
    assert options.items() <= made.init_args.items()
    again = cls(**made.init_args)
    assert (again.init_args, again.batch_size, again.seed, again.spec) == (made.init_args, 7, 5, made.spec)
