"""Every data set says what it is before it is loaded, and gives three fixed, disjoint splits of exactly that."""

import hashlib
import io
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from jsonargparse import ArgumentParser
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import datamodules
from datamodules import MNIST, DataModule, Digits, DSprites, FashionMNIST, ImageFolder, Toy, dsprites
from datamodules.dsprites_render import FACTOR_NAMES, factors_of, index_of
from zoo.errors import ZooError
from zoo.registry import DATA, find_class

REAL_MNIST = REPOSITORY.parent / "shared" / "data"
NEEDS_FILES = {"mnist", "fashion_mnist", "stacked_mnist", "cifar10", "folder"}
NEEDS_FILES |= {"scream_dsprites", "shapes3d", "smallnorb", "cars3d"}
OPTIONS = {  # what keeps a data set small enough for a test, and its other forms
    "dsprites": ({"size": 500}, {"size": 500, "resolution": 32}, {"factors": {"posX": [0, 9], "scale": [5]}}),
    **dict.fromkeys(("color_dsprites", "noisy_dsprites", "background_dsprites"), ({"size": 500},)),
    "toy": tuple({"density": density, "size": 500} for density in ("ring", "grid", "moons", "mixture")),
    **{f"toy_{density}": ({"size": 500},) for density in ("ring", "grid", "moons", "mixture")},
}
CASES = [
    (name, {**entry.options, **options})
    for name, entry in DATA.items()
    if name.partition("_binary")[0] not in NEEDS_FILES
    for options in OPTIONS.get(name, ({},))
]
needs_mnist = pytest.mark.skipif(not (REAL_MNIST / "mnist.npz").is_file(), reason="needs mnist.npz")
needs_fashion = pytest.mark.skipif(
    not Path("/usr/share/datasets/fashion-mnist").is_dir(), reason="needs Debian's dataset-fashion-mnist"
)


def matches(batch, spec):
    """Whether a batch is what the spec says."""
    assert batch.x.shape[1:] == spec.shape
    if spec.levels is None:
        assert batch.x.dtype == torch.float32
    else:
        assert batch.x.dtype == torch.uint8
        assert batch.x.max().item() < spec.levels
    if spec.factor_names:
        assert len(spec.factor_names) == len(spec.factor_sizes)
        assert batch.factors.shape == (len(batch.x), len(spec.factor_sizes))
        assert batch.factors.dtype == torch.int64
        assert (batch.factors < torch.tensor(spec.factor_sizes)).all()
    else:
        assert batch.factors is None
    assert batch.label is None or (batch.label.dtype, batch.label.shape) == (torch.int64, (len(batch.x),))


@pytest.mark.parametrize(("name", "options"), CASES)
def test_batches_are_what_the_spec_says(name, options):
    data = find_class(DATA[name].path)(batch_size=20, eval_batch_size=50, seed=1, **options)
    spec = data.spec
    data.prepare_data()
    data.setup("fit")
    assert data.spec == spec
    assert spec.name.split("[")[0] == (f"toy_{options['density']}" if name == "toy" else name)
    for loader, size in ((data.train_dataloader(), 20), (data.val_dataloader(), 50), (data.test_dataloader(), 50)):
        batches = list(loader)
        assert len(batches[0].x) == size
        assert sum(len(batch.x) for batch in batches) == len(loader.source)
        for batch in batches:
            matches(batch, spec)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_splits_do_not_depend_on_the_seed(name, options):
    one, two = (find_class(DATA[name].path)(seed=seed, **options).load() for seed in (1, 2))
    assert list(one) == list(two) == ["train", "val", "test"]
    assert all(torch.equal(one[split].x, two[split].x) for split in one)


@pytest.mark.parametrize("name", DATA)
def test_the_command_line_is_built_from_the_options(name):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(find_class(DATA[name].path), "data")
    fixed = [f"--data.{option}={'null' if value is None else value}" for option, value in DATA[name].options.items()]
    arguments = [*fixed, "--data.batch_size=7", "--data.eval_batch_size=9", "--data.seed=3", "--data.on_device=false"]
    more = {
        "folder": [f"--data.root={Path(__file__).parent}", "--data.channels=1"],
        "dsprites": ["--data.factors={shape: [0], orientation: [0, 10]}"],
        "scream_dsprites": [f"--data.image={REPOSITORY / 'docs' / 'pictures' / 'gan-digits.png'}"],
    }
    made = parser.instantiate(parser.parse_args(arguments + more.get(name, [])))["data"]
    assert isinstance(made, DataModule)
    assert (made.batch_size, made.eval_batch_size, made.seed, made.on_device) == (7, 9, 3, False)
    assert made.spec.to_dict()["name"].split("[")[0] == {"toy": "toy_ring"}.get(name, name)


def test_every_data_set_is_exported():
    assert {entry.path.removeprefix("datamodules.") for entry in DATA.values()} <= set(datamodules.__all__)


