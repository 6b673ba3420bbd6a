"""What the tests compare between one process and several: gradients and metrics of every registered model."""

from collections.abc import Iterator
from pathlib import Path

import torch
from launch import main
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from test_contract import SMALL, SPECS
from torch import Tensor

from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo import registry
from zoo.distributed import common_noise, processes, rand, rank
from zoo.errors import ZooError
from zoo.models.base import GenerativeModule
from zoo.spec import Batch, DataSpec

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
        super().__init__(eval_batch_size=6 // processes(), seed=0)
        self._spec, self.share = spec, share

    @property
    def spec(self) -> DataSpec:
        return self._spec

    def load(self) -> dict[str, Arrays]:
        return {"val": Arrays(draw(self.spec, 23, 1)), "test": Arrays(draw(self.spec, 17, 2))}

    def train_dataloader(self) -> "Alone":
        return Alone(Batch(draw(self.spec, sum(self.share), 0).split(self.share)[rank()]))


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
    several = {"devices": processes(), "strategy": model.strategy} if processes() > 1 else {"devices": 1}
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
    found = {"constants": {examples: logged_constants(examples, folder) for examples in (5, 7)}}
    if processes() > 2:
        return found
    torch.set_default_dtype(torch.float64)
    share = SHARES[processes()]["unequal"]
    found["gradients"] = {name: compared(name, step(model, share, folder), folder) for name, model in models()}
    found["metrics"] = {
        name: trainer(model, folder).validate(model, Given(model.spec), verbose=False)[0] for name, model in models()
    }
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


if __name__ == "__main__":
    main(gradients, sample, metrics)
