"""Part 3: images per second and peak memory of training, by the Trainer and by hand."""

import time
from collections.abc import Iterator
from functools import partial

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from benchmarks.gpu.bench import Bench, halved
from benchmarks.gpu.cases import Case, Pixels, build, paper_cases
from benchmarks.gpu.loops import step_by_hand
from callbacks import NonFiniteGuard
from datamodules.loader import TrainLoader

__all__ = ["run"]

_PRECISIONS = {"float32": "32-true", "bf16": "bf16-mixed", "compiled": "32-true"}
_COMPILING = 100  # seconds for one model


def run(bench: Bench) -> None:
    """Mode by mode over all models: float32 and bf16 take seconds each, compiled ones a minute."""
    held = bench.held("speed", "throughput", "mode")
    for mode in _PRECISIONS:
        cases = [case for case in paper_cases(bench.tiny) if (case.name, case.configuration, mode) not in held]
        for case in bench.each(f"throughput {mode}", cases, lambda case: case.name):
            what = {"part": "throughput", "model": case.name, "configuration": case.configuration, "mode": mode}
            limit = min(bench.clock.left(), _COMPILING if mode == "compiled" else 1e9)
            bench.attempt("speed", partial(_measure, bench, case, mode), limit, **what)


def _measure(bench: Bench, case: Case, mode: str) -> Iterator[dict]:
    yield halved(case.batch, lambda batch: _speed(bench, case._replace(batch=batch), mode))


def _speed(bench: Bench, case: Case, mode: str) -> dict:
    start = time.monotonic()
    if bench.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    model = build(case, bench.seed)
    if mode == "compiled":
        torch.compiler.reset()
        model.compile(**({"backend": "aot_eager"} if bench.tiny else {}))
    timer = _Timer(bench)
    _fit(bench, model, case, mode, timer)
    row = {"images_per_second": timer.steps * case.batch / timer.seconds}
    if bench.device == "cuda":
        row["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    if mode == "compiled":
        row["note"] = f"first batches {timer.first - start:.0f} s"
    else:
        row["by_hand_images_per_second"] = _by_hand(bench, build(case, bench.seed), case, mode)
    return row


def _fit(bench: Bench, model: LightningModule, case: Case, mode: str, timer: "_Timer") -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(
        accelerator="gpu" if bench.device == "cuda" else "cpu",
        devices=1,
        max_steps=timer.most,
        limit_val_batches=0,
        precision=_PRECISIONS[mode],
        callbacks=[NonFiniteGuard(), timer],
        **quiet,
    )
    trainer.fit(model, Pixels(case, 8))


def _by_hand(bench: Bench, model: LightningModule, case: Case, mode: str) -> float:
    """The same batches in the shortest loop."""
    model, timer = model.to(bench.device).train(), _Timer(bench)
    examples = Pixels(case, 8).load()["train"].to(torch.device(bench.device))  # as the Trainer has them
    step, loader = step_by_hand(model), TrainLoader(examples, case.batch)
    while not timer.done:
        for batch in loader:
            # Anew for each step: autocast keeps its copies of the weights until it ends.
            with torch.autocast(bench.device, torch.bfloat16, enabled=mode == "bf16"):
                step(batch)
            timer.tick()
            if timer.done:
                break
    return timer.steps * case.batch / timer.seconds


class _Timer(Callback):
    """Times steps after the first ones, for 1.5 seconds or 200 steps, and stops training.

    Attributes:
        steps: Steps timed.
        seconds: Their time, from the device being idle to its being idle again.
        first: When the first batches were done, by ``time.monotonic``.
    """

    def __init__(self, bench: Bench):
        self.bench, self.count, self.start, self.first = bench, 0, 0.0, 0.0
        self.warmup, self.most, self.longest = (1, 4, 1.5) if bench.tiny else (5, 205, 1.5)
        self.steps, self.seconds, self.done = 0, 0.0, False

    def tick(self) -> None:
        """A step is over."""
        self.count += 1
        if self.count == self.warmup:
            self.start, self.first = self.bench.synchronize(), time.monotonic()
        elif self.count > self.warmup and (self.count == self.most or time.perf_counter() - self.start > self.longest):
            self.steps, self.seconds, self.done = self.count - self.warmup, self.bench.synchronize() - self.start, True

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        """Stop the Trainer in time."""
        if not self.done:
            self.tick()
        trainer.should_stop = self.done
