"""Data that contradict their spec are an error that says what was found and what to do, wherever they come from."""

import re

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from datamodules import Digits
from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.data_check import CHECKED_BATCHES, check_batch
from zoo.errors import ZooError
from zoo.evaluation import evaluate_likelihood
from zoo.models import GAN, VAE, FlowPlusPlus
from zoo.spec import Batch, DataSpec, level_dtype

GRAY = DataSpec("gray", (1, 4, 4), levels=17)
BINARY = DataSpec("binary", (1, 4, 4), levels=2)
BYTES = DataSpec("bytes", (1, 4, 4), levels=256)
DEEP = DataSpec("deep", (1, 4, 4), levels=4096)
VECTORS = DataSpec("vectors", (3,))
FACTORS = DataSpec("factors", (1, 4, 4), 2, ("shape", "size"), (3, 6))


def levels(spec: DataSpec, n: int = 5, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    """Examples that hold the least and the largest level."""
    x = torch.randint(spec.levels, (n, *spec.shape), dtype=torch.int64)
    x.view(-1)[:2] = torch.tensor([0, spec.levels - 1])
    return x.to(dtype)


def with_nan(x: torch.Tensor, value: float = float("nan")) -> torch.Tensor:
    x.view(-1)[-1] = value
    return x


WRONG = {
    "ToTensor": (GRAY, Batch(torch.rand(5, 1, 4, 4)), r"float32 \(5, 1, 4, 4\), 0\.\d+ to 0\.\d+, .* integers 0 to 16 .*"
                 r"\(x \* 16\)\.round\(\)\.to\(torch\.uint8\)"),
    "ToTensor of bytes": (BYTES, Batch(torch.rand(5, 1, 4, 4)), r"\(x \* 255\)\.round\(\)\.to\(torch\.uint8\)"),
    "ToTensor of 12 bits": (DEEP, Batch(torch.rand(5, 1, 4, 4)), r"\(x \* 4095\)\.round\(\)\.to\(torch\.int16\)"),
    "Normalize(0.5, 0.5)": (GRAY, Batch(torch.rand(5, 1, 4, 4) * 2 - 1), r"\(\(x \+ 1\) \* 8\)\.round\(\)"),
    "levels as floats": (GRAY, Batch(levels(GRAY).float()), r"float32 .*, 0 to 16, .*x\.to\(torch\.uint8\)"),
    "bits as floats": (BINARY, Batch(levels(BINARY).double()), r"float64 .*x\.to\(torch\.uint8\)"),
    "floats of any size": (GRAY, Batch(100 * torch.rand(5, 1, 4, 4)), "levels=None"),
    "NaN": (GRAY, Batch(with_nan(torch.rand(5, 1, 4, 4))), "nan to nan"),
    "complex": (GRAY, Batch(torch.zeros(5, 1, 4, 4, dtype=torch.complex64)), "complex64"),
    "bytes of 2 levels": (BINARY, Batch(255 * levels(BINARY, dtype=torch.uint8)), r"uint8 .*, 0 to 255, .*0 to 1 are.*"
                          r"\(x > 127\)\.to\(torch\.uint8\).*levels=256"),
    "one too many": (GRAY, Batch(levels(GRAY) + 1), "1 to 17, and 0 to 16 are needed.*levels=256"),
    "16 bits": (BYTES, Batch(levels(DEEP, dtype=torch.int16)), "int16 .*0 to 4095, and 0 to 255.*levels=65536"),
    "unsigned 16 bits": (DEEP, Batch(torch.from_numpy(np.full((5, 1, 4, 4), 60_000, np.uint16))), "60000.*levels=65536"),
    "32 bits": (DEEP, Batch(levels(DEEP) * 100), "divide by a power of two"),
    "bytes read as signed": (GRAY, Batch(levels(GRAY) - 1), "-1 to 15.*counted from 0"),
    "integers without levels": (VECTORS, Batch(torch.zeros(5, 3, dtype=torch.uint8)), "floats are needed.*levels=256"),
    "not a number": (VECTORS, Batch(with_nan(torch.rand(5, 3))), "1 of its 15 values are NaN or infinite"),
    "infinite": (VECTORS, Batch(with_nan(torch.rand(5, 3), -torch.inf)), "1 of its 15 values"),
    "no channel": (GRAY, Batch(levels(GRAY).squeeze(1)), r"\(5, 4, 4\), and \(N, 1, 4, 4\) is needed.*unsqueeze\(1\)"),
    "channels last": (GRAY, Batch(levels(GRAY).movedim(1, -1)), r"movedim\(-1, 1\)"),
    "flat": (GRAY, Batch(levels(GRAY).flatten(1)), r"view\(-1, 1, 4, 4\)"),
    "another size": (GRAY, Batch(torch.zeros(5, 1, 5, 4, dtype=torch.uint8)), r"\(5, 1, 5, 4\)"),
    "no batch dimension": (VECTORS, Batch(torch.zeros(3)), r"\(3,\)"),
    "a scalar": (VECTORS, Batch(torch.zeros(())), r"shape \(\)"),
    "a list": (GRAY, [levels(GRAY)], "type list.*Batch"),
    "an array": (GRAY, Batch(levels(GRAY).numpy()), "x is a tensor"),
    "a dictionary": (GRAY, {"x": levels(GRAY)}, "type dict"),
    "factors out of range": (FACTORS, Batch(levels(FACTORS), torch.tensor([[0, 6]] * 5)), "size goes from 6 to 6.*0 to 5"),
    "factors from 1 on": (FACTORS, Batch(levels(FACTORS), torch.tensor([[-1, 5]] * 5)), "shape goes from -1 to -1.*0 to 2"),
    "factors as floats": (FACTORS, Batch(levels(FACTORS), torch.zeros(5, 2)), r"factors: float32 \(5, 2\)"),
    "factors too few": (FACTORS, Batch(levels(FACTORS), torch.zeros(5, 1, dtype=torch.int64)), r"shape \(5, 2\) are needed"),
    "label one-hot": (GRAY, Batch(levels(GRAY), label=torch.eye(5)), r"label: float32 \(5, 5\)"),
    "label as a list": (GRAY, Batch(levels(GRAY), label=[0] * 5), "type list"),
    "labels too few": (GRAY, Batch(levels(GRAY), label=torch.zeros(4, dtype=torch.int64)), r"shape \(5,\)"),
    "label negative": (GRAY, Batch(levels(GRAY), label=torch.full((5,), -1)), "label goes from -1"),
}  # fmt: skip

RIGHT = {
    "uint8": (GRAY, Batch(levels(GRAY, dtype=torch.uint8))),
    "int64": (GRAY, Batch(levels(GRAY))),
    "bool": (BINARY, Batch(levels(BINARY, dtype=torch.bool))),
    "uint16": (DEEP, Batch(levels(DEEP, dtype=torch.uint16))),
    "int16": (DEEP, Batch(levels(DEEP, dtype=torch.int16))),
    "float32": (VECTORS, Batch(torch.randn(5, 3))),
    "float64": (VECTORS, Batch(torch.randn(5, 3, dtype=torch.float64))),
    "bfloat16": (VECTORS, Batch(torch.randn(5, 3).bfloat16())),
    "factors": (FACTORS, Batch(levels(FACTORS), torch.tensor([[0, 0], [2, 5]] * 3)[:5], torch.arange(5))),
    "empty": (GRAY, Batch(torch.zeros(0, 1, 4, 4, dtype=torch.uint8), label=torch.zeros(0, dtype=torch.int64))),
}


@pytest.mark.parametrize(("spec", "batch", "message"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_said_in_two_lines(spec, batch, message):
    with pytest.raises(ZooError) as error:
        check_batch(batch, spec, "a batch")
    assert re.search(message, str(error.value), re.DOTALL)
    assert str(error.value).startswith("a batch is ")
    assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize(("spec", "batch"), RIGHT.values(), ids=RIGHT)
def test_what_is_right_passes(spec, batch):
    check_batch(batch, spec, "a batch")


ADVICE = {
    "ToTensor": (torch.rand(50, 1, 4, 4), lambda x: (x * 16).round().to(torch.uint8)),
    "Normalize": (torch.rand(50, 1, 4, 4) * 2 - 1, lambda x: ((x + 1) * 8).round().to(torch.uint8)),
}


@pytest.mark.parametrize(("x", "advised"), ADVICE.values(), ids=ADVICE)
def test_the_advice_is_right(x, advised):
    with pytest.raises(ZooError) as error:
        check_batch(Batch(x), GRAY, "a batch")
    (code,) = re.findall(r"(\(.*\)\.round\(\)\.to\(torch\.uint8\))", str(error.value))
    assert torch.equal(eval(code, {"x": x, "torch": torch}), advised(x))
    check_batch(Batch(advised(x)), GRAY, "a batch")


class Whole(DataModule):
    """A data module of the zoo's kind, of any examples."""

    def __init__(self, spec: DataSpec, x, **splits):
        super().__init__(batch_size=2)
        self._spec, self.x, self.given = spec, x, splits

    @property
    def spec(self):
        return self._spec

    def load(self):
        right = Arrays(self.x, label=torch.zeros(len(self.x), dtype=torch.int64))
        return {split: self.given.get(split, right) for split in ("train", "val", "test")}


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("stage", ["fit", "test", None])
def test_every_example_of_a_split_is_looked_at_once(split, stage, monkeypatch):
    """One pixel of the last example is enough, before anything is trained, at every try."""
    x = levels(GRAY, 500, torch.uint8)
    wrong = x.clone()
    wrong[-1, -1, -1, -1] = 17
    data = Whole(GRAY, x, **{split: Arrays(wrong)})
    for _ in range(2):
        with pytest.raises(ZooError, match=rf"the {split} split .* 0 to 17, and 0 to 16"):
            data.setup(stage)
    looked = []
    monkeypatch.setattr("datamodules.base.check_examples", lambda x, spec, where: looked.append(where))
    right = Whole(GRAY, x)
    for again in ("fit", "validate", "test", None):
        right.setup(again)
    assert looked == ["the train split", "the val split", "the test split"]


def test_factors_and_labels_of_a_split():
    x = levels(FACTORS, 9, torch.uint8)
    factors = torch.zeros(9, 2, dtype=torch.uint8)
    Whole(FACTORS, x, train=Arrays(x, factors)).setup()
    factors[-1, 0] = 3
    with pytest.raises(ZooError, match=r"the train split .*: shape goes from 0 to 3, .* 0 to 2"):
        Whole(FACTORS, x, train=Arrays(x, factors)).setup()
    with pytest.raises(ZooError, match=r"the val split .* label: int64 \(8,\)"):
        Whole(FACTORS, x, val=Arrays(x, label=torch.zeros(8, dtype=torch.int64))).setup()


def test_what_a_transform_makes_is_looked_at():
    """And not what it makes it of, such as packed bits."""
    packed = torch.randint(256, (9, 2), dtype=torch.uint8)

    def unpack(x, generator):
        return torch.stack([x >> place & 1 for place in range(8)], -1).view(-1, 1, 4, 4)

    Whole(BINARY, levels(BINARY, 9), train=Arrays(packed, transform=unpack)).setup()
    bernoulli = Arrays(levels(BYTES, 9), transform=lambda x, generator: torch.bernoulli(x / 255, generator=generator))
    with pytest.raises(ZooError, match=r"the val split .* float32 \(9, 1, 4, 4\), 0 to 1, .*\n.*x\.to\(torch\.uint8\)"):
        Whole(BINARY, levels(BINARY, 9), val=bernoulli).setup()


STAGES = ("train", "val", "test", "predict")


class Loaders(LightningDataModule):
    """Somebody's own data module; of one stage, one of the first batches is wrong."""

    def __init__(self, spec: DataSpec, wrong: str, place: int):
        super().__init__()
        self.spec, self.wrong, self.place = spec, wrong, place

    def _loader(self, stage: str) -> DataLoader:
        x = levels(self.spec, 80)
        if stage == self.wrong:
            x[8 * self.place] = self.spec.levels
        return DataLoader(x, batch_size=8, collate_fn=lambda rows: Batch(torch.stack(rows)))

    def train_dataloader(self):
        return self._loader("train")

    def val_dataloader(self):
        return self._loader("val")

    def test_dataloader(self):
        return self._loader("test")

    def predict_dataloader(self):
        return self._loader("predict")


def trainer(folder, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", max_epochs=1, default_root_dir=folder, **quiet, **options)


MODELS = {"vae": VAE, "flowpp": lambda spec: FlowPlusPlus(spec, couplings=(1, 0, 0), filters=4, blocks=1), "gan": GAN}


def run(stage, fitted, model, **data):
    verb = {"train": fitted.fit, "val": fitted.fit, "test": fitted.test, "predict": fitted.predict}[stage]
    verb(model, **data)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", MODELS)
def test_first_batches_of_a_data_module_of_ones_own(name, stage, tmp_path):
    for place in (0, CHECKED_BATCHES - 1):
        with pytest.raises(ZooError, match=rf"a {stage} batch is not .*int64 \(8, 1, 4, 4\), 0 to 17, and 0 to 16"):
            run(stage, trainer(tmp_path), MODELS[name](GRAY), datamodule=Loaders(GRAY, stage, place))


@pytest.mark.parametrize("stage", STAGES)
def test_first_batches_of_a_loader(stage, tmp_path):
    loader = DataLoader(torch.rand(16, 1, 4, 4), batch_size=8, collate_fn=lambda rows: Batch(torch.stack(rows)))
    right = Loaders(GRAY, "none", 0).test_dataloader()
    data = {"dataloaders": loader}
    if stage in ("train", "val"):
        data = {"train_dataloaders": loader if stage == "train" else right, "val_dataloaders": loader}
    options = {"limit_val_batches": 0} if stage == "train" else {}
    with pytest.raises(ZooError, match=rf"a {stage} batch .*float32"):
        run(stage, trainer(tmp_path, **options), VAE(GRAY), **data)


@pytest.mark.parametrize("stage", STAGES)
def test_first_batches_after_a_transform_of_lightnings(stage, tmp_path):
    """What the hook gives counts, not what the loader gave."""

    class Scaled(Loaders):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return Batch(batch.x / 16)

    with pytest.raises(ZooError, match=r"a (val|test|predict) batch .*float32 .*\n.*ToTensor"):
        run(stage, trainer(tmp_path), VAE(GRAY), datamodule=Scaled(GRAY, "none", 0))


def test_later_batches_cost_nothing(tmp_path, monkeypatch):
    """Four checks for each loader, however many epochs there are; of bytes with 256 levels no value is asked for."""
    looked = []
    monkeypatch.setattr("zoo.models.base.check_batch", lambda batch, spec, where: looked.append(where))
    fit = trainer(tmp_path, reload_dataloaders_every_n_epochs=1)
    fit.fit_loop.max_epochs = 3
    fit.fit(model := VAE(GRAY, hidden=8), datamodule=Loaders(GRAY, "none", 0))
    assert {each: looked.count(each) for each in looked} == {"a train batch": 4, "a val batch": 2 + 4}  # and sanity
    fit.test(model, datamodule=Loaders(GRAY, "none", 0), verbose=False)
    assert looked.count("a test batch") == 4
    monkeypatch.setattr(torch.Tensor, "aminmax", lambda *_: pytest.fail("a value was asked for"))
    check_batch(Batch(levels(BYTES, dtype=torch.uint8)), BYTES, "a batch")


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_floats_in_the_place_of_levels_are_an_error_in_a_loop_by_hand(make):
    """It is seen by their type, at every batch, without a look at the values."""
    model, x = make(GRAY), torch.rand(5, 1, 4, 4)
    for use in (
        lambda: model.objective(Batch(x)),
        lambda: GRAY.to_unit(x),
        *([lambda: model.encode(x)] if hasattr(model, "encode") else []),
        *([lambda: model.log_likelihood(x)] if hasattr(model, "log_likelihood") else []),
    ):
        with pytest.raises(ZooError, match=r"x is float32 .* integers 0 to 16 are needed") as error:
            use()
        assert len(str(error.value).splitlines()) == 2


def test_an_evaluation_by_hand_looks_at_its_examples():
    data = Loaders(GRAY, "test", 1)
    with pytest.raises(ZooError, match=r"a test batch .* 0 to 17"):
        evaluate_likelihood(VAE(GRAY, hidden=8), data, progress=False)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16])
@pytest.mark.parametrize("name", ["vae", "flowpp"])
def test_numbers_do_not_depend_on_the_type_of_levels(name, dtype):
    data = Digits()
    data.setup()
    x, model = data.splits["val"].x[:20], MODELS[name](data.spec).eval()
    found = []
    for each in (x, x.to(dtype)):
        torch.manual_seed(0)
        found.append(model.log_likelihood(each, 2))
    assert torch.equal(*found)


class Wrong(DataModule):
    """Digits as ToTensor gives them."""

    spec = DataSpec("digits", (1, 8, 8), levels=17)

    def load(self):
        digits = Digits().load()
        return {split: Arrays(arrays.x / 16, label=arrays.label) for split, arrays in digits.items()}


def test_on_the_command_line(cli):
    status, _, err = cli("fit", "--model", "vae", "--data", "test_data_check.Wrong", "--trainer.max_steps", 2)
    assert status != 0
    assert "float32 (1297, 1, 8, 8), 0 to 1, and integers 0 to 16 are needed" in err
    assert "(x * 16).round().to(torch.uint8)" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("count", "dtype"), [(2, torch.uint8), (256, torch.uint8), (257, torch.int16), (4096, torch.int16),
                         (2**15, torch.int16), (2**15 + 1, torch.int32), (2**16, torch.int32)]
)  # fmt: skip
def test_levels_are_carried_in_a_type_that_holds_them(count, dtype):
    assert level_dtype(count) == dtype == DataSpec("levels", (1, 1, 1), count).dtype
    assert torch.arange(count).to(dtype).long().max() == count - 1


def test_specs_that_can_not_be():
    for count in (1, 0, -3, 2**16 + 1):
        with pytest.raises(ZooError, match=f"{count} levels: 2 to 65536"):
            DataSpec("wrong", (2,), levels=count)
    with pytest.raises(ZooError, match="a size for each name"):
        DataSpec("wrong", (2,), factor_names=("shape", "size"), factor_sizes=(3,))
