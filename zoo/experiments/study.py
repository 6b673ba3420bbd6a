"""A study: many trainings and their evaluations, of which only what is missing is computed, and their comparison."""

import contextlib
import csv
import fcntl
import json
import os
import signal
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO, Any

from zoo.errors import ZooError
from zoo.experiments.analysis import analyze
from zoo.experiments.comparison import Comparison, find
from zoo.experiments.study_check import Check, Estimate
from zoo.experiments.study_file import Setting, StudyFile
from zoo.experiments.study_pool import Pool, devices, require_provider, workers
from zoo.experiments.study_runs import Place, StudyRun, folders, place_of
from zoo.experiments.study_worker import Job, Outcome
from zoo.files import write_atomically
from zoo.progress import progress_bar, say
from zoo.runs.stored import StoredRun, read_run

__all__ = ["Plan", "StudyReport", "compared", "places", "plan_study", "run_study"]

Numbers = Callable[[Sequence[StoredRun]], Mapping[str, Mapping[str, float]]]
_LOST = 3  # times that a worker may be lost under a run


@dataclass
class StudyReport:
    """How far a study has come.

    Attributes:
        out: Its folder.
        total: How many runs it has.
        done: How many of them are done.
        failed: What was tried and did not succeed: the runs' names, with a line that says why.
        stopped: Why it stopped before its end: ``time``, or the name of a signal; None if it did not.
    """

    out: Path
    total: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None

    def __str__(self) -> str:
        lines = [f"{self.out}: {self.done} of {self.total} runs done"]
        lines[0] += f", {len(self.failed)} failed" if self.failed else ""
        lines += [f"  {name}: {why}" for name, why in sorted(self.failed.items())[:20]]
        if len(self.failed) > 20:
            lines.append(f"  and {len(self.failed) - 20} more: {self.out}/runs.csv")
        if self.done < self.total:
            lines.append("The same command goes on with what is missing.")
        return "\n".join(lines)


@dataclass(frozen=True)
class Plan:
    """What a study has to do.

    Attributes:
        setting: A setting of it.
        counts: How many of its runs are how far.
        estimate: What one of its trainings takes; None where none is missing.
        command: The command of its first run that is missing, or of its first run.
    """

    setting: Setting
    counts: dict[Place, int]
    estimate: Estimate | None
    command: list[str]


def places(study: StudyFile) -> dict[str, Place]:
    """How far each run is, by what is in its folder alone.

    Raises:
        ZooError: where a folder is of a run with other settings.
    """
    there = folders(study.out / "runs")
    return {run.name: place_of(run, there.get(run.name)) for run in study.runs}


def plan_study(study: StudyFile) -> tuple[list[Plan], int]:
    """What is missing, with what a training of each setting takes, and how many are computed at a time; nothing is written.

    Raises:
        ZooError: as :func:`run_study`.
    """
    require_provider(study.execution.provider)
    at, plans = places(study), []
    with Check(study.execution.threads) as check:
        pinned = devices(study.execution, check.gpus)
        for setting in progress_bar(study.settings, "timing", unit="settings", interval=10.0):
            runs = [setting.run(seed, study.out / "runs") for seed in setting.seeds]
            missing = [run for run in runs if at[run.name] not in ("trained", "done")]
            estimate = None
            if missing:
                _require_options(study, setting, missing[0], check)
                estimate = check.estimate(missing[0].fit, pinned[0] if pinned else None)
            plans.append(Plan(setting, dict(Counter(at[run.name] for run in runs)), estimate, (missing or runs)[0].fit))
    return plans, workers(study.execution, pinned)


def run_study(study: StudyFile, numbers: Numbers | None = None) -> StudyReport:
    """Trains and evaluates what is missing of a study, and compares what is there.

    A run is missing or not by its folder alone: ``run.json`` says whether it was trained, ``evaluation.json`` whether it was
    evaluated. One that was interrupted goes on from its ``last.ckpt``; one that failed or diverged is tried again and then
    reported, while the others go on. The study's folder gets ``runs``, ``logs``, ``runs.csv`` (all settings and scores of
    each run), ``comparison`` and, where the file asks for it, ``analysis``. Ctrl-C and SIGTERM stop runs, which write their
    checkpoints; the same call goes on.

    Arguments:
        study: What :func:`zoo.experiments.study_file.read_study` has read.
        numbers: What gives further numbers of runs for the analysis, by the runs' names, once all are done, such as UDR,
            which is of several models.

    Returns:
        How far it came.

    Raises:
        ZooError: for options that are none, a folder with runs of other settings or in which a study is at work already,
            and where Parsl or its provider is not there.
    """
    require_provider(study.execution.provider)
    began = time.time()
    with _in_charge(study.out) as lock:
        at = places(study)
        report = StudyReport(study.out, len(at), sum(place == "done" for place in at.values()))
        missing = [run for run in study.runs if at[run.name] != "done"]
        if missing:
            with Check(study.execution.threads) as check:
                pinned = devices(study.execution, check.gpus)
                for setting in study.settings:
                    runs = [setting.run(seed, study.out / "runs") for seed in setting.seeds]
                    if all(at[run.name] == "new" for run in runs):
                        _require_options(study, setting, runs[0], check)
            _Work(study, lock, pinned, report, began).do(missing)
        _write_table(study)
        if report.done and report.stopped is None:
            compared(study).save(study.out / "comparison")
            if study.analysis:
                _analyze(study, numbers)
        return report