@pytest.mark.parametrize("density", ["ring", "grid", "moons", "mixture"])
def test_the_toy_density_is_the_formula_and_integrates_to_one(density):
    data = Toy(density)
    d = data.means.shape[1]
    axis = torch.linspace(-4, 4, 201, dtype=torch.float64)
    x = torch.cartesian_prod(*[axis] * d).view(-1, d)
    log_p = data.distribution.log_prob(x)
    assert math.isclose(float(log_p.exp().sum()) * 0.04**d, 1, rel_tol=1e-4)
    few = x[:: len(x) // 200]
    squares = (few[:, None] - data.means).square().sum(-1) / data.std**2
    direct = (-squares / 2).exp().mean(1).log() - d * math.log(data.std * math.sqrt(2 * math.pi))
    near = direct > -80
    assert torch.allclose(data.distribution.log_prob(few)[near], direct[near], rtol=1e-4)


def test_toy_samples_come_from_the_density():
    train = Toy("ring", size=20_000).load()["train"].x
    distance, mode = torch.cdist(train, Toy("ring").means).min(1)
    assert (distance.square().mean() / 2).sqrt().item() == pytest.approx(0.05, rel=0.02)
    assert (torch.bincount(mode, minlength=8) / len(train)).tolist() == pytest.approx([1 / 8] * 8, abs=0.01)


@pytest.mark.parametrize("options", [{"density": "square"}, {"size": 4}, {"std": 0.0}])
def test_toy_options_are_checked(options):
    with pytest.raises(ZooError, match=next(iter(options))):
        Toy(**options)


def test_digits_are_balanced_and_disjoint():
    splits = Digits().load()
    assert [len(part) for part in splits.values()] == [1297, 250, 250]
    for part in splits.values():
        assert (torch.bincount(part.label) / len(part)).tolist() == pytest.approx([0.1] * 10, abs=0.007)
    every = torch.cat([part.x for part in splits.values()])
    assert len(every.unique(dim=0)) == 1797


def test_digits_are_those_of_scikit_learn():
    """The file was made by these calls."""
    images, labels = load_digits(return_X_y=True)
    rest, test = train_test_split(range(len(labels)), test_size=250, stratify=labels, random_state=0)
    train, val = train_test_split(rest, test_size=250, stratify=labels[rest], random_state=0)
    splits = Digits().load()
    for name, numbers in (("train", train), ("val", val), ("test", test)):
        assert np.array_equal(splits[name].x.flatten(1), images[numbers]) and splits[name].x.dtype == torch.uint8
        assert np.array_equal(splits[name].label, labels[numbers])


def test_dsprites_images_are_those_of_their_factors():
    data = DSprites(size=1000, batch_size=64)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch.x, data.render(batch.factors))
    assert np.array_equal(batch.x.squeeze(1), dsprites.render(batch.factors.numpy()))
    assert [data.spec.name, DSprites(resolution=32).spec.name] == ["dsprites[1000]", "dsprites[32px]"]


def test_dsprites_splits_are_disjoint_and_a_small_one_lies_within_the_whole():
    def numbers(size):
        return {name: set(index_of(part.factors.numpy()).tolist()) for name, part in DSprites(size=size).load().items()}

    small, large = numbers(100), numbers(1000)
    assert [len(part) for part in large.values()] == [800, 100, 100]
    assert len(set.union(*large.values())) == 1000
    assert all(small[name] < large[name] for name in small)


def test_the_first_dsprites_that_are_validated_are_a_fair_sample():
    """Pictures are of the first batch, and a Trainer may be told to stop after a few."""
    data = DSprites(size=5000, resolution=8)
    data.setup()
    for split in ("val", "test"):
        factors = data.splits[split].factors[:64].double()
        middle = (torch.tensor(data.factor_sizes) - 1) / 2
        assert ((factors.mean(0) - middle) / (middle + 0.5)).abs().max() < 4 / (3 * 64) ** 0.5


