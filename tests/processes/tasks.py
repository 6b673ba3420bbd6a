"""What the tests compare between one process and several: gradients and metrics of every registered model."""

import copy
import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import torch
from launch import main
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import Logger
from test_contract import SMALL, SPECS
from torch import Tensor, nn

from callbacks import DisentanglementScores, SampleScores
from datamodules.base import DataModule
from datamodules.loader import Arrays, TrainLoader
from zoo import registry
from zoo.distributed import all_sum, common_noise, gather, processes, rand, rank, separate_noise
from zoo.distributions.posteriors import POSTERIORS
from zoo.distributions.priors import PRIORS
from zoo.errors import ZooError
from zoo.evaluation import classifier, evaluate
from zoo.models import DIPVAE, GAN, VAE, FactorVAE, FlowPlusPlus
from zoo.models.base import Autoencodes, GenerativeModule, HasLikelihood, HasPosterior
from zoo.models.gan import LOSSES
from zoo.nets.batch_norm import synchronize_batch_norm
from zoo.spec import Batch, DataSpec

NETWORKS = ("conv", "gated_conv", "locatello", "bolts_resnet18")
SHARES = {  # of global batches, by the number of processes
    1: {"equal": [12], "unequal": [12], "tiny": [3]},
    2: {"equal": [6, 6], "unequal": [7, 5], "tiny": [1, 2]},
    3: {"equal": [4, 4, 4], "unequal": [5, 4, 3], "tiny": [1, 1, 1]},
}


class Given(DataModule):
    """A global batch for training, of which each process has its share, and splits that no number of processes divides.

    Held out, global batches are of 6 examples.
    """

    def __init__(self, spec: DataSpec, share: list[int] | None = None):
        super().__init__(eval_batch_size=6, seed=0)
        self._spec, self.share = spec, share

    @property
    def spec(self) -> DataSpec:
        return self._spec

    def load(self) -> dict[str, Arrays]:
        return {"val": Arrays(draw(self.spec, 23, 1)), "test": Arrays(draw(self.spec, 17, 2))}

    def train_dataloader(self) -> "Alone":
        return Alone(Batch(draw(self.spec, sum(self.share), 0).split(self.share)[rank()]))


class WithFactors(Given):
    """The same with two factors that it can't render."""

    @property
    def spec(self) -> DataSpec:
        return replace(self._spec, factor_names=("left", "right"), factor_sizes=(2, 3))

    def load(self) -> dict[str, Arrays]:
        def factors(n: int) -> Tensor:
            return torch.stack([torch.arange(n) % 2, torch.arange(n) % 3], 1)

        return {name: Arrays(arrays.x, factors(len(arrays))) for name, arrays in super().load().items()}


class Batches(Given):
    """The same with a split for training, in global batches of 6, 6 and 3."""

    def __init__(self, spec: DataSpec):
        super().__init__(spec)
        self.batch_size = 6 // processes()

    def load(self) -> dict[str, Arrays]:
        return {**super().load(), "train": Arrays(draw(self.spec, 15, 3))}

    def train_dataloader(self) -> TrainLoader:
        return DataModule.train_dataloader(self)


class Labeled(Given):
    """Splits that neither 2 nor 3 processes divide, with labels."""

    def load(self) -> dict[str, Arrays]:
        sizes = {"train": 61, "val": 41, "test": 35}
        return {name: Arrays(draw(self.spec, n, n), label=torch.arange(n) % 4) for name, n in sizes.items()}

    def train_dataloader(self) -> TrainLoader:
        return DataModule.train_dataloader(self)


class Rows(Logger):
    """What loggers get, by step and name."""

    name = version = "rows"

    def __init__(self):
        super().__init__()
        self.found: dict[tuple[int, str], float] = {}

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.found |= {(step, name): value for name, value in metrics.items()}

    def log_hyperparams(self, *_) -> None:
        pass


class Alone:
    """A loader of one batch."""

    def __init__(self, batch: Batch):
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Batch]:
        yield self.batch