def _analyze(study: StudyFile, numbers: Numbers | None) -> None:
    """The tables and figures of a study of disentanglement, of what is there of it."""
    try:
        runs = find([study.out / "runs"])
        analyze(runs, numbers=numbers(runs) if numbers is not None else None).write(study.out / "analysis")
    except ZooError as error:
        say(f"no analysis: {error}")


def compared(study: StudyFile) -> Comparison:
    """The runs of a study that are there side by side, a row for each setting, by its name."""
    settings = {run.name: run.setting for run in study.runs}
    runs = [run for run in find([study.out / "runs"]) if run.folder is not None and run.folder.name in settings]
    for run in runs:
        run.config["setting"] = settings[run.folder.name]  # type: ignore[union-attr]
    return Comparison(runs, **{"by": ["setting"], **study.compare})


def _require_options(study: StudyFile, setting: Setting, run: StudyRun, check: Check) -> None:
    """ZooError for options of a setting that ``zoo.fit`` refuses."""
    if (error := check.error(run.fit)) is not None:
        raise ZooError(f"{study.path}: {setting.name}: {error}")


class _Lock:
    """What says that a study is in charge of its folder: a locked file with a word that only it knows."""

    def __init__(self, file: IO[str]):
        self.token = f"process {os.getpid()} of {socket.gethostname()} ({uuid.uuid4().hex})"
        self._file = file
        self._write(self.token)

    def give_up(self) -> None:
        """Let runs stop."""
        self._write("")

    def _write(self, text: str) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(text)
        self._file.flush()


