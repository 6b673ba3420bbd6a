"""Steps are batches: for every model, whatever its optimizers do, in all that is typed, shown and written."""

import csv

import pytest
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from callbacks import SampleGrid
from datamodules import Digits
from zoo.batches import BatchLoop, count_batches, last_batch
from zoo.models import GAN, VAE, FactorVAE
from zoo.runs import fit
from zoo.runs.checkpoints import read

BATCHES = 21  # of an epoch of digits
MODELS = {
    "vae": (VAE, {"network": "mlp", "hidden": 4, "latent_dim": 2}, {}),
    "vae, accumulated": (VAE, {"network": "mlp", "hidden": 4, "latent_dim": 2}, {"accumulate_grad_batches": 2}),
    "vae, in fours": (VAE, {"network": "mlp", "hidden": 4, "latent_dim": 2}, {"accumulate_grad_batches": 4}),
    "gan": (GAN, {"network": "mlp", "width": 4, "latent_dim": 2}, {}),
    "factor_vae": (FactorVAE, {"network": "mlp", "hidden": 4, "latent_dim": 2, "discriminator_width": 4}, {}),
}


class Rows(Logger):
    """A logger of one's own: the steps that it is given."""

    name = version = "rows"

    def __init__(self):
        super().__init__()
        self.steps = []

    def log_metrics(self, metrics, step=None):
        self.steps.append(step)

    def log_hyperparams(self, params, *args, **kwargs):
        pass


class Watch(Callback):
    def __init__(self):
        self.trained = 0

    def on_train_batch_end(self, trainer, *args):
        self.trained += 1
        assert trainer.global_step == self.trained


@pytest.mark.parametrize("name", MODELS)
def test_one_convention(tmp_path, name):
    """Training, the bar, rows, pictures, checkpoints and validations: of an epoch that no interval divides, and more."""
    cls, options, more = MODELS[name]
    data, watch, rows = Digits(), Watch(), Rows()
    files = ModelCheckpoint(tmp_path / "files", filename="{step}", every_n_train_steps=15, save_top_k=-1)
    run = fit(
        cls(data.spec, **options),
        data,
        root=tmp_path,
        wandb="off",
        max_steps=45,
        log_every_n_steps=5,
        val_check_interval=20,
        check_val_every_n_epoch=None,
        callbacks=[watch, SampleGrid(4), files],
        logger=[rows],
        **more,
    )
    assert watch.trained == run.trainer.global_step == 45
    bar = run.trainer.progress_bar_callback
    assert (bar._bar.n, bar._bar.total) == (45, 45)
    with (run.folder / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["step"]) for row in table] == list(range(5, 46, 5)) == sorted(set(rows.steps))
    assert [int(row["step"]) for row in table if row["val/loss"]] == [20, 40, 45]
    pictures = sorted(path.stem for path in (run.folder / "pictures").glob("samples-*"))
    assert pictures == ["samples-0000020", "samples-0000040", "samples-0000045"]
    assert sorted(path.stem for path in (tmp_path / "files").iterdir()) == ["step=15", "step=30", "step=45"]
    assert read(tmp_path / "files" / "step=30.ckpt")["zoo_training_batches"] == 30
    assert run.model.training_batches == 45


@pytest.mark.parametrize("name", MODELS)
def test_epochs_and_their_ends(tmp_path, name):
    cls, options, more = MODELS[name]
    data = Digits()
    run = fit(cls(data.spec, **options), data, root=tmp_path, wandb="off", max_epochs=2, log_every_n_steps=1000, **more)
    assert run.trainer.global_step == 2 * BATCHES
    assert read(run.folder / "checkpoints" / "last.ckpt")["global_step"] == 2 * BATCHES
    with (run.folder / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [BATCHES, 2 * BATCHES]
    again = fit(
        cls(data.spec, **options),
        Digits(),
        root=tmp_path,
        resume=run.folder / "checkpoints" / "last.ckpt",
        wandb="off",
        max_steps=50,
        **more,
    )
    assert again.trainer.global_step == 50


def test_the_last_batch_is_known(tmp_path):
    def expected(**options) -> int | None:
        found = []

        class Ask(Callback):
            def on_train_batch_start(self, trainer, *args):
                found.append(last_batch(trainer))
                trainer.should_stop = len(found) == 2

        data = Digits()
        quiet = {"wandb": "off", "limit_val_batches": 0, "enable_progress_bar": False}
        fit(VAE(data.spec, **MODELS["vae"][1]), data, root=tmp_path, callbacks=[Ask()], **quiet, **options)
        assert len(set(found)) == 1
        return found[0]

    assert expected(max_steps=30) == 30
    assert expected(max_epochs=3) == 3 * BATCHES
    assert expected(max_epochs=3, max_steps=50, accumulate_grad_batches=2) == 50
    assert expected(max_epochs=-1) is None


def test_a_loop_of_ones_own_stays():
    class Own(_TrainingEpochLoop):
        pass

    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    trainer.fit_loop.epoch_loop = Own(trainer)
    count_batches(trainer)
    assert type(trainer.fit_loop.epoch_loop) is Own


def test_what_is_asked_of_lightning_is_there():
    """The names that :mod:`zoo.batches` overrides."""
    connector = Trainer(accelerator="cpu", logger=False)._logger_connector
    assert isinstance(vars(type(connector))["should_update_logs"], property)
    assert callable(connector.update_train_step_metrics)
    assert isinstance(_TrainingEpochLoop.global_step, property)
    assert issubclass(BatchLoop, _TrainingEpochLoop)
