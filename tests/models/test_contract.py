"""What every registered model promises; a new method is tested by being registered."""

from copy import deepcopy
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import run
from pytorch_lightning import Trainer, seed_everything
from pytorch_lightning.callbacks import LambdaCallback
from torch.utils.data import DataLoader, TensorDataset

import zoo
from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo import registry
from zoo.errors import ZooError
from zoo.models.base import Autoencodes, Decodes, GenerativeModule, HasLikelihood
from zoo.runs.checkpoints import read
from zoo.spec import Batch, DataSpec

SPECS = [
    DataSpec("binary", (1, 8, 8), levels=2),
    DataSpec("gray", (1, 12, 9), levels=17),
    DataSpec("color", (3, 16, 16), levels=256),
    DataSpec("vectors", (2,)),
]

# What makes a model of many layers quick; no option but sizes.
SMALL = {
    "flowpp": {"couplings": (2, 1, 1), "filters": 8, "blocks": 1, "components": 2, "dequantizer_couplings": 2},
    "pixelcnn": {"layers": 2, "channels": 6, "head": 9, "first_kernel": 3},
    "made": {"hidden": 48},
}


class Made(DataModule):
    """Data of any spec, drawn once: structured enough for a loss to be finite, small enough for two steps to be quick."""

    def __init__(self, spec: DataSpec, batch_size: int = 8):
        super().__init__(batch_size, seed=0)
        self._spec = spec

    @property
    def spec(self) -> DataSpec:
        return self._spec

    def load(self) -> dict[str, Arrays]:
        random = torch.Generator().manual_seed(0)
        if self.spec.levels is None:
            x = torch.randn(48, *self.spec.shape, generator=random)
        else:
            x = torch.randint(self.spec.levels, (48, *self.spec.shape), generator=random).to(self.spec.dtype)
        return {name: Arrays(x) for name in ("train", "val", "test")}


def build(name: str, spec: DataSpec) -> GenerativeModule:
    """The model as registered, small; a test is skipped where the model says clearly that it can't take such data."""
    seed_everything(0, verbose=False)
    try:
        return registry.find_class(registry.MODELS[name].path)(spec, **SMALL.get(name, {}))
    except ZooError as error:
        assert spec.name in str(error)
        assert len(str(error).splitlines()) <= 2
        pytest.skip(str(error))


def trainer(folder: Path, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", devices=1, max_steps=2, default_root_dir=folder, **quiet, **options)


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request) -> DataSpec:
    return request.param


@pytest.fixture(params=registry.MODELS)
def name(request) -> str:
    return request.param


def test_two_steps(name, spec, tmp_path):
    """Two batches are two steps; the loss is finite; every parameter gets a gradient that is not all zero, by name."""
    model = build(name, spec)
    reached = {key: False for key, parameter in model.named_parameters() if parameter.requires_grad}

    def note(key: str):
        def hook(parameter):
            assert parameter.grad.isfinite().all(), key
            reached[key] |= bool(parameter.grad.any())

        return hook

    for key, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(note(key))
    fit = trainer(tmp_path, log_every_n_steps=1)
    fit.fit(model, Made(spec))
    assert fit.global_step == 2, "steps are counted in batches"
    assert [key for key, seen in reached.items() if not seen] == []
    train = {key: value for key, value in fit.callback_metrics.items() if key.startswith("train/")}
    assert train
    assert all(value.isfinite() for value in train.values())


def test_samples_are_like_the_data(name, spec):
    model = build(name, spec).eval()
    x = model.sample(5)
    assert x.shape == (5, *spec.shape)
    assert not x.requires_grad
    if spec.levels is None:
        assert x.dtype == torch.float32
        assert x.isfinite().all()
    else:
        assert x.dtype == torch.uint8
        assert int(x.max()) < spec.levels


def test_objective(name, spec):
    """A scalar loss, scalar terms, none of them changing the data."""
    model, data = build(name, spec).eval(), Made(spec)
    data.setup()
    batch = next(iter(data.val_dataloader()))
    before = batch.x.clone()
    loss, terms = model.objective(batch)
    assert loss.shape == ()
    assert all(term.shape == () for term in terms.values())
    assert torch.equal(batch.x, before)


