"""What all parts share: the device, the rows, the time, and tries that fail alone."""

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch

from benchmarks.gpu.rows import Rows
from benchmarks.gpu.timebox import Clock, OutOfTime, time_limit

__all__ = ["Bench", "halved"]

Thing = TypeVar("Thing")


@dataclass
class Bench:
    """One run of the command.

    Attributes:
        device: ``cuda`` or ``cpu``.
        tiny: Whether small models stand for large ones: a walk through all of it in a minute of a CPU.
        rows, clock: Where results go, and what time is left.
        out, data_root: Folders of checkpoints and of data.
        seed: Of weights and noise.
        go_on: Whether long trainings go on from their checkpoints.
        jobs: The long trainings asked for; all if empty.
        undone: What there was no time for, by part.
    """

    device: str
    tiny: bool
    rows: Rows
    clock: Clock
    out: Path
    data_root: Path
    seed: int = 0
    go_on: bool = False
    jobs: tuple[str, ...] = ()
    undone: list[str] = field(default_factory=list)

    def each(self, part: str, things: Iterable[Thing], name: Callable[[Thing], str]) -> Iterable[Thing]:
        """The things one after another while the part has time; what is left over is noted."""
        things = list(things)
        for number, thing in enumerate(things):
            if self.clock.left() < 1:
                self.undone.append(f"{part}: {', '.join(name(each) for each in things[number:])}")
                return
            yield thing

    def attempt(self, table: str, work: Callable[[], Iterable[dict]], limit: float | None = None, **what) -> None:
        """Add the rows that ``work`` gives, beside ``what`` they are of; or one that says in a line why there are none.

        Its limit is what is left to the part, or ``limit`` seconds where given.
        """
        start = time.monotonic()
        try:
            with time_limit(self.clock.left() if limit is None else limit):
                for row in work():
                    self.rows.add(table, **{**what, "status": "ok", "seconds": time.monotonic() - start, **row})
        except OutOfTime:
            self.rows.add(table, **what, status="out of time", seconds=time.monotonic() - start)
        except ModuleNotFoundError as error:
            self.rows.add(table, **what, status="left out", note=f"needs {error.name}")
        except Exception as error:  # whatever it is, it costs this try and no other
            self.rows.add(table, **what, status="failed", seconds=time.monotonic() - start, note=_line(error))
        finally:
            gc.collect()
            if self.device == "cuda":
                torch.cuda.empty_cache()

    def held(self, table: str, part: str, kind: str) -> set[tuple[str, str, str]]:
        """(model, configuration, kind) of what runs that go on need not try again: this device's rows with a result."""
        if not self.go_on:
            return set()
        common = {key: self.rows.common[key] for key in ("device", "torch")} | {"part": part}
        rows = (row for row in self.rows.read(table) if row["status"] in ("ok", "differs"))
        ours = (row for row in rows if common.items() <= row.items())
        return {(row["model"], row["configuration"], row[kind].partition(",")[0]) for row in ours}

    def synchronize(self) -> float:
        """The time, when the device has done all that it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def halved(batch: int, work: Callable[[int], dict]) -> dict:
    """What ``work`` gives with that batch, or with half of it as often as the memory runs out; the row says so."""
    tried = batch
    while True:
        try:
            row = work(tried)
            break
        except torch.OutOfMemoryError:
            if tried == 1:
                raise
        # Out here, where the error no longer holds on to the tensors of the stack that it went up.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tried //= 2
    note = row.get("note", "")
    return row | {"batch": tried} | ({"note": f"out of memory with {batch}; {note}".rstrip("; ")} if tried < batch else {})


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]
