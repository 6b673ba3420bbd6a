"""How many images of CIFAR-10 the published Flow++ trains on at once: a dry run on meta tensors."""

from collections.abc import Iterator
from functools import partial

import torch
import yaml

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import CIFAR10, Case, small_cases
from benchmarks.gpu.dry_run import peak_bytes
from zoo import registry
from zoo.models import FlowPlusPlus

__all__ = ["run"]

CARD = 80e9  # bytes of the card that the largest batch is given for


def run(bench: Bench) -> None:
    """In float32 and bf16, activations kept or computed again: the peak of the recipe's batch, and the largest batch."""
    recipe = yaml.safe_load(registry.preset("recipes/flowpp-cifar10").read_text())
    case = Case("flowpp", CIFAR10, recipe["data"]["init_args"]["batch_size"], recipe["model"]["init_args"], "recipe")
    if bench.tiny:
        case = next(each for each in small_cases() if each.model == "flowpp")
    modes = [(bf16, checkpoint) for checkpoint in (True, False) for bf16 in (True, False)]
    for bf16, checkpoint in bench.each("memory", modes, str):
        mode = ("bf16" if bf16 else "float32") + (", checkpoint" if checkpoint else "")
        what = {"part": "memory", "model": case.name, "configuration": case.configuration, "mode": mode}
        bench.attempt("speed", partial(_estimate, case, bf16, checkpoint), **what)


def _estimate(case: Case, bf16: bool, checkpoint: bool) -> Iterator[dict]:
    """From two small batches: the peak is linear in the batch."""
    few, more = (step_bytes(case, batch, bf16, checkpoint) for batch in (4, 8))
    each = (more - few) / 4
    fixed = few - 4 * each
    fits = int((CARD - fixed) / each)
    note = f"dry run: {fixed / 2**30:.2f} GiB and {each / 2**20:.0f} MiB an image; {fits} fit {CARD / 1e9:.0f} GB"
    yield {"batch": case.batch, "peak_gib": (fixed + case.batch * each) / 2**30, "note": note}


def step_bytes(case: Case, batch: int, bf16: bool, checkpoint: bool) -> int:
    """Bytes of one training step of a batch."""
    with torch.device("meta"):
        model = FlowPlusPlus(case.spec, **case.options | {"checkpoint": checkpoint}).train()
    x = torch.empty(batch, *case.spec.shape, dtype=torch.uint8, device="meta")

    def loss() -> torch.Tensor:
        log_p, log_q = model.terms(x)
        return log_q - log_p

    return peak_bytes(model, loss, bf16)
