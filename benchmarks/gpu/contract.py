"""Part 2: what every registered model promises, on the device, beside the CPU."""

import copy
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import LambdaCallback
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases import Case, Pixels, build, pixels, small_cases
from benchmarks.gpu.host_noise import HostNoise
from zoo.runs.checkpoints import load
from zoo.spec import Batch

__all__ = ["TOLERANCES", "gradients", "run"]

# Largest |loss - loss'| / |loss|, and |g - g'| / |g| of all gradients as one vector. bf16 has 8 bits of mantissa, 0.4 %.
TOLERANCES = {"float32": (1e-4, 1e-3), "bf16": (2e-2, 1e-1), "compiled": (1e-4, 1e-3)}
_COMPILING = 90  # seconds for one model

Gradients = tuple[float, dict[str, Tensor]]


def run(bench: Bench) -> None:
    """Check by check over all models, the cheap ones first; compilation, the slowest, last."""
    # TF32 has 10 bits of mantissa: convolutions in it would hide what is compared here.
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        plain = [case for case in small_cases() if not case.label]
        cases = plain if bench.tiny else small_cases()
        references: dict[str, Gradients] = {}
        _over(bench, "float32", cases, partial(_against_cpu, references=references))
        _over(bench, "bf16", cases, partial(_against_cpu, references=references, bf16=True))
        _over(bench, "same seed twice", plain, _fits)
        _over(bench, "compiled", plain[:3] if bench.tiny else [*plain, *cases[len(plain) :: 4]], _compiled, _COMPILING)
    finally:
        torch.backends.cudnn.allow_tf32 = tf32


def _over(bench: Bench, check: str, cases: list[Case], work: Callable[[Bench, Case], Iterable[dict]], most: float = 1e9):
    held = bench.held("checks", "contract", "check")
    cases = [case for case in cases if (case.name, case.configuration, check) not in held]
    for case in bench.each(f"contract {check}", cases, lambda case: case.name):
        what = {"part": "contract", "model": case.name, "configuration": case.configuration, "check": check}
        bench.attempt("checks", partial(work, bench, case), min(most, bench.clock.left()), **what)


def gradients(model: LightningModule, x: Tensor, seed: int, bf16: bool = False) -> Gradients:
    """The loss of a batch and the gradients of all parameters, by name, on the CPU; of a GAN, of both its losses."""
    torch.manual_seed(seed)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        loss, terms = model.objective(Batch(x))
    (loss + terms.get("generator_loss", 0)).backward()
    named = ((name, parameter.grad) for name, parameter in model.named_parameters())
    return loss.item(), {name: gradient.float().cpu() for name, gradient in named if gradient is not None}


def _on_device(bench: Bench, case: Case) -> tuple[LightningModule, Tensor]:
    return build(case, bench.seed).to(bench.device), pixels(case.spec, case.batch).to(bench.device)


def _against_cpu(bench: Bench, case: Case, references: dict[str, Gradients], bf16: bool = False) -> Iterator[dict]:
    """The same weights, batch and noise on the CPU, in float32, and on the device."""
    with HostNoise():
        if case.name not in references:
            references[case.name] = gradients(build(case, bench.seed), pixels(case.spec, case.batch), bench.seed)
        found = gradients(*_on_device(bench, case), bench.seed, bf16)
    yield from _compared(references[case.name], found, "bf16" if bf16 else "float32", "the CPU")


def _compiled(bench: Bench, case: Case) -> Iterator[dict]:
    """The same weights, batch and noise on the device, compiled and not."""
    torch.compiler.reset()  # a function is compiled for a few models, and then no more
    plain, x = _on_device(bench, case)
    compiled = copy.deepcopy(plain)
    compiled.compile(**({"backend": "aot_eager"} if bench.tiny else {"options": {"fallback_random": True}}))
    found = [gradients(model, x, bench.seed) for model in (plain, compiled)]
    yield from _compared(*found, "compiled", "what is not compiled")


def _compared(expected: Gradients, found: Gradients, mode: str, beside: str) -> Iterator[dict]:
    loss = abs(found[0] - expected[0]) / max(abs(expected[0]), 1e-6)
    squares = {name: (found[1][name] - gradient).square().sum() for name, gradient in expected[1].items()}
    whole = sum(gradient.square().sum() for gradient in expected[1].values()).sqrt()
    gradient = float(sum(squares.values()).sqrt() / whole)
    for kind, value, tolerance in zip(("loss", "gradients"), (loss, gradient), TOLERANCES[mode], strict=True):
        note = "" if kind == "loss" else f"most of it in {max(squares, key=squares.get)}"
        yield _held(f"{mode}, {kind} beside {beside}", value, tolerance) | {"note": note}


def _held(check: str, value: float, tolerance: float) -> dict:
    return {"check": check, "status": "ok" if value <= tolerance else "differs", "value": value, "tolerance": tolerance}


def _fits(bench: Bench, case: Case) -> Iterator[dict]:
    """By the Trainer: the same seed twice, data that stay on the host, and a checkpoint that the CPU reads."""
    first, difference = _twice(bench, case)
    yield _held("same seed twice, weights after 3 batches", difference, 0.0)
    options = {}
    if difference:  # by kernels that add in any order
        options = {"deterministic": "warn"}
        first, difference = _twice(bench, case, **options)
        yield _held("same seed twice, deterministic algorithms", difference, 0.0)
    from_host = _fit(bench, case, on_device=False, **options)
    yield _held("data on the host, weights after 3 batches", float((first - _weights(from_host)).abs().max()), 0.0)
    torch.use_deterministic_algorithms(False)

    with tempfile.TemporaryDirectory() as folder, HostNoise(), torch.no_grad():
        path = Path(folder) / "model.ckpt"
        save = LambdaCallback(on_train_end=lambda trainer, model: trainer.save_checkpoint(path))
        model = _fit(bench, case, precision="bf16-mixed", callbacks=[save])
        losses = []
        for each in (load(path), model.to(bench.device).eval()):
            torch.manual_seed(bench.seed)
            losses.append(each.objective(Batch(pixels(case.spec, case.batch).to(each.device)))[0].item())
    error = abs(losses[0] - losses[1]) / max(abs(losses[0]), 1e-6)
    yield _held("bf16-mixed, then its checkpoint read on the CPU: loss", error, TOLERANCES["float32"][0])


def _twice(bench: Bench, case: Case, **options) -> tuple[Tensor, float]:
    """Weights after training, and the largest difference from those of training again."""
    first, second = (_weights(_fit(bench, case, **options)) for _ in range(2))
    return first, float((first - second).abs().max())


def _fit(bench: Bench, case: Case, on_device: bool = True, **options) -> LightningModule:
    seed_everything(bench.seed, verbose=False)
    model = build(case, bench.seed)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    accelerator = "gpu" if bench.device == "cuda" else "cpu"
    trainer = Trainer(accelerator=accelerator, devices=1, max_steps=3, limit_val_batches=0, **quiet, **options)
    trainer.fit(model, Pixels(case, 3, on_device))
    return model


def _weights(model: LightningModule) -> Tensor:
    return torch.cat([parameter.detach().flatten().cpu() for parameter in model.parameters()])
