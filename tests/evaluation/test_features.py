"""Features of examples: what they are made of, how they are kept, and what has none."""

import dataclasses
import os
import sys
import time

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from pytorch_lightning import LightningDataModule
from torch import nn

from datamodules import MNIST, Digits, Toy
from zoo.errors import ZooError
from zoo.evaluation import (
    ClassifierFeatures,
    EfficientNetFeatures,
    ModuleFeatures,
    RawFeatures,
    classifier,
    features_for,
)
from zoo.evaluation.classifier import trained_classifier
from zoo.nets.classifier import Classifier
from zoo.spec import Batch, DataSpec

COLOR = DataSpec("photographs", (3, 32, 32), levels=256)
MNIST_ROOT = REPOSITORY.parent / "shared" / "data"


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with the classifier of digits."""
    folder = tmp_path_factory.mktemp("kept")
    trained_classifier(Digits(), folder=folder)
    return folder


@pytest.fixture
def cache(kept, tmp_path, monkeypatch):
    """A cache in which it is kept, where data without a folder of their own look for it."""
    (tmp_path / "features").mkdir()
    for file in kept.iterdir():
        (tmp_path / "features" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    return tmp_path / "features"


def digits(split="test"):
    data = Digits()
    data.setup()
    return data.splits[split]


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 5, 9), (1, 2, 2)])
def test_the_classifier_takes_any_image(shape):
    network = Classifier(shape, classes=7)
    x = torch.rand(3, *shape)
    assert network(x).shape == (3, 7)
    assert network.features(x).shape == (3, 64)


def test_features_of_digits(cache):
    start = time.process_time()
    features = features_for(Digits())
    assert time.process_time() - start < 2, "it was kept"
    assert isinstance(features, ClassifierFeatures)
    assert (features.name, features.dim) == ("digits_cnn", 64)
    x = digits()
    found = features(x.x)
    assert found.shape == (250, 64)
    assert found.dtype == torch.float32
    accuracy = (features.classify(x.x) == x.label).double().mean().item()
    assert features.describe() == {
        "name": "digits_cnn",
        "dim": 64,
        "hash": features.hash,
        "accuracy": accuracy,
        "classes": 10,
        "seed": 0,
    }
    assert accuracy > 0.95


def test_the_same_seed_trains_the_same_classifier(kept, tmp_path):
    state = torch.get_rng_state()
    again = ClassifierFeatures(trained_classifier(Digits(batch_size=7, seed=5), folder=tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert again.hash == ClassifierFeatures(trained_classifier(Digits(), folder=kept)).hash
    assert os.listdir(tmp_path) == os.listdir(kept)


@pytest.mark.skipif(not (MNIST_ROOT / "mnist.npz").is_file(), reason="MNIST is not here")
@pytest.mark.slow
def test_the_classifier_of_mnist_takes_under_a_minute(tmp_path):
    start = time.process_time()
    found = trained_classifier(MNIST(root=MNIST_ROOT), folder=tmp_path)
    assert time.process_time() - start < 60
    assert found.accuracy > 0.98


class Untouched(Digits):
    """Digits whose splits can't be loaded."""

    def load(self):
        raise AssertionError("the splits were loaded")


def test_what_is_kept_needs_no_data(cache):
    assert features_for(Untouched(), "cnn").dim == 64


def stop(*_):
    raise InterruptedError("it was trained")


DAMAGE = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "no npz": lambda content: b"PK but nothing else" * 100,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_made_again(kind, cache, monkeypatch):
    (file,) = cache.iterdir()
    file.write_bytes(DAMAGE[kind](file.read_bytes()))
    monkeypatch.setattr(classifier, "_train", stop)
    with pytest.raises(InterruptedError):
        features_for(Digits())


def test_what_other_data_or_seeds_have_is_not_taken(cache, monkeypatch):
    found = trained_classifier(Digits())
    monkeypatch.setattr(classifier, "_train", stop)
    with pytest.raises(InterruptedError):
        features_for(Digits(), seed=1)
    (file,) = cache.iterdir()
    classifier._write(file, dataclasses.replace(found, spec=dataclasses.replace(found.spec, levels=2)))
    with pytest.raises(InterruptedError):
        features_for(Digits())


