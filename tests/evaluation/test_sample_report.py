"""Scores of samples by one protocol: rows that mean something, seeds, reasons, and where they are written."""

import json
import math

import pytest
import torch
from blocks import Blocks
from pytorch_lightning import LightningDataModule

from datamodules import Digits, Toy
from datamodules.loader import Arrays
from zoo.errors import ZooError
from zoo.evaluation import RawFeatures, evaluate, features_for, sample_report
from zoo.evaluation.sample_report import SAMPLE_GROUPS, SAMPLE_SCORES, requested_sample_scores
from zoo.metrics import frechet_distance, stacked_classes
from zoo.models import GAN, VAE
from zoo.spec import Batch, DataSpec

QUIET = {"accelerator": "cpu", "progress": False}


@pytest.fixture
def toy():
    return Toy("ring", size=2000)


class Memorizer(GAN):
    """Draws training examples."""

    def sample(self, n):
        return self.known[torch.randint(len(self.known), (n,))]


class Broken(GAN):
    """Draws what is no number."""

    def sample(self, n):
        return torch.full((n, *self.spec.shape), torch.nan)


def memorizer(data):
    data.setup()
    model = Memorizer(data.spec)
    model.known = data.splits["train"].x
    return model


def test_rows_say_what_scores_mean(toy):
    report = sample_report(memorizer(toy), toy, n=300, progress=False)
    real, train, half = (report.rows[name] for name in ("real", "training set", "half of the modes"))
    assert report.n_samples == {"model": 300, "real": 300, "training set": 300, "half of the modes": 300}
    assert real["mmd_fuse_p"] > 0.01 and train["mmd_fuse_p"] > 0.01 > half["mmd_fuse_p"]
    assert real["fd"] < half["fd"] and real["kid"] < half["kid"]
    assert half["recall"] < 0.7 < real["recall"]
    assert half["clipped_coverage"] == pytest.approx(0.5, abs=0.15)
    assert train["authenticity"] == 0 and train["c_t"] < -3 < real["c_t"]
    assert "c_t" not in half
    model = {leaf: values[0] for leaf, values in report.scores.items()}
    assert model["authenticity"] == 0 and model["c_t"] < -3 and model["c2st_p"] > 0.01
    assert report.undefined == {}


