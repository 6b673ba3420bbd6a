"""Part 1: what machine this is, and one training step of each model."""

import importlib.util
import math
import os
import platform
import time
from collections.abc import Iterator

import pytorch_lightning
import torch
import torchmetrics

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import Case, build, pixels, small_cases
from benchmarks.gpu.jobs import mnist_found
from zoo.spec import Batch

__all__ = ["run"]

_OPTIONAL = ("triton", "zuko", "pooch", "jsonargparse", "wandb")


def run(bench: Bench) -> None:
    """The machine in two rows, then a row for each registered model."""
    machine = {"part": "selfcheck", "model": "", "configuration": platform.platform()}
    bench.attempt("checks", lambda: [{"note": _hardware(bench)}], check="device", **machine)
    bench.attempt("checks", lambda: [{"note": _software(bench)}], check="versions", **machine)
    for case in bench.each("selfcheck", [case for case in small_cases() if not case.label], lambda case: case.name):
        what = {"part": "selfcheck", "model": case.name, "configuration": case.configuration, "check": "one step"}
        bench.attempt("checks", lambda case=case: _step(bench, case), **what)


def _hardware(bench: Bench) -> str:
    cores = f"{os.cpu_count()} CPU cores"
    if bench.device != "cuda":
        return f"{cores}, {torch.get_num_threads()} threads"
    card = torch.cuda.get_device_properties(0)
    free, total = torch.cuda.mem_get_info()
    memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return f"{card.name}, {memory}, sm_{card.major}{card.minor}, {card.multi_processor_count} SMs, {cores}"


def _software(bench: Bench) -> str:
    versions = f"python {platform.python_version()}, lightning {pytorch_lightning.__version__}"
    versions += f", torchmetrics {torchmetrics.__version__}, cuda {torch.version.cuda}"
    versions += f", cudnn {torch.backends.cudnn.version()}"
    missing = [name for name in _OPTIONAL if importlib.util.find_spec(name) is None]
    data = "MNIST found" if mnist_found(bench.data_root) else f"no MNIST under {bench.data_root}"
    return f"{versions}; {'without ' + ', '.join(missing) if missing else 'nothing missing'}; {data}"


def _step(bench: Bench, case: Case) -> Iterator[dict]:
    model = build(case, bench.seed).to(bench.device)
    x = pixels(case.spec, case.batch).to(bench.device)
    model.objective(Batch(x))  # what only the first call costs
    start = time.perf_counter()
    loss, _ = model.objective(Batch(x))
    loss.backward()
    spent = bench.synchronize() - start
    value = loss.item()
    yield {"status": "ok" if math.isfinite(value) else "differs", "value": value, "note": f"{1e3 * spent:.1f} ms"}
