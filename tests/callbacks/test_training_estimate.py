"""What a training will take is said after the first batches; and that the first one is still computed, where that lasts."""

import time
import warnings

import pytest
from pytorch_lightning import Callback

from callbacks import TrainingEstimate
from callbacks.training_estimate import duration
from datamodules import Digits
from zoo.errors import ZooError
from zoo.models import VAE
from zoo.runs import fit


class Slow(Callback):
    """Batches that take as long as they are told to, one after the other."""

    def __init__(self, *seconds):
        self.seconds = list(seconds)

    def on_train_batch_start(self, *args):
        time.sleep(self.seconds.pop(0) if self.seconds else 0)


def said(tmp_path, capsys, estimate, *seconds, **options):
    data = Digits()
    model = VAE(data.spec, network="mlp", hidden=4, latent_dim=2)
    more = {"wandb": "off", "limit_val_batches": 0, "max_steps": 6, **options}
    fit(model, data, root=tmp_path, callbacks=[estimate, Slow(*seconds)], **more)
    return capsys.readouterr().out


def test_fast_batches_are_measured_without_the_first(tmp_path, capsys):
    out = said(tmp_path, capsys, TrainingEstimate(enough=0.4), 0.3, *[0.2] * 5)
    (line,) = [line for line in out.splitlines() if " a batch, about " in line]
    assert line.startswith("0.2")
    assert "to batch 6, validations aside; " in line
    assert line.endswith(" GB of memory")


def test_a_slow_first_batch_is_an_estimate(tmp_path, capsys):
    out = said(tmp_path, capsys, TrainingEstimate(enough=0.2), 0.5, max_steps=3)
    assert "0.5" in next(line for line in out.splitlines() if " a batch, " in line)


def test_nothing_is_said_of_what_is_over_at_once_nor_twice(tmp_path, capsys):
    assert " a batch, " not in said(tmp_path, capsys, TrainingEstimate(enough=60))
    assert said(tmp_path, capsys, TrainingEstimate(enough=0), max_steps=6).count(" a batch, ") == 1


def test_the_end_may_be_unknown(tmp_path, capsys):
    class Stop(Callback):
        def on_train_batch_end(self, trainer, *args):
            trainer.should_stop = trainer.global_step == 3

    data = Digits()
    model = VAE(data.spec, network="mlp", hidden=4, latent_dim=2)
    quiet = {"wandb": "off", "limit_val_batches": 0, "max_epochs": -1}
    fit(model, data, root=tmp_path, callbacks=[TrainingEstimate(enough=0), Stop()], **quiet)
    assert "a batch, no end is set; " in capsys.readouterr().out


def test_a_training_of_days_is_warned_of(tmp_path, capsys):
    with pytest.warns(
        UserWarning, match=r"on this device. Fewer batches: --trainer.max_steps \d+ takes an hour.*hidden \(now 4\)"
    ):
        said(tmp_path, capsys, TrainingEstimate(enough=0, long=0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        estimate = TrainingEstimate(enough=0)
        assert estimate.long == 24 * 3600


def test_a_first_batch_that_lasts_is_announced(tmp_path, capsys):
    out = said(tmp_path, capsys, TrainingEstimate(patience=0.3), 1.0, max_steps=1)
    assert "no batch is done after 0 s" in out
    assert "no batch" not in said(tmp_path, capsys, TrainingEstimate(patience=30), max_steps=1)


def test_nothing_waits_after_an_error(tmp_path):
    class Fails(Callback):
        def on_train_batch_start(self, *args):
            raise ZooError("no")

    data, estimate = Digits(), TrainingEstimate(patience=30)
    model = VAE(data.spec, network="mlp", hidden=4, latent_dim=2)
    with pytest.raises(ZooError):
        fit(model, data, root=tmp_path, callbacks=[estimate, Fails()], wandb="off", max_steps=1)
    assert estimate._waiting is None


def test_durations_go_on_without_a_gap():
    for seconds in (0.0999, 0.1, 99, 100, 5999, 6001, 2 * 86400 - 1, 2 * 86400 + 1):
        number, unit = duration(seconds).split()
        size = {"ms": 1e-3, "s": 1, "min": 60, "h": 3600, "days": 86400}[unit]
        assert float(number) * size == pytest.approx(seconds, rel=0.05)
