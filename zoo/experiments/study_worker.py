"""What a worker of a study does: the commands of a run, each in a process that is forked from it when torch is imported.

The worker imports once and computes nothing itself, so each command begins at once, and nothing of it, a crash, seeds,
threads, filters of warnings, the memory of a GPU, is left to the next one.
"""

import contextlib
import ctypes
import fcntl
import importlib
import json
import os
import runpy
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from zoo.errors import ZooError
from zoo.experiments.study_runs import StudyRun, place_of, remove, stacked_arguments

__all__ = ["Job", "Outcome", "call", "die_with", "forked", "in_charge", "note", "warm", "work"]

_HEAVY = (
    "zoo.cli.fit",
    "zoo.cli.evaluate",
    "zoo.models",
    "callbacks",
    "datamodules",
    "sklearn.ensemble",
    "matplotlib.figure",
)
_GRACE = 60.0  # seconds in which a command that is to stop writes its checkpoint
_POLL = 0.05  # seconds between two looks at a command


@dataclass(frozen=True)
class Job:
    """A run to be done, and by whose order.

    Attributes:
        run: The run.
        study: The study's folder.
        token: What the lock file of the study holds while it is in charge.
        deadline: The time, in seconds since 1970, after which nothing is computed any more.
        devices: What ``CUDA_VISIBLE_DEVICES`` is for each worker of a node, in turn; None for a worker on the CPU.
        anew: Whether what is there of it is of no use.
        warm: Whether commands are forked from a process that has imported torch, or import anew.
        mates: Runs that are trained with it as one model; if there are any, none of them is evaluated.
    """

    run: StudyRun
    study: str
    token: str
    deadline: float | None = None
    devices: tuple[str | None, ...] = ()
    anew: bool = False
    warm: bool = True
    mates: tuple[StudyRun, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        state: ``done``; ``stopped``, to be gone on with; ``failed``; ``diverged``; ``mistaken``, which fails whenever it is
            tried.
        error: A line that says why.
        seconds: How long its commands took, by their names.
    """

    state: Literal["done", "stopped", "failed", "diverged", "mistaken"]
    error: str | None = None
    seconds: dict[str, float] = field(default_factory=dict)


def work(job: Job) -> Outcome:
    """Trains and evaluates a run, what of it is not there yet.

    Arguments:
        job: The run.

    Returns:
        What became of it.
    """
    if not in_charge(job):
        _leave_if_abandoned(job)
        return Outcome("stopped")
    if job.warm:
        warm()
    note(job, "begin")
    outcome = Outcome("failed", "its worker was interrupted")
    try:
        with _alone(job):
            do = _train_stacked if job.mates else _run
            outcome = do(job) if in_charge(job) else Outcome("stopped")
    except ZooError as error:
        outcome = Outcome("mistaken", str(error))
    finally:
        note(job, outcome.state, seconds=outcome.seconds, error=outcome.error)
    if outcome.state == "stopped":
        _leave_if_abandoned(job)
    return outcome


def _leave_if_abandoned(job: Job) -> None:
    """End the workers of a study that was killed, which would wait for it for minutes: one that stops says so itself."""
    with contextlib.suppress(OSError):
        overdue = job.deadline is not None and time.time() > job.deadline
        if "PARSL_WORKER_RANK" in os.environ and not overdue and Path(job.study, "study.lock").read_text():
            os.kill(os.getppid(), signal.SIGTERM)


def warm() -> None:
    """Import what takes long."""
    for name in _HEAVY:
        importlib.import_module(name)


def _run(job: Job) -> Outcome:
    run, folder, seconds = job.run, job.run.folder, {}
    place = place_of(run, folder)
    useless = place in ("begun", "diverged") or (job.anew and place in ("interrupted", "failed"))
    if folder is not None and (useless or (place == "failed" and not (folder / "checkpoints" / "last.ckpt").exists())):
        remove(folder)
        folder, place = None, "new"
    device, resumed = _device(job), folder is not None
    if place not in ("trained", "done"):
        began = time.monotonic()
        status = _command(job, "zoo.fit", [*run.fit_arguments(folder), "--gpus", str(int(device is not None))], device)
        seconds["fit"] = round(time.monotonic() - began, 2)
        folder = run.folder
        place = place_of(run, folder) if folder is not None else "new"
        if place not in ("trained", "done"):
            return _failure(job, 1 if resumed and status == 2 else status, place, seconds)
    if place == "trained" and run.evaluate is not None and folder is not None:
        began = time.monotonic()
        words = ["--ckpt", str(run.tested(folder)), *run.evaluate, "--gpus", str(int(device is not None))]
        status = _command(job, "zoo.evaluate", words, device)
        seconds["evaluate"] = round(time.monotonic() - began, 2)
        if place_of(run, folder) != "done":
            return _failure(job, status, place, seconds)
    return Outcome("done", None, seconds)


def _train_stacked(job: Job) -> Outcome:
    """Train a run and its mates, none of which has a folder, as one model; each is evaluated by a job of its own."""
    began, device = time.monotonic(), _device(job)
    words = [*stacked_arguments([job.run, *job.mates]), "--gpus", str(int(device is not None))]
    status = _command(job, "zoo.fit", words, device)
    seconds = {"fit": round(time.monotonic() - began, 2)}
    return Outcome("done", None, seconds) if status == 0 else _failure(job, status, "trained", seconds)


def _failure(job: Job, status: int, place: str, seconds: dict[str, float]) -> Outcome:
    """What became of a run whose command did not do what it was to do."""
    if not in_charge(job):
        return Outcome("stopped", None, seconds)
    error = _last_error(_log(job)) or (f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}")
    if place == "diverged":
        return Outcome("diverged", error, seconds)
    return Outcome("mistaken" if status == 2 else "failed", error, seconds)


def _device(job: Job) -> str | None:
    """The GPU of this worker; None for the CPU."""
    if not job.devices:
        return None
    return job.devices[int(os.environ.get("PARSL_WORKER_RANK", 0)) % len(job.devices)]


def _log(job: Job) -> Path:
    return Path(job.study, "logs", f"{job.run.name}.log")


def _last_error(log: Path) -> str | None:
    """The last line of an error in a log."""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - 20_000))
        lines = file.read().decode(errors="replace").splitlines()
    begin = max((i for i, line in enumerate(lines) if line.startswith("$ ")), default=0)
    found = [line.removeprefix("error: ") for line in lines[begin:] if line.startswith("error: ")]
    return found[-1][:300] if found else next((line[:300] for line in reversed(lines[begin + 1 :]) if "Error" in line), None)


@contextlib.contextmanager
def _alone(job: Job) -> Any:
    """Holds the lock of a run, which its commands hold too: one that a lost worker left behind is waited for."""
    path = _log(job)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path.with_suffix(".lock"), "w") as file:
        until = time.monotonic() + _GRACE + 10
        while not _locked(file):
            if time.monotonic() > until:
                raise ZooError(f"{job.run.name}: a process of an earlier study still computes it.")
            time.sleep(0.2)
        yield
    # the file stays: to remove it would let two processes hold two locks of one name


def _locked(file: IO, shared: bool = False) -> bool:
    """Whether a lock was had; on a file system without locks it always is."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def in_charge(job: Job) -> bool:
    """Whether a study is still there, wants its runs, and has time left."""
    if job.deadline is not None and time.time() > job.deadline:
        return False
    try:
        with open(Path(job.study, "study.lock")) as file:
            if file.read() != job.token:
                return False
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:  # held, or a file system without locks
                return True
            return False
    except OSError:
        return False


def note(job: Job, what: str, **more: Any) -> None:
    """Append a line to what is known of runs while they are under way."""
    line = json.dumps({"run": job.run.name, "what": what, "time": round(time.time(), 2), "process": os.getpid(), **more})
    with contextlib.suppress(OSError), open(Path(job.study, "events.jsonl"), "a") as file:
        file.write(line + "\n")


def _command(job: Job, module: str, words: Sequence[str], device: str | None) -> int:
    """``python -m module words`` in a forked process, with its output in the run's log.

    Returns:
        its exit status; the negative number of the signal that ended it.
    """
    with open(_log(job), "a") as log:
        log.write(f"$ python -m {module} {' '.join(words)}\n")
    return call(module, words, _log(job), device, lambda: not in_charge(job), job.warm)


def call(
    module: str, words: Sequence[str], log: Path, device: str | None, unwanted: Callable[[], bool], warm: bool = True
) -> int:
    """``python -m module words`` in a process that is forked from this one, which has imported all that takes long.

    Arguments:
        module: The module.
        words: The arguments.
        log: Where its output goes, at the end of what is there.
        device: The GPU, as ``CUDA_VISIBLE_DEVICES`` names it; None for none.
        unwanted: Asked every second: whether the process is to stop. It is then sent SIGTERM, and after a minute SIGKILL.
        warm: False for a Python that imports anew.

    Returns:
        Its exit status; the negative number of the signal that ended it.
    """
    parent = os.getpid()
    child = forked(lambda: _become(module, words, log, device, parent, warm))
    asked: float | None = None
    looked = time.monotonic()
    try:
        while True:
            found, status = os.waitpid(child, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            now = time.monotonic()
            if asked is None and now - looked >= 1.0:
                looked = now
                if unwanted():
                    asked = now
                    os.kill(child, signal.SIGTERM)
            elif asked is not None and now - asked > _GRACE:
                os.kill(child, signal.SIGKILL)
            time.sleep(_POLL)
    except BaseException:
        with contextlib.suppress(OSError):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        raise


def forked(function: Callable[[], int]) -> int:
    """The number of a new process, a copy of this one, that calls a function and ends with the status that it returns."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        status = function()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)  # what the worker registered for its own end is not this process's


def _become(module: str, words: Sequence[str], log: Path, device: str | None, parent: int, warm: bool) -> int:
    """Be the process of a command, until its exit status."""
    os.setsid()  # Ctrl-C is for the study, which then tells its runs to stop
    die_with(parent)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.environ["CUDA_VISIBLE_DEVICES"] = device if device is not None else ""
    if not warm:
        os.execv(sys.executable, [sys.executable, "-m", module, *words])
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = sys.__stdout__ = os.fdopen(1, "w", buffering=1, closefd=False)  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = os.fdopen(2, "w", buffering=1, closefd=False)  # type: ignore[misc]
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as leave:
        return leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    return 0


def die_with(parent: int) -> None:
    """Be killed when the parent is, where the system can do that: a run that is begun again has one process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)
