"""Trains every registered model, kills the training, goes on, and compares with the training that was not killed.

``python tests/reliability/killing.py`` does it for all cases and writes ``results/reliability/kills.csv``.

A model takes part by being registered: sizes and warm-ups are set where its constructor has options of these names, and what
is averaged is its first part. A process of its own is killed at a point that it has reached: by SIGKILL before or after a
batch, or in a validation, where SIGTERM stops it too; and around each write of a file: when it was opened, in the midst of
it (the kernel kills the process that writes more than it may), before the whole file takes the place of the last one, and
after that.
"""

import csv
import inspect
import itertools
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from pytorch_lightning import Callback, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint

from callbacks import ExponentialMovingAverage
from datamodules import DataModule
from datamodules.loader import Arrays
from zoo import registry
from zoo.errors import ZooError
from zoo.lightning import quiet_lightning
from zoo.runs import training
from zoo.runs.checkpoints import newest_checkpoint
from zoo.runs.loggers import MetricsCSV
from zoo.schedules import KLSchedule
from zoo.spec import DataSpec

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = REPOSITORY / "results" / "reliability" / "kills.csv"

EXAMPLES, BATCH = 22, 4
EPOCH = 6  # batches: five of four examples and one of two

SIZES = {
    "latent_dim": 2,
    "hidden": 8,
    "width": 4,
    "filters": 4,
    "layers": 2,
    "channels": 4,
    "head": 4,
    "blocks": 1,
    "couplings": (1, 1, 0),
    "components": 2,
    "dequantizer_couplings": 1,
    "discriminator_width": 8,
    "critic_steps": 2,
    "lr": 1e-2,
}
WARM_UPS = {"warmup": 9, "capacity_steps": 9, "kl": KLSchedule(warmup=9)}

LIMITS = {"max_steps": {"max_steps": 15}, "max_epochs": {"max_epochs": 3}}
VALIDATIONS = {
    "epochs": {},
    "batches": {"check_val_every_n_epoch": None, "val_check_interval": 4},
}
KINDS = ("before a batch", "after a batch", "after an epoch's last batch", "in a validation")
STOPS = ("SIGTERM at a batch", "SIGTERM in a validation")  # after which a run saves by itself
FILES = ("last.ckpt", "best.ckpt", "metrics.csv", "config.yaml")
MOMENTS = ("before the write", "during the write", "before the renaming", "after the write")
ALL_KINDS = (*KINDS, *STOPS, *(f"{moment} of {name}" for name, moment in itertools.product(FILES, MOMENTS)))


