"""`python -m zoo.evaluate` on a model of data with ground-truth factors: the scores, what they are made of, pictures."""

import json
import re
from pathlib import Path

import pytest
import torch
from blocks import Blocks, RenderedBlocks
from PIL import Image

import zoo
from zoo.evaluation.disentanglement import ALL_SCORES, DEFAULT_SCORES
from zoo.metrics import CachedEncoder, draw_codes, factor_vae_score, score_codes

SMALL = ("--points", 200, "--num_train", 40)


@pytest.fixture(params=[RenderedBlocks, Blocks], ids=["rendered", "not rendered"])
def data(request):
    return request.param


@pytest.fixture
def checkpoint(cli, data):
    """A small VAE, trained for a few batches."""
    arguments = ("--model.network", "mlp", "--model.hidden", 16, "--model.latent_dim", 3, "--trainer.max_steps", 20)
    status, out, err = cli(
        "fit", "--model", "vae", "--data", f"blocks.{data.__name__}", "--trainer.callbacks", "[]", *arguments
    )
    assert status == 0, err
    return Path(out.splitlines()[-1].removeprefix("run: ")).resolve() / "checkpoints/last.ckpt"


def report_of(checkpoint):
    return json.loads((checkpoint.parents[1] / "evaluation.json").read_text())


@pytest.mark.parametrize("data", [RenderedBlocks], indirect=True)
def test_all_scores_of_data_that_render(cli, checkpoint):
    status, out, err = cli("evaluate", "--ckpt", checkpoint, *SMALL, "--seed", 4)
    assert status == 0, err
    report = report_of(checkpoint)
    (found,) = report["disentanglement"]
    assert found["scores"].keys() | found["undefined"].keys() == set(DEFAULT_SCORES)
    assert found["sizes"] == {"points": 200, "test_points": 100, "num_train": 40, "num_eval": 20, "batch_size": 64}
    assert "mean representation, points rendered from random factors" in out

    data, model = RenderedBlocks(), zoo.load(checkpoint).eval()
    table = CachedEncoder(model.encode, data)
    codes, factors = draw_codes(table, data, 300, seed=4)
    expected = score_codes(codes[:200], factors[:200], codes[200:], factors[200:])
    votes = {"num_train": 40, "num_eval": 20, "variance_points": 200, "seed": 4}
    expected["factor_vae_score"] = factor_vae_score(table, data, **votes)["eval_accuracy"]
    assert "test/index_code_information" in report["metrics"], "of the test split, beside the codes' own"
    for name, score in expected.items():
        assert report["metrics"][f"test/{name}"] == pytest.approx(score, abs=1e-9), name
    assert re.search(rf"  mig +{expected['mig']:.3f} \(200 points\)", out)
    assert re.search(rf"  sap +{expected['sap']:.3f} \(200 points \+ 100 test points\)", out)
    assert re.search(r"  beta_vae_score +\d\.\d{3} \(40 votes \+ 20 fresh ones\)", out)
    assert re.search(r"  factor_vae_score +\d\.\d{3} \(40 votes \+ 20 fresh ones, 200 points\)", out)
    for kind in ("information", "importance"):
        path = checkpoint.parents[1] / f"pictures/evaluation_{kind}_mean.png"
        assert str(path) in out and min(Image.open(path).size) > 150


def test_spread_over_repeats_of_chosen_scores(cli, checkpoint, data):
    status, out, err = cli("evaluate", "--ckpt", checkpoint, "--scores", "mig,irs", "--repeats", 3, "--points", 100)
    assert status == 0, err
    (found,) = report_of(checkpoint)["disentanglement"]
    assert list(found["scores"]) == ["mig", "irs"]
    mig = found["scores"]["mig"]
    draws = torch.tensor(mig["draws"], dtype=torch.float64)
    assert len(draws.unique()) == 3
    assert (mig["mean"], mig["std"]) == pytest.approx((draws.mean().item(), draws.std().item()))
    assert re.search(rf"  mig  {mig['mean']:.3f} ± {mig['std']:.3f} \(100 points, 3 repeats\)", out)
    assert not (checkpoint.parents[1] / "pictures/evaluation_importance_mean.png").exists()
    _, again, _ = cli("evaluate", "--ckpt", checkpoint, "--scores", "mig", "--repeats", 3, "--points", 100)
    assert f"{mig['mean']:.3f} ± {mig['std']:.3f}" in again, "the same seed, the same metrics"


