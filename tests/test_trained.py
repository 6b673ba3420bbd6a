"""Trained models that come along: one of every registered model, each what its card says; commands take their names."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

import zoo
from zoo import registry, trained
from zoo.cli.main import list_zoo
from zoo.cli.options import EVALUATE
from zoo.cli.run_data import run_data
from zoo.errors import ZooError
from zoo.models.base import Autoencodes, GenerativeModule
from zoo.runs.checkpoints import read
from zoo.runs.export import export

NAMES = trained.names()
MEGABYTE = 10**6


@pytest.fixture(params=NAMES)
def card(request) -> trained.Card:
    return trained.read_card(request.param)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the trained models, to be broken."""
    copy = tmp_path / "trained"
    shutil.copytree(trained.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__", "*.py"))
    monkeypatch.setattr(trained, "FOLDER", copy)
    return copy


def test_every_registered_model_is_there():
    assert [name for name in registry.MODELS if f"{name}-digits" not in NAMES] == []


def test_files_are_small_and_every_one_has_a_card():
    files = {path.name: path.stat().st_size for path in trained.FOLDER.iterdir() if path.suffix in (".ckpt", ".json")}
    assert set(files) == {f"{name}.{end}" for name in NAMES for end in ("ckpt", "json")}
    assert max(files.values()) <= 2 * MEGABYTE
    assert sum(files.values()) <= 15 * MEGABYTE


def test_a_card_says_what_the_file_is(card):
    stored = read(card.checked())
    model = zoo.load(card.name)
    assert isinstance(model, registry.find_class(registry.MODELS[card.model].path))
    assert not any(module.training for module in model.modules())
    assert card.name == f"{card.model}-{model.spec.name}"
    assert card.bytes == card.path.stat().st_size
    assert card.parameters == sum(each.numel() for each in model.parameters())
    assert 0 < model.training_batches <= card.batches
    assert f"--model {card.model} " in card.command and f"--seed {card.seed}" in card.command
    assert stored.keys() & {"optimizer_states", "lr_schedulers", "loops", "callbacks", "zoo_average"} == set()
    assert str(REPOSITORY) not in json.dumps(trained.read_card(card.name).__dict__)


def test_it_measures_what_its_card_says(card):
    """Its own test metrics on the whole split, drawn with the same seed; of a GAN the distance of its samples."""
    model, data = zoo.load(card.name), run_data(str(card.path), None, [], (), EVALUATE)
    found = zoo.evaluation.evaluate(model, data, accelerator="cpu", progress=False).metrics
    for name, value in found.items():
        assert value == pytest.approx(card.metrics[name], rel=1e-3, abs=1e-3), name
    if card.model == "gan":
        found = zoo.evaluation.evaluate(
            model, data, accelerator="cpu", progress=False, sample_scores="fd", repeats=3,
            sample_count=1000 if "toy" in card.name else 2000,
        ).metrics  # fmt: skip
        (name,) = (each for each in found if each.startswith("test/fd_"))
        assert found[name] == pytest.approx(card.metrics[name], rel=0.2)


def test_every_card_has_numbers(card):
    """A likelihood or the reason why there is none, and scores of samples."""
    assert "test/nll" in card.metrics or "no likelihood" in card.missing["test/nll"]
    assert {name.partition("_")[0] for name in card.metrics} >= {"test/fd", "test/kid", "test/mmd", "test/precision"}
    assert all(np.isfinite(value) for value in card.metrics.values())
    assert card.summary in list_zoo()


def test_a_mixture_is_of_the_trained_base():
    """At most log 100 nats worse on every example."""
    mixture, base = zoo.load("noise_mixture-digits"), zoo.load("pixelcnn-digits")
    x = run_data(str(trained.read_card("pixelcnn-digits").path), None, [], (), EVALUATE)
    x.setup("test")
    x = x.splits["test"].x
    lost = base.log_likelihood(x) - mixture.log_likelihood(x)
    assert lost.max() <= np.log(100) + 1e-3


def test_damage_is_two_lines(folder, cli):
    content = bytearray((folder / "vae-digits.ckpt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "vae-digits.ckpt").write_bytes(content)
    (folder / "gan-digits.ckpt").unlink()
    (folder / "made-digits.json").write_text('{"name": "made-digits"}')
    (folder / "dip_vae-digits.json").write_text("{")
    for name, told in (("vae", "is damaged"), ("gan", "is missing"), ("made", "is damaged"), ("dip_vae", "is not JSON")):
        with pytest.raises(ZooError, match=told) as caught:
            zoo.load(f"{name}-digits")
        assert len(str(caught.value).splitlines()) <= 2
        status, _, err = cli("sample", "--model", f"{name}-digits")
        assert status == 2
        assert told in err and len(err.splitlines()) <= 2
    with pytest.raises(ZooError, match="is damaged"):
        zoo.load(folder / "vae-digits.ckpt")


@pytest.mark.parametrize(
    ("command", "arguments", "message"),
    [
        ("sample", (), "--model NAME, a trained model, or --ckpt FILE is missing"),
        ("sample", ("--model", "vae-digit"), "Did you mean vae-digits?"),
        ("sample", ("--model", "vae"), "vae is a kind of model, not a trained one: vae-digits"),
        ("sample", ("--ckpt", "vae-digitz"), "no trained model 'vae-digitz'"),
        ("evaluate", ("--model", "vae-digits", "--ckpt", "x.ckpt"), "one of them is enough"),
        ("encode", ("--model", "gan-digits"), "does not encode"),
        ("fit", ("--model", "vae-digits"), "python -m zoo.sample --model vae-digits"),
        ("fit", ("--model", "vae", "--ckpt_path", str(trained.FOLDER / "vae-digits.ckpt")), "holds a model alone"),
    ],
)
def test_what_is_wrong_is_a_line(cli, tmp_path, command, arguments, message):
    status, _, err = cli(command, *arguments)
    assert status == 2
    assert message in err and err.count("\n") <= 2
    assert list(tmp_path.iterdir()) == []


def test_samples_of_a_name(cli, tmp_path):
    status, _, err = cli("sample", "--model", "gan-digits", "--out", "a.npz")
    assert status == 0, err
    assert cli("sample", "--ckpt", "gan-digits", "--out", "b.npz")[0] == 0
    model = zoo.load("gan-digits")
    torch.manual_seed(0)
    expected = model.sample(64).numpy()
    for name in ("a.npz", "b.npz"):
        assert np.array_equal(np.load(tmp_path / name)["x"], expected)
    assert cli("sample", "--model", "vae-digits", "--what", "reconstructions", "--n", 4)[0] == 0
    assert (tmp_path / "reconstructions.png").exists()


def test_an_evaluation_lies_where_it_was_typed(cli, tmp_path):
    """And nothing is written beside the checkpoint; the training is that of the card."""
    before = sorted(trained.FOLDER.iterdir())
    assert cli("evaluate", "--model", "vae-digits")[0] == 0
    told = json.loads((tmp_path / "vae-digits" / "evaluation.json").read_text())
    assert (told["checkpoint"], told["weights"]) == ("vae-digits", "exported")
    assert told["training"]["command"] == trained.read_card("vae-digits").command
    assert sorted(trained.FOLDER.iterdir()) == before


def test_codes_of_a_name(cli, tmp_path):
    assert cli("encode", "--model", "vae-digits")[0] == 0
    assert np.load(tmp_path / "codes.npz")["test_z"].shape == (250, zoo.load("vae-digits").latent_dim)


def test_a_file_of_ones_own_comes_first(cli, tmp_path):
    """Where a file is called as a trained model is."""
    shutil.copy(trained.read_card("gan-digits").path, tmp_path / "vae-digits")
    assert "GAN trained on digits" in cli("sample", "--ckpt", "vae-digits")[1]


def test_listing_imports_nothing_heavy():
    code = "import sys; from zoo.cli.main import run; run([]); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.endswith("False\n")
    assert all(f"\n  {name} " in done.stdout for name in NAMES)
    lines = done.stdout[done.stdout.index("Trained models") :].splitlines()
    assert max(map(len, lines)) <= 80


def test_export_keeps_the_model_alone(run_folder, tmp_path):
    """The averaged weights of a run, and the same samples."""
    checkpoint = run_folder / "checkpoints" / "last.ckpt"
    small = export(checkpoint, tmp_path / "small.ckpt")
    assert small.stat().st_size < checkpoint.stat().st_size / 2
    stored, kept = read(checkpoint), read(small)
    assert kept["exported"] == "last, averaged"
    assert kept["state_dict"].keys() == stored["state_dict"].keys()
    found = []
    for path in (checkpoint, small, export(small, tmp_path / "again.ckpt")):
        torch.manual_seed(1)
        found.append(zoo.load(path).sample(5))
    assert torch.equal(found[0], found[1]) and torch.equal(found[0], found[2])
    with pytest.raises(ZooError, match="no checkpoint"):
        export(tmp_path / "none.ckpt", tmp_path / "x.ckpt")


def test_encoders_encode(card):
    model = zoo.load(card.name)
    assert isinstance(model, GenerativeModule)
    x = model.sample(3)
    if isinstance(model, Autoencodes):
        assert model.encode(x).shape == (3, model.latent_dim)


def test_the_page_lists_them():
    """Its table is made of the cards."""
    page = (REPOSITORY / "docs" / "trained_models.md").read_text()
    rows = re.findall(r"^\| `([\w-]+)` \| (.*) \| ([\d.]+) MB \| `(.*)` \|$", page, re.MULTILINE)
    cards = trained.cards()
    assert [row[0] for row in rows] == [card.name for card in cards]
    for (_, summary, megabytes, command), card in zip(rows, cards, strict=True):
        assert summary == card.summary
        assert megabytes == f"{card.bytes / MEGABYTE:.2f}"
        assert command == card.command.removeprefix("python -m zoo.fit ")
