"""Everything that is measured of a trained model on the test split of its data, in one call."""

import hashlib
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from zoo import environment
from zoo.distributed import from_first
from zoo.errors import ZooError
from zoo.evaluation.disentanglement import ALL_SCORES, Sizes
from zoo.evaluation.disentanglement_report import DisentanglementReport, disentanglement_report, requested_scores
from zoo.evaluation.features import Features, features_for, require_features
from zoo.evaluation.inference import inference
from zoo.evaluation.likelihood import STANDARD_ERROR, Likelihood, likelihood_of_examples
from zoo.evaluation.sample_report import (
    SAMPLE_GROUPS,
    SAMPLE_SCORES,
    SampleReport,
    requested_sample_scores,
    sample_report,
)
from zoo.files import write_atomically
from zoo.metrics.disentanglement.scores import GROUPS
from zoo.models.base import GenerativeModule, HasLikelihood
from zoo.options import require_at_least
from zoo.progress import progress_bar
from zoo.registry import suggestion
from zoo.spec import spec_of

__all__ = ["SCHEMA", "Evaluation", "evaluate"]

SCHEMA = 1  # of evaluation.json; it grows where a field is renamed or means something else
_SAMPLED = 64  # samples that are timed
_COUNTS = (
    "_examples",
    "_samples",
    "_seconds",
    "_bf16_error",
)  # ends of the names of metrics that say how much, not how good


@dataclass
class Evaluation:
    """What :func:`evaluate` found; ``print(evaluation)`` shows it as a table.

    Attributes:
        model: The name of the model's class.
        data: What it was tested on, with the variant: ``mnist_binary``.
        examples: The number of test examples; None where the data do not tell.
        seed: The seed of what was drawn.
        metrics: Every number by its name, ``test/nll``, ``test/mig``, …; nats unless the name says otherwise.
        disentanglement: What the disentanglement scores among them are made of, for each representation.
        checkpoint: The file that the model came from, where that is known.
        split: The split of the data.
        levels: The levels of the data; None for continuous data.
        protocol: How each metric was measured: numbers of equal protocols are comparable, others are not.
        likelihood: log p(x) of each example, where it was asked for.
        parameters: The number of the model's parameters.
        samples_per_second: How fast samples are drawn, in one batch of 64.
        seconds: How long it all took.
        missing: Metrics that were not computed, each with the reason.
        origin: What :func:`zoo.runs.run_record.origin` says of the checkpoint and its training.
        environment: Command, machine, versions and commit of the evaluation.
        samples: What the sample scores among the metrics are made of, where they were asked for.
    """

    model: str
    data: str
    examples: int | None
    seed: int
    metrics: dict[str, float]
    disentanglement: list[DisentanglementReport] = field(default_factory=list)
    checkpoint: str | None = None
    split: str = "test"
    levels: int | None = None
    protocol: dict[str, dict[str, Any]] = field(default_factory=dict)
    likelihood: Likelihood | None = None
    parameters: int | None = None
    samples_per_second: float | None = None
    seconds: float | None = None
    missing: dict[str, str] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    samples: SampleReport | None = None

    def to_dict(self) -> dict[str, Any]:
        """What JSON stores: plain numbers, strings, lists and dictionaries."""
        log_p = self.likelihood.log_p.numpy() if self.likelihood is not None else None
        return {
            "schema": SCHEMA,
            "model": self.model,
            "data": self.data,
            "levels": self.levels,
            "split": self.split,
            "examples": self.examples,
            "checkpoint": self.checkpoint,
            "seed": self.seed,
            "metrics": self.metrics,
            "protocol": self.protocol,
            "missing": self.missing,
            "log_p_sha256": hashlib.sha256(log_p.tobytes()).hexdigest() if log_p is not None else None,
            "parameters": self.parameters,
            "samples_per_second": self.samples_per_second,
            "seconds": self.seconds,
            **{name: value for name, value in self.origin.items() if name != "checkpoint"},
            **self.environment,
            "disentanglement": [report.to_dict() for report in self.disentanglement],
            "samples": self.samples.to_dict() if self.samples is not None else None,
        }

    def table(self) -> str:
        """A line for each metric, its standard error beside it where there is one; then the scores of codes and samples."""
        reports: list[DisentanglementReport | SampleReport] = [*self.disentanglement]
        reports += [self.samples] if self.samples is not None else []
        scores = {name for report in reports for name in report.metrics}
        values = {name: value for name, value in self.metrics.items() if name not in scores}
        shown = [name for name in values if not name.endswith(STANDARD_ERROR)]
        width = max(map(len, shown), default=0)
        lines = [f"{self.model} on {self.data}, {self.split} split"]
        if self.examples:
            lines[0] += f", {self.examples:,} examples"
        for name in shown:
            error = values.get(name + STANDARD_ERROR)
            lines.append(f"  {name:<{width}}  {values[name]:12.6g}" + (f" ± {error:.2g}" if error is not None else ""))
        if (kind := self.protocol.get("test/nll", {}).get("kind")) is not None:
            draws = self.protocol["test/nll"].get("draws")
            bound = f"a bound, by {draws} draw{'s' * (draws != 1)} for each example"
            lines.append(f"  nll is {'exact' if kind == 'exact' else bound}")
        return "\n".join([*lines, *map(str, reports)])

    def __str__(self) -> str:
        return self.table()

    def save(self, path: str | Path) -> Path:
        """Write :meth:`to_dict` as JSON, and return the path; log p(x) of each example goes into an ``.npz`` beside it.

        The JSON is written last and holds the hash of the array: together they are whole, or they don't fit each other.
        """
        path = Path(path)
        if self.likelihood is not None:
            with write_atomically(path.with_suffix(".npz")) as file:
                np.savez(file, log_p=self.likelihood.log_p.numpy())
        with write_atomically(path, text=True) as file:
            file.write(json.dumps(self.to_dict(), indent=2) + "\n")
        return path

    def draw(self, folder: str | Path) -> list[Path]:
        """Write the matrices of codes and factors as pictures, and return where they are; none without such scores."""
        return [path for report in self.disentanglement for path in report.draw(folder)]


