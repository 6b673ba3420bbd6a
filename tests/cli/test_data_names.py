"""The name of the data decides what they are, whatever the model: on the command line, in run folders and evaluations."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from conftest import REPOSITORY

from datamodules import mnist
from zoo import registry
from zoo.cli.command import Command, expand
from zoo.errors import ZooError
from zoo.registry import find_class
from zoo.runs.folder import data_name
from zoo.spec import DataSpec

FIXED = [name for name, entry in registry.DATA.items() if entry.options]


@pytest.fixture
def black_mnist(tmp_path, monkeypatch):
    """A folder with a black MNIST, which is taken for the real one."""
    arrays = {
        f"{kind}_{part}": np.zeros((size, 28, 28) if kind == "x" else size, np.uint8)
        for part, size in (("train", 60_000), ("test", 10_000))
        for kind in "xy"
    }
    np.savez_compressed(tmp_path / "mnist.npz", **arrays)
    monkeypatch.setattr(mnist.MNIST, "content_md5", {key: mnist._idx_md5(array) for key, array in arrays.items()})
    return tmp_path


@pytest.mark.parametrize("name", FIXED)
def test_a_name_is_the_name_of_what_it_makes(name):
    entry = registry.DATA[name]
    data = find_class(entry.path)(**entry.options)
    assert data.spec.name.split("[")[0] == name
    assert data_name(data).startswith(name)
    assert (data.spec.levels == 2) == ("binary" in name)


@pytest.mark.parametrize("data", ["mnist", "mnist_binary", "fashion_mnist", "fashion_mnist_binary_static"])
@pytest.mark.parametrize("model", registry.MODELS)
def test_the_model_and_its_presets_change_nothing(cli, model, data):
    status, out, err = cli("fit", "--model", model, "--data", data, "--print_config")
    assert status == 0, err
    assert yaml.safe_load(out)["data"]["init_args"]["binarize"] == registry.DATA[data].options["binarize"]


def test_nor_does_a_configuration_of_ones_own(cli, tmp_path):
    (tmp_path / "mine.yaml").write_text("data: {class_path: datamodules.MNIST, init_args: {binarize: static}}")
    out = cli("fit", "--config", "mine.yaml", "--data", "mnist", "--model", "vae", "--print_config")[1]
    assert yaml.safe_load(out)["data"]["init_args"]["binarize"] is None


@pytest.mark.parametrize(
    ("name", "option", "right"),
    [
        ("mnist", "--data.binarize=dynamic", "mnist_binary"),
        ("mnist_binary", "--data.binarize=null", "mnist"),
        ("fashion_mnist", "--data.init_args.binarize=static", "fashion_mnist_binary_static"),
        ("toy_grid", "--data.density=moons", "toy_moons"),
    ],
)
def test_an_option_that_makes_something_else_is_refused_with_its_name(name, option, right):
    for typed in ([option], option.split("=")):
        with pytest.raises(ZooError, match=f"{name} is the data set with .* Type --data {right}[.]"):
            Command(["--model", "vae", "--data", name, *typed])
    Command(["--model", "vae", "--data", right, option])
    with pytest.raises(ZooError, match=r"Leave out --data.density[.]"):
        Command(["--model", "vae", "--data", "toy_grid", "--data.density", "rnig"])


def test_a_pair_has_the_preset_of_the_class_and_its_own_over_it():
    def presets(model: str, data: str) -> list[str]:
        return [Path(a).name for a in expand(Command(["--model", model, "--data", data])) if a.endswith(".yaml")]

    assert presets("vae", "mnist") == ["vae.yaml"]
    assert presets("vae", "mnist_binary") == ["vae.yaml", "vae-mnist_binary.yaml"]
    assert presets("gan", "mnist_binary") == ["gan.yaml", "gan-mnist.yaml"]
    assert presets("gan", "toy") == presets("gan", "toy_ring") == ["gan.yaml", "gan-toy.yaml"]
    assert presets("gan", "toy_grid") == ["gan.yaml", "gan-toy.yaml", "gan-toy_grid.yaml"]


def test_run_folders_resumption_and_evaluation_say_the_same(cli, black_mnist):
    quick = ("--trainer.max_steps", 1, "--trainer.limit_val_batches", 1, "--wandb", "off", "--data.root", black_mnist)
    for name in ("mnist", "mnist_binary"):
        status, out, err = cli("fit", "--model", "vae", "--data", name, "--model.network", "mlp", *quick)
        assert status == 0, err
        assert f"run: runs/vae-{name}/1" in out
        assert f"on {name} (1, 28, 28)" in out
    status, out, err = cli(
        "fit", "--model", "vae", "--data", "mnist", "--data.root", black_mnist, "--resume", "--trainer.max_steps", 2
    )
    assert "going on with runs/vae-mnist/1/checkpoints/last.ckpt" in out, err
    ckpt = "runs/vae-mnist_binary/1/checkpoints/last.ckpt"
    status, out, err = cli("evaluate", "--ckpt", ckpt, "--data.root", black_mnist)
    assert status == 0, err
    assert "mnist_binary" in out
    status, _, err = cli("evaluate", "--ckpt", ckpt, "--data", "mnist")
    assert status == 2
    assert "trained on mnist_binary" in err
    assert "; mnist has shape (1, 28, 28), levels 256" in err
    status, _, err = cli("evaluate", "--ckpt", ckpt, "--data.binarize", "static")
    assert status == 0 or "mnist_binary_static" in err


def test_what_options_make_of_data_is_in_the_name_of_the_folder(cli):
    quick = ("--trainer.max_steps", 1, "--wandb", "off")
    out = cli("fit", "--model", "gan", "--data", "toy", "--data.density", "grid", *quick)[1]
    assert "run: runs/gan-toy_grid/1" in out


def test_a_likelihood_of_other_data_says_which_are_right():
    from zoo.models import VAE

    for name, right in (("mnist", "mnist_binary"), ("fashion_mnist", "fashion_mnist_binary"), ("digits", "mnist_binary")):
        with pytest.warns(UserWarning, match=f"2 levels: --data {right}[.]"):
            VAE(DataSpec(name, (1, 28, 28), levels=256), likelihood="bernoulli", network="mlp", hidden=4)


def test_results_name_data_that_can_be_typed():
    for path in REPOSITORY.glob("results/*.csv"):
        for row in csv.DictReader(path.open()):
            if "data" in row:
                assert row["data"].split("[")[0] in registry.DATA