def test_the_same_seed_gives_the_same_run(name, spec, tmp_path):
    losses = []
    for _ in range(2):
        model = build(name, spec)
        fit = trainer(tmp_path, log_every_n_steps=1)
        fit.fit(model, Made(spec))
        losses.append({key: float(value) for key, value in fit.callback_metrics.items()})
    assert losses[0] == losses[1]


def test_compiled(name, tmp_path):
    """A training batch is compiled without a break, at the first of them alone, and trains as what is not compiled does."""
    torch.compiler.reset()  # a function is compiled for a few models, and then no more
    graphs, counts, weights = [], [], []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    for compiled in (False, True):
        model = build(name, SPECS[1])
        if compiled:
            model.compile(backend=backend, fullgraph=True)
        count = LambdaCallback(on_train_batch_end=lambda *_: counts.append(len(graphs)))
        trainer(tmp_path, callbacks=[count]).fit(model, Made(SPECS[1]))
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert counts[:2] == [0, 0]
    assert counts[2] == counts[3] == len(graphs) > 0, "validation runs what is not compiled"
    torch.testing.assert_close(*weights)


def test_checkpoint_round_trip(name, spec, tmp_path):
    """A checkpoint alone, of a Trainer of one's own, rebuilds the very class, with the same outputs; it holds plain data."""
    model = build(name, spec)
    fit = trainer(tmp_path)
    fit.fit(model, Made(spec))
    path = tmp_path / "model.ckpt"
    fit.save_checkpoint(path)
    loaded = zoo.load(path)
    assert type(loaded) is type(model)
    assert loaded.spec == spec
    assert isinstance(read(path)["hyper_parameters"]["spec"], dict)
    model.eval()
    torch.manual_seed(1)
    expected = model.sample(4)
    torch.manual_seed(1)
    assert torch.equal(loaded.sample(4), expected)


def test_validation_and_test_metrics(name, spec, tmp_path):
    model = build(name, spec)
    fit = trainer(tmp_path)
    for stage, metrics in (
        ("val", fit.validate(model, Made(spec), verbose=False)),
        ("test", fit.test(model, Made(spec), verbose=False)),
    ):
        assert metrics[0]
        assert all(key.startswith(f"{stage}/") for key in metrics[0])
        assert all(torch.tensor(value).isfinite() for value in metrics[0].values())


def test_protocols_hold_what_they_promise(name, spec):
    model = build(name, spec).eval()
    x = torch.zeros(3, *spec.shape, dtype=torch.uint8 if spec.levels else torch.float32)
    if isinstance(model, HasLikelihood):
        log_p = model.log_likelihood(x, samples=2)
        assert log_p.shape == (3,)
        assert model.likelihood_kind in ("exact", "bound")
    if isinstance(model, Autoencodes):
        assert model.encode(x).shape == (3, model.latent_dim)
    if isinstance(model, Decodes):
        assert model.decode(torch.zeros(3, model.latent_dim)).shape == x.shape


def test_bf16(name, spec, tmp_path):
    model = build(name, spec)
    fit = trainer(tmp_path, precision="bf16-mixed", log_every_n_steps=1)
    fit.fit(model, Made(spec))
    assert all(value.isfinite() for value in fit.callback_metrics.values())


@pytest.mark.parametrize("levels", [1000, 2**16])
def test_many_levels(name, levels, tmp_path):
    """Of 10 or 16 bits: training, scores, samples and their files hold them all; nothing wraps around."""
    spec = DataSpec("deep", (1, 8, 8), levels)
    model, data = build(name, spec), Made(spec)
    fit = trainer(tmp_path, log_every_n_steps=1)
    fit.fit(model, data)
    found = fit.callback_metrics | fit.validate(model, data, verbose=False)[0]
    assert all(torch.as_tensor(value).isfinite() for value in found.values())
    x = zoo.evaluation.sample(model, 20)
    assert x.dtype == spec.dtype
    assert x.min() >= 0
    assert 255 < x.max() < levels
    fit.save_checkpoint(tmp_path / "deep.ckpt")
    assert zoo.load(tmp_path / "deep.ckpt").spec == spec
    with np.load(zoo.evaluation.save_samples(x, spec, tmp_path / "x.npz")) as kept:
        assert np.array_equal(kept["x"], x.numpy())
    flat = torch.full((1, 1, 8, 8), levels - 1, dtype=spec.dtype)
    assert zoo.plots.picture(flat, spec).getextrema()[1] == 255


