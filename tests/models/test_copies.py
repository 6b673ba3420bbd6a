"""Copies of a model compute with their own weights: deep copies, and what comes back from a pickle, compiled or not."""

import copy
import pickle

import pytest
import torch
from test_contract import SPECS, Made, build, trainer
from torch import Tensor

from zoo import registry
from zoo.models import GAN, VAE
from zoo.models.base import Autoencodes, GenerativeModule, HasLikelihood
from zoo.spec import Batch

SPEC = SPECS[1]
SMALL = {"network": "mlp", "hidden": 8, "latent_dim": 3}
TINY = {"steps": 1, "hidden": 8}
MODELS = {
    **{name: lambda name=name: build(name, SPEC) for name in registry.MODELS},
    "vamp": lambda: VAE(SPEC, prior="vamp", prior_options={"components": 5}, **SMALL),
    "vamp, full": lambda: VAE(SPEC, posterior="full", prior="vamp", prior_options={"components": 5}, **SMALL),
    "iaf, spline": lambda: VAE(SPEC, posterior="iaf", posterior_options=TINY, prior="spline", prior_options=TINY, **SMALL),
    "dcgan": lambda: GAN(SPEC, network="dcgan", width=4, latent_dim=4),
}


@pytest.fixture(params=MODELS)
def model(request) -> GenerativeModule:
    torch.manual_seed(0)
    model = MODELS[request.param]()
    model.objective(Batch(torch.zeros(4, *SPEC.shape, dtype=torch.uint8)))  # what starts from data has started
    model.training_batches = 0
    return model


@torch.no_grad()
def outputs(model: GenerativeModule) -> list[Tensor]:
    """All that it can compute, in training mode too, with the same noise; it stays as it is."""
    x = torch.randint(SPEC.levels, (6, *SPEC.shape), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    state = copy.deepcopy(model.state_dict())  # batch norms move when they train
    found = []
    for training in (True, False):
        model.train(training)
        torch.manual_seed(1)
        loss, terms = model.objective(Batch(x))
        found += [loss, *terms.values()]
        model.load_state_dict(state)
    found.append(model.sample(4))
    if isinstance(model, Autoencodes):
        found += [model.encode(x), model.decode(model.encode(x))]
    if isinstance(model, HasLikelihood):
        found.append(model.log_likelihood(x, samples=3))
    return found


def pickled(model: GenerativeModule) -> GenerativeModule:
    return pickle.loads(pickle.dumps(model))


def test_a_copy_has_its_own_weights(model):
    """Of the model as it is, and when a training batch is compiled and one is behind it."""
    before = outputs(model)
    copies = [copy.deepcopy(model), pickled(model)]
    torch.compiler.reset()
    model.compile(backend="eager")
    torch.testing.assert_close(outputs(model), before)
    copies += [copy.deepcopy(model), pickled(model)]
    for made in copies:
        assert not any(each is model for each in _reachable(made)), "the copy knows the model that it was made from"
        shared = {tensor.data_ptr() for tensor in model.state_dict().values()}
        assert shared.isdisjoint(tensor.data_ptr() for tensor in made.state_dict().values())
        torch.testing.assert_close(outputs(made), before, rtol=0, atol=0)
    scaled(copies[0])
    assert not torch.equal(outputs(copies[0])[0], before[0])
    torch.testing.assert_close(outputs(model), before)
    scaled(model)
    for made in copies[1:]:
        torch.testing.assert_close(outputs(made), before, rtol=0, atol=0)


@torch.no_grad()
def scaled(model: GenerativeModule) -> None:
    for parameter in model.parameters():
        parameter.mul_(0.5)


def _reachable(model: GenerativeModule) -> list[object]:
    """What attributes of the model and its parts lead to, methods' owners included."""
    values = [value for module in model.modules() for value in vars(module).values()]
    return [*values, *(value.__self__ for value in values if hasattr(value, "__self__"))]


def test_a_copy_of_a_vamp_prior_has_a_gradient_of_its_own():
    model = MODELS["vamp"]()
    made = copy.deepcopy(model)
    x = torch.zeros(4, *SPEC.shape, dtype=torch.uint8)
    made.objective(Batch(x))[0].backward()
    assert made.prior.pseudo.grad is not None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_copy_of_a_model_that_was_trained_trains_on(model, tmp_path):
    """Without the Trainer of the model it was made from, with its count of batches."""
    trainer(tmp_path).fit(model, Made(SPEC))
    made = copy.deepcopy(model)
    assert made.training_batches == model.training_batches == 2
    trainer(tmp_path).fit(made, Made(SPEC))
    assert (made.training_batches, model.training_batches) == (4, 2)


def test_a_copy_of_a_compiled_model_can_be_compiled(tmp_path):
    torch.compiler.reset()
    graphs: list = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    model = build("vae", SPEC)
    model.compile(backend=backend)
    made = copy.deepcopy(model)
    outputs(made)
    assert not graphs
    made.compile(backend=backend)
    outputs(made)
    assert graphs


def test_a_spectrally_normalized_gan_is_copied():
    model = GAN(SPEC, network="mlp", width=8, latent_dim=4, spectral_norm=True)
    made = copy.deepcopy(model)
    before = outputs(made)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.01)
    torch.testing.assert_close(outputs(made)[-1], before[-1], rtol=0, atol=0)