def test_a_folder_that_can_t_be_written_is_a_warning(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(classifier, "_STEPS", 4)
    with pytest.warns(UserWarning, match="not kept"):
        trained_classifier(Digits(), folder=tmp_path / "file")


def test_it_lies_beside_the_data(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "_STEPS", 4)

    class Rooted(Digits):
        def __init__(self, root):
            super().__init__()
            self.root = root

    trained_classifier(Rooted(tmp_path))
    assert os.listdir(tmp_path) == ["features"]


class Own(LightningDataModule):
    """Data that are no DataModule of the zoo's; images whose mean is their class."""

    spec = DataSpec("own data", (1, 6, 6))

    def __init__(self, classes=2, labels=True):
        super().__init__()
        self.classes, self.labels = classes, labels

    def train_dataloader(self):
        label = torch.arange(64) % self.classes
        x = torch.rand(64, 1, 6, 6) + label[:, None, None, None]
        return [Batch(x, label=label if self.labels else None)]

    test_dataloader = train_dataloader


def test_data_of_your_own(tmp_path, monkeypatch):
    monkeypatch.setattr(classifier, "_STEPS", 50)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    features = features_for(Own())
    assert features.name == "own_data_cnn"
    assert features.describe()["accuracy"] == 1
    assert features_for(Own(labels=False)).name == "pixels"


REFUSED = {
    "no labels": (lambda: features_for(Own(labels=False), "cnn"), "no labels"),
    "no images": (lambda: features_for(Toy(), "cnn"), "images"),
    "one class only": (lambda: features_for(Own(classes=1), "cnn"), "one class"),
    "an unknown kind": (lambda: features_for(Digits(), "inception"), "dotted path"),
    "no module": (lambda: features_for(Digits(), "torch.Tensor"), "no Module"),
    "small images": (lambda: EfficientNetFeatures(Digits.spec), "32x32"),
    "another shape": (lambda: RawFeatures(Digits.spec)(torch.zeros(2, 1, 9, 9)), r"\(1, 9, 9\)"),
    "a module of other examples": (lambda: ModuleFeatures(nn.Linear(3, 2), Digits.spec), "can't be computed"),
    "a name with a space": (lambda: ModuleFeatures(nn.Flatten(), Digits.spec, "my net"), "underscores"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_features(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    call, message = REFUSED[kind]
    with pytest.raises(ZooError, match=message) as refusal:
        call()
    assert len(str(refusal.value).splitlines()) <= 2


def test_raw_features():
    features = features_for(Digits(), "raw")
    x = digits().x
    assert features.name == "pixels"
    assert torch.equal(features(x), x.flatten(1) / 16)
    points = features_for(Toy("ring"))
    assert (points.name, points.dim) == ("points", 2)
    assert torch.equal(points(torch.ones(3, 2)), torch.ones(3, 2))
    assert points(torch.ones(0, 2)).shape == (0, 2)
    assert points.hash == features_for(Toy("ring")).hash != features.hash


def test_a_module_of_your_own(tmp_path, monkeypatch):
    (tmp_path / "my_net.py").write_text(
        "from torch import nn\n\n\n"
        "class Net(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.BatchNorm1d(64), nn.Dropout(), nn.Linear(64, 3))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import my_net

    trained = my_net.Net()
    torch.save(trained.state_dict(), tmp_path / "weights.pt")
    features = features_for(Digits(), f"my_net.Net:{tmp_path / 'weights.pt'}")
    x = digits().x
    assert (features.name, features.dim) == ("net", 3)
    with torch.no_grad():
        assert torch.allclose(features(x), trained.eval()(x.flatten(1) / 16), atol=1e-6)
    assert features.hash == ModuleFeatures(trained, Digits.spec, "net").hash
    assert features.hash != features_for(Digits(), "my_net.Net").hash
    assert features_for(Digits(), trained).hash == features.hash
    (tmp_path / "other.pt").write_bytes(b"no weights")
    with pytest.raises(ZooError, match="holds no weights of Net"):
        features_for(Digits(), f"my_net.Net:{tmp_path / 'other.pt'}")
    sys.modules.pop("my_net")


def test_a_module_is_copied_and_stays_as_it_is():
    module = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64))
    features = ModuleFeatures(module, Digits.spec, "mine")
    before = features(digits().x)
    with torch.no_grad():
        module[1].weight.mul_(2)
    assert module.training
    assert torch.equal(features(digits().x), before)


def test_efficientnet():
    pytest.importorskip("efficientnet_lite_pytorch")
    features = EfficientNetFeatures(COLOR)
    x = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert (features.name, features.dim, features(x).shape) == ("efficientnet_lite0", 1280, (4, 1280))
    assert features.hash == EfficientNetFeatures(COLOR).hash
    gray = DataSpec("gray", (1, 32, 32), levels=256)
    same = EfficientNetFeatures(gray)(x[:, :1])
    assert np.allclose(same, features(x[:, :1].expand(-1, 3, -1, -1)), atol=1e-5)


def test_efficientnet_that_is_not_installed(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ZooError, match=r"pip install 'generative-zoo\[features\]'"):
        EfficientNetFeatures(COLOR)