def test_double_precision(name, spec, tmp_path):
    """By the Trainer and by hand all is computed in float64, and a checkpoint of it is a model in float64 again."""
    model, data = build(name, spec), Made(spec)
    fit = trainer(tmp_path, precision="64-true", log_every_n_steps=1)
    fit.fit(model, data)
    found = dict(fit.callback_metrics)
    found |= fit.validate(model, data, verbose=False)[0] | fit.test(model, data, verbose=False)[0]
    assert all(torch.as_tensor(value).isfinite() for value in found.values())
    assert {tensor.dtype for tensor in model.state_dict().values() if tensor.is_floating_point()} == {torch.float64}
    assert {out.dtype for out in fit.predict(model, data)} <= {torch.float64, spec.dtype}

    fit.save_checkpoint(tmp_path / "double.ckpt")
    loaded = zoo.load(tmp_path / "double.ckpt")
    assert loaded.weight_dtype == torch.float64
    samples = []
    for each in (model.eval(), loaded.eval()):
        torch.manual_seed(1)
        samples.append(each.sample(4))
    assert torch.equal(*samples)
    assert samples[0].dtype == (torch.float64 if spec.levels is None else spec.dtype)

    x = data.splits["val"].x[:6]  # of continuous data in float32
    label = data.splits["val"].label
    loss, terms = loaded.train().objective(Batch(x, label=None if label is None else label[:6]))
    assert {value.dtype for value in (loss, *terms.values())} == {torch.float64}
    loss.backward()
    loaded.eval()
    if isinstance(loaded, HasLikelihood):
        assert loaded.log_likelihood(x, samples=2).dtype == torch.float64


def test_double_precision_goes_on(name, tmp_path):
    """A checkpoint's weights are taken up with all of their digits, not by way of a model in float32."""
    weights = []
    for stops in ((2,), (1, 2)):
        path = None
        for steps in stops:
            fit = trainer(tmp_path, precision="64-true")
            fit.fit_loop.epoch_loop.max_steps = steps
            fit.fit(model := build(name, SPECS[1]), Made(SPECS[1]), ckpt_path=path, weights_only=True)
            fit.save_checkpoint(path := tmp_path / f"{steps}.ckpt")
        weights.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    assert weights[0].dtype == torch.float64
    assert torch.equal(*weights)


def test_double_precision_computes_the_same(name, spec):
    """A model and its copy in float64 agree to the precision of the former: nothing is rounded, nothing is left out."""
    model, data = build(name, spec).eval(), Made(spec)
    data.setup()
    x, double = data.splits["val"].x[:6], deepcopy(model).double()
    if isinstance(model, Autoencodes):
        torch.testing.assert_close(double.encode(x), model.encode(x).double(), rtol=1e-3, atol=1e-4)
        assert double.encode(x).dtype == torch.float64
    if isinstance(model, HasLikelihood) and model.likelihood_kind == "exact":
        log_p = model.log_likelihood(x).double()
        torch.testing.assert_close(double.log_likelihood(x).double(), log_p, rtol=1e-4, atol=1e-3)
    if isinstance(model, Decodes):
        z = torch.randn(6, model.latent_dim)
        near = (double.decode(z.double()).double() - model.decode(z).double()).abs()
        assert near.max() <= (1e-4 if spec.levels is None else 1)
        assert (near == 0).double().mean() > 0.95 or spec.levels is None


def test_a_part_of_another_module_computes_in_its_type(name, spec):
    """``double()`` of what a model is a part of does not reach what Lightning keeps as its dtype."""
    model, data = build(name, spec), Made(spec)
    data.setup()
    torch.nn.ModuleList([model]).double()
    loss, _ = model.objective(next(iter(data.val_dataloader())))
    assert loss.dtype == torch.float64


