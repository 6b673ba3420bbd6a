"""best.ckpt and last.ckpt: the best is the best, and known, in whatever folder a run goes on."""

import csv
import shutil

import pytest
import torch

from datamodules import Digits
from zoo.models.vae import VAE
from zoo.runs import training
from zoo.runs.checkpoints import read

OPTIONS = {"wandb": "off", "enable_progress_bar": False, "log_every_n_steps": 5}


def train(root, lr=1e-2, **options):
    torch.manual_seed(0)
    data = Digits(batch_size=256, seed=0)
    model = VAE(data.spec, network="mlp", hidden=16, latent_dim=2, lr=lr)
    return training.fit(model, data, root=root, **OPTIONS, **options)


def score(path) -> float:
    return float(read(path)["callbacks"]["RunCheckpoint[best]"]["score"])


def validated(folder) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["val/elbo"]) for row in csv.DictReader(file) if row.get("val/elbo")]


def paths_in(state) -> list[str]:
    if isinstance(state, dict):
        return [found for each in state.items() for part in each for found in paths_in(part)]
    return [state] if isinstance(state, str) and "/" in state and not state.startswith(("val/", "train/")) else []


@pytest.mark.parametrize("options", [{"max_epochs": 3}, {"max_steps": 13, "val_check_interval": 2}])
def test_the_last_one_knows_the_best(tmp_path, options):
    folder = train(tmp_path, **options).folder
    best = max(validated(folder))
    last = read(folder / "checkpoints/last.ckpt")
    assert score(folder / "checkpoints/best.ckpt") == score(folder / "checkpoints/last.ckpt") == pytest.approx(best)
    assert paths_in(last["callbacks"]) == []
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}


@pytest.mark.parametrize("moved", [False, True])
def test_a_worse_model_does_not_take_the_place_of_the_best(tmp_path, moved):
    folder = train(tmp_path, max_epochs=3).folder
    if moved:
        folder = shutil.move(folder, tmp_path / "elsewhere")
    best, last = folder / "checkpoints/best.ckpt", folder / "checkpoints/last.ckpt"
    before = best.read_bytes()
    checkpoint = read(last)
    for weight in checkpoint["state_dict"].values():
        weight.normal_()
    torch.save(checkpoint, last)
    train(tmp_path, max_epochs=4, resume=last)
    assert len(validated(folder)) == 4
    assert validated(folder)[-1] < max(validated(folder))
    assert best.read_bytes() == before
    assert score(last) == score(best)


def test_a_better_model_of_a_part_that_is_done_again_stays(tmp_path):
    """The run goes on from before its best checkpoint, and otherwise: what it had reached is not overwritten by less."""
    folder = train(tmp_path, max_epochs=1).folder
    shutil.copy(folder / "checkpoints/last.ckpt", tmp_path / "first.ckpt")
    train(tmp_path, max_epochs=4, resume=folder / "checkpoints/last.ckpt")
    best = folder / "checkpoints/best.ckpt"
    before, reached = best.read_bytes(), score(best)
    shutil.copy(tmp_path / "first.ckpt", folder / "checkpoints/last.ckpt")
    checkpoint = read(folder / "checkpoints/last.ckpt")
    checkpoint["optimizer_states"][0]["param_groups"][0]["lr"] = 1e-4
    torch.save(checkpoint, folder / "checkpoints/last.ckpt")
    train(tmp_path, max_epochs=3, resume=folder / "checkpoints/last.ckpt")
    assert score(folder / "checkpoints/last.ckpt") < reached, "this part is better than its own beginning alone"
    assert best.read_bytes() == before


@pytest.mark.parametrize("harm", ["missing", "damaged"])
def test_a_best_checkpoint_that_is_gone_is_made_anew(tmp_path, harm):
    folder = train(tmp_path, max_epochs=2).folder
    best = folder / "checkpoints/best.ckpt"
    if harm == "missing":
        best.unlink()
    else:
        best.write_bytes(best.read_bytes()[:1000])
    checkpoint = read(folder / "checkpoints/last.ckpt")
    for weight in checkpoint["state_dict"].values():
        weight.normal_()
    torch.save(checkpoint, folder / "checkpoints/last.ckpt")
    train(tmp_path, max_epochs=3, resume=folder / "checkpoints/last.ckpt")
    assert score(best) == pytest.approx(validated(folder)[-1])
