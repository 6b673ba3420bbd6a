"""A checkpoint runs no code: it names classes, and which of them are imported is for its reader to say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY

import zoo
from zoo.cli.main import main
from zoo.errors import ZooError
from zoo.registry import find_class, trusting

MODULE = """
import pathlib
pathlib.Path({mark!r}).touch()
from zoo.distributions.priors import StandardNormal
from zoo.models import VAE
from datamodules import Digits

class Mine(VAE):
    '''A model.'''

class MyPrior(StandardNormal):
    '''A prior.'''

class MyDigits(Digits):
    '''Data.'''

def function(*arguments, **options):
    pathlib.Path({ran!r}).touch()
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module in the current folder that says when it is imported, under a name that no other test has imported."""
    name = f"own_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(mark=str(tmp_path / "imported"), ran=str(tmp_path / "ran")))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def changed(checkpoint: Path, path: Path, name: str | None = None, **hyperparameters) -> Path:
    contents = torch.load(checkpoint, weights_only=True)
    contents["zoo_class"] = name or contents["zoo_class"]
    contents["hyper_parameters"] |= hyperparameters
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(contents, path)
    return path


@pytest.mark.parametrize(
    "part",
    [
        {"prior": "pydoc.pipepager", "prior_options": {"cmd": "touch ran"}},
        {"prior": "subprocess.Popen", "prior_options": {"shell": True}},
        {"prior": "os.system", "prior_options": None},
        {"posterior": "subprocess.run", "posterior_options": {"shell": True}},
        {"likelihood": "builtins.exec", "likelihood_options": None},
        {"prior": "torch.nn.Linear", "prior_options": {"out_features": 3}},
        {"prior": "zoo.models.VAE", "prior_options": None},
        {"prior": "zoo.distributions.priors.torch", "prior_options": None},
        {"prior": "zoo.distributions.posteriors.DiagonalGaussian", "prior_options": None},
        {"prior": "..os.system", "prior_options": None},
        {"prior": {"class_path": "subprocess.Popen"}, "prior_options": None},
        {"kl": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}},
        {"network": "os.system"},
    ],
    ids=lambda part: str(next(iter(part.values()))),
)
def test_a_part_of_a_model_is_a_class_of_its_kind(tmp_path, monkeypatch, capsys, checkpoint, part):
    monkeypatch.chdir(tmp_path)
    path = changed(checkpoint, tmp_path / "x.ckpt", **part)
    with pytest.raises(SystemExit) as left:
        main("sample", ["--ckpt", str(path)])
    assert left.value.code == 2
    error = capsys.readouterr().err
    assert str(path) in error and len(error.splitlines()) <= 2, error
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "name", ["os.system", "subprocess.Popen", "torch.nn.Linear", "zoo.errors.ZooError", "zoo.load", "zoo.models.Typo", "x"]
)
def test_the_class_of_a_checkpoint_is_a_model(tmp_path, checkpoint, name):
    with pytest.raises(ZooError, match=r"x\.ckpt can't be made into a") as caught:
        zoo.load(changed(checkpoint, tmp_path / "x.ckpt", name))
    assert str(caught.value).count("\n") <= 1


@pytest.mark.parametrize(("model", "prior"), [("Mine", None), (None, "MyPrior"), ("function", None), (None, "function")])
def test_nothing_is_imported_before_it_is_trusted(tmp_path, checkpoint, own, model, prior):
    parts = {"prior": f"{own}.{prior}"} if prior else {}
    path = changed(checkpoint, tmp_path / "x.ckpt", model and f"{own}.{model}", **parts)
    for _ in range(2):
        with pytest.raises(ZooError, match=rf"not part of the zoo.* --trust {own}; in Python, zoo\.load"):
            zoo.load(path)
    assert not (tmp_path / "imported").exists()
    if "function" in (model, prior):
        with pytest.raises(ZooError, match=r"no prior|no model"):
            zoo.load(path, trust=[own])
        assert not (tmp_path / "ran").exists()
    else:
        assert type(zoo.load(path, trust=[own])).__name__ == (model or "VAE")
        assert (tmp_path / "imported").exists()
        zoo.load(path)  # it is imported now


@pytest.mark.parametrize("trust", ["own", "o", "own_other"])
def test_trust_is_in_a_module_or_package_by_its_whole_name(tmp_path, checkpoint, own, trust):
    with pytest.raises(ZooError, match="not part of the zoo"):
        zoo.load(changed(checkpoint, tmp_path / "x.ckpt", f"{own}.Mine"), trust=[trust])


def test_a_package_is_trusted_with_what_is_in_it(tmp_path, checkpoint, own, monkeypatch):
    (tmp_path / f"pack_{own}").mkdir()
    shutil.move(f"{own}.py", f"pack_{own}/inner.py")
    path = changed(checkpoint, tmp_path / "x.ckpt", f"pack_{own}.inner.Mine")
    with pytest.raises(ZooError, match=f"--trust pack_{own};"):
        zoo.load(path)
    assert type(zoo.load(path, trust=(f"pack_{own}",))).__name__ == "Mine"


def test_the_command_line_says_what_is_trusted(tmp_path, checkpoint, own, capsys):
    path = changed(checkpoint, tmp_path / "x.ckpt", f"{own}.Mine")
    with pytest.raises(SystemExit):
        main("sample", ["--ckpt", str(path)])
    assert f"--trust {own}" in capsys.readouterr().err
    main("sample", ["--ckpt", str(path), "--trust", "other", "--trust", own])
    assert "of Mine trained on" in capsys.readouterr().out


def test_a_module_that_imports_more_on_demand_is_asked_for_what_it_has_alone(tmp_path, own):
    """``__getattr__`` of a module, as ``zoo`` has one, would run for a name that a file gives."""
    (tmp_path / f"lazy_{own}.py").write_text(f"def __getattr__(name):\n    import {own}\n    return {own}.Mine\n")
    __import__(f"lazy_{own}")
    with trusting(()), pytest.raises(ZooError, match="not part of the zoo"):
        find_class(f"lazy_{own}.Mine")
    assert not (tmp_path / "imported").exists()


def write_config(run: Path, model: str, prior: str = "normal", data: str = "datamodules.Digits") -> None:
    run.mkdir(parents=True, exist_ok=True)
    sections = {"model": {"class_path": model, "init_args": {"prior": prior}}, "data": {"class_path": data}}
    (run / "config.yaml").write_text(yaml.safe_dump(sections))


@pytest.mark.parametrize(("model", "prior"), [("Mine", None), (None, "MyPrior")])
def test_what_a_run_of_ones_own_names_is_trusted(tmp_path, checkpoint, own, model, prior):
    names = (f"{own}.{model}" if model else "zoo.models.VAE", f"{own}.{prior}" if prior else "normal")
    path = changed(checkpoint, tmp_path / "run" / "checkpoints" / "last.ckpt", names[0], prior=names[1])
    write_config(tmp_path / "run", "zoo.models.VAE")
    with pytest.raises(ZooError, match="not part of the zoo"):
        zoo.load(path)
    write_config(tmp_path / "run", *names)
    assert type(zoo.load(path)).__name__ == (model or "VAE")


def test_a_run_of_somebody_else_is_not(tmp_path, checkpoint, own, monkeypatch):
    path = changed(checkpoint, tmp_path / "run" / "last.ckpt", f"{own}.Mine")
    write_config(tmp_path / "run", f"{own}.Mine")
    monkeypatch.setattr("os.getuid", lambda: 4711)
    with pytest.raises(ZooError, match="not part of the zoo"):
        zoo.load(path)
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("package", [False, True])
def test_code_that_came_with_a_run_is_not(tmp_path, checkpoint, own, monkeypatch, package):
    """A run folder from elsewhere, in which a command is typed."""
    run = tmp_path / "run"
    path = changed(checkpoint, run / "checkpoints" / "last.ckpt", f"{own}.Mine")
    write_config(run, f"{own}.Mine")
    (run / own).mkdir() if package else None
    shutil.move(f"{own}.py", run / own / "__init__.py" if package else run / f"{own}.py")
    monkeypatch.chdir(run)
    monkeypatch.syspath_prepend(str(run))
    with pytest.raises(ZooError, match="not part of the zoo"):
        zoo.load(path)
    assert not (tmp_path / "imported").exists()
    assert type(zoo.load(path, trust=[own])).__name__ == "Mine"


def test_evaluation_imports_the_data_of_a_run_of_ones_own_alone(tmp_path, checkpoint, own, monkeypatch, capsys):
    path = changed(checkpoint, tmp_path / "run" / "last.ckpt")
    write_config(tmp_path / "run", "zoo.models.VAE", data=f"{own}.MyDigits")
    monkeypatch.setattr("os.getuid", lambda: 4711)
    with pytest.raises(SystemExit):
        main("evaluate", ["--ckpt", str(path)])
    assert "not part of the zoo" in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()
    main("evaluate", ["--ckpt", str(path), "--trust", own])
    write_config(tmp_path / "run", "zoo.models.VAE", data="subprocess.Popen")
    with pytest.raises(SystemExit):
        main("evaluate", ["--ckpt", str(path), "--trust", "subprocess"])
    assert "subprocess.Popen is no LightningDataModule" in capsys.readouterr().err


@pytest.mark.parametrize(
    "config",
    [
        {"model": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}},
        {"data": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}},
        {"trainer": {"callbacks": [{"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}]}},
        {"trainer": {"logger": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}}},
        {"trainer": {"plugins": [{"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}]}},
        {"model": {"class_path": "zoo.models.VAE", "init_args": {"prior": "os.system"}}},
        {"model": {"class_path": "zoo.models.VAE", "init_args": {"prior": {"class_path": "subprocess.Popen"}}}},
        {
            "model": {
                "class_path": "zoo.models.VAE",
                "init_args": {
                    "prior": "maf",
                    "prior_options": {"steps": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}},
                },
            }
        },
    ],
    ids=str,
)
def test_a_configuration_builds_what_its_places_ask_for(tmp_path, monkeypatch, capsys, config):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(yaml.safe_dump({"trainer": {"max_steps": 1}, **config}))
    with pytest.raises(SystemExit) as left:
        main("fit", ["--model", "vae", "--config", "x.yaml", "--wandb", "off", "--trainer.accelerator", "cpu"]
             if "model" not in config else ["--config", "x.yaml", "--data", "digits", "--wandb", "off"])  # fmt: skip
    assert left.value.code == 2
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_own_classes_in_the_current_folder_are_what_a_configuration_is_for(tmp_path, own):
    """In a process of its own, as a person types it: a model and data by --config, resumed, sampled and evaluated."""
    config = {
        "model": {"class_path": f"{own}.Mine", "init_args": {"network": "mlp", "hidden": 8, "prior": f"{own}.MyPrior"}},
        "data": {"class_path": f"{own}.MyDigits"},
        "trainer": {"max_steps": 2, "accelerator": "cpu", "enable_progress_bar": False},
    }
    (tmp_path / "x.yaml").write_text(yaml.safe_dump(config))
    options = {"capture_output": True, "text": True, "env": {**os.environ, "PYTHONPATH": str(REPOSITORY)}}
    ckpt = Path("runs/mine-mydigits/1/checkpoints/last.ckpt")
    for command in (
        ["zoo.fit", "--config", "x.yaml", "--wandb", "off"],
        ["zoo.fit", "--ckpt_path", ckpt, "--trainer.max_steps", "3", "--wandb", "off"],
        ["zoo.sample", "--ckpt", ckpt],
        ["zoo.evaluate", "--ckpt", ckpt],
    ):
        done = subprocess.run([sys.executable, "-m", *map(str, command)], **options)
        assert done.returncode == 0, done.stderr
    shutil.copy(ckpt, "alone.ckpt")
    done = subprocess.run([sys.executable, "-m", "zoo.sample", "--ckpt", "alone.ckpt"], **options)
    assert done.returncode == 2 and f"--trust {own}" in done.stderr
