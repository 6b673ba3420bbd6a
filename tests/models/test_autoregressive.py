"""MADE and PixelCNN: probabilities that sum to one, factors that know earlier values alone, samples by cache and in turn."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from datamodules import Digits
from zoo.errors import ZooError
from zoo.models import MADE, PixelCNN
from zoo.models.autoregressive import AutoregressiveModel
from zoo.spec import Batch, DataSpec

SMALL = {
    MADE: {"hidden": [24, 16]},
    PixelCNN: {"layers": 3, "channels": 9, "head": 12, "first_kernel": 3},
}
ORDERS = [{}, *({"order": "random", "order_seed": seed} for seed in range(3))]
VARIANTS = [*((MADE, order) for order in ORDERS), (MADE, {"hidden": 1}), (PixelCNN, {}), (PixelCNN, {"layers": 1})]
variants = pytest.mark.parametrize(
    ("cls", "options"), VARIANTS, ids=[f"{cls.__name__}-{'-'.join(map(str, options.values()))}" for cls, options in VARIANTS]
)
both = pytest.mark.parametrize("cls", [MADE, PixelCNN])


def build(cls: type[AutoregressiveModel], spec: DataSpec, **options) -> AutoregressiveModel:
    """A model whose factors differ from one another as those of a trained one do."""
    torch.manual_seed(0)
    model = cls(spec, **SMALL[cls] | options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    return model


def every(spec: DataSpec) -> Tensor:
    """All examples that there are, (levels ** D, *shape)."""
    return torch.tensor([*itertools.product(range(spec.levels), repeat=spec.dims)], dtype=torch.uint8).view(-1, *spec.shape)


@pytest.fixture
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# The likelihood


@variants
@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(
    ("shape", "levels", "likelihood"),
    [
        ((1, 2, 2), 2, "auto"),
        ((1, 2, 2), 2, "categorical"),
        ((1, 2, 2), 5, "auto"),
        ((1, 2, 2), 5, "discretized_logistic"),
        ((1, 2, 2), 5, "discretized_logistic_mixture"),
        ((3, 2, 1), 3, "auto"),
        ((2, 1, 2), 2, "auto"),
        ((1, 1, 1), 7, "auto"),
        ((1, 1, 2), 40, "auto"),
    ],
)
def test_probabilities_sum_to_one(cls, options, shape, levels, likelihood):
    spec = DataSpec("small", shape, levels)
    log_p = build(cls, spec, likelihood=likelihood, **options).log_likelihood(every(spec))
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-10)
    assert log_p.std() > 0.1 or spec.dims == 1, "the model is no uniform one"


@both
@pytest.mark.usefixtures("_double")
def test_of_classes_each_sums_to_one_and_the_likelihood_is_their_mean(cls):
    spec = DataSpec("small", (1, 2, 2), 2)
    model, x = build(cls, spec, classes=3), every(spec)
    of_classes = torch.stack([model.log_prob(x, torch.full((16,), label)).exp() for label in range(3)])
    torch.testing.assert_close(of_classes.sum(1), torch.ones(3))
    assert (of_classes[0] - of_classes[1]).abs().max() > 1e-3
    torch.testing.assert_close(model.log_likelihood(x).exp(), of_classes.mean(0))


def test_binary_vectors_are_data_too():
    spec = DataSpec("bits", (5,), 2)
    assert build(MADE, spec).log_likelihood(every(spec)).exp().sum().item() == pytest.approx(1, abs=1e-5)


@variants
@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("shape", [(1, 4, 3), (3, 3, 2), (1, 1, 5), (1, 5, 1)])
def test_factors_depend_on_earlier_values_alone(cls, options, shape):
    """The Jacobian in the model's order is strictly triangular, colors too."""
    model = build(cls, DataSpec("small", shape, levels=4), **options)
    assert not reached(model, 3).triu().any()


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("shape", [(1, 5, 4), (3, 3, 2), (1, 1, 5), (1, 5, 1)])
@pytest.mark.parametrize(
    ("cls", "options"),
    [(PixelCNN, {"layers": 6, "channels": 24}), *((MADE, {"hidden": 200, **order}) for order in ORDERS[:2])],
    ids=["pixelcnn", "made", "made, random order"],
)
def test_factors_depend_on_all_earlier_values(cls, options, shape):
    """There is no blind spot: below the diagonal the Jacobian is full."""
    model = build(cls, DataSpec("small", shape, levels=4), **options)
    assert torch.equal(reached(model, 8), torch.ones(model.spec.dims, model.spec.dims).tril(-1) > 0)


