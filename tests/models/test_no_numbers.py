"""What is no number is never shown as data: samples, pictures and files of a broken model say so."""

import warnings

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from test_contract import SMALL

import callbacks
from datamodules import Digits
from zoo import registry
from zoo.distributions.likelihoods import LIKELIHOODS
from zoo.errors import ZooError
from zoo.evaluation.samples import sample, save_samples
from zoo.models.base import Autoencodes
from zoo.plots import picture
from zoo.spec import DataSpec

IMAGES, VECTORS = DataSpec("pixels", (1, 8, 8), 17), DataSpec("ring", (2,))
BAD = r"hold NaN or infinite numbers"
ALL_BASE = {"noise_mixture": {"weight": 1 - 1e-9}}  # noise is as good as ever, whatever its base is


def build(name: str, spec: DataSpec):
    torch.manual_seed(0)
    options = {**SMALL.get(name, {}), **ALL_BASE.get(name, {})}
    try:
        return registry.find_class(registry.MODELS[name].path)(spec, **options).eval()
    except ZooError:
        pytest.skip("not a model of these data")


@pytest.mark.parametrize("spec", [IMAGES, VECTORS], ids=["images", "vectors"])
@pytest.mark.parametrize("name", registry.MODELS)
@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_models(name, spec, broken, tmp_path):
    model = build(name, spec)
    x = model.sample(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(broken)
    for make in (lambda: model.sample(5), lambda: sample(model, 5)):
        with pytest.raises(ZooError, match=f"5 of 5 examples .*{BAD}"):
            make()
    if isinstance(model, Autoencodes):
        with pytest.raises(ZooError, match=BAD):
            model.decode(model.encode(x))


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_likelihoods(name, levels):
    """One of three, in a single pixel."""
    likelihood = LIKELIHOODS.build(name, (DataSpec("pixels", (1, 4, 4), levels),))
    raw = torch.randn(3, likelihood.outputs, 1, 4, 4)
    raw[1, 0, 0, 2, 3] = torch.nan
    for make in (likelihood.mean, likelihood.sample):
        with pytest.raises(ZooError, match=f"1 of 3 examples .*{BAD}"):
            make(raw)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("spec", [IMAGES, VECTORS, DataSpec("field", (1, 8, 8))], ids=["levels", "vectors", "field"])
def test_specs_pictures_and_files(spec, value, tmp_path):
    x = torch.zeros(4, *spec.shape)
    x[2].view(-1)[0] = value
    for make in (
        lambda: spec.from_signed(x),
        lambda: picture(x, spec),
        lambda: save_samples(x, spec, tmp_path / "x.png"),
        lambda: save_samples(x, spec, tmp_path / "x.npz"),
    ):
        with pytest.raises(ZooError, match=f"1 of 4 examples .*{BAD}"):
            make()
    assert not list(tmp_path.iterdir())
    assert np.array(picture(torch.zeros(4, *spec.shape), spec)).size


def test_a_training_is_not_stopped_for_a_picture(tmp_path):
    model = build("gan", IMAGES)
    model.generate = lambda z: torch.full((len(z), 1, 8, 8), torch.nan)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    pictures = [callbacks.SampleGrid(4)]
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=1, default_root_dir=tmp_path, callbacks=pictures, **quiet)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        trainer.validate(model, Digits(batch_size=32, seed=0), verbose=False)
    assert any("no picture samples" in str(each.message) and "NaN" in str(each.message) for each in said)
    assert not (tmp_path / "pictures").exists()


@pytest.mark.parametrize("spec", [IMAGES, VECTORS], ids=["images", "vectors"])
@pytest.mark.parametrize("name", registry.MODELS)
def test_no_samples_at_all(name, spec):
    """An empty tensor of the data's shape and type; fewer than none is a line."""
    model = build(name, spec)
    x = model.sample(0)
    assert x.shape == (0, *spec.shape) and x.dtype == model.sample(2).dtype
    with pytest.raises(ZooError, match="n -1: 0 or more is needed"):
        model.sample(-1)
    with pytest.raises(ZooError, match="n 0: 1 or more is needed"):
        sample(model, 0)
    with pytest.raises(ZooError, match="a picture of 0 examples"):
        picture(x, spec)


@pytest.mark.parametrize(
    ("component", "name"),
    [("prior", "mixture"), ("prior", "vamp"), ("prior", "spline"), *(("likelihood", name) for name in LIKELIHOODS)],
)
def test_no_samples_of_any_component(component, name):
    model = registry.find_class("zoo.models.VAE")(IMAGES, network="mlp", hidden=8, **{component: name}).eval()
    assert model.sample(0).shape == (0, 1, 8, 8)
    assert model.encode(model.sample(0)).shape == (0, 16)


@pytest.mark.parametrize(
    "make",
    [
        lambda: callbacks.SampleGrid(0),
        lambda: callbacks.TemperatureSamples(n=0),
        lambda: callbacks.TemperatureSamples([]),
        lambda: callbacks.Reconstructions(0),
        lambda: callbacks.Reconstructions(columns=0),
        lambda: callbacks.LatentTraversals(columns=0),
        lambda: callbacks.AnimatedTraversals(steps=-1),
        lambda: callbacks.Interpolations(n=0),
        lambda: callbacks.NonFiniteGuard(0),
    ],
)
def test_pictures_of_nothing(make):
    with pytest.raises(ZooError, match="1 or more is needed"):
        make()
