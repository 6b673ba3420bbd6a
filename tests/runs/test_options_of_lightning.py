"""Options of Lightning: those that a model can't have are told in two lines before anything is written; clipping works."""

from pathlib import Path

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.models import GAN, VAE, FactorVAE
from zoo.runs.training import fit

QUIET = {"wandb": "off", "accelerator": "cpu", "enable_progress_bar": False}


def small(kind: type, spec):
    return kind(spec, network="mlp", hidden=8, latent_dim=2) if kind is not GAN else GAN(spec, network="mlp", width=8)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (GAN, {"accumulate_grad_batches": 2}, "accumulate_grad_batches 2: GAN steps two optimizers"),
        (FactorVAE, {"accumulate_grad_batches": 3}, "Give a larger --data.batch_size"),
        (GAN, {"strategy": "nonsense"}, "invalid strategy name"),
        (GAN, {"devices": 0}, "devices=0"),
        (GAN, {"num_nodes": 0}, "num_nodes"),
        (GAN, {"max_time": "soon"}, "not a valid duration"),
        (GAN, {"precision": "7"}, "[Pp]recision"),
        (GAN, {"gradient_clip_val": "much"}, "gradient_clip_val"),
        (GAN, {"gradient_clip_val": 1.0, "gradient_clip_algorithm": "shears"}, "gradient_clip_algorithm|shears"),
        (VAE, {"val_check_interval": 1000, "check_val_every_n_epoch": 1}, "val_check_interval"),
        (VAE, {"val_check_interval": 1.5}, "val_check_interval"),
        (VAE, {"limit_train_batches": -1}, "limit_train_batches"),
        (VAE, {"max_epochs": -2}, "max_epochs"),
        (VAE, {"fast_dev_run": -1}, "fast_dev_run"),
        (VAE, {"profiler": "nonsense"}, "profiler"),
        (VAE, {"barebones": True, "enable_progress_bar": True}, "barebones"),
        (VAE, {"inference_mode": True, "overfit_batches": -3}, "overfit_batches"),
    ],
    ids=str,
)
def test_what_can_not_be_leaves_nothing_behind(tmp_path, kind, options, message):
    data = Digits()
    with pytest.raises(ZooError, match=message) as caught:
        fit(small(kind, data.spec), data, root=tmp_path, **{**QUIET, "max_steps": 2, **options})
    assert str(caught.value).count("\n") <= 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name.isdecimal()]


@pytest.mark.parametrize(("option", "most"), [("max_epochs", 1), ("max_steps", 4)])
def test_less_than_the_checkpoint_has(tmp_path, option, most):
    data = Toy("ring")
    steps = len(data.train_dataloader())
    run = fit(small(GAN, data.spec), data, root=tmp_path, max_epochs=2, limit_train_batches=3, limit_val_batches=1, **QUIET)
    assert steps > 3
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    last = run.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(ZooError, match=rf"{option} {most}: .*last\.ckpt has .* already\.\nGive . or more"):
        fit(small(GAN, data.spec), data, root=tmp_path, resume=last, **{option: most}, **QUIET)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("damage", ["loops", "optimizer_states", "callbacks", "zoo_random_states", "zoo_progress"])
def test_states_that_can_not_be_taken_up(tmp_path, damage):
    data = Toy("ring")
    run = fit(small(GAN, data.spec), data, root=tmp_path, max_steps=2, **QUIET)
    last = run.folder / "checkpoints" / "last.ckpt"
    contents = torch.load(last, weights_only=True)
    states = {"loops": {"fit_loop": {"state_dict": 3}}, "callbacks": {"x": 1}, "zoo_progress": {"moment": "x"}}
    contents[damage] = states.get(damage, [{"a": 1}])
    torch.save(contents, last)
    if damage == "callbacks":  # of a callback that is not there any more
        assert fit(small(GAN, data.spec), data, root=tmp_path, resume=last, max_steps=3, **QUIET).trainer.global_step == 3
        return
    with pytest.raises(ZooError, match=r"last\.ckpt|damaged|foreign") as caught:
        fit(small(GAN, data.spec), data, root=tmp_path, resume=last, max_steps=3, **QUIET)
    assert str(caught.value).count("\n") <= 1


class Gradients(Callback):
    """The norms of the gradients that each optimizer took its steps with, and the largest gradient of all."""

    def __init__(self):
        self.norms, self.largest = [], 0.0

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        for optimizer in trainer.optimizers:
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"]]
            self.norms.append(float(torch.nn.utils.get_total_norm(gradients)))
            self.largest = max(self.largest, *(float(gradient.abs().max()) for gradient in gradients))


@pytest.mark.parametrize("kind", [GAN, FactorVAE, VAE])
@pytest.mark.parametrize("way", ["zoo", "own"])
def test_clipping_is_that_of_each_optimizer(tmp_path, kind, way):
    data, seen = Digits(), Gradients()
    model = small(kind, data.spec)
    options = {"gradient_clip_val": 1e-3, "max_steps": 4, "callbacks": [seen], "limit_val_batches": 1}
    if way == "zoo":
        trainer = fit(model, data, root=tmp_path, **QUIET, **options).trainer
    else:
        trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **options)
        trainer.fit(model, data)
    assert len(seen.norms) >= 3
    assert max(seen.norms) <= 1.001e-3
    assert trainer.gradient_clip_val == 1e-3, "the Trainer has its option again"


def test_clipping_by_value_and_none(tmp_path):
    data = Digits()
    for value, algorithm in ((1e-4, "value"), (None, None)):
        seen = Gradients()
        options = {"gradient_clip_val": value, "gradient_clip_algorithm": algorithm, "callbacks": [seen]}
        fit(small(GAN, data.spec), data, root=tmp_path, max_steps=3, **options, **QUIET)
        assert (seen.largest <= 1.0001e-4) is (value is not None)


def test_the_command_line(cli):
    status, _, err = cli("fit", "--model", "factor_vae", "--data", "digits", "--trainer.accumulate_grad_batches", 2)
    assert status == 2
    assert "FactorVAE steps two optimizers" in err
    assert len(err.strip().splitlines()) == 2
    assert not Path("runs").exists()
