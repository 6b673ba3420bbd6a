"""Disentanglement scores during training: against the scores themselves, and what they leave alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from blocks import Blocks, RenderedBlocks
from conftest import REPOSITORY
from PIL import Image
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from test_callbacks import Autoencoder, Shelf, fit

from callbacks import DisentanglementScores
from datamodules import Digits
from zoo.errors import ZooError
from zoo.metrics import CachedEncoder, beta_vae_score, draw_codes, score_codes
from zoo.models import GAN

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
FEW = {"points": 150, "test_points": 50, "num_train": 30, "num_eval": 20}


class Seen(Callback):
    """What was logged at each validation, and the weights then."""

    def __init__(self):
        self.metrics, self.weights = [], []

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.metrics.append({key: value.item() for key, value in trainer.callback_metrics.items()})
            self.weights.append({key: value.clone() for key, value in pl_module.state_dict().items()})


def train(data, folder, *callbacks, model=Autoencoder, **options):
    torch.manual_seed(0)
    made = model(data.spec)
    fit(made, data, folder, *callbacks, **{"steps": 4, "val_check_interval": 2, **options})
    return made


def test_rendered_points_and_votes_are_scored_as_by_hand(tmp_path):
    data, seen = RenderedBlocks(), Seen()
    scores = ("mig", "dci", "sap", "modularity", "beta_vae_score", "factor_vae_score")
    model = train(data, tmp_path, DisentanglementScores(scores, seed=3, **FEW), seen)
    metrics = seen.metrics[-1]
    assert metrics["val/disentanglement_seconds"] > 0
    assert data.rendered == 2 * 24, "each distinct image once at each of two validations"

    table = CachedEncoder(model.encode, data)
    codes, factors = draw_codes(table, data, 200, seed=3)
    points = codes[:150], factors[:150], codes[150:], factors[150:]
    expected = score_codes(*points, metrics=["mig", "dci", "sap", "modularity"])
    expected["beta_vae_score"] = beta_vae_score(table, data, num_train=30, num_eval=20, seed=3)["eval_accuracy"]
    for name, score in expected.items():
        assert metrics[f"val/{name}"] == pytest.approx(score, abs=1e-6), name
    assert 0 < metrics["val/factor_vae_score"] <= 1
    assert seen.metrics[0]["val/mig"] != metrics["val/mig"], "other weights, the same points"


def test_held_out_examples_are_scored_where_data_do_not_render(tmp_path):
    """All 240 validation examples are asked for, so that the score does not depend on which were taken."""
    data, seen = Blocks(batch_size=16), Seen()
    scores = DisentanglementScores(["mig", "modularity"], points=239, test_points=1)
    train(data, tmp_path, scores, seen)
    x, factors = data.splits["val"].x, data.splits["val"].factors
    model = Autoencoder(data.spec)
    for metrics, weights in zip(seen.metrics, seen.weights, strict=True):
        model.load_state_dict(weights)
        expected = score_codes(model.encode(x), factors, metrics=["mig", "modularity"])
        for name, score in expected.items():
            assert metrics[f"val/{name}"] == pytest.approx(score, abs=0.02), name  # but for the one test point


def test_few_points_come_from_all_batches(tmp_path):
    """The examples are sorted: the first 48 are of one row, for which no score is defined."""
    seen = Seen()
    train(Blocks(batch_size=4), tmp_path, DisentanglementScores(["mig", "sap"], points=30, test_points=15), seen)
    assert seen.metrics[-1].keys() >= {"val/mig", "val/sap"}


@pytest.mark.parametrize(
    ("data", "scores"), [(Blocks, ["mig", "explicitness"]), (RenderedBlocks, ["sap", "beta_vae_score", "factor_vae_score"])]
)
def test_training_is_the_same_with_and_without(tmp_path, data, scores):
    class Noisy(Autoencoder):
        """Draws random numbers in training and in encoding."""

        def encode(self, x):
            z = super().encode(x)
            return z + torch.randn_like(z)

    weights, states = [], []
    for callbacks in ((), (DisentanglementScores(scores, **FEW),)):
        model = train(data(seed=0), tmp_path, *callbacks, model=Noisy)
        weights.append(model.state_dict())
        states.append(torch.get_rng_state())
    torch.testing.assert_close(*weights, rtol=0, atol=0)
    assert torch.equal(*states)


def test_every_n_validations_and_on_after_a_resume(tmp_path):
    callback, seen = DisentanglementScores(["mig"], every_n_validations=2, **FEW), []

    class Count(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            if not trainer.sanity_checking:
                seen.append(callback._due)

    train(RenderedBlocks(), tmp_path, callback, Count(), steps=6)
    assert seen == [True, False, True]
    resumed = DisentanglementScores(["mig"], every_n_validations=2, **FEW)
    resumed.load_state_dict(callback.state_dict())
    assert resumed.validations == 3


def test_a_score_is_a_checkpoint_s_monitor(tmp_path):
    best = ModelCheckpoint(tmp_path, filename="best", monitor="val/mig", mode="max")
    data = RenderedBlocks()
    trainer = Trainer(
        accelerator="cpu",
        max_steps=4,
        val_check_interval=2,
        callbacks=[DisentanglementScores(["mig"], **FEW), best],
        default_root_dir=tmp_path,
        **QUIET,
    )
    trainer.fit(Autoencoder(data.spec), data)
    assert Path(best.best_model_path).is_file()
    assert 0 <= best.best_model_score <= 1


def test_matrices_are_drawn_and_logged(tmp_path):
    shelf = Shelf()
    train(RenderedBlocks(), tmp_path / "a", DisentanglementScores(["mig", "dci"], **FEW), logger=shelf)
    assert {path.name for path in (tmp_path / "a/pictures").iterdir()} == {
        f"{name}{batches}.png" for name in ("information", "importance") for batches in ("", "-0000002", "-0000004")
    }
    assert [name for name, *_ in shelf.images] == ["information", "importance"] * 2
    assert min(Image.open(tmp_path / "a/pictures/information.png").size) > 200
    train(RenderedBlocks(), tmp_path / "b", DisentanglementScores(["mig"], **FEW))
    assert not (tmp_path / "b/pictures/importance.png").exists()
    train(RenderedBlocks(), tmp_path / "c", DisentanglementScores(["mig"], heat_maps=False, **FEW))
    assert not (tmp_path / "c/pictures").exists()


def test_what_is_not_defined_is_left_out_with_a_warning(tmp_path):
    class Broken(Autoencoder):
        def encode(self, x):
            return super().encode(x) / 0 * 0

    seen = Seen()
    with pytest.warns(UserWarning, match="val/mig is left out: mig is not defined for factors"):
        train(Blocks(batch_size=4), tmp_path, DisentanglementScores(["mig", "irs"], **FEW), seen, limit_val_batches=1)
    assert "val/irs" in seen.metrics[-1] and "val/mig" not in seen.metrics[-1]
    with pytest.warns(UserWarning, match="val/mig is left out: .*NaN"):
        train(RenderedBlocks(), tmp_path, DisentanglementScores(["mig"], **FEW), model=Broken)


@pytest.mark.parametrize(
    ("data", "model", "scores", "message"),
    [
        (Digits, Autoencoder, ["mig"], "digits has no ground-truth factors"),
        (RenderedBlocks, GAN, ["mig"], "GAN has no encode"),
        (Blocks, Autoencoder, ["mig", "beta_vae_score"], "blocks can't render chosen factors, as beta_vae_score need it"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_training(tmp_path, data, model, scores, message):
    with pytest.raises(ZooError, match=message) as error:
        train(data(), tmp_path, DisentanglementScores(scores), model=model)
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(("data", "model"), [(Digits, Autoencoder), (RenderedBlocks, GAN)])
def test_a_preset_for_any_data_scores_where_that_is_possible(tmp_path, data, model):
    seen = Seen()
    train(data(), tmp_path, DisentanglementScores(["mig"], where_possible=True, **FEW), seen, model=model)
    assert len(seen.metrics) == 2
    assert not any("val/mig" in metrics or "val/disentanglement_seconds" in metrics for metrics in seen.metrics)
    train(RenderedBlocks(), tmp_path, DisentanglementScores(["mig"], where_possible=True, **FEW), seen)
    assert "val/mig" in seen.metrics[-1]


def test_wrong_options_are_refused():
    with pytest.raises(ZooError, match=r"no score 'migg'. Did you mean mig\?"):
        DisentanglementScores(["migg"])
    with pytest.raises(ZooError, match="points 0: 1 or more"):
        DisentanglementScores(points=0)


@pytest.mark.slow
def test_two_processes_log_the_same_scores(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    model, held_out = Autoencoder(Blocks.spec), Blocks().load()["val"]
    for name in ("Blocks", "RenderedBlocks"):
        first, second = (torch.load(tmp_path / f"{name}-{rank}.pt", weights_only=True) for rank in (0, 1))
        found = first["metrics"][-1]["val/mig"]
        assert found == second["metrics"][-1]["val/mig"]
        model.load_state_dict(first["weights"][-1])
        codes, factors = model.encode(held_out.x), held_out.factors
        if name == "RenderedBlocks":
            codes, factors = (part[:239] for part in draw_codes(model.encode, RenderedBlocks(), 240))
        tolerance = 0.02 if name == "Blocks" else 1e-6  # one held-out example is the test point
        assert found == pytest.approx(score_codes(codes, factors, metrics="mig")["mig"], abs=tolerance)


def train_on_two_processes(folder: Path) -> None:
    """What the test above starts: what each process logged, and its weights then."""
    for data in (Blocks(batch_size=16), RenderedBlocks(batch_size=16)):
        seen = Seen()
        trainer = Trainer(
            accelerator="cpu",
            devices=2,
            strategy="ddp",
            max_steps=2,
            val_check_interval=2,
            callbacks=[DisentanglementScores(["mig"], points=239, test_points=1), seen],
            default_root_dir=folder,
            **QUIET,
        )
        torch.manual_seed(0)
        trainer.fit(Autoencoder(data.spec), data)
        found = {"metrics": seen.metrics, "weights": seen.weights}
        torch.save(found, folder / f"{type(data).__name__}-{trainer.global_rank}.pt")


if __name__ == "__main__":
    train_on_two_processes(Path(sys.argv[1]))
