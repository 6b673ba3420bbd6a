"""Part 3, sampling: flow priors and Flow++, milliseconds a call."""

from collections.abc import Callable, Iterator
from functools import partial

import torch

from benchmarks.gpu.bench import Bench, halved
from benchmarks.gpu.cases import Case, build, paper_cases
from zoo.distributions.priors import PRIORS

__all__ = ["run"]

_ROUNDS = 3


def run(bench: Bench) -> None:
    """Priors of 64 latents and 4 steps by our inverse and by d passes of the network, then images of the flows."""
    priors = [(flow, n) for flow in ("maf", "spline") for n in (64, 1024)]
    for flow, n in bench.each("sampling", priors, lambda prior: f"{prior[0]} {prior[1]}"):
        size = {"latents": 4 if bench.tiny else 64, "hidden": 16 if bench.tiny else 320}
        what = {"part": "sampling", "model": f"prior {flow}", "configuration": size}
        bench.attempt("speed", partial(_prior, bench, flow, n, **size), **what)
    flows = [case for case in paper_cases(bench.tiny) if case.model == "flowpp" and not case.options.get("checkpoint")]
    for case in bench.each("sampling", flows, lambda case: case.name):
        what = {"part": "sampling", "model": case.name, "configuration": case.configuration}
        bench.attempt("speed", partial(_images, bench, case), **what)


@torch.no_grad()
def _prior(bench: Bench, flow: str, n: int, latents: int, hidden: int) -> Iterator[dict]:
    torch.manual_seed(bench.seed)
    prior = PRIORS[flow](latents, hidden=hidden).to(bench.device).eval()
    noise = torch.randn(n, latents, device=bench.device)

    def sequential() -> torch.Tensor:
        z = noise
        for step in reversed(prior.transform.transforms):
            z, _ = step.sequential_inverse(z)
        return z

    ours = prior.transform.inverse(noise)[0]
    difference = f"at most {float((ours - sequential()).abs().max()):.1e} apart"
    for mode, function in (("inverse", lambda: prior.transform.inverse(noise)), ("d passes", sequential)):
        yield {"mode": mode, "batch": n, "milliseconds": _milliseconds(bench, function), "note": difference}


def _images(bench: Bench, case: Case) -> Iterator[dict]:
    for mode in ("float32", "bf16"):
        yield halved(case.batch, lambda batch, mode=mode: _drawn(bench, case, batch, mode))


@torch.no_grad()
def _drawn(bench: Bench, case: Case, n: int, mode: str) -> dict:
    model = build(case, bench.seed).to(bench.device).eval()
    x = torch.randint(case.spec.levels, (min(n, 8), *case.spec.shape), device=bench.device)
    with torch.autocast(bench.device, torch.bfloat16, enabled=mode == "bf16"):
        model.sample(n)
        spent = _milliseconds(bench, lambda: model.sample(n))
        error = float(model.density.inversion_error(x.to(torch.uint8)))
    rate = 1e3 * n / spent
    return {"mode": mode, "milliseconds": spent, "images_per_second": rate, "note": f"inversion error {error:.1e} levels"}


def _milliseconds(bench: Bench, function: Callable[[], object]) -> float:
    """The least of some rounds."""
    spent = []
    for _ in range(1 if bench.tiny else _ROUNDS):
        start = bench.synchronize()
        function()
        spent.append(1e3 * (bench.synchronize() - start))
    return min(spent)
