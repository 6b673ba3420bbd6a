"""What ``zoo.lightning`` asks of Lightning still says what it is taken for, and nobody else asks."""

import ast
import inspect
import subprocess
import sys
from dataclasses import dataclass

import pytest
import torch
from conftest import REPOSITORY
from jsonargparse import ArgumentParser
from lightning_fabric.strategies.launchers.subprocess_script import _ChildProcessObserver
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.core.mixins.hparams_mixin import _given_hyperparameters_context
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities import rank_zero_only
from torch import nn
from torch.utils.data import DataLoader

import zoo.lightning
from zoo.lightning import (
    attached_trainer,
    checkpoint_of,
    datamodule_of,
    instantiate_stored,
    is_fast_dev_run,
    log_interval,
    option_strings,
    overfits,
    own_hyperparameters,
    process_rank,
    quiet_lightning,
    set_hyperparameters,
    take_children,
    writes_row,
)


class Rows(Logger):
    """Remembers at which batches rows were written, and with which hyperparameters."""

    name = version = "rows"

    def __init__(self):
        super().__init__()
        self.steps, self.hyperparameters = [], {}

    def log_metrics(self, metrics, step=None):
        if "loss" in metrics:
            self.steps.append(step)

    def log_hyperparams(self, params, *args, **kwargs):
        self.hyperparameters = dict(params)


class Numbers(LightningDataModule):
    def train_dataloader(self):
        return DataLoader(torch.zeros(7, 2), batch_size=1)


class Model(LightningModule):
    """Logs a loss at every batch; ``answers`` says at which batches :func:`writes_row` expected a row."""

    def __init__(self, width: int = 2):
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(width, 1)
        self.answers = []

    def training_step(self, batch, batch_idx):
        loss = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def on_train_batch_end(self, outputs, batch, batch_idx):
        if writes_row(self.trainer):
            self.answers.append(batch_idx)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Steps(Model):
    """Two optimizer steps a batch, so that ``global_step`` is not the number of batches."""

    automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for _ in range(2):
            loss = self.layer(batch).square().mean()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log("loss", loss)


def moved(name: str) -> str:
    return f"zoo.lightning.{name}: what it asks of Lightning has moved or means something else"


def fit(tmp_path, model, logger=False, **options):
    trainer = Trainer(
        accelerator="cpu",
        logger=logger,
        max_epochs=1,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **options,
    )
    trainer.fit(model, Numbers())
    return trainer


@pytest.mark.parametrize("kind", [Model, Steps])
def test_writes_row(kind, tmp_path):
    """The batches at which a row is expected are those at which loggers get one."""
    rows, model = Rows(), kind()
    fit(tmp_path, model, rows, log_every_n_steps=3)
    assert model.answers == rows.steps == [2, 5], moved("writes_row")


def test_fast_dev_run(tmp_path):
    model = Model()
    assert is_fast_dev_run(fit(tmp_path, model, fast_dev_run=2)) is True, moved("is_fast_dev_run")
    assert model.answers == [0, 1], moved("writes_row")
    assert is_fast_dev_run(Trainer(logger=False)) is False, moved("is_fast_dev_run")


@pytest.mark.parametrize(("given", "expected"), [(None, 50), (7, 7), (0, 50)])
def test_log_interval(given, expected):
    assert log_interval(Trainer(log_every_n_steps=given, logger=False)) == expected, moved("log_interval")


def test_process_rank(monkeypatch):
    assert process_rank() == 0, moved("process_rank")
    monkeypatch.setattr(rank_zero_only, "rank", 3)
    called = []
    rank_zero_only(called.append)(1)
    assert process_rank() == 3 and not called, moved("process_rank")


def test_option_strings():
    parser = ArgumentParser()
    parser.add_argument("--plain", "-p")
    parser.add_class_arguments(Model, "model")
    assert {"--plain", "-p", "--model.width"} <= {*option_strings(parser)}, moved("option_strings")


@pytest.mark.parametrize(("given", "expected"), [(0, False), (1, True), (0.5, True)])
def test_overfits(given, expected):
    assert overfits(Trainer(overfit_batches=given, logger=False)) is expected, moved("overfits")


def test_datamodule_of(tmp_path):
    assert isinstance(datamodule_of(fit(tmp_path, Model(), max_steps=1)), Numbers), moved("datamodule_of")
    assert datamodule_of(Trainer(logger=False)) is None, moved("datamodule_of")


def test_checkpoint_of(tmp_path):
    """What is in the file that a Trainer writes at the same moment."""
    seen = []

    class Notes(Callback):
        def on_train_end(self, trainer, pl_module):
            seen.append(checkpoint_of(trainer))
            trainer.save_checkpoint(tmp_path / "written.ckpt")

    fit(tmp_path, Model(), max_steps=1, callbacks=[Notes()])
    written = torch.load(tmp_path / "written.ckpt", weights_only=True)
    assert seen[0].keys() == written.keys(), moved("checkpoint_of")
    assert seen[0]["loops"] == written["loops"], moved("checkpoint_of")


def test_attached_trainer(tmp_path):
    model, seen = Model(), []

    class Notes(Callback):
        def on_train_start(self, trainer, pl_module):
            seen.append(attached_trainer(pl_module) is trainer)

    assert attached_trainer(model) is None, moved("attached_trainer")
    fit(tmp_path, model, max_steps=1, callbacks=[Notes()])
    assert seen == [True], moved("attached_trainer")