class Constant(GenerativeModule):
    """A model that logs constants, and the mean of what it is shown."""

    monitor = "val/mean"

    def __init__(self, spec: DataSpec | dict):
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        one = torch.ones(())
        return 0 * self.weight, {"one": one, "capacity": 25 * one, "mean": batch.x.mean()}

    def sample(self, n: int) -> Tensor:
        return torch.zeros(n, 1)


class Numbers(DataModule):
    """The numbers from 0 on."""

    def __init__(self, examples: int):
        super().__init__(batch_size=2, eval_batch_size=2, seed=0)
        self.examples = examples

    @property
    def spec(self) -> DataSpec:
        return DataSpec("numbers", (1,))

    def load(self) -> dict[str, Arrays]:
        return dict.fromkeys(("train", "val", "test"), Arrays(torch.arange(float(self.examples)).unsqueeze(1)))


class Monitor(Callback):
    """What other callbacks find of the metrics at the ends of a batch and of a validation."""

    def __init__(self):
        self.found: list[dict[str, float]] = []

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: GenerativeModule) -> None:
        if not trainer.sanity_checking:
            self.found.append({name: float(value) for name, value in trainer.callback_metrics.items() if name[:3] == "val"})


class Seeded(Callback):
    """The same random state where work starts: Lightning seeds anew where there are several processes."""

    def on_train_start(self, *_) -> None:
        torch.manual_seed(1)

    on_validation_start = on_test_start = on_train_start


class Gradients(Callback):
    """Sets learning rates to 0 and keeps the gradients that optimizers step with, by the names of the weights."""

    def __init__(self):
        self.found: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: GenerativeModule) -> None:
        names = {parameter: name for name, parameter in pl_module.named_parameters()}

        def keep(optimizer: torch.optim.Optimizer, *_) -> None:
            stepped = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            self.found |= {names[each]: each.grad.clone() for each in stepped if each.grad is not None}

        for optimizer in trainer.optimizers:
            optimizer.register_step_post_hook(keep)
            for group in optimizer.param_groups:
                group["lr"] = 0.0


def draw(spec: DataSpec, n: int, seed: int) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    if spec.levels is None:
        return torch.randn(n, *spec.shape, generator=random)
    return torch.randint(spec.levels, (n, *spec.shape), generator=random, dtype=torch.uint8)


def models() -> Iterator[tuple[str, GenerativeModule]]:
    """Every registered model, small, for the first data that it takes, images first."""
    for name, entry in registry.MODELS.items():
        for spec in (SPECS[1], SPECS[3]):
            seed_everything(0, verbose=False)
            try:
                yield name, registry.find_class(entry.path)(spec, **SMALL.get(name, {}))
                break
            except ZooError:
                continue


