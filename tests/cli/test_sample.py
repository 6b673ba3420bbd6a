"""`python -m zoo.sample` and `python -m zoo.encode`: what they write, what they say, and what they refuse."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import zoo


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Of a VAE and a GAN that were trained on digits for a batch."""
    folder = tmp_path_factory.mktemp("runs")
    from datamodules import Digits
    from zoo.models import GAN, VAE
    from zoo.runs import fit

    options = {"max_steps": 1, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
    found = {}
    for name, cls, arguments in (("vae", VAE, {"network": "mlp", "hidden": 8, "latent_dim": 3}), ("gan", GAN, {})):
        data = Digits(seed=0)
        run = fit(cls(data.spec, **arguments), data, root=folder, wandb="off", **options)
        found[name] = run.folder / "checkpoints" / "last.ckpt"
    return found


def test_pictures_are_of_means_and_arrays_of_draws(cli, checkpoints, tmp_path):
    for out, mean in (("a.png", True), ("a.npz", False)):
        status, printed, err = cli("sample", "--ckpt", checkpoints["vae"], "--n", 5, "--out", tmp_path / out)
        assert status == 0, err
        assert ("means of p(x|z)" in printed) is mean
    drawn = np.load(tmp_path / "a.npz")["x"]
    assert drawn.dtype == np.uint8
    status, printed, _ = cli("sample", "--ckpt", checkpoints["vae"], "--n", 5, "--out", tmp_path / "b.npz", "--mean")
    model = zoo.load(checkpoints["vae"])
    torch.manual_seed(0)
    expected = model.sample_mean(5).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "b.npz")["x"], expected, rtol=1e-5, atol=1e-5)


def test_a_temperature_scales_the_noise(cli, checkpoints, tmp_path):
    common = ("sample", "--ckpt", checkpoints["vae"], "--mean", "true", "--out")
    for name, temperature in (("cold", 1e-6), ("warm", 3.0)):
        assert cli(*common, tmp_path / f"{name}.npz", "--temperature", temperature)[0] == 0
    spread = {name: np.load(tmp_path / f"{name}.npz")["x"].astype(float).std(0).max() for name in ("cold", "warm")}
    assert spread["cold"] < 0.01 < spread["warm"]


@pytest.mark.parametrize(("what", "rows"), [("reconstructions", 2 * 6), ("interpolations", 6 * 11), ("traversals", 3 * 11)])
def test_latents_are_seen(cli, checkpoints, tmp_path, what, rows):
    for ending in ("png", "npz"):
        out = tmp_path / f"{what}.{ending}"
        status, printed, err = cli("sample", "--ckpt", checkpoints["vae"], "--what", what, "--n", 6, "--out", out)
        assert status == 0, err
        assert what in printed
    assert np.load(tmp_path / f"{what}.npz")["x"].shape == (rows, 1, 8, 8)
    assert min(Image.open(tmp_path / f"{what}.png").size) > 100


@pytest.mark.parametrize(
    ("what", "rows"), [("reconstructions", 2 * 50), ("interpolations", 50 * 11), ("traversals", 2 * 11)]
)
def test_as_many_as_were_asked_for(cli, checkpoints, tmp_path, what, rows):
    """Of test batches that are smaller; of three latents, two rows."""
    n = 2 if what == "traversals" else 50
    options = ("--what", what, "--n", n, "--data.eval_batch_size", 31, "--out", tmp_path / "x.npz")
    assert cli("sample", "--ckpt", checkpoints["vae"], *options)[0] == 0
    assert len(np.load(tmp_path / "x.npz")["x"]) == rows


def test_codes_are_written(cli, checkpoints, tmp_path):
    status, printed, err = cli("encode", "--ckpt", checkpoints["vae"], "--out", tmp_path / "codes.npz")
    assert status == 0, err
    with np.load(tmp_path / "codes.npz") as codes:
        assert codes["train_z"].shape == (1297, 3)
        assert codes["test_label"].shape == (250,)
    assert "train_z (1297, 3)" in printed


def test_samples_are_scored(cli, checkpoints, tmp_path):
    """Of a model without a likelihood; two scores in pixels, beside the rows that say what they mean."""
    options = ("--sample_scores", "fd,prdc", "--features", "raw", "--sample_count", 100, "--out", tmp_path / "x.json")
    status, printed, err = cli("evaluate", "--ckpt", checkpoints["gan"], *options)
    assert status == 0, err
    metrics = json.loads((tmp_path / "x.json").read_text())["metrics"]
    assert {"test/fd_pixels", "test/precision_pixels", "test/coverage_pixels"} <= metrics.keys()
    assert "100 samples, 100 test examples, features pixels" in printed and "half of the modes" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("evaluate", "vae", "--sample_scores", "fdd"), "sample score 'fdd'"),
        (("evaluate", "vae", "--sample_scores", "fd", "--features", "inception"), "features 'inception'"),
        (("sample", "vae", "--what", "traversal"), "invalid choice: 'traversal'"),
        (("sample", "gan", "--what", "traversals"), "GAN does not encode"),
        (("sample", "gan", "--mean"), "GAN has no p(x|z)"),
        (("sample", "gan", "--temperature", "0.5"), "the samples of GAN have none"),
        (("sample", "vae", "--temperature", "warm"), "invalid float value: 'warm'"),
        (("sample", "vae", "--temperature", "-1"), "a number above 0"),
        (("sample", "vae", "--what", "reconstructions", "--mean"), "--mean belongs to --what samples"),
        (("sample", "vae", "--data.root", "x"), "--data belongs to --what"),
        (("sample", "vae", "--what", "traversals", "--data.rot", "x"), "--data.rot"),
        (("encode", "gan"), "GAN does not encode"),
        (("encode", "vae", "--out", "codes.csv"), "must end in .npz"),
        (("encode", "vae", "--device", "tpu9"), "--device tpu9"),
    ],
)
def test_what_is_wrong_is_a_line(cli, checkpoints, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    command, model, *rest = arguments
    status, _, err = cli(command, "--ckpt", checkpoints[model], *rest)
    assert status == 2
    assert message in err and err.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []
