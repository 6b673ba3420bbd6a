"""`zoo.evaluation` from Python: numbers against what they are made of, and what is left as it was."""

import json
import math

import numpy as np
import pytest
import torch
from blocks import Blocks, RenderedBlocks
from PIL import Image
from pytorch_lightning import Trainer

import zoo
from callbacks import DisentanglementScores
from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.evaluation import (
    disentanglement_report,
    evaluate,
    evaluate_likelihood,
    sample,
    save_samples,
)
from zoo.evaluation.disentanglement import Sizes
from zoo.models import GAN, VAE

QUIET = {"accelerator": "cpu", "progress": False}
SMALL = {"points": 100, "num_train": 20}


def vae(data):
    torch.manual_seed(0)
    return VAE(data.spec, network="mlp", hidden=16, latent_dim=3)


@pytest.fixture
def digits():
    return Digits(eval_batch_size=100)  # 250 test examples: the last batch is a half


@pytest.fixture
def blocks():
    return RenderedBlocks()


def test_metrics_a_table_json_and_pictures(blocks, tmp_path):
    evaluation = evaluate(vae(blocks), blocks, samples=3, examples=50, **SMALL, **QUIET)
    assert (evaluation.model, evaluation.data, evaluation.examples, evaluation.split) == ("VAE", "blocks", 300, "test")
    assert {"test/elbo", "test/nll", "test/mig", "test/factor_vae_score"} <= evaluation.metrics.keys()
    table = str(evaluation).splitlines()
    assert table[0] == "VAE on blocks, test split, 300 examples"
    nll, error = evaluation.metrics["test/nll"], evaluation.metrics["test/nll_standard_error"]
    assert [line.split() for line in table if "test/nll " in line] == [["test/nll", f"{nll:.6g}", "±", f"{error:.2g}"]]
    assert "  nll is a bound, by 3 draws for each example" in table
    assert "disentanglement, mean representation" in str(evaluation)
    assert str(evaluation) == evaluation.table()

    assert json.loads(evaluation.save(tmp_path / "new/evaluation.json").read_text()) == evaluation.to_dict()
    assert {path.name for path in evaluation.draw(tmp_path / "pictures")} == {
        "evaluation_information_mean.png",
        "evaluation_importance_mean.png",
    }


def test_the_numbers_are_the_seed_s_and_all_else_stays_as_it_was(digits):
    model = vae(digits).train()
    model.decoder.eval()
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, again = (evaluate(model, digits, samples=2, seed=1, **QUIET).metrics for _ in range(2))
    other = evaluate(model, digits, samples=2, seed=2, **QUIET).metrics
    first.pop("test/nll_seconds"), again.pop("test/nll_seconds")
    assert first == again
    assert first["test/nll"] != other["test/nll"]
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training and model.encoder.training and not model.decoder.training
    assert torch.is_grad_enabled()
    model.objective(next(iter(digits.train_dataloader())))[0].backward()


def test_test_metrics_are_those_of_the_trainer(digits):
    model = vae(digits)
    found = evaluate(model, digits, seed=4, **QUIET).metrics
    torch.manual_seed(4)
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False)
    (expected,) = trainer.test(model, digits, verbose=False)
    assert found == expected


@pytest.mark.parametrize(("examples", "expected"), [(None, 250), (1000, 250), (130, 130), (100, 100), (1, 1)])
def test_the_first_examples_are_taken_whatever_the_batches(digits, examples, expected):
    """On a model whose bound has no noise, so that it can be computed by hand."""
    model = vae(digits)
    model.log_likelihood = lambda x, samples: x.flatten(1).double().sum(1) * samples
    metrics = evaluate_likelihood(model, digits, samples=2, examples=examples, progress=False)
    digits.setup()
    log_p = digits.splits["test"].x[:expected].flatten(1).double().sum(1) * 2
    assert (metrics["test/nll_examples"], metrics["test/nll_samples"]) == (expected, 2)
    assert metrics["test/nll"] == pytest.approx(-log_p.mean().item())
    assert metrics["test/nll_bits_per_dim"] == pytest.approx(-log_p.mean().item() / 64 / math.log(2))
    if expected > 1:
        assert metrics["test/nll_standard_error"] == pytest.approx(log_p.std().item() / expected**0.5)
    assert all(map(math.isfinite, metrics.values()))