class Few(DataModule):
    """Small pictures with noise that is drawn anew for every batch."""

    spec = DataSpec("few", (1, 8, 8), levels=17)

    def load(self) -> dict[str, Arrays]:
        def noisy(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
            return (x + torch.randint(0, 5, x.shape, generator=generator)).clamp_max(16).to(torch.uint8)

        draw = torch.Generator().manual_seed(0)
        sizes = {"train": EXAMPLES, "val": 9, "test": 9}
        return {
            name: Arrays(torch.randint(0, 17, (size, *self.spec.shape), generator=draw, dtype=torch.uint8), transform=noisy)
            for name, size in sizes.items()
        }


@dataclass(frozen=True)
class Case:
    """A training: of which model, how long, and with what.

    Attributes:
        model: A registered name.
        limit: What ends it.
        validation: Whether validations are at the ends of epochs, or at batches.
        averaged: Whether weights are averaged.
        warm_up: Whether schedules are warmed up.
        saves: Whether there are the checkpoints of every run, ``epochs``, or one at every third batch, ``batches``.
    """

    model: str
    limit: str
    validation: str
    averaged: bool
    warm_up: bool
    saves: str

    def build(self) -> Any:
        """The model, always the same."""
        cls = registry.find_class(registry.MODELS[self.model].path)
        named = {name for base in cls.__mro__ for name in inspect.signature(base.__init__).parameters}
        options = {name: value for name, value in SIZES.items() if name in named}
        warm_ups = {name: value for name, value in WARM_UPS.items() if name in named} if self.warm_up else {}
        seed_everything(0, verbose=False)
        while True:
            try:
                return cls(Few.spec, **options, **warm_ups)
            except ZooError:  # a model whose KL term has a schedule of its own
                if "kl" not in warm_ups:
                    raise
                del warm_ups["kl"]

    def callbacks(self, model: Any) -> list[Callback]:
        """The average, and the checkpoints."""
        averaged = next(name for name, part in model.named_children() if next(part.parameters(), None) is not None)
        given: list[Callback] = [ExponentialMovingAverage(averaged, 0.9)] if self.averaged else []
        if self.saves == "batches":
            given.append(ModelCheckpoint(filename="last", every_n_train_steps=3, enable_version_counter=False))
        return given

    def train(self, root: Path, resume: Path | None, *extra: Callback) -> None:
        """Train in a run folder under ``root``, or go on with a checkpoint of one."""
        quiet_lightning()
        torch.set_num_threads(1)
        model = self.build()
        seed_everything(1 if resume is None else 2, verbose=False)  # a process that goes on has other random numbers
        options = {**LIMITS[self.limit], **VALIDATIONS[self.validation]}
        training.fit(
            model,
            Few(BATCH, seed=3),
            root=root,
            resume=resume,
            wandb="off",
            callbacks=[*extra, *self.callbacks(model)],
            enable_progress_bar=False,
            log_every_n_steps=2,
            **options,
        )


@dataclass(frozen=True)
class Kill:
    """When a training is killed: at the ``number``-th point of a kind.

    Attributes:
        kind: One of KINDS, or a moment of the write of a file: ``during the write of last.ckpt``.
        number: Which one, from 1 on.
    """

    kind: str
    number: int


class Points(Callback):
    """Counts the points that a training reaches, and kills it at one of them."""

    def __init__(self, kill: Kill | None):
        self.kill, self.reached = kill, Counter()
        self.renamed: Path | None = None
        sys.addaudithook(self.audit)

    def reach(self, kind: str) -> bool:
        """Count, and die if it is the time; True in front of a write in whose midst the process is to die."""
        self.reached[kind] += 1
        if self.kill == Kill(kind, self.reached[kind]):
            if not kind.startswith("during "):
                os.kill(os.getpid(), signal.SIGTERM if kind in STOPS else signal.SIGKILL)
            return True
        return False

    def audit(self, event: str, arguments: tuple) -> None:
        """What the interpreter tells of files that are opened and renamed; files lie beside their places until then."""
        if event == "open" and isinstance(arguments[0], str | os.PathLike):
            path = Path(arguments[0])
            if self.renamed is not None and path == self.renamed.parent:  # to be flushed
                name, self.renamed = self.renamed.name, None
                self.reach(f"after the write of {name}")
            elif path.suffix == ".part" and str(arguments[1]).startswith("x"):
                name = path.name[1:].rpartition(".")[0].rpartition(".")[0]
                self.reach(f"before the write of {name}")
                if self.reach(f"during the write of {name}"):
                    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
                    size = 4000 if name.endswith(".ckpt") else 30
                    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
        elif event == "os.rename" and str(arguments[0]).endswith(".part"):
            self.renamed = Path(arguments[1])
            self.reach(f"before the renaming of {self.renamed.name}")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.reach("before a batch")
        self.reach("SIGTERM at a batch")

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.reach("after an epoch's last batch" if trainer.is_last_batch else "after a batch")

    def on_validation_batch_end(self, trainer, pl_module, *arguments) -> None:
        if not trainer.sanity_checking:
            self.reach("in a validation")
            self.reach("SIGTERM in a validation")


CONTEXT = multiprocessing.get_context("forkserver")


def start_server() -> None:
    """Start the process that others are forked from, once: it has imported this file and computed nothing."""
    CONTEXT.set_forkserver_preload(["reliability.killing"])
    # Python 3.11 does not tell it the places where this process finds what it imports.
    places = os.pathsep.join((str(REPOSITORY), str(REPOSITORY / "tests")))
    with patch.dict(os.environ, {"PYTHONPATH": places, "OMP_NUM_THREADS": "1"}):
        forkserver.ensure_running()


def _process(case: Case, root: Path, resume: Path | None, kill: Kill | None, said: Path, points: Any) -> None:
    with said.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    training.MetricsCSV = partial(MetricsCSV, interval=float("inf"))  # written at checkpoints, however long it all takes
    counter = Points(kill)
    case.train(root, resume, counter)
    if points is not None:
        points.send(counter.reached)


ENDS = (-signal.SIGKILL, -signal.SIGXFSZ, 128 + signal.SIGTERM)


def run(case: Case, root: Path, resume: Path | None = None, kill: Kill | None = None) -> tuple[int, Counter]:
    """Train in a process of its own; how it ended (0, or one of ENDS), and the points it reached."""
    start_server()
    said = root / "said.txt"
    receive, send = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(target=_process, args=(case, root, resume, kill, said, send))
    process.start()
    send.close()
    process.join(300)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{case}, {kill}: {said.read_text()[-2000:]}")
    if process.exitcode not in (0, *ENDS):
        raise RuntimeError(f"{case}, {kill}: {said.read_text()[-4000:]}")
    return process.exitcode, receive.recv() if process.exitcode == 0 else Counter()


def plain(value: Any, run: Path) -> Any:
    """The same with the run folder left out: a run that had to start again has another number."""
    if isinstance(value, dict):
        return {plain(key, run): plain(each, run) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each, run) for each in value]
    return value.replace(str(run), "RUN") if isinstance(value, str) else value


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two values differ, bit for bit."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() ^ other.keys():
            yield f"{place}[{key}] in one only"
        for key in one.keys() & other.keys():
            yield from differences(one[key], other[key], f"{place}[{key}]")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, (mine, theirs) in enumerate(zip(one, other, strict=True)):
            yield from differences(mine, theirs, f"{place}[{number}]")
    elif isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        if one.dtype != other.dtype or one.shape != other.shape or one.numpy().tobytes() != other.numpy().tobytes():
            yield f"{place}: tensors"
    elif one != other:
        yield f"{place}: {one!r} and {other!r}"