def test_the_numbers_are_the_functions_and_the_seeds_(toy):
    model = GAN(toy.spec)
    torch.manual_seed(3)
    state = torch.get_rng_state()
    report, again = (sample_report(model, toy, "fd", n=200, repeats=2, progress=False) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert report.draws == again.draws
    first, second = report.scores["fd"]
    assert first != second
    assert report.metrics == {"test/fd_points": pytest.approx((first + second) / 2)}
    assert report.to_dict()["scores"]["fd"]["std"] == pytest.approx(abs(first - second) / 2**0.5)
    one = sample_report(model, toy, "fd", n=200, seed=1, progress=False)
    assert one.scores["fd"][0] != first
    test = toy.splits["test"].x[torch.randperm(400, generator=torch.Generator().manual_seed(0))[:200]]
    train = toy.splits["train"].x[torch.randperm(2000, generator=torch.Generator().manual_seed(0))[:200]]
    assert report.rows["training set"]["fd"] == pytest.approx(frechet_distance(test, train), rel=1e-6)


def test_a_split_that_is_small_is_taken_whole():
    data = Digits()
    report = sample_report(GAN(data.spec), data, "fd,clipped", features="raw", progress=False)
    assert (report.n_real, report.n_samples["model"], report.n_samples["real"]) == (250, 250, 250)
    assert report.metrics.keys() == {f"test/{leaf}_pixels" for leaf in ("fd", "clipped_density", "clipped_coverage")}


def test_what_there_is_not_has_a_reason(toy):
    report = sample_report(Broken(toy.spec), toy, "fd,prdc", n=50, progress=False)
    assert report.metrics == {}
    assert set(report.undefined) == {"fd", "prdc"}
    assert "undefined: 50 of 50 examples that the model made hold NaN" in str(report)
    assert report.rows["real"].keys() == {"fd", "precision", "recall", "density", "coverage"}
    no_modes = sample_report(VAE(Blocks().spec, hidden=8), Blocks(), "fd", n=50, progress=False)
    assert "no labels and no known modes" in no_modes.undefined["half of the modes"]


class Perfect(GAN):
    """Draws from the density itself."""

    def sample(self, n):
        return self.density.sample((n,))


@pytest.mark.parametrize(("density", "count"), [("ring", 8), ("grid", 25)])
def test_modes_of_a_known_density(density, count):
    data = Toy(density, size=5000)
    model = Perfect(data.spec)
    model.density = data.distribution
    report = sample_report(model, data, "modes", n=1000, progress=False)
    found = {leaf: values[0] for leaf, values in report.scores.items()}
    assert found["modes"] == count == report.rows["real"]["modes"]
    assert found["near_modes"] == pytest.approx(0.9889, abs=0.02)
    assert 0 <= found["kl_modes"] < 0.03
    half = report.rows["half of the modes"]
    assert half["modes"] == (count + 1) // 2
    assert half["kl_modes"] == pytest.approx(math.log(count / half["modes"]), abs=0.03)
    assert report.modes == {"modes": count, "reachable": pytest.approx(count)}
    assert f"of {count} modes; 1000 samples of the data themselves hit {count} in the mean" in str(report)
    assert report.to_dict()["modes"]["modes"] == count
    assert report.metrics.keys() == {"test/modes_points", "test/near_modes_points", "test/kl_modes_points"}


class Far(GAN):
    """Draws what is near no mode."""

    def sample(self, n):
        return torch.full((n, 2), 100.0)


def test_where_no_mode_is_found_there_is_no_divergence(toy):
    report = sample_report(Far(toy.spec), toy, "modes", n=100, repeats=2, progress=False)
    assert report.draws == [{"modes": 0, "near_modes": 0}] * 2
    json.dumps(report.to_dict(), allow_nan=False)


def test_classes_of_labeled_images_are_modes():
    data = Digits()
    report = sample_report(memorizer(data), data, "modes", progress=False)
    found, half = report.draws[0], report.rows["half of the modes"]
    assert found["modes"] == report.rows["real"]["modes"] == 10 == report.modes["modes"]
    assert found["kl_modes"] < 0.05 < half["kl_modes"]
    assert "near_modes" not in found
    raw = sample_report(memorizer(data), data, "modes,fd", features="raw", progress=False)
    assert "digits has no known modes, and pixels features tell no classes" in raw.undefined["modes"]
    assert raw.scores.keys() == {"fd"} and raw.modes == {}


def test_modes_that_are_points_are_sought_among_points(toy):
    report = sample_report(Far(toy.spec), toy, "modes", features=torch.nn.Identity(), n=50, progress=False)
    assert "choose raw features, in place of identity" in report.undefined["modes"]
    unknown = sample_report(GAN(Own.spec), Own(), "modes", n=50, progress=False)
    assert "own has no known modes" in unknown.undefined["modes"]


class Stacks(Digits):
    """Three digits as channels."""

    spec = DataSpec("stacks", (3, 8, 8), levels=17)

    @property
    def channels(self):
        return Digits()

    def load(self):
        def stacked(split):
            index = torch.randint(len(split), (1500, 3), generator=torch.Generator().manual_seed(0))
            return Arrays(split.x[index].squeeze(2), label=split.label[index].long() @ torch.tensor([100, 10, 1]))

        return {name: stacked(split) for name, split in self.channels.load().items()}


def test_modes_of_stacks_are_told_channel_by_channel():
    data = Stacks()
    report = sample_report(memorizer(data), data, "modes", n=1200, progress=False)
    assert report.features["name"] == "stacks_cnn" and report.features["dim"] == 192 and report.features["classes"] == 1000
    assert report.features["accuracy"] > 0.9
    assert report.modes["reachable"] == pytest.approx(1000 * (1 - 0.999**1200), rel=5e-3)
    for row in (report.rows["real"], report.rows["training set"]):
        assert row["modes"] == pytest.approx(report.modes["reachable"], abs=40)
        assert 0.2 < row["kl_modes"] < 0.7
    assert report.draws[0]["modes"] < report.rows["training set"]["modes"], "a memorizer draws some of them twice"
    assert "features stacks_cnn (192," in str(report) and "accuracy 0.9" in str(report)
    features, x = features_for(data), data.splits["test"].x[:50]
    digits = torch.stack([features.of_channel.classify(x[:, [channel]]) for channel in range(3)], dim=1)
    assert torch.equal(features.classes_of(features(x)), stacked_classes(digits))
    shares = features.class_shares(features(data.splits["train"].x))
    assert len(shares) == 1000 and shares.sum().item() == pytest.approx(1) and shares.min() > 0.0003
    assert (features.classes_of(features(x)) == data.splits["test"].label[:50]).float().mean() > 0.75


class Own(LightningDataModule):
    """Data that are no DataModule of the zoo's."""

    spec = DataSpec("own", (2,))

    def train_dataloader(self):
        return [Batch(torch.randn(60, 2)), Batch(torch.randn(30, 2))]

    val_dataloader = test_dataloader = train_dataloader


def test_data_of_your_own():
    report = sample_report(GAN(Own.spec), Own(), "fd,authenticity", n=80, progress=False)
    assert report.n_real == 80
    assert report.scores.keys() == {"fd", "authenticity"}


def test_scores_are_chosen_by_name_and_group():
    assert requested_sample_scores("all") == SAMPLE_SCORES
    assert requested_sample_scores(["kid", "tests"]) == (*SAMPLE_GROUPS["tests"], "kid")
    assert requested_sample_scores("kid,") == ("kid",)
    assert requested_sample_scores("none") == requested_sample_scores(None) == ()
    with pytest.raises(ZooError, match="Did you mean memorization"):
        requested_sample_scores("fd,memorisation")


@pytest.mark.parametrize("options", [{"n": 1}, {"repeats": 0}, {"k": 0}])
def test_numbers_out_of_range(toy, options):
    with pytest.raises(ZooError, match="or more is needed"):
        sample_report(GAN(toy.spec), toy, "fd", progress=False, **options)


def test_an_evaluation_has_them(toy, tmp_path):
    features = RawFeatures(toy.spec)
    options = {"sample_scores": "fd,c_t", "sample_count": 100, "features": features, "repeats": 2}
    evaluation = evaluate(GAN(toy.spec), toy, **options, **QUIET)
    assert evaluation.metrics.keys() >= {"test/fd_points", "test/c_t_points"}
    protocol = evaluation.protocol["test/fd_points"]
    assert (protocol["n_real"], protocol["n_samples"], protocol["draws"]) == (100, 100, 2)
    assert protocol["features"] == {"name": "points", "dim": 2, "hash": features.hash}
    table = str(evaluation)
    assert "100 samples, 100 test examples, features points (2," in table
    assert table.count("fd") == 1
    stored = json.loads(evaluation.save(tmp_path / "evaluation.json").read_text())
    assert stored["samples"]["rows"]["real"].keys() == {"n_samples", "fd", "c_t"}
    assert len(stored["samples"]["scores"]["fd"]["draws"]) == 2
    assert evaluate(GAN(toy.spec), toy, **QUIET).samples is None
