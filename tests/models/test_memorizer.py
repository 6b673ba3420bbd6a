"""The memorizer: a distribution of levels, the examples of the training split, and no others, and what they are worth."""

import itertools
import math

import pytest
import torch
from pytorch_lightning import Trainer
from torch import Tensor

import zoo
from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.models import Memorizer
from zoo.spec import Batch, DataSpec


def every(spec: DataSpec) -> Tensor:
    return torch.tensor([*itertools.product(range(spec.levels), repeat=spec.dims)], dtype=torch.uint8).view(-1, *spec.shape)


def made(spec: DataSpec, n: int = 5, **options) -> Memorizer:
    model = Memorizer(spec, **options).eval()
    model.initialize(torch.randint(spec.levels, (n, *spec.shape), dtype=torch.uint8))
    return model


@pytest.mark.parametrize("scale", [0.2, 0.7, 5.0])
@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 2), 2), ((1, 2, 2), 4), ((3, 1, 1), 5), ((2,), 17)])
def test_of_levels_probabilities_sum_to_one(shape, levels, scale):
    spec = DataSpec("small", shape, levels)
    model = made(spec, scale=scale)
    x = every(spec)
    log_p = model.log_likelihood(x)
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-5)
    level = torch.arange(levels)
    of_level = (-((level - level[:, None]) ** 2) / (2 * scale**2)).log_softmax(1)  # (levels of an example, levels of x)
    by_hand = torch.stack([of_level[one.flatten().long(), x.flatten(1).long()].sum(1) for one in model.memory])
    torch.testing.assert_close(log_p, by_hand.logsumexp(0) - math.log(5))


def test_of_points_the_density_is_that_of_a_mixture():
    data = Toy("ring", size=100)
    data.setup()
    model = Memorizer(data.spec, scale=0.3).eval()
    model.initialize(data.splits["train"].x)
    components = torch.distributions.Independent(torch.distributions.Normal(data.splits["train"].x, 0.3), 1)
    mixture = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(torch.ones(100)), components)
    x = torch.randn(50, 2)
    torch.testing.assert_close(model.log_likelihood(x), mixture.log_prob(x))
    assert (model.sample(2000).mean(0) - data.splits["train"].x.mean(0)).abs().max() < 0.2


def test_large_levels_are_not_rounded():
    """Squared distances of 8-bit images are whole numbers beyond those of float32."""
    spec = DataSpec("photo", (3, 32, 32), 256)
    model = Memorizer(spec, scale=0.05).eval()
    x = torch.randint(200, 256, (2, *spec.shape), dtype=torch.uint8)
    near = x.clone()
    near[0, 0, 0, 0] -= 1
    model.initialize(x)
    assert model.log_likelihood(near)[0].item() == pytest.approx(-200 - math.log(2), abs=1e-3)


@pytest.mark.parametrize("scale", [0.1, 0.9])
def test_samples_have_their_probabilities(scale):
    spec = DataSpec("small", (1, 1, 2), 4)
    model = made(spec, scale=scale)
    index = (model.sample(40_000).flatten(1) * torch.tensor([4, 1])).sum(1)
    shares = torch.bincount(index, minlength=16) / 40_000
    torch.testing.assert_close(shares, model.log_likelihood(every(spec)).exp(), rtol=0, atol=0.012)


def test_in_training_an_example_is_not_explained_by_itself():
    spec = DataSpec("bits", (3,), 2)
    x = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=torch.uint8)
    model = Memorizer(spec, scale=0.6)
    model.initialize(x)
    for number, left_out in enumerate(model.log_prob(x, leave_out=True)):
        others = Memorizer(spec, scale=0.6)
        others.initialize(torch.cat((x[:number], x[number + 1 :])))
        torch.testing.assert_close(left_out, others.log_prob(x[number : number + 1])[0])
    foreign = torch.tensor([[1, 0, 1]])
    torch.testing.assert_close(model.log_prob(foreign, leave_out=True), model.log_prob(foreign)), "none is left out"


def fitted(folder, epochs: int = 1, **options) -> tuple[Memorizer, Trainer]:
    data = Digits(seed=0)
    model = Memorizer(data.spec, **options)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=epochs, accelerator="cpu", default_root_dir=folder, limit_val_batches=0, **quiet)
    trainer.fit(model, data)
    return model.eval(), trainer


def rows(x: Tensor) -> list[list[int]]:
    return sorted(x.flatten(1).tolist())


def test_it_knows_the_training_split_and_a_checkpoint_has_it(tmp_path):
    model, trainer = fitted(tmp_path)
    splits = trainer.datamodule.splits
    assert rows(model.memory) == rows(splits["train"].x)
    assert model.kernel.log_scale.item() == pytest.approx(math.log(0.5)), "the scale stays without a learning rate"
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    loaded = zoo.load(tmp_path / "whole.ckpt")
    torch.testing.assert_close(loaded.log_likelihood(splits["test"].x), model.log_likelihood(splits["test"].x))
    loaded.train().objective(Batch(splits["test"].x))
    assert rows(loaded.memory) == rows(splits["train"].x), "no other examples take their place"


def test_perfect_samples_and_a_poor_likelihood(tmp_path):
    """The lecture's p1: at a small ε samples are training examples, and of test digits uniform noise knows more."""
    model, trainer = fitted(tmp_path, scale=0.1)
    splits = trainer.datamodule.splits
    copies = {tuple(row) for row in rows(splits["train"].x)}
    assert {tuple(row) for row in rows(model.sample(500))} <= copies
    assert model.log_likelihood(splits["test"].x).mean() < -64 * math.log(17)
    assert model.log_likelihood(splits["train"].x).mean() == pytest.approx(-math.log(len(splits["train"].x)), abs=0.1)


def test_with_a_learning_rate_the_scale_is_fitted(tmp_path):
    """Held-out digits are then better explained than by any scale near it."""
    model, trainer = fitted(tmp_path, epochs=10, lr=0.05, examples=600)
    assert len(model.memory) == 600
    x = trainer.datamodule.splits["test"].x
    best, nll = model.kernel.log_scale.item(), -model.log_likelihood(x).mean()
    assert 1 < math.exp(best) < 4
    for off in (-0.5, 0.5):
        model.kernel.log_scale.data.fill_(best + off)
        assert -model.log_likelihood(x).mean() > nll


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (Digits.spec, {"scale": 0.0}, "scale 0.0: a positive number"),
        (Digits.spec, {"scale": math.nan}, "scale nan: a positive number"),
        (Digits.spec, {"examples": 0}, "examples 0: 1 or more"),
        (Digits.spec, {"lr": -1.0}, "lr -1.0: 0 or more"),
        (DataSpec("large", (3, 256, 256), 256), {"examples": 10_000}, "10,000 examples of large are too many to keep"),
    ],
)
def test_wrong_options_are_told_in_a_line(spec, options, message):
    with pytest.raises(ZooError, match=message):
        Memorizer(spec, **options)
