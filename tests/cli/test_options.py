"""`python -m zoo.sample` and `python -m zoo.evaluate` on a run's checkpoint."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import zoo


def test_samples_as_a_picture_and_as_an_array(cli, run_folder, tmp_path):
    checkpoint = run_folder / "checkpoints/last.ckpt"
    for out in ("grid.png", "new/folder/x.npz", "again.npz"):
        status, printed, err = cli("sample", "--ckpt", checkpoint, "--n", 300, "--seed", 5, "--out", out)
        assert status == 0, err
        assert out in printed
    assert Image.open("grid.png").size[0] >= 480
    with np.load("new/folder/x.npz", allow_pickle=False) as file, np.load("again.npz", allow_pickle=False) as again:
        x = file["x"]
        assert (x.shape, x.dtype) == ((300, 1, 8, 8), np.uint8)
        assert x.max() <= 16
        assert np.array_equal(x, again["x"]), "the same seed"
        model = zoo.load(checkpoint)
        torch.manual_seed(5)
        assert np.array_equal(x[:256], model.sample(256).numpy())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--n", 0), "--n 0: 1 or more"),
        (("--n", "many"), "--n: invalid int value: 'many'"),
        (("--sed", 3), "no option --sed. Did you mean --seed?"),
        (("--see", 3), "no option --see."),
        (("--out", "x.jpg"), ".png or .npz"),
        (("--ckpt", "none.ckpt"), "no checkpoint none.ckpt"),
        (("--device", "cpux"), "--device cpux"),
    ],
)
def test_wrong_arguments_for_sample(cli, run_folder, arguments, message):
    status, _, err = cli("sample", "--ckpt", run_folder / "checkpoints/last.ckpt", *arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) <= 2


def test_evaluation_as_a_table_and_as_json(cli, run_folder):
    status, out, err = cli("evaluate", "--ckpt", run_folder / "checkpoints/last.ckpt")
    assert status == 0, err
    report = json.loads((run_folder / "evaluation.json").read_text())
    assert (report["model"], report["data"], report["split"], report["examples"]) == ("GAN", "digits", "test", 250)
    assert {"test/value_function", "test/jsd", "test/d_real", "test/d_fake"} <= report["metrics"].keys()
    for name in report["metrics"]:
        assert name in out
    status, _, _ = cli("evaluate", "--ckpt", run_folder / "checkpoints/last.ckpt", "--out", "again.json")
    with open("again.json") as file:
        assert json.load(file)["metrics"] == report["metrics"], "the same seed, the same metrics"


def test_evaluation_of_a_checkpoint_alone_asks_for_its_data(cli, run_folder, tmp_path):
    alone = tmp_path / "alone" / "model.ckpt"
    alone.parent.mkdir()
    shutil.copy(run_folder / "checkpoints/last.ckpt", alone)
    status, _, err = cli("evaluate", "--ckpt", alone)
    assert status == 2
    assert "--data NAME" in err
    status, _, err = cli("evaluate", "--ckpt", alone, "--data", "digits", "--data.batch_size", 32)
    assert status == 0, err
    assert (alone.parent / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data", "dgits"), "Did you mean digits?"),
        (("--data", "toy"), "was trained on digits"),
        (("--data.batchsize", 3), "Did you mean --data.batch_size?"),
        (("--data.batch_size", "many"), "--data.batch_size many"),
        (("--gpus", 64), "--gpus 64"),
        (("--sample", 64), "no option --sample. Did you mean --samples?"),
        (("--samples", -1), "--samples -1"),
    ],
)
def test_wrong_arguments_for_evaluate(cli, run_folder, arguments, message):
    status, _, err = cli("evaluate", "--ckpt", run_folder / "checkpoints/last.ckpt", *arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) <= 2


def test_importance_samples_of_a_model_with_a_likelihood(cli, run_folder):
    status, _, err = cli("evaluate", "--ckpt", run_folder / "checkpoints/last.ckpt", "--samples", 3)
    assert status == 2
    assert "GAN has no likelihood" in err
    status, out, err = cli("fit", "--model", "vae", "--trainer.max_epochs", 2, "--trainer.check_val_every_n_epoch", 1)
    assert status == 0, err
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    for name in ("last", "best"):
        arguments = ("--ckpt", folder / f"checkpoints/{name}.ckpt", "--samples", 10, "--examples", 40)
        status, out, err = cli("evaluate", *arguments)
        assert status == 0, err
        metrics = json.loads((folder / "evaluation.json").read_text())["metrics"]
        assert metrics["test/nll_examples"] == 40
        assert metrics["test/nll_samples"] == 10
        assert 0 < metrics["test/nll_bits_per_dim"] < math.log2(17) + 1
        assert metrics["test/nll"] < -metrics["test/elbo"] + 4 * metrics["test/nll_standard_error"]
        assert "test/active_units" in out