def test_a_likelihood_in_bf16_says_so_and_by_how_much_it_differs(digits):
    model = vae(digits)
    plain = evaluate(model, digits, samples=3, **QUIET)
    half = evaluate(model, digits, samples=3, precision="bf16-mixed", **QUIET)
    assert half.metrics["test/nll"] != plain.metrics["test/nll"] == pytest.approx(half.metrics["test/nll"], abs=0.05)
    assert 0 < abs(half.metrics["test/nll_bf16_error"]) < 0.05 and "test/nll_bf16_error" not in plain.metrics
    assert half.protocol["test/nll"] == {**plain.protocol["test/nll"], "precision": "bf16-mixed"}
    assert half.protocol.keys() == plain.protocol.keys()
    assert half.metrics["test/elbo"] == plain.metrics["test/elbo"]


def test_where_bf16_makes_too_much_of_a_difference_the_likelihood_is_in_float32(digits):
    model = vae(digits)
    with torch.no_grad():
        model.decoder[-1].weight.mul_(1000)
    with pytest.warns(UserWarning, match=r"in bf16-mixed the NLL differs by .* nats"):
        half = evaluate(model, digits, samples=3, precision="bf16-mixed", **QUIET)
    plain = evaluate(model, digits, samples=3, **QUIET)
    assert half.metrics["test/nll"] == plain.metrics["test/nll"] and half.protocol == plain.protocol


def test_no_progress_is_shown_where_none_is_wanted(blocks, capsys):
    evaluate(vae(blocks), blocks, samples=1, **SMALL, **QUIET)
    assert "%|" not in "".join(capsys.readouterr())


@pytest.mark.parametrize("scores", [["mig", "sap"], ("mig", "sap"), "mig,sap"])
def test_scores_that_are_named(blocks, scores):
    evaluation = evaluate(vae(blocks), blocks, scores=scores, **SMALL, **QUIET)
    (report,) = evaluation.disentanglement
    assert list(report.scores) == ["mig", "sap"]
    assert evaluation.metrics.keys() >= {"test/mig", "test/sap"}


@pytest.mark.parametrize("scores", ["none", [], ["none"]])
def test_scores_that_are_left_out(blocks, scores):
    assert evaluate(vae(blocks), blocks, scores=scores, **QUIET).disentanglement == []


def test_metrics_are_chosen_by_name_and_group(blocks):
    """Scores of codes and of samples by one option; what is not named is not computed."""
    options = {"sample_count": 30, "features": "raw", **SMALL, **QUIET}
    found = evaluate(vae(blocks), blocks, metrics="mig,memorization,", **options)
    assert {"test/mig", "test/authenticity_pixels"} <= found.metrics.keys()
    assert not {"test/sap", "test/nll", "test/fd_pixels"} & found.metrics.keys()
    assert "test/nll" in evaluate(vae(blocks), blocks, metrics=["nll"], **options).metrics
    assert evaluate(vae(blocks), blocks, metrics="none", **options).disentanglement == []
    gan = evaluate(GAN(Toy("ring").spec), Toy("ring", size=500), metrics="all", **options)
    assert {"test/fd_points", "test/mmd_fuse_p_points"} <= gan.metrics.keys()
    assert gan.missing["test/nll"] == "GAN has no likelihood"
    refused = ({"metrics": "memorisation"}, "Did you mean memorization"), ({"metrics": "fd", "scores": "mig"}, "either")
    for given, message in refused:
        with pytest.raises(ZooError, match=message):
            evaluate(vae(blocks), blocks, **given, **options)


def test_features_that_can_t_be_are_refused_before_the_test(digits, monkeypatch):
    monkeypatch.setattr(Trainer, "test", None)
    for kind in ("incpetion", "efficientnet_lite0", "torch.nn.Flatten:none.pt"):
        with pytest.raises(ZooError):
            evaluate(vae(digits), digits, sample_scores="fd", features=kind, **QUIET)
    with pytest.raises(ZooError, match="images"):
        evaluate(GAN(Toy("ring").spec), Toy("ring"), sample_scores="fd", features="cnn", **QUIET)


def test_both_representations(blocks):
    reports = evaluate(vae(blocks), blocks, scores="mig", representation="both", **SMALL, **QUIET).disentanglement
    assert [report.representation for report in reports] == ["mean", "sampled"]


def test_a_report_is_what_the_callback_logs(blocks, tmp_path):
    """One path: the same seed gives the same points, and so the same scores."""
    model = vae(blocks)
    scores = ("mig", "sap", "modularity", "beta_vae_score", "factor_vae_score")
    sizes = {"points": 100, "test_points": 50, "num_train": 30, "num_eval": 20}
    report = disentanglement_report(model, blocks, scores, sizes=Sizes(**sizes), seed=5, progress=False)
    callback = DisentanglementScores(scores, seed=5, heat_maps=False, **sizes)
    options = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "default_root_dir": tmp_path}
    (found,) = Trainer(accelerator="cpu", callbacks=[callback], **options).validate(model, blocks, verbose=False)
    assert {name: found[f"val/{name}"] for name in scores} == pytest.approx(
        {name: values[0] for name, values in report.scores.items()}, abs=1e-6
    )


