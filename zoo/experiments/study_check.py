"""The settings of a study before anything of it is trained: whether their options are ones, and what a batch takes."""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.experiments.study_worker import call, die_with, forked, warm

__all__ = ["Check", "Estimate", "serve"]

_LINE = re.compile(r"^([\d.]+) (ms|s|min|h) a batch, (?:about .* to batch ([\d,]+)|no end)", re.MULTILINE)
_UNITS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_LONGEST = 600.0  # seconds that the first batches of a setting may take


@dataclass(frozen=True)
class Estimate:
    """What a training takes, from a few of its batches.

    Attributes:
        batch: Seconds of a batch; None where training was over before that was known.
        batches: How many there are; None where nothing ends them.
        start: Seconds until batches are trained.
        whole: Seconds of a training that was over.
    """

    batch: float | None = None
    batches: int | None = None
    start: float = 0.0
    whole: float | None = None

    @property
    def seconds(self) -> float | None:
        """Of a training, without its validations; None where that is not known."""
        if self.batch is None or self.batches is None:
            return self.whole
        return self.start + self.batch * self.batches


class Check:
    """A process that has imported torch, and tells of commands what this one, which has not, would like to know.

    Arguments:
        threads: The threads of a run.

    Attributes:
        gpus: How many GPUs this machine has.
    """

    def __init__(self, threads: int = 1):
        home = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([os.getcwd(), home, *filter(None, [os.environ.get("PYTHONPATH")])])
        libraries = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from zoo.experiments.study_check import serve; serve()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": path, "PYTORCH_NVML_BASED_CUDA_CHECK": "1", **libraries},
        )
        self.gpus = int(self._answer()["gpus"])

    def __enter__(self) -> "Check":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.wait()

    def error(self, words: Sequence[str]) -> str | None:
        """What is wrong with the arguments of ``zoo.fit``; None if nothing is."""
        return self._ask({"check": list(words)})["error"]

    def estimate(self, words: Sequence[str], device: str | None) -> Estimate:
        """What such a training takes.

        Raises:
            ZooError: where it does not get to its first batches.
        """
        told = self._ask({"time": list(words), "device": device})
        if told["error"] is not None:
            raise ZooError(told["error"])
        return Estimate(**told["estimate"])

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(ValueError):  # what a library prints
                found = json.loads(line)
                if isinstance(found, dict):
                    return found
        raise ZooError("torch can't be imported in a process of its own; what it said is above.")


def serve() -> None:
    """Be the process of a :class:`Check`: answer each line of standard input by one of standard output."""
    die_with(os.getppid())
    warm()
    print(json.dumps({"gpus": _gpus()}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder, "log")
            if "check" in question:
                answer = _checked(question["check"], log)
            else:
                answer = _timed(question["time"], question["device"], log)
        print(json.dumps(answer), flush=True)


def _gpus() -> int:
    """How many there are, asked in another process: one that has asked can't be forked from."""

    def count() -> int:
        import torch

        return min(torch.cuda.device_count(), 255)

    return os.waitstatus_to_exitcode(os.waitpid(forked(count), 0)[1])


def _checked(words: Sequence[str], log: Path) -> dict[str, Any]:
    status = call("zoo.fit", [*words, "--print_config"], log, None, lambda: False)
    return {"error": _error(log, status) if status else None}


def _timed(words: Sequence[str], device: str | None, log: Path) -> dict[str, Any]:
    options = ["--trainer.default_root_dir", str(log.with_name("runs")), "--wandb", "off"]
    options += ["--trainer.enable_progress_bar", "true", "--gpus", str(int(device is not None))]
    began = time.monotonic()
    known: list[float] = []

    def enough() -> bool:
        if _LINE.search(log.read_text(errors="replace")):
            known.append(time.monotonic() - began)
        return bool(known) or time.monotonic() - began > _LONGEST

    status = call("zoo.fit", [*words, *options], log, device, enough)
    if (found := _LINE.search(log.read_text(errors="replace"))) is not None:
        batch = float(found[1]) * _UNITS[found[2]]
        batches = int(found[3].replace(",", "")) if found[3] else None
        return {
            "error": None,
            "estimate": {"batch": batch, "batches": batches, "start": max(0.0, known[0] - 2.0) if known else 0.0},
        }
    if status:
        return {"error": _error(log, status)}
    return {"error": None, "estimate": {"whole": time.monotonic() - began}}


def _error(log: Path, status: int) -> str:
    """The lines of an error from the first that is one, without where to read more."""
    lines = log.read_text(errors="replace").splitlines()
    begin = next((i for i, line in enumerate(lines) if line.startswith("error: ")), None)
    if begin is None:
        return f"exit status {status}: {lines[-1][:300] if lines else ''}"
    return "\n".join(_without_more(lines[begin:]))[:600].removeprefix("error: ")


def _without_more(lines: Sequence[str]) -> Iterator[str]:
    return (line for line in lines if "lists the options" not in line and "explains the options" not in line)
