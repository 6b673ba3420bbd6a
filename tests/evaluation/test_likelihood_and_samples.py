"""The lecture's two models, judged: a likelihood and samples can say opposite things, and only two scores tell copies."""

import math
import statistics

import pytest
import torch
from pytorch_lightning import Trainer

from datamodules import Digits
from zoo.evaluation import evaluate_likelihood, sample_report
from zoo.models import MADE, Memorizer, NoiseMixture

UNIFORM = 64 * math.log(17)  # nats of noise over the levels


@pytest.fixture(scope="module")
def digits():
    data = Digits(seed=0)
    data.setup()
    return data


@pytest.fixture(scope="module")
def made(digits, tmp_path_factory):
    """A MADE that was trained a little."""
    torch.manual_seed(0)
    model = MADE(digits.spec, hidden=200)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    quiet |= {"default_root_dir": tmp_path_factory.mktemp("made"), "limit_val_batches": 0}
    Trainer(accelerator="cpu", max_epochs=20, **quiet).fit(model, digits)
    return model.eval()


def judged(model, digits):
    nll = evaluate_likelihood(model, digits, progress=False)["test/nll"]
    return nll, sample_report(model, digits, "all", features="raw", repeats=3, progress=False)


def test_the_memorizer_has_perfect_samples_and_a_poor_likelihood(digits):
    model = Memorizer(digits.spec, scale=0.1)
    model.initialize(digits.splits["train"].x)
    nll, report = judged(model.eval(), digits)
    assert nll > 10 * UNIFORM
    scores, floor, ceiling = report.scores, report.rows["real"], report.rows["half of the modes"]
    assert min(statistics.median(scores[p]) for p in ("mmd_p", "mmd_fuse_p")) > 0.05
    for draw in range(3):
        for distance in ("fd", "fd_infinity", "mind", "sliced_wasserstein"):
            assert scores[distance][draw] < (floor[distance] + ceiling[distance]) / 2, distance
        for share in ("precision", "recall", "clipped_density", "clipped_coverage"):
            assert scores[share][draw] > floor[share] - 0.1, share
        assert scores["c_t"][draw] < -5 and abs(floor["c_t"]) < 3, "this one tells"
        assert scores["authenticity"][draw] == 0 and floor["authenticity"] > 0.3, "and this one"


def test_the_noise_mixture_has_a_good_likelihood_and_poor_samples(digits, made):
    mixture = NoiseMixture.of(made)
    nll, report = judged(mixture, digits)
    assert nll < UNIFORM - 40
    assert nll == pytest.approx(evaluate_likelihood(made, digits, progress=False)["test/nll"] + math.log(100), abs=0.01)
    x = digits.splits["test"].x
    assert (made.log_likelihood(x) - mixture.log_likelihood(x)).max() <= math.log(100) + 1e-4
    scores, ceiling = report.scores, report.rows["half of the modes"]
    for draw in range(3):
        assert all(scores[p][draw] < 0.01 for p in ("c2st_p", "mmd_p", "mmd_fuse_p"))
        for distance in ("fd", "kid", "mind", "sliced_wasserstein"):
            assert scores[distance][draw] > 2 * ceiling[distance], distance
        assert scores["clipped_density"][draw] < 0.1 and scores["clipped_coverage"][draw] < 0.2
        assert scores["c_t"][draw] > 5, "far from the data, and no copies"
