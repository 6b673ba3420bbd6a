"""A lean batch is Lightning's batch: the same hooks, counters, rows and weights, bit for bit, whatever is trained how."""

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.strategies import SingleDeviceStrategy

from callbacks import ExponentialMovingAverage
from datamodules import Digits
from zoo.lean_batch import LeanBatch
from zoo.models import GAN, MADE, VAE
from zoo.runs import fit
from zoo.runs.checkpoints import read

SMALL = {"network": "mlp", "hidden": 4, "latent_dim": 2}
HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
    "on_validation_start",
    "on_train_epoch_end",
)


class Diary(Callback):
    """Every hook that was called, of what batch, with which name for ``self.log``, and what it was told."""

    def __init__(self):
        self.lines = []

    def note(self, hook, trainer, module, *told):
        step = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.state_dict()
        self.lines.append((hook, module._current_fx_name, trainer.fit_loop.epoch_loop.batch_progress.state_dict(), step))
        for each in told:
            loss = each.get("loss") if isinstance(each, dict) else each
            if isinstance(loss, torch.Tensor | int):
                self.lines[-1] += (torch.as_tensor(loss).item(),)


for name in HOOKS:
    setattr(Diary, name, lambda self, *args, name=name: self.note(name, *args))


class Talkative(VAE):
    """A model of a user's that logs in its objective, and has hooks of its own."""

    def objective(self, batch):
        loss, terms = super().objective(batch)
        self.log("half", loss / 2)
        return loss, terms

    def on_before_zero_grad(self, optimizer):
        self.log("of_zero_grad", float(self._current_fx_name == "on_before_zero_grad"))

    def on_after_backward(self):
        for weight in self.parameters():
            weight.grad.mul_(0.5)


class Skips(VAE):
    """Every third batch gives no loss; the ninth ends its epoch."""

    def training_step(self, batch, batch_idx):
        return None if batch_idx % 3 == 2 else {"loss": super().training_step(batch, batch_idx), "extra": batch_idx}

    def on_train_batch_start(self, batch, batch_idx):
        super().on_train_batch_start(batch, batch_idx)
        return -1 if batch_idx == 8 else None


class Alone(VAE):
    """A step that takes no number."""

    def training_step(self, batch):
        return super().training_step(batch, 0)


class OwnStep(VAE):
    """The optimizer's step is taken by the model, which Lightning has to ask."""

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure):
        optimizer.step(closure=optimizer_closure)
        self.log("stepped", float(batch_idx))


class Scheduled(VAE):
    """A scheduler of Lightning's."""

    def configure_optimizers(self):
        adam = super().configure_optimizers()
        schedule = torch.optim.lr_scheduler.ExponentialLR(adam, 0.9)
        return {"optimizer": adam, "lr_scheduler": {"scheduler": schedule, "interval": "step", "frequency": 2}}


class Moved(VAE):
    """Batches that are changed on their way."""

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch._replace(x=batch.x.clamp(max=3))


CASES = {
    "vae": (VAE, SMALL, {}),
    "clipped": (VAE, SMALL, {"gradient_clip_val": 0.1}),
    "bf16": (VAE, SMALL, {"precision": "bf16-mixed"}),
    "double": (VAE, SMALL, {"precision": "64-true"}),
    "half": (MADE, {"hidden": [8]}, {"precision": "bf16-true"}),
    "rmsprop": (VAE, {**SMALL, "optimizer": "rmsprop", "schedule": "cosine"}, {}),
    "accumulated": (VAE, SMALL, {"accumulate_grad_batches": 3}),
    "profiled": (VAE, SMALL, {"profiler": "simple"}),
    "gan": (GAN, {"network": "mlp", "width": 4, "latent_dim": 2}, {}),
    "logs": (Talkative, SMALL, {}),
    "skips": (Skips, SMALL, {}),
    "alone": (Alone, SMALL, {}),
    "steps itself": (OwnStep, SMALL, {}),
    "scheduled": (Scheduled, SMALL, {}),
    "moved": (Moved, SMALL, {}),
}
LEAN = set(CASES) - {"accumulated", "profiled"}