def test_set_hyperparameters(tmp_path):
    """They are what loggers get and what a checkpoint gives to the constructor, by name."""
    rows, model = Rows(), Model()
    model.layer = nn.Linear(3, 1)
    set_hyperparameters(model, {"width": 3})
    trainer = fit(tmp_path, model, rows, fast_dev_run=False, max_steps=0)
    assert rows.hyperparameters == {"width": 3}, moved("set_hyperparameters")
    trainer.save_checkpoint(tmp_path / "model.ckpt")
    assert Model.load_from_checkpoint(tmp_path / "model.ckpt").layer.in_features == 3, moved("set_hyperparameters")


def test_own_hyperparameters():
    """A model that is made while the command line makes another."""

    class Inner(LightningModule):
        def __init__(self, depth: int):
            super().__init__()
            self.save_hyperparameters()

    def make() -> Inner:  # from a frame of its own: arguments are looked for in those of constructors
        return Inner(2)

    class Outer(LightningModule):
        def __init__(self, width: int):
            super().__init__()
            self.save_hyperparameters()
            self.foreign = make()
            with own_hyperparameters():
                self.inner = make()

    with _given_hyperparameters_context({"width": 5}, "the command line"):
        outer = Outer(5)
    assert outer.hparams["width"] == outer.foreign.hparams["width"] == 5, moved("own_hyperparameters")
    assert dict(outer.inner.hparams) == {"depth": 2}, moved("own_hyperparameters")


def test_take_children():
    """Lightning's thread, which would kill this process when one of those has failed, sees none of them any more."""
    assert take_children(Trainer(accelerator="cpu", devices=1, logger=False)) == [], moved("take_children")
    launcher = Trainer(accelerator="cpu", devices=2, strategy="ddp", logger=False).strategy.launcher
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"]) as child:
        launcher.procs.append(child)
        child.wait()
        thread = _ChildProcessObserver(main_pid=-1, child_processes=launcher.procs)
        assert take_children(type("Trainer", (), {"strategy": type("Strategy", (), {"launcher": launcher})})) == [child]
        assert thread._run(), moved("take_children")
        assert launcher.procs == [child], moved("take_children")


def test_every_function_is_tested():
    tested = {
        writes_row, is_fast_dev_run, log_interval, overfits, option_strings, process_rank, datamodule_of, attached_trainer,
        set_hyperparameters, quiet_lightning, instantiate_stored, take_children, own_hyperparameters, checkpoint_of,
    }  # fmt: skip
    assert {getattr(zoo.lightning, name) for name in zoo.lightning.__all__} == tested
    assert all(inspect.getdoc(function) for function in tested)


# What torch.compile raises has no public name.
PRIVATE_MODULES = ("torch._dynamo.exc",)

# Files that derive from what is private, or ask it in one place.
DERIVED = {
    "zoo/lightning.py": "tested above",
    "zoo/batches.py": "from Lightning's loop over batches and its rows for loggers; tests/test_batches.py",
    "zoo/lean_batch.py": "what Lightning's loop does at a batch; tests/test_lean_batch.py holds it to that, bit for bit",
    "zoo/resuming.py": "from Lightning's loops; tests/test_resuming.py says when they do something else",
    "zoo/experiments/stack.py": "torch's `_parameters` and `_buffers`, where alone other tensors can stand",
    "zoo/experiments/study_worker.py": "os._exit, which is public: a forked process must not end as its parent does",
    "zoo/runs/peers.py": "os._exit, which is public: nothing else ends, from a thread, a process that waits in C",
    "zoo/nets/batch_norm.py": "from the base of torch's batch normalizations, which has no public name",
}


def test_private_names_of_others():
    """``x._name`` is a name of ours: of the class itself (``self``, ``cls``, ``super()``), or of the same file."""
    files = [path for top in ("zoo", "datamodules", "callbacks") for path in sorted((REPOSITORY / top).rglob("*.py"))]
    files = [path for path in files if path.relative_to(REPOSITORY).as_posix() not in DERIVED]
    trees = {path: ast.parse(path.read_text()) for path in files}
    ours = {path: {name for node in ast.walk(tree) for name in _defined(node)} for path, tree in trees.items()}
    everywhere = set().union(*ours.values())
    found = []
    for path, tree in trees.items():
        for node in ast.walk(tree):
            asked, known = "", everywhere
            if isinstance(node, ast.Attribute) and _private(node.attr):
                asked, known = node.attr, everywhere if _of_the_class(node.value) else ours[path]
            elif isinstance(node, ast.ImportFrom) and node.module not in PRIVATE_MODULES:
                asked = next(filter(_private, [*(node.module or "").split("."), *(name.name for name in node.names)]), "")
            if asked and asked not in known:
                found.append(f"{path.relative_to(REPOSITORY)}:{node.lineno}: {ast.unparse(node)}")
    assert found == [], "ask for it in zoo/lightning.py, or by a public name"


def _private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _of_the_class(owner: ast.expr) -> bool:
    return ast.unparse(owner) in ("self", "cls", "super()")


def _defined(node: ast.AST) -> list[str]:
    """The names that a statement of ours defines: functions, classes, and what is assigned to them or to ``self``."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        return [node.id]
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and _of_the_class(node.value):
        return [node.attr]
    return []


@dataclass
class Layers:
    """Widths."""

    widths: list[int]


class Nested:
    def __init__(self, layers: Layers, part: nn.Module):
        self.layers, self.part = layers, part


def test_instantiate_stored():
    part = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}
    made = instantiate_stored(Nested, {"layers": {"widths": [1, 2]}, "part": part})
    assert made.layers == Layers([1, 2])
    assert isinstance(made.part, nn.Linear) and made.part.out_features == 3