@contextlib.contextmanager
def _in_charge(out: Path) -> Iterator[_Lock]:
    """The study's folder, with nobody else in it."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = open(out / "study.lock", "a+")  # noqa: SIM115
    except OSError as error:
        raise ZooError(f"{out} can't be written: {error.strerror}.\nName another folder with --out.") from error
    with file:
        for left in range(20, -1, -1):  # workers hold it for a moment when they look whether anyone does
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    file.seek(0)
                    who = file.read().partition(" (")[0] or "another process"
                    raise ZooError(
                        f"{out}: a study is at work there, {who}.\nWait for its end, or name another folder with --out."
                    ) from None
                time.sleep(0.05)
            except OSError:  # a file system without locks
                break
        lock = _Lock(file)
        try:
            yield lock
        finally:
            lock.give_up()


class _Work:
    """Runs on workers, until all are done or the study is to stop."""

    def __init__(self, study: StudyFile, lock: _Lock, pinned: tuple[str | None, ...], report: StudyReport, began: float):
        self.study, self.lock, self.pinned, self.report = study, lock, pinned, report
        minutes = study.execution.minutes
        self.deadline = None if minutes is None else began + 60 * minutes
        self.tries: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()
        self.events = _Events(study.out / "events.jsonl")
        self.futures: dict[Future[Outcome], StudyRun] = {}
        self.mates: dict[str, list[StudyRun]] = {}  # runs that are being trained with a run as one model

    def do(self, runs: Sequence[StudyRun]) -> None:
        count = workers(self.study.execution, self.pinned)
        where = f"{count} workers" + (f", GPUs {', '.join(sorted({p for p in self.pinned if p}))}" if self.pinned else "")
        say(f"{self.report.out}: {self.report.done} of {self.report.total} runs done, {len(runs)} to do, on {where}")
        bar: Any = progress_bar(None, self.report.out.name, total=self.report.total, unit="runs", done=self.report.done)
        with bar, self._listening(), Pool(self.study.out / "parsl", self.study.execution, count) as pool:
            for run in self._with_mates(runs):
                self._submit(pool, run)
            while self.futures:
                finished, _ = wait(self.futures, timeout=0.5, return_when=FIRST_COMPLETED)
                pool.require_alive()
                for future in finished:
                    run = self.futures.pop(future)
                    self._take(pool, run, self._outcome(run, future))
                if self.report.stopped is None and self.deadline is not None and time.time() > self.deadline:
                    self.report.stopped = "time"
                    say("The time is over: runs write their checkpoints.")
                running = self.events.running()
                left = self.report.total - self.report.done - len(self.report.failed)
                bar.set_postfix({"running": running, "failed": len(self.report.failed), "left": left}, refresh=True)
                bar.update(self.report.done - bar.n)

    def _with_mates(self, runs: Sequence[StudyRun]) -> Iterator[StudyRun]:
        """The runs; of those of a setting that are trained as one model only the first, whose mates wait for it."""
        together: dict[str, list[StudyRun]] = {}
        if self.study.execution.stack:
            for run in runs:
                if run.folder is None:
                    together.setdefault(run.setting, []).append(run)
        self.mates = {first.name: mates for first, *mates in together.values() if mates}
        waiting = {mate.name for mates in self.mates.values() for mate in mates}
        yield from (run for run in runs if run.name not in waiting)

    def _submit(self, pool: Pool, run: StudyRun, anew: bool = False) -> None:
        out, mates = str(self.study.out.resolve()), tuple(self.mates.get(run.name, ()))
        job = Job(run, out, self.lock.token, self.deadline, self.pinned, anew, self.study.execution.warm, mates)
        self.futures[pool.submit(job)] = run

    def _part(self, pool: Pool, run: StudyRun, outcome: Outcome | None) -> None:
        """After a training as one model each run is a job of its own: to be evaluated, or trained where it was not."""
        if outcome is not None and outcome.state not in ("done", "stopped"):
            say(f"{run.setting}, its seeds as one model: {outcome.error}; each goes on by itself")
        for each in (run, *self.mates.pop(run.name)):
            self._submit(pool, each)

    def _outcome(self, run: StudyRun, future: "Future[Outcome]") -> Outcome | None:
        """What a worker says; None where it was lost, and the run is to be given to another one."""
        try:
            return future.result()
        except Exception as error:
            kind = type(error).__name__
            if kind == "BadStateException":  # of Parsl, when no workers can be had
                why = " ".join(str(error).split())[:300]
                raise ZooError(
                    f"no worker could be started: {why}\nWhat Parsl says of it is in {self.study.out}/parsl."
                ) from error
            self.lost[run.name] += 1
            if kind in ("WorkerLost", "ManagerLost") and self.lost[run.name] < _LOST:
                return None
            return Outcome("failed", f"{kind}: {' '.join(str(error).split())[:200]}")

    def _take(self, pool: Pool, run: StudyRun, outcome: Outcome | None) -> None:
        self.events.end(run.name)
        if run.name in self.mates:
            self._part(pool, run, outcome)
        elif outcome is None:
            if self.report.stopped is None:
                say(f"{run.name}: its worker was lost; it goes on with another one")
                self._submit(pool, run)
        elif outcome.state == "done":
            self.report.done += 1
        elif outcome.state != "stopped":
            self.tries[run.name] += 1
            again = outcome.state != "mistaken" and self.tries[run.name] <= self.study.execution.retries
            say(f"{run.name} {outcome.state}{'; it is tried again' if again else ''}: {outcome.error}")
            if again and self.report.stopped is None:
                self._submit(pool, run, anew=True)
            else:
                self.report.failed[run.name] = f"{outcome.state}: {outcome.error} (logs/{run.name}.log)"

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """The first Ctrl-C or SIGTERM stops runs, which write their checkpoints; the second one stops at once."""

        def receive(number: int, frame: FrameType | None) -> None:
            if self.report.stopped not in (None, "time"):
                raise KeyboardInterrupt
            self.report.stopped = signal.Signals(number).name
            self.lock.give_up()
            say(f"{self.report.stopped}: runs write their checkpoints and stop; once more to stop at once")

        before: dict[signal.Signals, Any] = {}
        with contextlib.suppress(ValueError):  # not in the main thread, where Python lets nobody listen
            for each in (signal.SIGINT, signal.SIGTERM):
                before[each] = signal.signal(each, receive)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)


class _Events:
    """Which runs are computed, by the lines that workers append to a file."""

    def __init__(self, path: Path):
        self.path = path
        self._at = path.stat().st_size if path.exists() else 0
        self._running: set[str] = set()

    def running(self) -> int:
        """How many."""
        with contextlib.suppress(OSError, ValueError, KeyError), open(self.path) as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith("\n"):
                    break
                self._at += len(line.encode())
                event = json.loads(line)
                (self._running.add if event["what"] == "begin" else self._running.discard)(event["run"])
        return len(self._running)

    def end(self, run: str) -> None:
        """That one is computed no more."""
        self.running()
        self._running.discard(run)


def _write_table(study: StudyFile) -> None:
    """``runs.csv``: a row for each run, with its setting, how it ended, what it took, and all that was measured."""
    there, rows = folders(study.out / "runs"), []
    keys = list(dict.fromkeys(key for setting in study.settings for key in setting.values))
    for setting in study.settings:
        for seed in setting.seeds:
            run = setting.run(seed, study.out / "runs")
            row: dict[str, Any] = {"setting": setting.name, "block": setting.block, "seed": seed}
            row |= {key: _plain(setting.values.get(key, "")) for key in keys}
            rows.append(row | _measured(run, there.get(run.name)))
    names = list(dict.fromkeys(name for row in rows for name in row))
    with write_atomically(study.out / "runs.csv", text=True) as file:
        writer = csv.DictWriter(file, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _measured(run: StudyRun, folder: Path | None) -> dict[str, Any]:
    if folder is None:
        return {"state": "missing"}
    stored = read_run(folder)
    found: dict[str, Any] = {"state": stored.state, "error": stored.error or ""}
    for name in ("batches", "examples", "seconds", "parameters", "machine", "commit", "command"):
        found[name] = stored.facts.get(name, "")
    for evaluation in stored.evaluations[:1]:
        found["weights"], found["evaluation_seconds"] = evaluation.content.get("weights"), evaluation.content.get("seconds")
        found |= evaluation.metrics
    return found


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value
