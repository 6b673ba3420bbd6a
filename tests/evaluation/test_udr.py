"""UDR of trained models against the score of their codes, and what it refuses."""

import pytest
import torch

from datamodules import Digits, Toy
from zoo import GAN, VAE
from zoo.errors import ZooError
from zoo.evaluation import evaluate_udr
from zoo.metrics import udr

SMALL = {"network": "mlp", "hidden": 8, "latent_dim": 3}


def vaes(n, spec, **options):
    torch.manual_seed(0)
    return [VAE(spec, **SMALL, **options) for _ in range(n)]


@pytest.mark.parametrize("correlation", ["lasso", "spearman"])
def test_codes_and_divergences_are_those_of_the_first_test_examples(correlation):
    data = Digits()
    models = vaes(3, data.spec)
    found = evaluate_udr(iter(models), data, points=201, correlation=correlation)
    x = data.splits["test"].x[:201]
    with torch.no_grad():
        codes = [model.encode(x) for model in models]
        q = [model.q(x).base.base_dist for model in models]
        kl = [(each.loc**2 + each.scale**2 - 1 - 2 * each.scale.log()).mean(0) / 2 for each in q]
    expected = udr(codes, kl, correlation)
    assert torch.allclose(found.scores, expected.scores, atol=1e-5)
    assert torch.allclose(found.pairs, expected.pairs, atol=1e-5, equal_nan=True)
    assert models[0].training, "as they were"


def test_more_points_than_there_are():
    data = Toy("ring", size=100)
    assert evaluate_udr(vaes(2, data.spec), data).scores.isfinite().all()


def test_models_without_a_divergence_of_each_code_are_refused():
    data = Digits()
    with pytest.raises(ZooError, match="GAN is no VAE"):
        evaluate_udr([GAN(data.spec)], data)
    with pytest.raises(ZooError, match="posterior diagonal and prior normal"):
        evaluate_udr(vaes(2, data.spec, prior="mixture"), data)
    with pytest.raises(ZooError, match="of 2 or more are needed, got 1 and 1"):
        evaluate_udr(vaes(1, data.spec), data)
    with pytest.raises(ZooError, match="the model takes shape"):
        evaluate_udr(vaes(2, data.spec), Toy("ring", size=100))
    with pytest.raises(ZooError, match="points 1: 2 or more"):
        evaluate_udr(vaes(2, data.spec), data, points=1)