def test_predict(name, spec, tmp_path):
    """Latents of the test split in its order, or as many samples; of a Batch, of x alone and of tuples; by the docs."""
    model, data = build(name, spec).eval(), Made(spec)
    quiet = trainer(tmp_path)
    found = quiet.predict(model, data)
    x = data.splits["test"].x
    assert [len(part) for part in found] == [len(batch.x) for batch in data.test_dataloader()]
    for rows in (x, TensorDataset(x), TensorDataset(x, torch.zeros(len(x)))):
        again = torch.cat(quiet.predict(model, DataLoader(rows, batch_size=13)))
        if isinstance(model, Autoencodes):
            assert again.shape == (48, model.latent_dim)
            torch.testing.assert_close(again, torch.cat(found))
            torch.testing.assert_close(again, model.encode(x))
        else:
            assert again.shape == x.shape
            assert again.dtype == x.dtype
            if spec.levels in (None, 256):  # before it is trained, a GAN's are all one gray of 17
                assert len(again.unique(dim=0)) == 48, "every example is a draw of its own"


def test_forward(name, spec):
    """``model(x)`` encodes; it decodes where there is no encoder, or gives log p(x) where there are no latents."""
    model, x = build(name, spec).eval(), Made(spec).load()["test"].x[:5]
    if isinstance(model, Autoencodes):
        assert torch.equal(model(x), model.encode(x))
    elif isinstance(model, Decodes):
        z = torch.randn(5, model.latent_dim)
        assert torch.equal(model(z), model.decode(z))
    elif isinstance(model, HasLikelihood):
        torch.manual_seed(1)  # a bound is estimated by draws
        found = model(x)
        torch.manual_seed(1)
        assert torch.equal(found, model.log_likelihood(x))
    else:
        with pytest.raises(ZooError, match="has no encode, decode or log_likelihood"):
            model(x)


def test_two_processes_agree(tmp_path):
    """All models in one pair of processes: other examples on each, the same weights on both after every step."""
    found = run(Path(__file__).with_name("two_processes.py"), "train", tmp_path, 2)[2]
    for name in registry.MODELS:
        first, second = (rank[name] for rank in found)
        assert first["examples"].isdisjoint(second["examples"])
        assert len(first["examples"] | second["examples"]) == 2 * 2 * 8
        torch.testing.assert_close(first["weights"], second["weights"], rtol=0, atol=0)
        moved = [key for key, weight in first["weights"].items() if not torch.equal(weight, first["start"][key])]
        assert moved


def test_specs_are_checked():
    for shape in ((), (0,), (3, 4), (1, 2, 3, 4)):
        with pytest.raises(ZooError, match="data shape"):
            DataSpec("wrong", shape)
    with pytest.raises(ZooError, match="levels"):
        DataSpec("wrong", (2,), levels=1)
    spec = DataSpec("right", [1, 2, 2], 17, ["a"], [3])
    assert DataSpec.of(spec.to_dict()) == spec
    assert spec.dims == prod(spec.shape)


@pytest.mark.parametrize("dtype", [None, torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 17, 256, 257, 1024, 2**15, 2**16])
def test_levels_survive_the_way_to_signed_and_back(levels, dtype):
    spec = DataSpec("levels", (1, 1, levels), levels)
    x = torch.arange(levels).to(spec.dtype).view(1, 1, 1, -1)
    assert torch.equal(spec.from_signed(spec.to_signed(x, dtype)), x)
    assert spec.from_signed(spec.to_signed(x, dtype)).dtype == spec.dtype
    assert spec.to_signed(x, dtype).dtype == spec.to_unit(x, dtype).dtype == (dtype or torch.float32)
    assert spec.to_signed(x, dtype).aminmax() == (-1, 1)
    assert spec.to_unit(x, dtype).aminmax() == (0, 1)


def test_half_precision_scales_levels_in_single_precision():
    """In float16 itself 65,535 is infinite."""
    spec = DataSpec("levels", (1, 1, 4), 2**16)
    x = torch.tensor([0, 2**14, 2**15, 2**16 - 1], dtype=torch.int32).view(1, 1, 1, 4)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(spec.to_signed(x, dtype), spec.to_signed(x).to(dtype))
    assert spec.from_signed(torch.tensor([1.0], dtype=torch.float16)).item() == 2**16 - 1


def test_batches_are_tuples_with_names():
    x = torch.zeros(2, 3)
    assert Batch(x) == (x, None, None)
