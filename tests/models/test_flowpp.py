"""Flow++ as a model: its size, where it starts from, how it goes on, what it says of its likelihood."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY
from launch import run
from pytorch_lightning import Callback, Trainer, seed_everything
from torch.nn.functional import logsigmoid
from torch.utils.data import DataLoader
from two_processes_initialization import SMALL, build

import zoo
from callbacks import ExponentialMovingAverage
from datamodules import Digits
from datamodules.loader import TrainLoader
from zoo.errors import ZooError
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models import FlowPlusPlus
from zoo.models.base import HasLikelihood
from zoo.spec import Batch, DataSpec
from zoo.transforms import ActNorm

CIFAR = DataSpec("cifar10", (3, 32, 32), 256)


@pytest.fixture
def data() -> Digits:
    data = Digits(batch_size=32, seed=0)
    data.setup()
    return data


def model_of(data: Digits, **options) -> FlowPlusPlus:
    seed_everything(0, verbose=False)
    return FlowPlusPlus(data.spec, **{**SMALL, **options})


def trainer(folder: Path, steps: int, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    quiet |= {"limit_val_batches": 0, "gradient_clip_val": 1.0}
    return Trainer(accelerator="cpu", devices=1, max_steps=steps, default_root_dir=folder, **{**quiet, **options})


@pytest.mark.parametrize(
    ("changed", "count"),
    [({}, 31_443_440), ({"filters": 104, "dequantization": "uniform"}, 32_324_408)],
    ids=["published", "uniform ablation"],
)
def test_the_published_sizes(changed, count):
    """Ho et al. 2019 on CIFAR-10, and the model with uniform dequantization that they compare it with."""
    recipe = yaml.safe_load((REPOSITORY / "configs" / "recipes" / "flowpp-cifar10.yaml").read_text())
    with torch.device("meta"):
        model = FlowPlusPlus(CIFAR, **{**recipe["model"]["init_args"], **changed})
    assert sum(parameter.numel() for parameter in model.parameters()) == count


@pytest.mark.parametrize("recipe", ["flowpp-cifar10", "realnvp"])
def test_recipes_are_accepted(cli, recipe):
    """Over the preset, whose other settings stay."""
    file = REPOSITORY / "configs" / "recipes" / f"{recipe}.yaml"
    status, out, err = cli("fit", "--model", "flowpp", "--config", file, "--print_config")
    assert status == 0, err
    given, config = yaml.safe_load(file.read_text())["model"]["init_args"], yaml.safe_load(out)
    assert {key: config["model"]["init_args"][key] for key in given} == given
    assert config["trainer"]["gradient_clip_val"] == 1.0
    assert config["trainer"]["callbacks"][0]["init_args"]["module"] == "density"


def test_flow_and_dequantizer_are_densities():
    """Of pairs of pixels, by quadrature: p integrates to one over all that the logits reach, q(u|x) over the unit square."""
    torch.set_default_dtype(torch.float64)
    try:
        options = {"couplings": (2, 0, 0), "dequantizer_couplings": 2, "filters": 8, "blocks": 1, "components": 3}
        density = FlowPlusPlus(DataSpec("pairs", (1, 1, 2), levels=3), **options).eval().density
        for parameter in density.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
        x = torch.tensor([2, 1], dtype=torch.uint8).view(1, 1, 1, 2)
        side = torch.linspace(-12, 12, 110)  # in logits, where densities have no corners
        logits = torch.cartesian_prod(side, side).view(-1, 1, 1, 2)
        y, points = density.logits.inverse(logits)
        slope = (logsigmoid(logits) + logsigmoid(-logits)).flatten(1).sum(1)
        with torch.no_grad():
            q = density.dequantizer.log_prob(logits.sigmoid(), x.expand(len(y), -1, -1, -1))
            for log_p in (density.log_density(y) + points, q + slope):
                assert (log_p.exp().sum() * (24 / 109) ** 2).item() == pytest.approx(1, abs=3e-3)
            y, log_q = density.dequantizer(x.expand(50, -1, -1, -1))
            torch.testing.assert_close(density.dequantizer.log_prob(y - x, x.expand(50, -1, -1, -1)), log_q)
    finally:
        torch.set_default_dtype(torch.float32)


def test_what_is_said_of_the_likelihood(data):
    """A bound with noise; exact of continuous images; of levels without noise neither."""
    batch = Batch(data.splits["train"].x[:8])
    for kind in ("variational", "uniform"):
        model = model_of(data, dequantization=kind)
        loss, terms = model.objective(batch)
        assert model.likelihood_kind == "bound"
        assert set(terms) == {"elbo", "bits_per_dim", "log_q"}
        torch.testing.assert_close(terms["elbo"], -loss)
        torch.testing.assert_close(terms["bits_per_dim"], bits_per_dim(-loss, data.spec))
        assert bool(terms["log_q"] != 0) == (kind == "variational")
    model = model_of(data, dequantization="none")
    assert not isinstance(model, HasLikelihood) and not hasattr(model, "log_likelihood")
    assert model.objective(batch)[1] == {}
    with pytest.raises(ZooError, match="not a likelihood"):
        model.importance_weighted(batch.x, 1)

    spec = DataSpec("field", (1, 8, 8))
    with pytest.raises(ZooError, match="continuous"):
        FlowPlusPlus(spec, **SMALL)
    model = FlowPlusPlus(spec, dequantization="none", **SMALL).eval()
    x = torch.randn(5, *spec.shape)
    loss, terms = model.objective(Batch(x))
    assert model.likelihood_kind == "exact"
    assert set(terms) == {"nll"}
    bound = model.importance_weighted(x, 3)
    assert not bound.standard_error.any()
    torch.testing.assert_close(bound.log_p.mean(), -loss)
    assert model.sample(2).dtype == torch.float32
    torch.testing.assert_close(model.decode(model.encode(x)), x, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        (DataSpec("vectors", (2,), 4), {}, "flowpp takes images"),
        (CIFAR, {"dequantization": "unifrom"}, "unifrom"),
        (CIFAR, {"coupling": "afine"}, "afine"),
        (CIFAR, {"split": "rows"}, "rows"),
        (CIFAR, {"warmup": -1}, "warmup -1"),
    ],
)
def test_wrong_options(spec, options, message):
    with pytest.raises(ZooError, match=message):
        FlowPlusPlus(spec, **{**SMALL, **options})


@pytest.mark.parametrize(
    "options",
    [
        {"coupling": "affine", "attention": False, "norm": "channel"},
        {"coupling": "spline"},
        {"split": "checkerboard"},
        {"checkpoint": True},
        {"dequantization": "none"},
    ],
    ids=lambda options: next(iter(options)),
)
def test_options_train(data, options, tmp_path):
    model = model_of(data, **options)
    trainer(tmp_path, 2).fit(model, data)
    assert model.density.initialized
    assert model.sample(2).shape == (2, 1, 8, 8)
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_model_used_by_hand_starts_from_its_first_batch(data):
    model, other = model_of(data), model_of(data)
    first, second = data.splits["train"].x[:32], data.splits["train"].x[32:64]
    model.eval()
    model.objective(Batch(first))
    assert not model.density.initialized, "evaluation sets nothing"
    before = model.objective(Batch(second))[0]
    model.train()
    model.objective(Batch(first))
    assert model.density.initialized
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.objective(Batch(second))
    torch.testing.assert_close(model.state_dict(), start, rtol=0, atol=0)
    assert model.eval().objective(Batch(second))[0] < before
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    other.initialize(first)
    assert torch.equal(torch.rand(3), expected), "the random stream is not moved"


def test_it_starts_on_the_device_of_training(data, tmp_path, monkeypatch):
    """Lightning moves a model there after ``setup``, and GPUs can't send each other what is still on the CPU."""
    model, fit, started = model_of(data), trainer(tmp_path, 1), []
    monkeypatch.setattr(type(fit.strategy), "root_device", torch.device("meta"))
    monkeypatch.setattr(FlowPlusPlus, "initialize", lambda self, x: started.append((self.device.type, len(x))))
    fit.datamodule, model.trainer = data, fit
    model.setup("fit")
    assert started == [("meta", 32)]
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}