def evaluate(
    model: GenerativeModule,
    data: LightningDataModule,
    *,
    metrics: str | Sequence[str] | None = None,
    samples: int = 0,
    examples: int | None = None,
    scores: str | Sequence[str] | None = None,
    points: int = 10000,
    num_train: int = 500,
    repeats: int = 1,
    representation: Literal["mean", "sampled", "both"] = "mean",
    sample_scores: str | Sequence[str] | None = None,
    features: str | nn.Module | Features | None = None,
    sample_count: int = 2000,
    seed: int = 0,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    accelerator: str = "auto",
    devices: int | list[int] = 1,
    progress: bool = True,
) -> Evaluation:
    """Tests a trained model on the test split of its data: what ``python -m zoo.evaluate`` does.

    The model's own test metrics are computed, and beside them its likelihood
    (:func:`~zoo.evaluation.likelihood.evaluate_likelihood`), disentanglement scores
    (:func:`~zoo.evaluation.disentanglement_report.disentanglement_report`) and scores of its samples
    (:func:`~zoo.evaluation.sample_report.sample_report`). The model, the device where it is, and torch's
    random state stay as they are.

    Where the files of the data can't be read, and sample scores are asked for whose reference features were kept earlier
    (:func:`~zoo.evaluation.references.reference`), these are computed alone, in one process; ``missing`` says why the rest
    is not there.

    Arguments:
        model: The model, as :func:`zoo.load` gives it or as training left it.
        data: Data of the shape and levels that the model was made for.
        metrics: ``nll``, and names or groups of ``scores`` and ``sample_scores``, in a list or with commas between them:
            these alone, and what the model logs by itself. ``"all"`` for all that there can be.
        samples: Importance samples for each example, for log p(x); 0 for none. Above 0 the model needs a likelihood.
        examples: Only the first so many test examples are taken for ``samples``; all if not given.
        scores: Disentanglement scores: ``"all"``, ``"none"``, or names or groups of :func:`zoo.metrics.score_codes`,
            ``beta_vae_score`` and ``factor_vae_score``, in a list or with commas between them. If not given, all that are
            possible for the model and the data, but for the downstream accuracies.
        points: Points for the scores, and half as many test points.
        num_train: Votes for the beta-VAE and FactorVAE scores, and half as many fresh ones; the study takes 10000.
        repeats: Draws of points and votes, and of samples for their scores.
        representation: Codes to score: ``encode(x)``, draws from q(z|x), or both.
        sample_scores: Scores of samples: ``"all"``, or names or groups of
            :func:`~zoo.evaluation.sample_report.sample_report`, in a list or with commas between them; none if not given.
        features: The features in which samples are scored, as in :func:`~zoo.evaluation.features.features_for`.
        sample_count: Test examples, and samples, that are compared.
        seed: The seed of what is drawn.
        precision: That in which networks compute log p(x), as in :func:`~zoo.evaluation.likelihood.evaluate_likelihood`.
        accelerator: Lightning's name of where to compute: ``cpu``, ``gpu``, ``mps``, or ``auto``.
        devices: How many of them, -1 for all, or their numbers; each has a process, and all give what one would.
        progress: Whether to show progress bars.

    Returns:
        The metrics, as numbers, a table, JSON and pictures.

    Raises:
        ZooError: for data of another shape or other levels than the model's, a number out of range, and what the model or
            the data can't give: a likelihood, codes, factors, rendered factors.

    Example:
        >>> from datamodules import Digits
        >>> from zoo.models import VAE
        >>> data = Digits()
        >>> evaluation = evaluate(VAE(data.spec, hidden=16), data, accelerator="cpu", progress=False)
        >>> print(evaluation)
        VAE on digits, test split, 250 examples
          test/loss ...
        >>> evaluation.metrics["test/bits_per_dim"] > 1
        True
    """
    require_at_least(0, samples=samples)
    require_at_least(1, examples=examples, repeats=repeats)
    require_at_least(2, points=points, num_train=num_train, sample_count=sample_count)
    _require_same_data(model, data)
    if metrics is not None:
        if scores is not None or sample_scores is not None:
            raise ZooError("metrics beside scores or sample_scores: give either that one or these.")
        samples, scores, sample_scores = _named(metrics, samples, isinstance(model, HasLikelihood))
    if samples and not isinstance(model, HasLikelihood):
        raise ZooError(f"--samples {samples}: {type(model).__name__} has no likelihood; leave --samples out.")
    if of_samples := requested_sample_scores(sample_scores):
        require_features(data, features)
    requested = requested_scores(model, data, scores, representation)
    device, begun = model.device, time.perf_counter()
    # The first process computes some scores alone, and the others wait.
    several = (len(devices) if isinstance(devices, list) else torch.cuda.device_count() if devices == -1 else devices) > 1
    absent = _absent(data) if of_samples and not several else None
    if absent is not None and (samples or scores not in (None, "none")):
        raise absent
    strategy = DDPStrategy(timeout=timedelta(days=1)) if several else "auto"
    trainer = Trainer(
        accelerator=accelerator,
        devices=devices,
        strategy=strategy,
        callbacks=[_Seed(seed), *([_TestBar()] if progress else [])],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=progress,
    )
    try:
        found: dict[str, float] = {}
        likelihood = None
        if absent is None:
            with inference(model, seed):
                (logged,) = trainer.test(model, data, verbose=False)
            found |= logged
        model.to(trainer.strategy.root_device)
        if samples:
            likelihood = likelihood_of_examples(
                model, data, samples=samples, examples=examples, seed=seed, precision=precision, progress=progress
            )
            found |= likelihood.metrics
        sizes = Sizes(points, points // 2, num_train, num_train // 2)
        how: dict[str, Any] = {"sizes": sizes, "repeats": repeats, "seed": seed, "progress": progress}
        reports = from_first(
            lambda: [
                disentanglement_report(model, data, names, representation=kind, **how)
                for kind, names in requested.items()
                if absent is None
            ]
        )
        sampled = None
        if of_samples:
            # All processes ask for the features: the classifier behind them comes from the first one.
            drawn: dict[str, Any] = {"features": features_for(data, features, seed=seed, progress=progress)}
            drawn["n"] = sample_count
            drawn |= {name: how[name] for name in ("repeats", "seed", "progress")}
            sampled = from_first(lambda: sample_report(model, data, of_samples, **drawn))
        speed = _samples_per_second(model, seed)
        on = torch.cuda.get_device_name(model.device) if model.device.type == "cuda" else model.device.type
    finally:
        model.to(device)
    count = len(data.splits["test"]) if absent is None and hasattr(data, "splits") else None
    found |= {name: value for report in reports for name, value in report.metrics.items()}
    found |= sampled.metrics if sampled is not None else {}
    return Evaluation(
        model=type(model).__name__,
        data=spec_of(data).name,
        examples=count,
        seed=seed,
        metrics=found,
        disentanglement=reports,
        levels=model.spec.levels,
        protocol=_protocol(found, count, likelihood, reports, sampled, getattr(model, "likelihood_kind", None)),
        likelihood=likelihood,
        missing={name: why for name, why in _missing(model, likelihood, requested, absent).items() if name not in found},
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        samples_per_second=speed,
        seconds=time.perf_counter() - begun,
        environment={
            "command": environment.command(),
            "machine": environment.machine(on),
            "versions": environment.versions(),
            "commit": environment.commit(),
        },
        samples=sampled,
    )


def _named(
    metrics: str | Sequence[str], samples: int, likelihood: bool
) -> tuple[int, str | list[str] | None, str | list[str] | None]:
    """What names of metrics stand for: importance samples, scores of codes, and scores of samples."""
    of_codes, of_samples = {*GROUPS, *ALL_SCORES}, {*SAMPLE_GROUPS, *SAMPLE_SCORES}
    known = ["all", "none", "nll", *GROUPS, *ALL_SCORES, *SAMPLE_GROUPS, *SAMPLE_SCORES]
    words = [word for word in (metrics.split(",") if isinstance(metrics, str) else metrics) if word]
    for word in words:
        if word not in known:
            near = suggestion(word, known)
            raise ZooError(f"metric {word!r}: nll, all, or a score or group of codes or of samples is accepted.{near}")
    if "nll" in words or ("all" in words and likelihood):
        samples = max(samples, 1)
    if "all" in words:
        return samples, None, "all"
    return samples, [word for word in words if word in of_codes], [word for word in words if word in of_samples]


def _protocol(
    metrics: dict[str, float],
    examples: int | None,
    likelihood: Likelihood | None,
    reports: Sequence[DisentanglementReport],
    samples: SampleReport | None,
    kind: str | None,
) -> dict[str, dict[str, Any]]:
    """How each metric was measured. What a model logs by itself is of the whole split, with one draw of its noise.

    Of its likelihood it is also told whether that is exact, and then has no draws.
    """
    known: dict[str, dict[str, Any]] = {name: {"n": examples, "draws": 1} for name in metrics}
    if kind is not None:
        how = {"kind": kind, "n": examples} | ({} if kind == "exact" else {"draws": 1})
        known |= dict.fromkeys(("test/nll", "test/elbo", "test/bits_per_dim"), how)
    if likelihood is not None:
        known |= dict.fromkeys(likelihood.metrics, likelihood.protocol)
    for report in reports:
        told = report.to_dict()
        how = {key: told[key] for key in ("representation", "points", "sizes", "repeats")}
        known |= dict.fromkeys(report.metrics, how)
    if samples is not None:
        known |= dict.fromkeys(samples.metrics, samples.protocol)
    return {name: known[name] for name in metrics if not name.endswith((STANDARD_ERROR, *_COUNTS))}


def _missing(
    model: GenerativeModule,
    likelihood: Likelihood | None,
    requested: Mapping[Any, Sequence[str]],
    absent: ZooError | None,
) -> dict[str, str]:
    """Why there is no likelihood, nor anything else that needs test examples where they can't be had."""
    if likelihood is not None:
        return {}
    name, missing = type(model).__name__, {}
    reason = "not asked for: --samples K" if isinstance(model, HasLikelihood) else f"{name} has no likelihood"
    if absent is not None:
        gone = f"the data can't be read: {absent}"
        leaves = ("loss", *model.progress_bar_metrics, *itertools.chain(*requested.values()))
        missing = {f"test/{leaf}": gone for leaf in leaves}
        reason = gone if isinstance(model, HasLikelihood) else reason
    return missing | dict.fromkeys(("test/nll", "test/nll_bits_per_dim"), reason)


def _absent(data: LightningDataModule) -> ZooError | None:
    """Why the data can't be read, as where their files are gone; None where they can."""
    if not hasattr(data, "splits"):
        return None
    try:
        data.setup("test")
    except ZooError:
        try:
            data.prepare_data()
            data.setup("test")
        except ZooError as error:
            return error
    return None


def _samples_per_second(model: GenerativeModule, seed: int) -> float:
    """How many samples a second the model draws where it is, in one batch."""
    with inference(model, seed):
        begun = time.perf_counter()
        model.sample(_SAMPLED).cpu()  # waits for the device
    return _SAMPLED / max(time.perf_counter() - begun, 1e-9)


class _Seed(Callback):
    """Seeds the draws of a test: Lightning starts several processes with a seed of its own."""

    def __init__(self, seed: int):
        self.seed = seed

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        torch.manual_seed(self.seed)


class _TestBar(ProgressBar):
    """The batches that are tested, as the zoo shows them."""

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._bar: Any = None

    def disable(self) -> None:
        """Show nothing: Lightning calls this on all processes but the first."""
        self._enabled = False

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start it."""
        super().on_test_start(trainer, pl_module)
        counts = trainer.num_test_batches
        total = int(sum(counts)) if all(isinstance(count, int) for count in counts) else None
        self._bar = progress_bar(what="testing", total=total, hidden=not self._enabled)

    def on_test_batch_end(self, *args: Any) -> None:
        """Move it."""
        self._bar.update()

    def on_test_end(self, *args: Any) -> None:
        """Leave it."""
        self._bar.close()

    def on_exception(self, *args: Any) -> None:
        """The same."""
        if self._bar is not None:
            self._bar.close()


def _require_same_data(model: GenerativeModule, data: LightningDataModule) -> None:
    """ZooError unless data have the shape and levels that the model was made for."""
    trained, given = model.spec, spec_of(data)
    if (trained.shape, trained.levels) != (given.shape, given.levels):
        raise ZooError(
            f"{type(model).__name__} was trained on {trained.name} (shape {trained.shape}, levels {trained.levels}); "
            f"{given.name} has shape {given.shape}, levels {given.levels}: give data like those, or leave --data out."
        )