def reached(model: AutoregressiveModel, points: int) -> Tensor:
    """Which value's parameters depend on which value somewhere, (D, D), rows and columns in the model's order."""

    def parameters(x: Tensor) -> Tensor:
        """(D,) -> (outputs, D)."""
        return model.parameters_of(x.view(1, *model.spec.shape), None)[0].flatten(1)

    jacobian = sum(torch.func.jacrev(parameters)(torch.randn(model.spec.dims)).abs().sum(0) for _ in range(points))
    return jacobian[model.ranked][:, model.ranked] > 0


# Samples


@variants
@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize("classes", [None, 3])
@pytest.mark.parametrize(("shape", "levels"), [((1, 4, 5), 2), ((3, 3, 2), 5), ((2, 1, 4), 256)])
def test_cached_samples_are_those_of_one_pass_for_each_value(cls, options, shape, levels, classes):
    model = build(cls, DataSpec("small", shape, levels), classes=classes, **options)
    torch.manual_seed(1)
    cached = model.sample(7)
    torch.manual_seed(1)
    assert torch.equal(cached, model.sequential_sample(7))
    assert cached.unique(dim=0).shape[0] > 1


@both
def test_samples_have_their_probabilities(cls):
    spec = DataSpec("small", (1, 2, 2), 3)
    model = build(cls, spec)
    n = 40_000
    places = 3 ** torch.arange(3, -1, -1)
    counts = torch.bincount((model.sample(n).flatten(1) * places).sum(1), minlength=81)
    expected = n * model.log_likelihood(every(spec)).exp()
    assert ((counts - expected) ** 2 / expected).sum() < 150, "chi-squared of 80 degrees of freedom; its 1e-6 quantile"


