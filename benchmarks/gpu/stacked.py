"""Part 3, stacked: many models trained as one, beside a loop over the same models, in examples per second of all of them."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import SMALL, SPRITES, Case, build
from benchmarks.gpu.loops import step_by_hand
from zoo.experiments.stack import Stack
from zoo.spec import Batch, DataSpec

__all__ = ["members_of", "run"]

_DIGITS = DataSpec("pixels-8", (1, 8, 8), levels=17)
_PIXELS = DataSpec("pixels-28", (1, 28, 28), levels=2)
_STUDY = {"network": "locatello", "latent_dim": 10, "posterior_options": {"scale": "exp"}}
# Locatello et al. 2019, arXiv:1811.12359: the study trains 50 seeds of each of 36 settings.
_CASES = (
    Case("vae", _DIGITS, 64, {"network": "mlp", "hidden": 64}, "mlp-64"),
    Case("beta_vae", SPRITES, 64, _STUDY, "study"),
    Case("vae", _PIXELS, 100, {"network": "mlp", "hidden": 512}, "mlp-512"),
    Case("factor_vae", SPRITES, 128, _STUDY, "study"),
)
_TINY = (
    Case("vae", SMALL, 4, {"network": "mlp", "hidden": 8}, "mlp-8"),
    Case("factor_vae", SMALL, 4, {"network": "mlp", "hidden": 8, "discriminator_width": 8}, "small"),
)
_MEMBERS = (64, 16, 4, 1)  # the most telling first
_CHECK, _TOLERANCE = "as one, losses beside the models alone", 1e-4


def run(bench: Bench) -> None:
    """Of each kind of model 1, 4, 16 and 64 members, in float32, then bf16; then float32 by cuDNN's fastest convolutions."""
    held = bench.held("speed", "stacked", "mode")
    cases, counts = (_TINY, _MEMBERS[2:]) if bench.tiny else (_CASES, _MEMBERS)
    tries = [(case, mode, members) for mode in ("float32", "bf16") for case in cases for members in counts]
    tries += [(case, "tuned", members) for case in cases if case.options["network"] != "mlp" for members in counts]
    named = [(case._replace(label=f"{case.label} x{members}"), mode, members) for case, mode, members in tries]
    wanted = [each for each in named if (each[0].name, each[0].configuration, each[1]) not in held]
    for case in (cases[0], cases[-1]):
        what = {"part": "stacked", "model": case.name, "configuration": case.configuration, "check": _CHECK}
        bench.attempt("checks", partial(_as_alone, bench, case), **what)
    for case, mode, members in bench.each("stacked", wanted, lambda each: f"{each[0].name} {each[1]}"):
        what = {"part": "stacked", "model": case.name, "configuration": case.configuration, "mode": mode}
        bench.attempt("speed", partial(_measure, bench, case, members, mode), **what)


def members_of(case: Case, members: int, device: str) -> tuple[list, list[torch.Generator]]:
    """The case's models with the weights of seeds 0, 1, ..., and a random stream of each."""
    models = [build(case, seed).to(device).train() for seed in range(members)]
    return models, [torch.Generator(device).manual_seed(seed) for seed in range(members)]


def _as_alone(bench: Bench, case: Case) -> Iterator[dict]:
    """The largest relative difference between losses of members and of the same models alone, over three steps."""
    steps, members = 3, 3
    x = [_examples(case, members, bench.device) for _ in range(steps)]
    stack = Stack(*members_of(case, members, bench.device))
    together = torch.stack([stack.step(Batch(each))["loss"] for each in x]).cpu()  # (steps, members)
    difference = 0.0
    for seed, model in enumerate(members_of(case, members, bench.device)[0]):
        step = step_by_hand(model)
        torch.manual_seed(seed)
        for number, each in enumerate(x):
            state = torch.cuda.get_rng_state() if bench.device == "cuda" else torch.get_rng_state()
            loss = getattr(model, model.training_losses[0])(Batch(each[seed]))[0].item()
            model.training_batches = number
            (torch.cuda.set_rng_state if bench.device == "cuda" else torch.set_rng_state)(state)
            step(Batch(each[seed]))
            difference = max(difference, abs(loss - float(together[number, seed])) / abs(loss))
    yield {"value": difference, "tolerance": _TOLERANCE, "status": "ok" if difference <= _TOLERANCE else "differs"}


def _measure(bench: Bench, case: Case, members: int, mode: str) -> Iterator[dict]:
    before, torch.backends.cudnn.benchmark = torch.backends.cudnn.benchmark, mode == "tuned"
    try:
        yield _speed(bench, case, members, mode)
    finally:
        torch.backends.cudnn.benchmark = before


def _speed(bench: Bench, case: Case, members: int, mode: str) -> dict:
    x = _examples(case, members, bench.device)
    alone = _seconds(bench, mode, _loop(members_of(case, members, bench.device)[0], x))
    stack = Stack(*members_of(case, members, bench.device))
    if bench.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    together = _seconds(bench, mode, lambda: stack.step(Batch(x)))
    row = {
        "batch": case.batch,
        "images_per_second": members * case.batch / together,
        "by_hand_images_per_second": members * case.batch / alone,
        "milliseconds": 1000 * together,
        "note": f"{members} members, {alone / together:.2f} times a loop over them",
    }
    if bench.device == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return row


def _loop(models: list, x: Tensor) -> Callable[[], object]:
    """A step of each model, one after another, on its own batch."""
    steps = [step_by_hand(model) for model in models]
    return lambda: [step(Batch(each)) for step, each in zip(steps, x, strict=True)]


def _examples(case: Case, members: int, device: str) -> Tensor:
    """(members, B, *shape), other ones of each member."""
    shape = (members, case.batch, *case.spec.shape)
    return torch.randint(case.spec.levels or 2, shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8).to(
        device
    )


def _seconds(bench: Bench, mode: str, step: Callable[[], object]) -> float:
    """Of a step, the mean over those of a second, at most 200, after the first ones."""
    warmup, most, longest = (1, 3, 1.0) if bench.tiny else (3, 200, 1.0)

    def under_autocast() -> None:
        # Anew for each step: autocast keeps its copies of the weights until it ends.
        with torch.autocast(bench.device, torch.bfloat16, enabled=mode == "bf16"):
            step()

    for _ in range(warmup):
        under_autocast()
    start, done = bench.synchronize(), 0
    while done < most and time.perf_counter() - start < longest:
        under_autocast()
        done += 1
    return (bench.synchronize() - start) / done
