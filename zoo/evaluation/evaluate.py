"""Test metrics of a checkpoint, as a table and as JSON."""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import yaml
from pytorch_lightning import LightningDataModule, Trainer, seed_everything
from tqdm import tqdm

from zoo import registry
from zoo.cli.parser import Parser, option_names, unknown_option, unwrapped
from zoo.distributed import require_gpus
from zoo.errors import ZooError
from zoo.evaluation.disentanglement_report import disentanglement_report, requested_scores
from zoo.lightning import quiet_lightning
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models.base import Autoencodes, GenerativeModule, HasLikelihood, HasPosterior
from zoo.registry import import_class
from zoo.runs.checkpoints import load, require_same_data
from zoo.runs.folder import run_of
from zoo.spec import spec_of

__all__ = ["evaluate"]

_ACTIVE = 0.01  # a unit is active if its posterior mean varies by more over the data (Burda et al. 2016, section 5.2)
_ERROR = "_standard_error"  # the end of the name of a metric's standard error


def evaluate(options: argparse.Namespace, rest: list[str]) -> None:
    """Test a model as ``python -m zoo.evaluate`` was asked to: a table and JSON."""
    require_gpus(options.gpus)
    quiet_lightning()
    seed_everything(options.seed, verbose=False)
    model = load(options.ckpt)
    run = run_of(options.ckpt)
    data = _data(run, options.data, rest)
    require_same_data(options.ckpt, model.spec, spec_of(data))
    requested = requested_scores(model, data, options)
    trainer = Trainer(
        accelerator="gpu" if options.gpus else "cpu",
        devices=options.gpus or 1,
        strategy=model.strategy if options.gpus > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=True,
    )
    (metrics,) = trainer.test(model, data, verbose=False)
    model.to(trainer.strategy.root_device)
    if options.samples:
        metrics |= _likelihood(model, data, options.samples, options.examples)
    scored = [disentanglement_report(kind, names, model, data, options) for kind, names in requested.items()]
    name = type(model).__name__
    examples = len(data.splits["test"]) if hasattr(data, "splits") else None
    report = {
        "model": name,
        "data": model.spec.name,
        "split": "test",
        "examples": examples,
        "checkpoint": str(options.ckpt),
        "seed": options.seed,
        "metrics": metrics | {key: value for each in scored for key, value in each.metrics.items()},
        "disentanglement": [each.to_dict() for each in scored],
    }
    print(f"{name} on {model.spec.name}, test split" + (f", {examples:,} examples" if examples else ""))
    print("\n".join(_lines(metrics)))
    out = options.out or (run or Path(options.ckpt).parent) / "evaluation.json"
    for each in scored:
        print("\n".join(each.lines()))
        print("pictures:", *each.draw(model.spec.factor_names, out.parent / "pictures"))
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"JSON: {out}")


def _lines(metrics: dict[str, float]) -> list[str]:
    """A line for each figure, its standard error beside it where there is one."""
    errors = {name: metrics[f"{name}{_ERROR}"] for name in metrics if f"{name}{_ERROR}" in metrics}
    shown = {name: value for name, value in metrics.items() if not name.endswith(_ERROR)}
    width = max(map(len, shown), default=0)
    return [
        f"  {name:<{width}}  {value:12.6g}" + (f" ± {errors[name]:.2g}" if name in errors else "")
        for name, value in shown.items()
    ]


@torch.inference_mode()
def _likelihood(model: GenerativeModule, data: LightningDataModule, samples: int, limit: int | None) -> dict[str, float]:
    """NLL with its standard error over examples, bits/dim where they mean something, and active units, on test data."""
    if not isinstance(model, HasLikelihood):
        raise ZooError(f"--samples {samples}: {type(model).__name__} has no likelihood; leave --samples out.")
    log_p, means, seen, start = [], [], 0, time.perf_counter()
    loader = data.test_dataloader()
    for batch in tqdm(loader, f"log p(x), {samples} samples", unit=" batches"):
        x = batch.x[: None if limit is None else limit - seen].to(model.device)
        if len(x) == 0:
            break
        seen += len(x)
        log_p.append(model.log_likelihood(x, samples).cpu())
        if isinstance(model, Autoencodes) and isinstance(model, HasPosterior):
            means.append(model.encode(x).cpu())
    nll = -torch.cat(log_p).double()
    error = (nll.std() / math.sqrt(seen)).item()
    metrics = {"test/nll": nll.mean().item(), f"test/nll{_ERROR}": error}
    if model.spec.levels is not None:
        metrics["test/nll_bits_per_dim"] = bits_per_dim(-nll.mean(), model.spec).item()
    if means:
        metrics["test/active_units"] = int((torch.cat(means).var(0) > _ACTIVE).sum())
    return {
        **metrics,
        "test/nll_examples": seen,
        "test/nll_samples": samples,
        "test/nll_seconds": time.perf_counter() - start,
    }


def _data(run: Path | None, name: str | None, rest: list[str]) -> LightningDataModule:
    """The datamodule of the run's config.yaml, or the named one, with the options typed."""
    stored = {}
    if run is not None:
        stored = yaml.safe_load((run / "config.yaml").read_text())["data"]
    if name is not None:
        path = registry.DATA[name].path if name in registry.DATA else name
        stored = stored if stored.get("class_path") == path else {"class_path": path}
    if not stored:
        raise ZooError("no config.yaml beside the checkpoint says what it was trained on: name it with --data NAME.")
    cls = import_class(stored["class_path"])
    known = [f"--data.{option}" for option in option_names(cls)]
    for option in [word.partition("=")[0] for word in rest if word.startswith("--")]:
        if option not in known:
            raise unknown_option(option, "", ["--ckpt", "--data", "--gpus", "--seed", "--out", *known])
    parser = Parser()
    parser.add_class_arguments(cls, "data", fail_untyped=False)
    parser.set_defaults({f"data.{key}": value for key, value in stored.get("init_args", {}).items()})
    with unwrapped():
        return parser.instantiate_classes(parser.parse(rest)).data