def test_dsprites_factors_are_uniform_and_seeded():
    data = DSprites(size=10)
    one, two = (data.sample_factors(20_000, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(one, two)
    for column, size in zip(one.T, data.spec.factor_sizes, strict=True):
        counts = torch.bincount(column, minlength=size)
        assert len(counts) == size
        assert (counts / 20_000 * size - 1).abs().max() < 0.25


@pytest.mark.parametrize("options", [{"resolution": 20}, {"size": 5}, {"size": 10**6}, {"resolution": 32, "original": "x"}])
def test_dsprites_options_are_checked(options):
    with pytest.raises(ZooError, match=next(iter(options))):
        DSprites(**options)


def test_the_original_dsprites_file_is_used_when_it_is_the_published_one(tmp_path, monkeypatch):
    images = np.random.RandomState(0).randint(0, 2, (4500, 64, 64), np.uint8)
    file = io.BytesIO()
    np.savez(file, imgs=images, metadata=np.array({"not": "unpickled"}, object))
    path = tmp_path / "original.npz"
    path.write_bytes(file.getvalue())
    data = DSprites(original=str(path))
    with pytest.raises(ZooError, match=r"original\.npz can't be read .*SHA-1"):
        data.load()
    blob = f"blob {len(file.getvalue())}\0".encode() + file.getvalue()
    monkeypatch.setattr(dsprites, "_ORIGINAL", hashlib.sha1(blob).hexdigest())
    monkeypatch.setattr(dsprites, "COUNT", 4500)
    monkeypatch.setattr(DSprites, "grid", dict(zip(FACTOR_NAMES, (3, 6, 10, 5, 5), strict=True)))
    data = DSprites(original=str(path))
    data.setup()
    assert data.spec.name == "dsprites[original]"
    for batch in data.train_dataloader():
        assert np.array_equal(batch.x.squeeze(1), images[data.numbers(batch.factors)])


@pytest.mark.slow
def test_the_whole_of_dsprites(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    data = DSprites(batch_size=512)
    data.prepare_data()
    assert [len(part) for part in data.splits.values()] == [589_824, 73_728, 73_728]
    numbers = np.concatenate([index_of(part.factors.numpy()) for part in data.splits.values()])
    assert np.array_equal(np.sort(numbers), np.arange(737_280))
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch.x, data.render(batch.factors))
    assert np.array_equal(factors_of(index_of(batch.factors.numpy())), batch.factors)


@pytest.fixture(scope="module")
def gray():
    data = MNIST(str(REAL_MNIST))
    data.setup()
    return data


@needs_mnist
def test_the_real_mnist(gray):
    train = torch.cat((gray.splits["train"].x, gray.splits["val"].x)).double() / 255
    assert train.mean().item() == pytest.approx(0.13066, abs=5e-6)
    assert train.std().item() == pytest.approx(0.30811, abs=5e-6)
    assert [len(part) for part in gray.splits.values()] == [50_000, 10_000, 10_000]
    assert gray.splits["train"].label[:5].tolist() == [5, 0, 4, 1, 9]
    assert gray.splits["test"].label[:5].tolist() == [7, 2, 1, 0, 4]
    matches(next(iter(gray.train_dataloader())), gray.spec)


@needs_mnist
def test_mnist_binarizations_are_named_and_keep_the_mean(gray):
    expected = gray.splits["test"].x.double() / 255
    for binarize, name in (("dynamic", ""), ("static", "_static[seed0]"), ("threshold", "_threshold")):
        data = MNIST(str(REAL_MNIST), binarize, eval_batch_size=10_000, seed=0)
        data.setup()
        assert (data.spec.name, data.spec.levels) == (f"mnist_binary{name}", 2)
        (batch,) = data.test_dataloader()
        matches(batch, data.spec)
        (again,) = data.test_dataloader()
        assert torch.equal(batch.x, again.x)
        if binarize == "threshold":
            assert torch.equal(batch.x, (gray.splits["test"].x > 127).byte())
        else:
            # z-score of the number of ones, a sum of independent Bernoulli variables
            z = (batch.x.sum() - expected.sum()) / (expected * (1 - expected)).sum().sqrt()
            assert abs(z.item()) < 4
            assert (batch.x[expected == 1] == 1).all()
            assert (batch.x[expected == 0] == 0).all()


@needs_mnist
def test_dynamic_binarization_is_fresh_in_training():
    data = MNIST(str(REAL_MNIST), "dynamic", batch_size=50_000)
    data.setup()
    data.splits["train"] = data.splits["train"].subset(slice(0, 1))
    loader = data.train_dataloader()
    drawn = torch.stack([next(iter(loader)).x for _ in range(400)]).float().mean(0)
    assert (drawn - data.splits["train"].x / 255).abs().max() < 0.12


@needs_fashion
def test_the_real_fashion_mnist_is_found_by_itself(tmp_path):
    data = FashionMNIST(str(tmp_path))
    data.prepare_data()
    data.setup()
    train = torch.cat((data.splits["train"].x, data.splits["val"].x)).double()
    assert train.mean().item() == pytest.approx(72.94, abs=0.005)
    assert data.spec.name == "fashion_mnist"
    assert FashionMNIST(str(tmp_path), "static").spec.name == "fashion_mnist_binary_static[seed0]"
    assert list(tmp_path.iterdir()) == []


@needs_mnist
def test_mnist_in_the_place_of_fashion_mnist_is_refused(tmp_path):
    (tmp_path / "fashion_mnist.npz").symlink_to(REAL_MNIST / "mnist.npz")
    with pytest.raises(ZooError, match=r"x_train is not fashion_mnist's"):
        FashionMNIST(str(tmp_path)).load()


def test_an_unknown_binarization_is_said():
    with pytest.raises(ZooError, match="binarize 'bernoulli'"):
        MNIST(binarize="bernoulli")


def test_a_folder_needs_a_root():
    with pytest.raises(ZooError, match=r"--data\.root"):
        ImageFolder()
