"""The noise mixture: what it loses of a likelihood, what its samples are, and what its checkpoints may name."""

import itertools
import math

import pytest
import torch
from pytorch_lightning import Trainer

import zoo
from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.models import GAN, MADE, VAE, Memorizer, NoiseMixture, PixelCNN
from zoo.models.base import GenerativeModule, HasLikelihood
from zoo.runs.checkpoints import read
from zoo.spec import Batch, DataSpec

TINY = DataSpec("tiny", (1, 2, 2), 3)
EVERY = torch.tensor([*itertools.product(range(3), repeat=4)], dtype=torch.uint8).view(-1, 1, 2, 2)


@pytest.mark.parametrize("weight", [0.01, 0.5])
def test_probabilities_sum_to_one_and_are_those_of_a_mixture(weight):
    model = NoiseMixture(TINY, base="made", weight=weight).eval()
    p = model.log_likelihood(EVERY).exp()
    assert p.sum().item() == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(p, weight * model.base.log_likelihood(EVERY).exp() + (1 - weight) / 81)


def test_of_points_the_density_is_known():
    """The toy density itself as the base: a Gaussian around each of its means."""
    data = Toy("ring")
    known = Memorizer(data.spec, scale=data.std)
    known.initialize(data.means)
    model = NoiseMixture.of(known, noise_scale=2.0).eval()
    x = torch.randn(100, 2)
    noise = torch.distributions.Normal(0, 2.0).log_prob(x).sum(1).exp()
    torch.testing.assert_close(
        model.log_likelihood(x).exp(), 0.01 * data.distribution.log_prob(x).exp() + 0.99 * noise, rtol=1e-4, atol=1e-9
    )
    assert model.sample(5000).std().item() == pytest.approx(2, abs=0.1)


def test_it_loses_at_most_the_logarithm_of_a_hundred():
    data = Digits(seed=0)
    data.setup()
    x = data.splits["test"].x
    base = PixelCNN(data.spec, layers=2, channels=8).eval()
    lost = base.log_likelihood(x) - NoiseMixture.of(base).log_likelihood(x)
    assert lost.max() < math.log(100) + 1e-4
    assert not torch.equal(lost, torch.zeros_like(lost))


def test_samples_are_of_the_base_with_its_weight():
    spec = DataSpec("bits", (1, 4, 4), 2)
    base = Memorizer(spec, scale=0.1)
    base.initialize(torch.ones(1, *spec.shape, dtype=torch.uint8))
    whole = NoiseMixture.of(base, weight=0.2).sample(5000).flatten(1).all(1)
    assert whole.float().mean().item() == pytest.approx(0.2, abs=0.03)


def fitted(model: GenerativeModule, folder) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(max_epochs=1, accelerator="cpu", default_root_dir=folder, limit_val_batches=1, **quiet)
    trainer.fit(model, Digits(seed=0))
    return trainer


BASES = [(MADE, {"hidden": 32}), (VAE, {"network": "mlp", "hidden": 16, "latent_dim": 2}), (Memorizer, {"scale": 1.0})]


@pytest.mark.parametrize(("cls", "options"), BASES, ids=[cls.__name__ for cls, _ in BASES])
def test_over_a_checkpoint_of_any_model_with_a_likelihood(cls, options, tmp_path):
    """Its weights stay as they are; a checkpoint of the mixture is whole when the base's is gone."""
    torch.manual_seed(0)
    base = cls(Digits.spec, **options)
    fitted(base, tmp_path).save_checkpoint(tmp_path / "base.ckpt")
    model = NoiseMixture(Digits.spec, checkpoint=str(tmp_path / "base.ckpt"))
    trainer = fitted(model, tmp_path)
    assert model.likelihood_kind == base.likelihood_kind
    assert isinstance(model, HasLikelihood)
    trained = {name: each for name, each in base.state_dict().items() if name != "memory"}
    for name, each in trained.items():
        torch.testing.assert_close(model.base.state_dict()[name], each, rtol=0, atol=0)
    trainer.save_checkpoint(tmp_path / "mixture.ckpt")
    (tmp_path / "base.ckpt").unlink()
    loaded = zoo.load(tmp_path / "mixture.ckpt")
    assert type(loaded.base) is cls
    x = trainer.datamodule.splits["test"].x[:20]
    torch.manual_seed(0)
    expected = model.eval().log_likelihood(x, 4)
    torch.manual_seed(0)
    torch.testing.assert_close(loaded.log_likelihood(x, 4), expected)
    assert str(tmp_path) not in str(read(tmp_path / "mixture.ckpt")["hyper_parameters"])