def trainer(model: GenerativeModule, folder: Path, *callbacks: Callback, **options) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    several = {"devices": here, "num_nodes": processes() // here} | ({"strategy": model.strategy} if processes() > 1 else {})
    options = {**quiet, **several, "callbacks": [Seeded(), *callbacks], **options}
    return Trainer(accelerator="cpu", default_root_dir=folder, **options)


def with_common_noise(model: GenerativeModule) -> None:
    """Training steps in which each example has the noise that it has in one process, dropout's too."""
    step = model.training_step

    def training_step(batch: Batch, batch_idx: int):
        with common_noise(len(batch.x)):
            return step(batch, batch_idx)

    def dropout(x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
        return x * (rand(*x.shape, dtype=x.dtype) >= p) / (1 - p) if training and p else x

    model.training_step, torch.nn.functional.dropout = training_step, dropout


def step(model: GenerativeModule, share: list[int], folder: Path) -> dict[str, Tensor]:
    """The gradients of a step with a global batch that is shared so."""
    with_common_noise(model)
    kept = Gradients()
    trainer(model, folder, kept, max_steps=1, limit_val_batches=0).fit(model, Given(model.spec, share))
    assert {name for name, each in model.named_parameters() if each.requires_grad} == set(kept.found)
    return kept.found


def compared(key: str, found: dict[str, Tensor], folder: Path) -> tuple[float, float, str]:
    """The largest difference from one process: of a weight's gradient, as a part of that gradient's largest entry and of
    the largest of all gradients, and which weight's it is."""
    reference = folder / f"{key}.pt"
    if processes() == 1:
        torch.save(found, reference)
        return 0.0, 0.0, ""
    one = torch.load(reference)
    assert one.keys() == found.keys()
    most = max(gradient.abs().max() for gradient in one.values())
    differences = {name: ((found[name] - gradient).abs().max(), gradient.abs().max()) for name, gradient in one.items()}
    own = {name: (off / size.clamp_min(1e-300)).item() for name, (off, size) in differences.items()}
    worst = max(own, key=own.__getitem__)
    return own[worst], max((off / most).item() for off, _ in differences.values()), worst


NORMS = [
    (nn.BatchNorm1d, (9, 3), {}),
    (nn.BatchNorm1d, (9, 3, 4), {"momentum": None}),
    (nn.BatchNorm2d, (9, 3, 4, 2), {"affine": False}),
    (nn.BatchNorm3d, (9, 3, 2, 2, 2), {"track_running_stats": False}),
]


def norm(kind: type[nn.Module], shape: tuple[int, ...], **options) -> dict[str, Tensor]:
    """What two batches and their gradients' gradient make of a layer, of uneven shares, as the global batch's."""
    layer = synchronize_batch_norm(nn.Sequential(kind(3, **options)))
    random, total = torch.Generator().manual_seed(0), 0
    for _ in range(2):
        x = (5 + 2 * torch.randn(shape, generator=random)).tensor_split(processes())[rank()].requires_grad_()
        y = layer(x)
        (slope,) = torch.autograd.grad(all_sum(y.pow(3).sum()) / processes(), x, create_graph=True)
        total = total + all_sum(slope.square().sum()) / processes()
    (curvature,) = torch.autograd.grad(total, x)
    layer.eval()
    found = {"y": y, "slope": slope, "curvature": curvature, "held out": layer(x)}
    return {name: gather(value.detach()) for name, value in found.items()} | layer.state_dict()


def logged_constants(examples: int, folder: Path) -> dict[str, dict[str, float]]:
    """Of so many examples, what is logged: in validation and test, in training, for a checkpoint, for callbacks."""
    model, data, monitor = Constant(Numbers(1).spec), Numbers(examples), Monitor()
    best = ModelCheckpoint(folder / f"{processes()}-{examples}", monitor="val/mean")
    fit = trainer(model, folder, best, monitor, max_epochs=2, enable_checkpointing=True, log_every_n_steps=1)
    fit.fit(model, data)
    found = {
        "fit": {name: float(value) for name, value in fit.callback_metrics.items()},
        "best": {"score": float(best.best_model_score)},
        "first": monitor.found[0],
        "second": monitor.found[1],
        "states": dict.fromkeys(torch.load(best.best_model_path)["state_dict"], 0.0),
    }
    for stage in ("validate", "test"):
        (found[stage],) = getattr(fit, stage)(model, data, verbose=False)
    return found


def gradients(folder: Path) -> dict[tuple[str, str], tuple[float, float, str]]:
    """Of each model in both precisions at each way to share a batch, how far gradients are from those of one process."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        for shared, share in SHARES[processes()].items():
            for name, model in models():
                key = f"{name}-{shared}-{dtype}"
                found[key] = compared(key, step(model, share, folder), folder)
    return found


def sample(folder: Path) -> dict[str, dict]:
    """In double precision, gradients with unequal shares and metrics of validation; what is logged of constants."""
    splits = (examples for examples in (3, 5, 7) if examples >= processes())
    found = {"constants": {examples: logged_constants(examples, folder) for examples in splits}}
    if processes() > 2:
        return found
    torch.set_default_dtype(torch.float64)
    share = SHARES[processes()]["unequal"]
    found["gradients"] = {name: compared(name, step(model, share, folder), folder) for name, model in models()}
    found["metrics"] = {
        name: trainer(model, folder).validate(model, Given(model.spec), verbose=False)[0] for name, model in models()
    }
    found["predictions"] = {name: trainer(model, folder).predict(model, Given(model.spec)) for name, model in models()}
    found["norms"] = [norm(layer, shape, **options) for layer, shape, options in NORMS]
    found["evaluation"] = evaluated(next(models())[1])
    torch.manual_seed(0)
    separate_noise()
    found["noise"] = torch.rand(8)
    return found


def metrics(folder: Path) -> dict[tuple[str, str], dict[str, float]]:
    """Of each model in both precisions, the metrics of validation and test."""
    found = {}
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        for name, model in models():
            for stage in ("validate", "test"):
                (got,) = getattr(trainer(model, folder), stage)(model, Given(model.spec), verbose=False)
                found[name, stage, str(dtype)] = got
    return found


def variants(folder: Path) -> dict[str, tuple]:
    """In double precision and with unequal shares, gradients with every component and option that may see the batch."""
    torch.set_default_dtype(torch.float64)
    vectors, image = SPECS[3], SPECS[0]
    small, flow = {"hidden": 16, "latent_dim": 3}, SMALL["flowpp"]
    given = [(VAE, vectors, {"posterior": name}) for name in POSTERIORS]
    given += [(VAE, vectors, {"prior": name}) for name in PRIORS]
    given += [(VAE, vectors, {"kl": kl}) for kl in ({"free_bits": 0.01}, {"capacity": 1.0}, {"warmup": 5})]
    given += [(VAE, image, {"network": name}) for name in NETWORKS if name != "bolts_resnet18" or find_spec("pl_bolts")]
    given += [(DIPVAE, vectors, {"variant": "II", "posterior": name}) for name in ("diagonal", "full")]
    given += [(FactorVAE, vectors, {"posterior": "iaf", "kl": {"free_bits": 0.01}})]
    given = [(cls, spec, {**small, **options}) for cls, spec, options in given]
    given += [(GAN, spec, {"loss": loss, "width": 8}) for loss in LOSSES for spec in (vectors, image)]
    given += [
        (GAN, image, {"width": 8, name: value}) for name, value in (("r1", 1.0), ("r2", 1.0), ("gradient_penalty", 1.0))
    ]
    given += [(GAN, image, {"width": 8, "spectral_norm": True, "loss": "hinge"})]
    given += [(FlowPlusPlus, image, {**flow, "dequantization": name}) for name in ("variational", "uniform", "none")]
    given += [(FlowPlusPlus, image, {**flow, "coupling": name}) for name in ("affine", "spline")]
    found = {}
    for cls, spec, options in given:
        seed_everything(0, verbose=False)
        key = f"{cls.__name__}-{len(found)}-{options}"
        gradients = step(cls(spec, **options), SHARES[processes()]["unequal"], folder)
        found[key] = compared(f"variant-{len(found)}", gradients, folder)
    return found


def training(folder: Path) -> dict[str, dict[str, float]]:
    """Of each model in double precision, what loggers get of three epochs, and what weights are in the end."""
    torch.set_default_dtype(torch.float64)
    found = {}
    for ending, more in ("", {}), (", accumulated", {"accumulate_grad_batches": 2, "gradient_clip_val": 0.5}):
        for name, model in models():
            if more and not model.automatic_optimization:
                continue
            with_common_noise(model)
            rows = Rows()
            options = {"max_epochs": 3, "log_every_n_steps": 1, "logger": rows, "num_sanity_val_steps": 1}
            trainer(model, folder, **options, **more).fit(model, Batches(model.spec))
            weights = {f"weights/{key}": float(value.double().norm()) for key, value in model.state_dict().items()}
            found[name + ending] = {**{f"{step}/{key}": value for (step, key), value in rows.found.items()}, **weights}
    return found


def compiled(folder: Path) -> dict[str, tuple]:
    """In double precision and with unequal shares, the gradients of models that are compiled."""
    torch.set_default_dtype(torch.float64)
    found = {}
    for name, model in models():
        torch.compiler.reset()
        model.compile(backend="eager")
        found[name] = compared(name, step(model, SHARES[processes()]["unequal"], folder), folder)
    return found


def resumed(folder: Path) -> dict[str, list[str]]:
    """Of each model, the weights that differ, in a bit, between a training of five batches and one that went on after three.

    Random numbers are each process's own.
    """
    found = {}
    for name, whole in models():
        first, rest = copy.deepcopy(whole), copy.deepcopy(whole)
        options = {"limit_val_batches": 1, "val_check_interval": 1}
        path = folder / f"{name}.ckpt"
        trained(whole, folder, 5, **options)
        trained(first, folder, 3, **options).save_checkpoint(path)
        seed_everything(7, verbose=False)
        trained(rest, folder, 5, path, **options)
        other = rest.state_dict()
        found[name] = [key for key, value in whole.state_dict().items() if not torch.equal(other[key], value)]
    return found


def trained(model: GenerativeModule, folder: Path, steps: int, ckpt: Path | None = None, **options) -> Trainer:
    fit = trainer(model, folder, max_steps=steps, **options)
    fit.callbacks = [callback for callback in fit.callbacks if not isinstance(callback, Seeded)]
    fit.fit(model, Batches(model.spec), ckpt_path=ckpt, weights_only=True)
    return fit


def hosts(folder: Path) -> dict[str, tuple]:
    """In double precision, gradients with unequal shares, whichever hosts processes are on."""
    torch.set_default_dtype(torch.float64)
    return {name: compared(name, step(model, SHARES[processes()]["unequal"], folder), folder) for name, model in models()}


def evaluations(folder: Path) -> dict[str, dict[str, float]]:
    """Of each model, everything that is measured of it on a test split, with importance samples and scores of codes."""
    return {name: evaluated(model) for name, model in models()}


def evaluated(model: GenerativeModule) -> dict[str, float]:
    data = WithFactors(model.spec)
    model.spec = data.spec  # scores ask it for factors
    representation = "both" if isinstance(model, HasPosterior) else "mean"
    scores = None if isinstance(model, Autoencodes) else "none"
    options = {"samples": 3 if isinstance(model, HasLikelihood) else 0, "points": 12, "seed": 3, "progress": False}
    options |= {"representation": representation, "scores": scores}
    metrics = evaluate(model, data, accelerator="cpu", devices=processes(), **options).metrics
    return {name: value for name, value in metrics.items() if not name.endswith("seconds")}


def scores(folder: Path) -> dict[str, dict[str, float]]:
    """Of each model that encodes, the scores that the callback logs of held-out examples, in double precision."""
    torch.set_default_dtype(torch.float64)
    found = {}
    for name, model in models():
        if isinstance(model, Autoencodes):
            data = WithFactors(model.spec)
            model.spec = data.spec
            callback = DisentanglementScores(["mig", "sap", "modularity"], points=8, test_points=4, heat_maps=False)
            (got,) = trainer(model, folder, callback).validate(model, data, verbose=False)
            found[name] = {key: value for key, value in got.items() if not key.endswith("seconds")}
    return found


def sample_scores(folder: Path) -> dict[str, dict[str, float]]:
    """Of some models, every score of their samples with the rows beside them, and what the callback logs.

    Images are scored in features of a classifier, which the first process trains.
    """
    os.environ["ZOO_CACHE"] = str(folder / str(processes()))
    classifier._STEPS = 4
    found = {}
    for name, model in models():
        if name not in ("vae", "memorizer", "gan"):
            continue
        data = Labeled(model.spec)
        options = {"sample_scores": "all", "scores": "none", "repeats": 2, "seed": 3, "progress": False}
        evaluation = evaluate(model, data, accelerator="cpu", devices=processes(), **options)
        report = evaluation.samples
        metrics = {f"model/{name}": value for name, value in evaluation.metrics.items()}
        metrics |= {f"{row}/{leaf}": value for row, scores in report.rows.items() for leaf, value in scores.items()}
        callback = SampleScores(("distances", "neighborhoods", "memorization"), examples=31, seed=5)
        (logged,) = trainer(model, folder, callback).validate(model, Labeled(model.spec), verbose=False)
        metrics |= logged
        found[name] = {key: float(value) for key, value in metrics.items() if not key.endswith("seconds")}
    return found


if __name__ == "__main__":
    main(gradients, variants, compiled, training, resumed, sample, metrics, hosts, evaluations, scores, sample_scores)