def train(folder, case, **more):
    cls, options, trainer = CASES[case]
    torch.manual_seed(0)
    data, diary = Digits(seed=3), Diary()
    model = cls(data.spec, **options)
    parts = {name for name, _ in model.named_children()}
    average = ExponentialMovingAverage(next(name for name in ("generator", "decoder", "net") if name in parts))
    rest = {"max_steps": 24, "val_check_interval": 7, "limit_val_batches": 1, "log_every_n_steps": 4}
    quiet = {"enable_progress_bar": False, "wandb": "off"}
    run = fit(model, data, root=folder, seed=3, callbacks=[diary, average], **{**rest, **quiet, **trainer, **more})
    return run, diary


def state(run):
    """All that a checkpoint has but the time."""
    kept = read(run.folder / "checkpoints" / "last.ckpt")
    return {name: value for name, value in kept.items() if name != "callbacks"}, {
        name: value for name, value in kept["callbacks"].items() if "Checkpoint" not in name
    }


def assert_equal(a, b):
    """Bit for bit, also where something is not a number."""
    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def plain(value):
    """Nested containers as one mapping of names to tensors and other values."""
    flat = {}

    def walk(name, each):
        if isinstance(each, dict):
            for key, inner in each.items():
                walk(f"{name}.{key}", inner)
        elif isinstance(each, list | tuple):
            for key, inner in enumerate(each):
                walk(f"{name}.{key}", inner)
        else:
            flat[name] = each

    walk("", value)
    return flat


@pytest.mark.parametrize("case", CASES)
def test_the_same_as_lightnings(case, tmp_path, monkeypatch):
    """Batches of an epoch and of the next one, with validations between them; and the checkpoint of their end."""
    taken = []
    advance = LeanBatch.advance
    monkeypatch.setattr(LeanBatch, "advance", lambda *args: (taken.append(1), advance(*args)))
    ours, diary = train(tmp_path / "lean", case)
    begun = sum(line[0] == "on_train_batch_start" for line in diary.lines)
    assert len(taken) == (begun if case in LEAN else 0)
    monkeypatch.setattr(LeanBatch, "of", classmethod(lambda *args: None))
    theirs, expected = train(tmp_path / "lightning", case)
    for line, its in zip(diary.lines, expected.lines, strict=True):
        assert line == its
    assert len(diary.lines) > 100
    mine, reference = plain(state(ours)), plain(state(theirs))
    assert mine.keys() == reference.keys()
    for name, value in mine.items():
        if isinstance(value, torch.Tensor):
            assert_equal(value, reference[name])
        else:
            assert value == reference[name] or value != value or "folder" in name, name
    rows = [(run.folder / "metrics.csv").read_text() for run in (ours, theirs)]
    assert rows[0] == rows[1] and rows[0].count("\n") > 5
    logged = [{name: float(value) for name, value in run.trainer.callback_metrics.items()} for run in (ours, theirs)]
    assert str(logged[0]) == str(logged[1])


def test_a_callback_that_comes_later_is_heard(tmp_path):
    """Who listens is looked up once an epoch, and anew where the Trainer has other callbacks."""
    heard = []
    late = LambdaCallback(on_after_backward=lambda trainer, module: heard.append(trainer.global_step))

    def add(trainer, *args):
        if trainer.global_step == 4:
            trainer.callbacks.append(late)

    data, early = Digits(), LambdaCallback(on_train_batch_end=add)
    quiet = {"enable_progress_bar": False, "wandb": "off"}
    fit(VAE(data.spec, **SMALL), data, root=tmp_path, callbacks=[early], max_steps=8, **quiet)
    assert heard == [4, 5, 6, 7]


class Bare(LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch, batch_idx):
        return self.layer(batch).sum()


class OwnStrategy(SingleDeviceStrategy):
    """A strategy of a user's."""


@pytest.mark.parametrize(
    ("options", "lean"),
    [
        ({}, True),
        ({"gradient_clip_val": 1.0}, True),
        ({"precision": "bf16-mixed"}, True),
        ({"accumulate_grad_batches": 2}, False),
        ({"profiler": "simple"}, False),
        ({"strategy": "ddp"}, False),
        ({"strategy": OwnStrategy(torch.device("cpu"))}, False),
    ],
)
def test_what_goes_lightnings_way(options, lean):
    trainer, model = Trainer(accelerator="cpu", devices=1, logger=False, **options), Bare()
    trainer.strategy.connect(model)
    trainer._data_connector.attach_data(model, train_dataloaders=[torch.zeros(1, 1)])
    assert (LeanBatch.of(trainer, None) is not None) is lean
    trainer.strategy.model = torch.nn.Sequential(model)
    assert LeanBatch.of(trainer, None) is None
