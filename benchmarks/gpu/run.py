"""The parts one after another, each in its share of the time."""

import argparse
import importlib
import logging
import time
import warnings

import torch

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.remaining import note_remaining
from benchmarks.gpu.rows import Rows
from benchmarks.gpu.summary import summary
from benchmarks.gpu.timebox import Clock, OutOfTime, time_limit

__all__ = ["run"]

_TABLES = {"selfcheck": "checks", "contract": "checks", "training": "training"}  # the rest: speed


def run(options: argparse.Namespace, shares: dict[str, float], longest: dict[str, float], seconds: float) -> None:
    """Run the parts of ``shares``, write what remains, print the summary."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric|torch")
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    bench = Bench(
        device=device,
        tiny=options.tiny,
        rows=Rows(options.out, name + (", tiny" if options.tiny else ""), torch.__version__, options.seed),
        clock=Clock(seconds, shares, longest),
        out=options.out,
        data_root=options.data_root,
        seed=options.seed,
        go_on=options.go_on,
        jobs=tuple(options.jobs),
    )
    for part in shares:
        _run_part(bench, part)
    note_remaining(bench)
    print(summary(bench.rows), flush=True)


def _run_part(bench: Bench, part: str) -> None:
    """A part that fails leaves a row that says so."""
    start = time.monotonic()
    bench.clock.start(part)
    print(f"{part}: {bench.clock.left():.0f} s", flush=True)
    table, failed = _TABLES.get(part, "speed"), ""
    try:
        # A little more than its time: a try stops by itself, so this is for what stands between tries.
        with time_limit(bench.clock.left() + 30):
            importlib.import_module(f"benchmarks.gpu.{part}").run(bench)
    except OutOfTime:
        failed = "took longer than its time"
    except Exception as error:  # whatever it is, the other parts go on
        failed = f"{type(error).__name__}: {error}".splitlines()[0][:200]
    if failed:
        what = {"job": "all"} if table == "training" else {"part": part, "model": ""}
        bench.rows.add(table, **what, status="failed", seconds=time.monotonic() - start, note=failed)