def test_schedules_of_the_base_count_batches():
    model = NoiseMixture(Digits.spec, base="vae", base_options={"network": "mlp", "kl": {"warmup": 10}})
    x = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    for t in range(4):
        assert model.training_batches == t
        model.objective(Batch(x))
        assert model.base.training_batches == t + 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"base": "gan"}, "base gan: GAN has no likelihood of digits"),
        ({"base": "maed"}, "base 'maed' is not known; .* Did you mean made"),
        ({"base": "os.system"}, "base os.system is no model of the zoo"),
        ({"base": "nowhere.Model"}, "can't import the base nowhere.Model"),
        ({"base": "made", "base_options": {"hiden": 3}}, "options of the base made: .*hiden"),
        ({"base": "factor_vae"}, "steps two optimizers"),
        ({"weight": 0.0}, "weight 0.0: a number between 0 and 1"),
        ({"weight": 1.0}, "weight 1.0: a number between 0 and 1"),
        ({"noise_scale": -1.0}, "noise_scale -1.0: a positive number"),
        ({"checkpoint": "none.ckpt"}, "no checkpoint none.ckpt"),
        ({"checkpoint": "none.ckpt", "base": "made"}, "none.ckpt beside a base or its options"),
    ],
)
def test_wrong_options_are_told_in_a_line(options, message):
    with pytest.raises(ZooError, match=message) as error:
        NoiseMixture(Digits.spec, **options)
    assert len(str(error.value).splitlines()) <= 2


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    base = Memorizer(Digits.spec)
    fitted(base, tmp_path).save_checkpoint(tmp_path / "base.ckpt")
    with pytest.raises(ZooError, match=r"is of digits, \(1, 8, 8\); the data are tiny, \(1, 2, 2\)"):
        NoiseMixture(TINY, checkpoint=str(tmp_path / "base.ckpt"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"base": "antigravity.Model"}, "antigravity.Model is not part of the zoo, and nothing of it was imported"),
        ({"base": "zoo.files.WriteError"}, "zoo.files.WriteError is no model of the zoo"),
        ({"base_options": {"hidden": 60_000}}, "far more weights than it has"),
        ({"base": "auto", "base_options": None, "checkpoint": "other.ckpt"}, "names a file"),
    ],
)
def test_what_a_checkpoint_names_is_data(changed, message, tmp_path, monkeypatch):
    """No module that it names is imported, no file that it names is opened."""
    monkeypatch.chdir(tmp_path)
    model = NoiseMixture(Digits.spec, base="made", base_options={"hidden": 8})
    trainer = fitted(model, tmp_path)
    trainer.save_checkpoint(tmp_path / "mixture.ckpt")
    trainer.save_checkpoint(tmp_path / "other.ckpt")
    contents = torch.load(tmp_path / "mixture.ckpt", weights_only=True)
    contents["hyper_parameters"] |= changed
    torch.save(contents, tmp_path / "mixture.ckpt")
    with pytest.raises(ZooError, match=message):
        zoo.load(tmp_path / "mixture.ckpt")


def test_a_gan_is_no_base():
    with pytest.raises(ZooError, match="has no likelihood"):
        NoiseMixture.of(GAN(Digits.spec))
