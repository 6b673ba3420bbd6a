"""Scores of samples in training: the functions' numbers, at their interval, and training as it is without them."""

import pytest
import torch
from pytorch_lightning import Trainer

from callbacks import SampleScores
from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.evaluation import classifier, sample
from zoo.evaluation.references import examples_of
from zoo.metrics import frechet_distance, mode_coverage
from zoo.models import GAN


def train(tmp_path, *callbacks, epochs=3):
    torch.manual_seed(0)
    data = Toy("ring", size=300, seed=0)
    model = GAN(data.spec)
    options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    trainer = Trainer(accelerator="cpu", max_epochs=epochs, callbacks=[*callbacks], default_root_dir=tmp_path, **options)
    trainer.fit(model, data)
    return trainer, model, data


def test_scores_are_the_functions_and_training_is_the_same(tmp_path):
    callback = SampleScores(("fd", "kid", "authenticity"), examples=50, seed=4)
    trainer, model, data = train(tmp_path, callback)
    _, without, _ = train(tmp_path)
    for ours, other in zip(model.parameters(), without.parameters(), strict=True):
        assert torch.equal(ours, other)
    held_out = examples_of(data, "val", 50, 4).x
    expected = frechet_distance(held_out, sample(model, 50, seed=4))
    assert trainer.callback_metrics["val/fd_points"].item() == pytest.approx(expected, rel=1e-5)
    assert {"val/kid_points", "val/authenticity_points", "val/sample_scores_seconds"} <= trainer.callback_metrics.keys()


def test_features_of_images_are_learned_in_the_first_validation(tmp_path, monkeypatch):
    """In which Lightning has turned gradients off, and more."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    monkeypatch.setattr(classifier, "_STEPS", 4)
    data = Digits()
    options = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False, "logger": False}
    options |= {"limit_train_batches": 2, "limit_val_batches": 1}
    callback = SampleScores(examples=50)
    trainer = Trainer(accelerator="cpu", max_epochs=1, callbacks=[callback], default_root_dir=tmp_path, **options)
    trainer.fit(GAN(data.spec), data)
    assert {"val/fd_digits_cnn", "val/clipped_density_digits_cnn"} <= trainer.callback_metrics.keys()


def test_modes_are_those_of_the_data(tmp_path):
    trainer, model, data = train(tmp_path, SampleScores(("modes",), examples=50, seed=4), epochs=1)
    found = mode_coverage(sample(model, 50, seed=4), data.means, data.std)
    assert trainer.callback_metrics["val/modes_points"].item() == found.modes
    assert trainer.callback_metrics["val/near_modes_points"].item() == pytest.approx(found.share)
    assert ("val/kl_modes_points" in trainer.callback_metrics) == (found.modes > 0)


def test_scores_have_an_interval_that_a_checkpoint_keeps(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("callbacks.sample_scores.score_model", lambda *a, **b: seen.append(1) or ({}, {}))
    callback = SampleScores(every_n_validations=2, examples=20)
    train(tmp_path, callback, epochs=5)
    assert (len(seen), callback.validations) == (3, 5)
    again = SampleScores(every_n_validations=2, examples=20)
    again.load_state_dict(callback.state_dict())
    train(tmp_path, again, epochs=1)
    assert len(seen) == 3


class Broken(GAN):
    """Draws what is no number."""

    def sample(self, n):
        return torch.full((n, *self.spec.shape), torch.nan)


def test_what_can_t_be_scored_is_left_out_with_a_warning(tmp_path):
    data = Toy("ring", size=300)
    options = {"enable_progress_bar": False, "enable_checkpointing": False, "logger": False, "default_root_dir": tmp_path}
    trainer = Trainer(accelerator="cpu", callbacks=[SampleScores(("fd",), examples=20)], **options)
    with pytest.warns(UserWarning, match="val/fd_points is left out: 20 of 20 examples"):
        (found,) = trainer.validate(Broken(data.spec), data, verbose=False)
    assert "val/fd_points" not in found


@pytest.mark.parametrize("options", [{"scores": ("fids",)}, {"examples": 1}, {"every_n_validations": 0}])
def test_options_that_can_t_be(options):
    with pytest.raises(ZooError):
        SampleScores(**options)