class Record(Callback):
    """The batches that were trained on, and the learning rates."""

    def __init__(self):
        self.batches, self.rates = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.batches.append(batch.x.clone())
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def test_starting_from_data_takes_no_batch_from_training(data, tmp_path):
    record = Record()
    trainer(tmp_path, 3, callbacks=[record]).fit(model_of(data), data)
    for trained, batch in zip(record.batches, Digits(batch_size=32, seed=0).train_dataloader(), strict=False):
        assert torch.equal(trained, batch.x)


def test_warm_up(data, tmp_path):
    record = Record()
    trainer(tmp_path, 6, callbacks=[record]).fit(model_of(data, warmup=4, lr=0.1), data)
    assert record.rates == pytest.approx([0.025, 0.05, 0.075, 0.1, 0.1, 0.1])


def test_a_resumed_run_is_the_run_itself(data, tmp_path, monkeypatch):
    """Bit for bit, in the midst of the warm-up, and starting again from data changes nothing."""
    whole = model_of(data, warmup=10)
    trainer(tmp_path, 3).fit(whole, data)

    first = trainer(tmp_path, 2)
    model = model_of(data, warmup=10)
    first.fit(model, Digits(batch_size=32, seed=0))
    first.save_checkpoint(tmp_path / "half.ckpt")
    model = model_of(data, warmup=10)
    torch.manual_seed(5)
    trainer(tmp_path, 3).fit(model, Digits(batch_size=32, seed=0), ckpt_path=tmp_path / "half.ckpt", weights_only=True)
    torch.testing.assert_close(model.state_dict(), whole.state_dict(), rtol=0, atol=0)

    loaded = zoo.load(tmp_path / "half.ckpt")
    assert loaded.density.initialized
    monkeypatch.setattr(type(loaded.density), "initialize", lambda *_: pytest.fail("it was set already"))
    trainer(tmp_path, 1).fit(loaded, Digits(batch_size=32, seed=0))


