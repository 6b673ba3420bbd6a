"""Reference features: a model is judged without the data once they are kept, and only by those of the very same examples."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import REPOSITORY

from datamodules import Digits, Toy
from datamodules.loader import Arrays
from zoo.errors import ZooError
from zoo.evaluation import RawFeatures, classifier, evaluate, features_for, references, sample_report
from zoo.models import GAN, VAE
from zoo.spec import DataSpec

SCORES = "fd,clipped,c_t,authenticity"


class Filed(Digits):
    """Digits in a file, and so that they can be gone."""

    def __init__(self, root: str = "data", half_as_many: bool = False, batch_size: int = 64, seed: int | None = None):
        super().__init__(batch_size, None, seed)
        self.root, self.half_as_many = Path(root), half_as_many

    @property
    def file(self) -> Path:
        return self.root / "digits.npz"

    def load(self):
        if not self.file.is_file():
            raise ZooError(f"{self.file} was not found.\nPut it there.")
        splits = super().load()
        with np.load(self.file) as file:
            splits["test"] = Arrays(torch.from_numpy(file["test"]), label=splits["test"].label)
        return {name: split.subset(slice(0, None, 2)) if self.half_as_many else split for name, split in splits.items()}


@pytest.fixture
def filed(tmp_path, monkeypatch):
    """A folder with digits in a file; classifiers of them are trained briefly."""
    monkeypatch.setattr(classifier, "_STEPS", 20)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    digits = Digits()
    digits.setup()
    np.savez(tmp_path / "digits.npz", test=digits.splits["test"].x.numpy())
    return tmp_path


def report(root: Path, scores: str = SCORES, **options):
    return sample_report(GAN(Digits.spec), Filed(str(root)), scores, n=100, progress=False, **options)


@pytest.mark.parametrize("features", [None, "raw"])
def test_a_model_is_judged_without_the_data(filed, features):
    torch.manual_seed(0)
    model = GAN(Digits.spec)
    options = {"n": 100, "repeats": 2, "features": features, "progress": False}
    first = sample_report(model, Filed(filed), SCORES, **options)
    assert not any(known.kept for known in first.references.values())
    again = sample_report(model, Filed(filed, batch_size=7, seed=3), SCORES, **options)
    assert all(known.kept for known in again.references.values()), "the same examples whatever the batches and their order"
    (filed / "digits.npz").unlink()
    without = sample_report(model, Filed(filed), SCORES, **options)
    for found in (again, without):
        assert (found.draws, found.rows, found.n_real) == (first.draws, first.rows, 100)
    assert "half of the modes" in without.rows
    assert "digits.npz was not found" in str(without) and "was not found" not in str(again)
    assert without.to_dict()["data_absent"].startswith(str(filed)) and first.to_dict()["data_absent"] is None
    described = without.to_dict()["references"]
    assert [described[split]["n"] for split in ("test", "val", "train")] == [100, 100, 1297]
    assert {known["kept"] for known in described.values()} == {True}
    assert sorted(path.suffix for path in (filed / "features").iterdir()) == [".npz"] * (3 + (features is None))


@pytest.mark.parametrize("changed", [{"n": 90}, {"seed": 1}, {"features": "raw"}], ids=str)
def test_other_examples_or_features_are_not_taken(filed, changed):
    report(filed)
    (filed / "digits.npz").unlink()
    options = {"n": 100, "progress": False, **changed}
    with pytest.raises(ZooError, match=r"digits\.npz was not found"):
        sample_report(GAN(Digits.spec), Filed(filed), SCORES, **options)


def test_nor_those_of_an_option_that_changes_the_data(filed):
    report(filed)
    (filed / "digits.npz").unlink()
    with pytest.raises(ZooError, match=r"digits\.npz was not found"):
        sample_report(GAN(Digits.spec), Filed(filed, half_as_many=True), SCORES, n=100, progress=False)


def test_a_file_that_changed_is_noticed(filed):
    before = report(filed)
    with np.load(filed / "digits.npz") as file:
        test = file["test"]
    np.savez(filed / "digits.npz", test=16 - test)
    after = report(filed)
    assert {split: known.kept for split, known in after.references.items()} == {"test": False, "val": True, "train": True}
    assert after.draws != before.draws
    assert report(filed).draws == after.draws


DAMAGE = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "a bit": lambda content: content[:3000] + bytes([content[3000] ^ 1]) + content[3001:],
    "no npz": lambda content: b"PK but nothing else" * 100,
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_named_and_made_anew(filed, kind):
    first = report(filed, "fd")
    (path,) = (filed / "features").glob("*test*.npz")
    whole = path.read_bytes()
    path.write_bytes(DAMAGE[kind](whole))
    with pytest.warns(UserWarning, match=f"{path.name} is damaged"):
        again = report(filed, "fd")
    assert again.draws == first.draws and not again.references["test"].kept
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert report(filed, "fd").references["test"].kept
    path.write_bytes(DAMAGE[kind](whole))
    (filed / "digits.npz").unlink()
    with pytest.warns(UserWarning, match="is damaged"), pytest.raises(ZooError, match=r"digits\.npz was not found"):
        report(filed, "fd")


@pytest.mark.parametrize(
    "content",
    [
        {"features": np.zeros((100, 3), np.float32), "half": np.zeros(100, bool)},
        {"features": np.zeros((100, 64)), "half": np.zeros(100, bool)},
        {"features": np.zeros((100, 64), np.float32), "half": np.zeros(99, bool)},
        {"features": np.array([{}], object), "half": np.zeros(100, bool)},
        {"features": np.zeros((0, 64), np.float32), "half": np.zeros(0, bool)},
    ],
)
def test_what_does_not_fit_is_damage(tmp_path, content):
    np.savez(tmp_path / "x.npz", settings=np.array('{"examples": "", "no_half": ""}'), **content)
    with pytest.warns(UserWarning, match="is damaged"):
        assert references._read(tmp_path / "x.npz", 64) is None


def test_a_bomb_is_not_inflated(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "_LARGEST", 2**20)
    np.savez_compressed(tmp_path / "x.npz", features=np.zeros((2**20, 64), np.float32))
    with pytest.warns(UserWarning, match="too large"):
        assert references._read(tmp_path / "x.npz", 64) is None


def test_large_ones_are_not_kept(filed, monkeypatch):
    monkeypatch.setattr(references, "_LARGEST", 100_000)
    report(filed, "fd", features="raw")
    assert [path.name.split("-")[1] for path in sorted((filed / "features").iterdir())] == ["test", "val"]


def test_a_folder_that_can_t_be_written_is_a_warning(filed):
    (filed / "features").write_text("")
    with pytest.warns(UserWarning, match="features of the test split are not kept"):
        report(filed, "fd", features="raw")


def test_toy_data_keep_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    data = Toy("ring", size=100)
    sample_report(GAN(data.spec), data, "fd", n=20, progress=False)
    assert not list(tmp_path.rglob("*"))


def test_an_evaluation_says_what_is_not_there(filed):
    torch.manual_seed(0)
    model = VAE(Digits.spec, network="mlp", hidden=8, latent_dim=2)
    options = {"sample_scores": "fd", "sample_count": 100, "accelerator": "cpu", "progress": False}
    whole = evaluate(model, Filed(filed), **options)
    (filed / "digits.npz").unlink()
    without = evaluate(model, Filed(filed), **options)
    assert without.metrics == {name: whole.metrics[name] for name in without.metrics} != {}
    assert (whole.examples, without.examples) == (250, None)
    assert all("digits.npz was not found" in without.missing[f"test/{leaf}"] for leaf in ("elbo", "kl", "nll"))
    assert json.loads(json.dumps(without.to_dict()))["samples"]["data_absent"]
    assert "not there" not in str(whole) and "digits.npz was not found" in str(without)
    for asked in ({"samples": 2}, {"sample_scores": None}):
        with pytest.raises(ZooError, match=r"digits\.npz was not found"):
            evaluate(model, Filed(filed), **{**options, **asked})


def test_from_the_command_line(cli, filed, monkeypatch):
    lines = (REPOSITORY / "tests/evaluation/test_references.py").read_text()
    source = lines[lines.index("class Filed") : lines.index("@pytest.fixture")]
    imports = "from pathlib import Path\nimport numpy as np\nimport torch\nfrom datamodules import Digits\n"
    imports += "from datamodules.loader import Arrays\nfrom zoo.errors import ZooError\n\n\n"
    (filed / "filed_digits.py").write_text(imports + source)
    monkeypatch.syspath_prepend(filed)
    (filed / "data").mkdir()
    (filed / "digits.npz").rename(filed / "data/digits.npz")
    fit = ("--model", "gan", "--data", "filed_digits.Filed", "--trainer.max_steps", "2", "--wandb", "off")
    status, _, err = cli("fit", *fit)
    assert status == 0, err
    (ckpt,) = filed.glob("runs/*/1/checkpoints/last.ckpt")
    options = ("--ckpt", ckpt, "--sample_scores", "fd", "--trust", "filed_digits")
    found = []
    for _ in range(2):
        status, out, err = cli("evaluate", *options)
        assert status == 0, err
        found.append((out, json.loads((ckpt.parent.parent / "evaluation.json").read_text())))
        (filed / "data/digits.npz").unlink(missing_ok=True)
    (_, first), (out, second) = found
    assert second["metrics"]["test/fd_digits_cnn"] == first["metrics"]["test/fd_digits_cnn"]
    assert second["missing"]["test/nll"] == "GAN has no likelihood"
    assert "digits.npz was not found" in second["samples"]["data_absent"]
    assert "by features of the data that were kept" in out
    status, _, err = cli("evaluate", "--ckpt", ckpt, "--trust", "filed_digits")
    assert status == 2 and "digits.npz was not found" in err


def test_kept_classifiers_tell_that_there_are_labels(filed):
    assert features_for(Filed(filed)).name == "digits_cnn"
    (filed / "digits.npz").unlink()
    assert features_for(Filed(filed)).name == "digits_cnn"
    assert isinstance(features_for(Filed(filed), "raw"), RawFeatures)
    assert DataSpec.of(Filed.spec).name == "digits"