@dataclass
class Result:
    """What a training leaves: its checkpoints by their names, metrics.csv and config.yaml."""

    checkpoints: dict[str, Any]
    metrics: str
    config: str

    @classmethod
    def of(cls, folder: Path) -> "Result":
        """What there is in a run folder; everything that is there must be whole."""
        kept = sorted((folder / "checkpoints").glob("*.ckpt"))
        return cls(
            {path.name: plain(torch.load(path, weights_only=True), folder) for path in kept},
            (folder / "metrics.csv").read_text() if (folder / "metrics.csv").exists() else "",
            (folder / "config.yaml").read_text() if (folder / "config.yaml").exists() else "",
        )


class Reference:
    """The training that is not killed."""

    def __init__(self, case: Case, root: Path):
        self.case, self.root = case, root
        root.mkdir(parents=True)
        _, self.points = run(case, root)
        self.result = Result.of(next(root.glob("*/1")))
        assert "last.ckpt" in self.result.checkpoints


def check(reference: Reference, kill: Kill, root: Path) -> str:
    """Kill a training, go on as ``--resume`` does, and compare; where it went on from, or an AssertionError."""
    case = reference.case
    root.mkdir(parents=True)
    status, _ = run(case, root, kill=kill)
    assert status in ENDS, f"{case}, {kill}: it was not killed"
    left = Result.of(next(root.glob("*/1")))  # everything that is there is whole
    newest = newest_checkpoint(root)
    run(case, root, newest)
    found = Result.of(next(root.glob("*/1" if newest else "*/2")))
    wrong = list(differences(asdict(found), asdict(reference.result)))
    assert not wrong, f"{case}, {kill}: " + "; ".join(each[:300] for each in wrong[:9])
    return "the start" if newest is None else f"batch {left.checkpoints[newest.name]['global_step']}"


def cases(models: Iterable[str] = registry.MODELS) -> list[Case]:
    """Every combination, for each model."""
    some = itertools.product(models, LIMITS, VALIDATIONS, (False, True), (False, True))
    return [Case(*each, saves="batches" if number % 4 == 3 else "epochs") for number, each in enumerate(some)]


def chosen(case: Case, points: Counter, count: int) -> list[Kill]:
    """Some kills of a case: all kinds in turn over the cases of a model, at points drawn by lot, rather late than early."""
    turn, lot = cases([case.model]).index(case), random.Random(str(case))
    kinds = [ALL_KINDS[(turn * count + i) % len(ALL_KINDS)] for i in range(count)]
    there = [kind if points[kind] else kind.replace("best.ckpt", "last.ckpt") for kind in kinds]  # no metric to judge by
    kills = []
    for kind in there:
        # A run that is stopped in its last validation has a later checkpoint than one at every third batch.
        most = points[kind] - (kind in STOPS and case.saves == "batches")
        kills.append(Kill(kind, max(lot.randint(1, most), lot.randint(1, most))))
    return kills


def rows_of(case: Case, folder: Path, count: int) -> list[dict[str, Any]]:
    """The table's rows of a case: ``count`` kills, each checked."""
    reference = Reference(case, folder / "whole")
    rows = []
    for number, kill in enumerate(chosen(case, reference.points, count)):
        try:
            resumed, equal = check(reference, kill, folder / str(number)), True
        except AssertionError as error:
            print(error, flush=True)
            resumed, equal = "", False
        rows.append({**asdict(case), "killed": kill.kind, "number": kill.number, "resumed_from": resumed, "equal": equal})
    return rows


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The kills counted by kind, as the page has them: of how many models, and how many were equal."""
    rows = list(rows)
    lines = ["| killed | kills | models | from a checkpoint | equal, bit for bit |", "| --- | --- | --- | --- | --- |"]
    for kind in (*ALL_KINDS, "in all"):
        some = [row for row in rows if kind in (row["killed"], "in all")]
        models, equal = {row["model"] for row in some}, [row for row in some if str(row["equal"]) == "True"]
        resumed = [row for row in some if row["resumed_from"] != "the start"]
        lines.append(f"| {kind} | {len(some)} | {len(models)} | {len(resumed)} | {len(equal)} |")
    return "\n".join(lines)


def write(rows: list[dict[str, Any]], path: Path = TABLE) -> None:
    """Write the table."""
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(2) as pool:
        every = cases()
        made = pool.map(lambda number: rows_of(every[number], Path(place) / str(number), 2), range(len(every)))
        write([row for rows in made for row in rows])