@both
def test_samples_are_of_the_class_that_is_asked_for(cls):
    spec = DataSpec("small", (1, 2, 2), 2)
    model = build(cls, spec, classes=2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "context" in name:
                parameter.mul_(20)
    label = torch.arange(2).repeat_interleave(4000)
    places = 2 ** torch.arange(3, -1, -1)
    index = (model.sample(8000, label).flatten(1) * places).sum(1)
    for each in range(2):
        shares = torch.bincount(index[label == each], minlength=16) / 4000
        p = model.log_prob(every(spec), torch.full((16,), each)).exp()
        torch.testing.assert_close(shares, p, rtol=0, atol=0.04)


# Learning


@both
def test_a_known_distribution_is_learned(cls):
    """Three pixels and their parity: nothing but a model of all dependencies comes near log 8."""
    torch.manual_seed(0)
    spec = DataSpec("parity", (1, 2, 2), 2)
    x = every(spec)
    x = x[x.flatten(1).sum(1) % 2 == 0]  # (8, 1, 2, 2)
    model = cls(spec, **{MADE: {"hidden": [32, 32]}, PixelCNN: {"layers": 3, "channels": 16}}[cls])
    adam = model.build_optimizer(model.parameters(), 0.01)
    for _ in range(400):
        loss, _ = model.objective(Batch(x))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert math.log(8) <= loss < math.log(8) + 0.02


@both
def test_labels_tell_digits_apart(cls):
    """A model of digits given their class finds the class of most held-out ones."""
    torch.manual_seed(0)
    data = Digits(seed=0)
    data.setup()
    model = cls(data.spec, classes=10, lr=3e-3, **{MADE: {"hidden": 128}, PixelCNN: {"channels": 16, "layers": 3}}[cls])
    adam = model.build_optimizer(model.parameters(), model.lr)
    for _ in range(8):
        for batch in data.train_dataloader():
            loss, terms = model.objective(batch)
            adam.zero_grad()
            loss.backward()
            adam.step()
    assert terms.keys() == {"conditional_nll"}
    held_out = data.splits["val"].take(torch.arange(100), torch.Generator)
    with torch.no_grad():
        log_p = torch.stack([model.log_prob(held_out.x, torch.full((100,), label)) for label in range(10)], 1)
    assert (log_p.argmax(1) == held_out.label).float().mean() > 0.6


# Options


@pytest.mark.parametrize(
    ("cls", "spec", "options", "message"),
    [
        (MADE, DataSpec("points", (2,)), {}, "MADE takes data with levels; points is continuous"),
        (PixelCNN, DataSpec("photos", (3, 4, 4)), {}, "PixelCNN takes data with levels; photos is continuous"),
        (PixelCNN, DataSpec("bits", (5,), 2), {}, r"takes images \(C, H, W\); bits has shape \(5,\): use made"),
        (MADE, Digits.spec, {"hidden": []}, "one hidden layer or more"),
        (MADE, Digits.spec, {"hidden": [5, 0]}, "hidden 0: 1 or more"),
        (MADE, Digits.spec, {"order": "reversed"}, "order 'reversed' is not known; there are natural, random"),
        (MADE, Digits.spec, {"order_seed": -1}, "order_seed -1: 0 or more"),
        (PixelCNN, Digits.spec, {"layers": 0}, "layers 0: 1 or more"),
        (PixelCNN, Digits.spec, {"channels": 0}, "channels 0: 1 or more"),
        (PixelCNN, Digits.spec, {"head": -3}, "head -3: 1 or more"),
        (PixelCNN, Digits.spec, {"kernel": 4}, "kernel 4: an odd number is needed"),
        (PixelCNN, Digits.spec, {"first_kernel": 1}, "first_kernel 1: an odd number is needed, 3 or more"),
        (MADE, Digits.spec, {"classes": 0}, "classes 0: 1 or more"),
        (MADE, Digits.spec, {"lr_decay": 0.0}, "lr_decay 0.0: a number above 0"),
        (MADE, Digits.spec, {"lr_decay": 1.5}, "lr_decay 1.5: a number above 0 and up to 1"),
        (MADE, Digits.spec, {"likelihood": "bernoulli"}, "Bernoulli is no likelihood of the 17 levels of digits"),
        (PixelCNN, Digits.spec, {"likelihood": "gaussian"}, "Gaussian is no likelihood of the 17 levels"),
        (PixelCNN, Digits.spec, {"likelihood": "categoricl"}, "Did you mean categorical?"),
        (MADE, Digits.spec, {"likelihood_options": {"components": 3}}, "no option 'components'"),
    ],
)
def test_wrong_options_are_told_in_a_line(cls, spec, options, message):
    with pytest.raises(ZooError, match=message) as error:
        cls(spec, **options)
    assert len(str(error.value).splitlines()) <= 2


@both
def test_labels_that_are_missing_or_too_large_are_told_in_a_line(cls):
    model, x = build(cls, Digits.spec, classes=10), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(ZooError, match="classes 10: digits has no labels; leave classes out"):
        model.objective(Batch(x))
    for label in (10, -1):
        with pytest.raises(ZooError, match=f"classes 10: digits has a label {label}; give its number of classes"):
            model.objective(Batch(x, label=torch.tensor([3, label])))
    model.objective(Batch(x, label=torch.tensor([3, 9])))


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_likelihood_follows_from_the_levels(levels):
    model = build(PixelCNN, DataSpec("gray", (1, 4, 4), levels))
    expected = {2: "Bernoulli", 17: "Categorical", 256: "DiscretizedLogisticMixture"}[levels]
    assert type(model.likelihood).__name__ == expected
    assert model.likelihood_kind == "exact"