@pytest.mark.parametrize("data", [RenderedBlocks], indirect=True)
def test_downstream_scores_come_where_asked_for(cli, checkpoint):
    arguments = ("--scores", "downstream_logistic,downstream_trees_10,infom", *SMALL, "--repeats", 2)
    status, out, err = cli("evaluate", "--ckpt", checkpoint, *arguments)
    assert status == 0, err
    (found,) = report_of(checkpoint)["disentanglement"]
    names = ["downstream_logistic_10", "downstream_logistic_100", "downstream_trees_10", "infom"]
    assert list(found["scores"]) == names and len(found["scores"]["downstream_trees_10"]["draws"]) == 2
    assert "from 10000 labels needs as many points" in found["undefined"]["downstream_logistic_efficiency"]
    assert re.search(r"  downstream_logistic_100 +\d\.\d{3} ± \d\.\d{3} \(100 points \+ 100 test points, 2 repeats\)", out)
    assert re.search(r"  infom +\d\.\d{3} ± \d\.\d{3} \(200 points, 2 repeats\)", out)
    status, out, err = cli("evaluate", "--ckpt", checkpoint, "--scores", "all", *SMALL)
    assert status == 0, err
    (found,) = report_of(checkpoint)["disentanglement"]
    assert found["scores"].keys() | found["undefined"].keys() == set(ALL_SCORES)


@pytest.mark.parametrize("data", [Blocks], indirect=True)
def test_test_examples_are_scored_where_data_do_not_render(cli, checkpoint):
    """300 test examples are there: they are shared out in the proportion of what was asked for."""
    status, out, err = cli("evaluate", "--ckpt", checkpoint)
    assert status == 0, err
    (found,) = report_of(checkpoint)["disentanglement"]
    assert (found["sizes"]["points"], found["sizes"]["test_points"]) == (200, 100)
    assert "beta_vae_score" not in out and "points from the test split" in out
    data, model = Blocks(), zoo.load(checkpoint).eval()
    data.setup()
    codes, factors = model.encode(data.splits["test"].x), data.splits["test"].factors
    for name, score in score_codes(codes, factors, metrics=["mig", "modularity"]).items():
        assert found["scores"][name]["mean"] == pytest.approx(score, abs=0.1), name  # 200 of these 300


@pytest.mark.parametrize("data", [RenderedBlocks], indirect=True)
def test_sampled_codes_have_names_of_their_own(cli, checkpoint):
    arguments = ("--scores", "mig,factor_vae_score", "--representation", "both", *SMALL)
    status, out, err = cli("evaluate", "--ckpt", checkpoint, *arguments)
    assert status == 0, err
    report = report_of(checkpoint)
    assert [found["representation"] for found in report["disentanglement"]] == ["mean", "sampled"]
    assert report["metrics"]["test/mig_sampled"] < report["metrics"]["test/mig"], "noise tells nothing of factors"
    assert "disentanglement, sampled representation" in out


@pytest.mark.parametrize(
    ("data", "arguments", "message"),
    [
        (Blocks, ("--scores", "mig,migg"), "no score 'migg'. Did you mean mig?"),
        (Blocks, ("--scores", "factor_vae_score"), "blocks can't render chosen factors, as factor_vae_score need it"),
    ],
    indirect=["data"],
)
def test_scores_that_are_not_there(cli, checkpoint, arguments, message):
    status, _, err = cli("evaluate", "--ckpt", checkpoint, *arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) <= 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--points", 1), "--points 1: 2 or more"),
        (("--num_train", 0), "--num_train 0: 2 or more"),
        (("--repeats", 0), "--repeats 0: 1 or more"),
        (("--representation", "median"), "--representation: invalid choice: 'median'"),
    ],
)
def test_wrong_arguments(cli, arguments, message):
    status, _, err = cli("evaluate", "--ckpt", "none.ckpt", *arguments)
    assert status == 2
    assert message in err


@pytest.mark.parametrize("data", [Blocks], indirect=True)
def test_scores_can_be_left_out(cli, checkpoint):
    status, out, err = cli("evaluate", "--ckpt", checkpoint, "--scores", "none")
    assert status == 0, err
    assert report_of(checkpoint)["disentanglement"] == []
    assert "disentanglement" not in out


def test_models_without_codes_and_data_without_factors_are_tested_as_ever(cli, run_folder):
    checkpoint = run_folder / "checkpoints/last.ckpt"
    status, out, err = cli("evaluate", "--ckpt", checkpoint)
    assert status == 0, err
    assert "disentanglement" not in out
    status, _, err = cli("evaluate", "--ckpt", checkpoint, "--scores", "mig")
    assert status == 2
    assert "GAN has no encode(x); leave --scores" in err