def test_a_plain_loader_will_do(data, tmp_path):
    loader = DataLoader(data.splits["train"].x[:64], 32, shuffle=True, collate_fn=lambda images: Batch(torch.stack(images)))
    model = model_of(data)
    trainer(tmp_path, 2).fit(model, loader)
    assert model.density.initialized


@pytest.mark.slow
def test_two_processes_start_from_the_same_data(tmp_path, data):
    """Those of both, as one process would: from a datamodule before training, from a loader at the first batch."""
    found = run(Path(__file__).with_name("two_processes_initialization.py"), "start", tmp_path, 2)[2]
    for way in ("datamodule", "loader"):
        first, second = (rank[way] for rank in found)
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert all(flag for name, flag in first.items() if name.endswith("initialized"))
    alone = build(data)
    alone.initialize(next(iter(TrainLoader(data.splits["train"], 64))).x)
    torch.testing.assert_close(alone.state_dict(), found[0]["datamodule"], rtol=0, atol=0)


def test_the_average_holds_flow_and_dequantizer(data, tmp_path):
    model, average = model_of(data, lr=0.01), ExponentialMovingAverage("density", 0.9)
    fit = trainer(tmp_path, 4, callbacks=[average])
    fit.fit(model, data)
    fit.save_checkpoint(tmp_path / "model.ckpt")
    averaged = average.average.state_dict()
    loaded = zoo.load(tmp_path / "model.ckpt").density.state_dict()
    torch.testing.assert_close(loaded, averaged, rtol=0, atol=0)
    assert {name.partition(".")[0] for name in averaged} == {"flow", "dequantizer"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> FlowPlusPlus:
    """On digits, for 15 batches."""
    data = Digits(batch_size=32, seed=0)
    model = model_of(data, lr=3e-3)
    trainer(tmp_path_factory.mktemp("flowpp"), 15).fit(model, data)
    return model.eval()


def test_the_flow_is_inverted(trained, data):
    """In float32, after training: far within half a level."""
    data.setup()
    x = data.splits["test"].x
    assert trained.density.inversion_error(x) < 1e-3
    z = trained.encode(x)
    assert z.shape == (len(x), trained.latent_dim) == (len(x), 64)
    assert torch.equal(trained.decode(z), x)


def test_interpolation(trained, data):
    x = data.splits["test"].x[:2]
    start, end = trained.encode(x)
    between = trained.decode(torch.lerp(start, end, torch.linspace(0, 1, 7)[:, None]))
    assert torch.equal(between[[0, -1]], x)
    assert (between[1:-1] != x[:1]).any()
    assert (between[1:-1] != x[1:]).any()


def test_temperature(trained):
    assert len(trained.sample(4, temperature=0.0).unique(dim=0)) == 1
    assert len(trained.sample(4).unique(dim=0)) == 4


def test_more_samples_give_a_higher_bound(trained, data):
    x = data.splits["test"].x[:50]
    torch.manual_seed(0)
    one, many = (trained.log_likelihood(x.repeat(4, 1, 1, 1), k).mean() for k in (1, 8))
    assert one + 0.2 < many
    bound = trained.importance_weighted(x, 8)
    assert bound.log_p.shape == bound.standard_error.shape == (50,)
    assert (bound.standard_error > 0).all()


class Normals(FlowPlusPlus):
    """Independent pixels, whose logits are N(0, 1): a flow that isn't an image flow of the zoo."""

    def build_flow(self) -> ActNorm:
        flow = ActNorm(self.spec.shape)
        flow.latent_shape = self.spec.shape
        return flow


@pytest.mark.parametrize(("dequantization", "tolerance"), [("uniform", 0.05), ("variational", 0.3)])
def test_any_flow_has_an_importance_weighted_bound(dequantization, tolerance):
    """That meets log P(x), here a sum of log-differences of the normal CDF; an untrained q meets it slowly."""
    spec = DataSpec("four", (1, 2, 2), levels=4)
    model = Normals(spec, dequantization=dequantization, **SMALL).eval()
    x = torch.tensor([[0, 1, 2, 3], [3, 3, 0, 2]], dtype=torch.uint8).view(2, *spec.shape)
    ends = [torch.special.ndtr((0.05 + 0.9 * side / 4).double().logit()) for side in (x.float(), x.float() + 1)]
    exact = (ends[1] - ends[0]).log().flatten(1).sum(1)
    torch.testing.assert_close(model.log_likelihood(x, 8000), exact, rtol=0, atol=tolerance)
    assert (model.log_likelihood(x.repeat(500, 1, 1, 1)).view(500, 2).mean(0) < exact - tolerance).all()


def test_bf16(trained, data):
    """Only the networks compute in bfloat16: within 1 % of a nat per dimension, and inverted as exactly."""
    x = data.splits["test"].x
    torch.manual_seed(0)
    with torch.no_grad():
        exact = torch.stack(trained.density(x))
    torch.manual_seed(0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        narrow = torch.stack(trained.density(x))
    assert narrow.dtype == torch.float32
    assert (narrow - exact).abs().mean() / trained.spec.dims < 0.01


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("coupling", ["mixture_logistic", "affine", "spline"])
def test_autocast_narrows_training_steps_alone(data, coupling, dtype):
    """Samples, densities and inverses are those of float32, of every part; the networks of a training step are narrow."""
    model = model_of(data, coupling=coupling, dropout=0.0)
    batch = Batch(data.splits["train"].x[:16])
    model.objective(batch)  # sets the actnorms
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    y, u = model.density.dequantizer(batch.x)[0].detach(), torch.rand(16, *data.spec.shape) * 0.9 + 0.05
    z = torch.randn(16, *model.latent_shape)

    def results() -> dict[str, torch.Tensor]:
        with torch.no_grad():
            points, q = model.density.decode(z), model.density.dequantizer.log_prob(u, batch.x)
            again = model.density.decode(model.density.encode(y)[0])
            return {"points": points, "density": model.density.log_density(y), "q": q, "again": again}

    for module in (model, model.eval()):  # in training mode too, there being no dropout
        exact = results()
        with torch.autocast("cpu", dtype):
            narrow = results()
            error = module.density.inversion_error(batch.x)
        for name, value in exact.items():
            torch.testing.assert_close(narrow[name], value, rtol=0, atol=0)
        assert error < 1e-3 and (narrow["again"] - y).abs().max() < 1e-3
        torch.testing.assert_close(exact["points"], model.density.decode(z), rtol=0, atol=1e-3)

    seen = set()
    layer = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    layer.register_forward_hook(lambda module, inputs, output: seen.add(output.dtype))
    with torch.autocast("cpu", dtype):
        model.train().objective(batch)
        assert seen == {dtype}
        seen.clear()
        model.eval().objective(batch)
    assert seen == {torch.float32}


def test_from_training_to_metrics(cli):
    """The command line: preset, evaluation with samples, and metrics that fit together."""
    small = [argument for key, value in SMALL.items() for argument in (f"--model.{key}", json.dumps(value))]
    budget = ("--trainer.max_steps", 8, "--trainer.val_check_interval", 8, "--trainer.check_val_every_n_epoch", 1)
    budget += ("--model.lr", 3e-3)
    status, out, err = cli("fit", "--model", "flowpp", *small, *budget)
    assert status == 0, err
    run = Path(out.splitlines()[-1].removeprefix("run: "))
    assert (run / "pictures" / "samples.png").exists()
    assert (run / "checkpoints" / "best.ckpt").exists()
    status, out, err = cli("evaluate", "--ckpt", run / "checkpoints" / "last.ckpt", "--samples", 4, "--examples", 100)
    assert status == 0, err
    metrics = json.loads((run / "evaluation.json").read_text())["metrics"]
    expected = ("loss", "elbo", "bits_per_dim", "log_q", "inversion_error", "nll", "nll_standard_error", "nll_bits_per_dim")
    assert {f"test/{name}" for name in expected} <= metrics.keys()
    assert metrics["test/nll"] < metrics["test/loss"] == pytest.approx(-metrics["test/elbo"])
    assert metrics["test/nll_bits_per_dim"] < metrics["test/bits_per_dim"] < 4.1
    assert metrics["test/inversion_error"] < 1e-3
    assert "test/active_units" not in metrics, "a flow has no posterior of which units could be active"