@pytest.mark.parametrize(
    ("model", "data", "options", "message"),
    [
        (GAN, Digits, {"samples": 3}, "GAN has no likelihood"),
        (GAN, Digits, {"scores": "all"}, r"GAN has no encode\(x\); leave --scores"),
        (VAE, Digits, {"scores": "all"}, "digits has no ground-truth factors"),
        (VAE, Digits, {"representation": "both"}, "digits has no ground-truth factors"),
        (VAE, Blocks, {"scores": ["mig", "beta_vae_score"]}, "blocks can't render chosen factors, as beta_vae_score need"),
        (VAE, Blocks, {"scores": ["migg"]}, "no score 'migg'. Did you mean mig?"),
        (VAE, Blocks, {"representation": "median"}, "mean, sampled or both"),
        (VAE, Blocks, {"points": 1}, "points 1: 2 or more is needed"),
        (VAE, Blocks, {"repeats": 0}, "repeats 0: 1 or more is needed"),
        (VAE, Blocks, {"examples": 0, "samples": 1}, "examples 0: 1 or more is needed"),
    ],
)
def test_what_cannot_be_is_said(model, data, options, message):
    made = data()
    with pytest.raises(ZooError, match=message) as error:
        evaluate(model(made.spec), made, **options, **QUIET)
    assert len(str(error.value).splitlines()) <= 2


def test_all_scores_of_data_that_do_not_render_are_those_of_points():
    evaluation = evaluate(vae(Blocks()), Blocks(), scores="all", **SMALL, **QUIET)
    (report,) = evaluation.disentanglement
    assert not report.rendered
    assert "mig" in report.scores and "beta_vae_score" not in {**report.scores, **report.undefined}


def test_data_of_another_shape_or_other_levels_are_refused(digits):
    with pytest.raises(ZooError, match=r"VAE was trained on digits .*; toy_ring has shape \(2,\)"):
        evaluate(vae(digits), Toy("ring"), **QUIET)
    with pytest.raises(ZooError, match=r"levels 17.*blocks has shape .*levels 2"):
        evaluate(vae(digits), Blocks(), **QUIET)


def test_a_checkpoint_is_evaluated_from_python(digits, tmp_path):
    run = zoo.runs.fit(vae(digits), digits, root=tmp_path, wandb="off", max_steps=2, enable_progress_bar=False)
    evaluation = evaluate(zoo.load(run.checkpoint), digits, **QUIET)
    assert evaluation.metrics["test/elbo"] == pytest.approx(
        evaluate(run.model, digits, **QUIET).metrics["test/elbo"], abs=1e-6
    )


def test_samples_in_batches():
    model = GAN(Toy("ring").spec).train()
    torch.manual_seed(3)
    state = torch.get_rng_state()
    x = sample(model, 70, seed=5, batch_size=32)
    assert (x.shape, x.dtype, x.device.type) == ((70, 2), torch.float32, "cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert model.training
    assert torch.equal(sample(model, 70, seed=5, batch_size=32), x)
    assert not torch.equal(sample(model, 70, seed=6, batch_size=32), x)
    model.eval()
    torch.manual_seed(5)
    assert torch.equal(x[:32], model.sample(32))


def test_samples_may_be_trained_on():
    x = sample(GAN(Toy("ring").spec), 4)
    layer = torch.nn.Linear(2, 1)
    layer(x).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize(("options", "message"), [({"n": 0}, "n 0: 1"), ({"batch_size": 0}, "batch_size 0: 1")])
def test_no_samples(digits, options, message):
    with pytest.raises(ZooError, match=message):
        sample(GAN(digits.spec), **options)


def test_files_of_samples(tmp_path, digits):
    x = torch.randint(17, (5, 1, 8, 8), dtype=torch.uint8)
    picture = save_samples(x, digits.spec, tmp_path / "new/grid.png")
    assert min(Image.open(picture).size) >= 400
    with np.load(save_samples(x, digits.spec, str(tmp_path / "x.npz")), allow_pickle=False) as file:
        assert np.array_equal(file["x"], x.numpy())
    with pytest.raises(ZooError, match=r"\.png or \.npz"):
        save_samples(x, digits.spec, tmp_path / "x.jpg")
