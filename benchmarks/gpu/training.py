"""Part 4: long trainings in slices, each of which goes on where the last one stopped."""

import math
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything

from benchmarks.gpu import shards
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.jobs import Job, all_jobs
from callbacks import NonFiniteGuard
from datamodules.base import DataModule
from zoo import registry
from zoo.metrics.disentanglement import score_codes
from zoo.runs.checkpoints import require_same_model

__all__ = ["Slice", "run", "train"]

_LEAST = 45  # seconds of a slice, below which loading data and testing would take most of it
_TRAINING = 0.75  # its part that is training; testing takes the rest


def run(bench: Bench) -> None:
    """The jobs asked for, those with a checkpoint first, in as many equal slices as the time is enough for."""
    jobs = chosen(bench)
    slices = len(jobs) if bench.tiny else min(len(jobs), max(1, int(bench.clock.left() / _LEAST)))
    for number, job in enumerate(bench.each("training", jobs, lambda job: job.name)):
        if number >= slices:
            bench.undone.append(f"training: {', '.join(each.name for each in jobs[number:])}")
            return
        # A little is left of it all: an example's log p(x), or a score, that has begun is finished.
        seconds = (bench.clock.left() - (0 if bench.tiny else 5)) / (slices - number)
        what = {"job": job.name, "published": job.published, "of_batches": job.batches}
        work = partial(train, bench, job, seconds, 20 if bench.tiny else None)
        bench.attempt("training", work, seconds + 20, **what)


def chosen(bench: Bench) -> list[Job]:
    """The jobs asked for; those that go on first. ValueError for a name that is none."""
    jobs = {job.name: job for job in all_jobs(bench.data_root, bench.tiny, bench.seed)}
    if unknown := [name for name in bench.jobs if name not in jobs]:
        raise ValueError(f"no job {unknown[0]!r}: there are {', '.join(jobs)}")
    wanted = [jobs[name] for name in bench.jobs or jobs]
    return sorted(wanted, key=lambda job: not (bench.go_on and any(bench.out.glob(f"{job.name}.ckpt-*"))))


class Slice(Callback):
    """Stops training when a slice's time is over, or after so many batches, and saves a checkpoint then.

    Arguments:
        seconds: Of this slice.
        batches: Of this slice; as many as there is time for if None.
        path: Where the checkpoint goes.

    Attributes:
        total: Seconds of training of all slices; it is in the checkpoint.
        done: Batches of this slice.
    """

    def __init__(self, seconds: float, batches: int | None, path: Path):
        self.end, self.batches, self.path = time.monotonic() + seconds, batches, path
        self.total, self.done, self.start = 0.0, 0, 0.0

    @property
    def rate(self) -> float:
        """Batches of this slice per second, without its first ones."""
        return (self.done - 1) / max(time.monotonic() - self.first, 1e-9)

    def on_train_start(self, trainer, pl_module) -> None:
        """The time that training takes counts from here."""
        self.start = time.monotonic()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Stop in time."""
        self.done += 1
        if self.done == 1:
            self.first = time.monotonic()
        if time.monotonic() > self.end or self.done == self.batches:
            trainer.should_stop = True

    def on_train_end(self, trainer, pl_module) -> None:
        """Save, before an average of weights takes their place."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
        self.total += time.monotonic() - self.start
        self.speed = self.rate
        trainer.save_checkpoint(self.path)

    def state_dict(self) -> dict:
        """What the checkpoint keeps."""
        return {"total": self.total}

    def load_state_dict(self, state: dict) -> None:
        """Go on counting."""
        self.total = state["total"]


def train(bench: Bench, job: Job, seconds: float, batches: int | None = None) -> Iterator[dict]:
    """A slice of a job, from its checkpoint where it goes on; one row, of what the model has reached by then."""
    begun = time.monotonic()
    seed_everything(bench.seed, verbose=False)
    data = job.data()
    data.setup()
    model = registry.find_class(registry.MODELS[job.model].path)(data.spec, **job.options)
    with tempfile.TemporaryDirectory() as folder:
        earlier = shards.join(bench.out, job.name, Path(folder) / "earlier.ckpt") if bench.go_on else None
        if earlier:
            require_same_model(earlier, model)
        left = begun + _TRAINING * seconds - time.monotonic()
        part = Slice(left, batches, Path(folder) / "new.ckpt")
        trainer = _trainer(bench, job, part)
        trainer.fit(model, data, ckpt_path=earlier, weights_only=True)
        kept = shards.split(part.path, bench.out, job.name)
    row = {
        "configuration": f"{data.spec.name} batch={data.batch_size} {job.precision} "
        + " ".join(f"{key}={value}".replace(" ", "") for key, value in job.options.items()),
        "batches": trainer.global_step,
        "train_seconds": part.total,
        "images_per_second": part.speed * data.batch_size,
        "note": "" if kept else "checkpoint not kept: the folder is full",
    }
    yield row | _tested(trainer, model, data) | _evaluated(bench, job, model, data, begun + seconds)


def _trainer(bench: Bench, job: Job, part: Slice) -> Trainer:
    return Trainer(
        accelerator="gpu" if bench.device == "cuda" else "cpu",
        devices=1,
        max_steps=job.batches,
        max_epochs=-1,
        limit_val_batches=0,
        limit_test_batches=4 if bench.tiny else 100,
        precision=job.precision,
        gradient_clip_val=job.clip,
        callbacks=[NonFiniteGuard(), part, *job.callbacks()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _tested(trainer: Trainer, model: LightningModule, data: DataModule) -> dict:
    """What the model's own test logs, of at most 100 batches."""
    (logged,) = trainer.test(model, data, verbose=False)
    names = ("elbo", "bits_per_dim", "reconstruction", "kl")
    return {name: logged[f"test/{name}"] for name in names if f"test/{name}" in logged}


@torch.no_grad()
def _evaluated(bench: Bench, job: Job, model: LightningModule, data: DataModule, end: float) -> dict:
    """What takes long: log p(x) of as many test examples as there is time for, or scores of 10,000 points."""
    model.to(bench.device).eval()
    return _likelihood(bench, job, model, data, end) if job.samples else _disentanglement(bench, model, data)


def _likelihood(bench: Bench, job: Job, model: LightningModule, data: DataModule, end: float) -> dict:
    log_p = []
    for x in (part for batch in data.test_dataloader() for part in batch.x.split(20)):
        log_p.append(model.log_likelihood(x.to(bench.device), job.samples).double().cpu())
        if time.monotonic() > end:
            break
    nll = -torch.cat(log_p)
    error = float(nll.std()) / math.sqrt(len(nll))
    counts = {"nll_samples": job.samples, "nll_examples": len(nll)}
    return {"nll": float(nll.mean()), "nll_standard_error": error, **counts}


def _disentanglement(bench: Bench, model: LightningModule, data: DataModule) -> dict:
    points = [100, 60] if bench.tiny else [10_000, 5_000]
    codes, factors = [], []
    for batch in data.test_dataloader():
        codes.append(model.encode(batch.x.to(bench.device)))
        factors.append(batch.factors.to(bench.device))
        if sum(map(len, codes)) >= sum(points):
            break
    (z, z_test), (f, f_test) = (torch.cat(each)[: sum(points)].split(points) for each in (codes, factors))
    return score_codes(z, f, z_test, f_test, ["mig", "sap", "dci_disentanglement"])
