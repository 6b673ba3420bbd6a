"""Several models trained as one beside the same models one after another, in steps of models a second. From the root:

    OMP_NUM_THREADS=1 python -m benchmarks.stacked --out results/speed/stacked.csv

Of each kind of network two tables in one. *Bare steps*: ``Stack.step`` against ``objective, backward, optimizer.step`` of
each member in turn, the fastest of some rounds, which are made in turns. *Trainings*: ``fit_stacked`` against
``zoo.runs.fit`` of each member in turn, all of it: run folders, rows of metrics, a validation and checkpoints after every
105 batches and the last one, five epochs of digits. Neither shows a progress bar.

With one thread it is the processor time of the process, which other work on the machine disturbs less; with several, and
on a GPU, the clock. docs/many_seeds.md has what was measured.
"""

import argparse
import contextlib
import csv
import datetime
import gc
import io
import logging
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Generator

from datamodules import Digits, DSprites
from datamodules.base import DataModule
from zoo.cli.memory import keep_memory
from zoo.environment import machine
from zoo.experiments.stack import Stack
from zoo.experiments.stacked_training import fit_stacked
from zoo.lightning import quiet_lightning
from zoo.models import VAE
from zoo.runs.training import fit
from zoo.spec import Batch

COLUMNS = (
    *("date", "device", "torch", "threads", "data", "network", "members", "batch"),
    *("bare_alone", "bare_stacked", "bare_ratio", "fit_alone", "fit_stacked", "fit_ratio"),
)


def table(path: Path) -> str:
    """The rows of a file as docs/many_seeds.md has them."""
    lines = [
        "| data | network | bare steps: alone | as one | ratio | trainings: alone | as one | ratio |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            shown = [
                f"{float(row[name]):.2f}" if name.endswith("ratio") else f"{float(row[name]):.0f}" for name in COLUMNS[-6:]
            ]
            lines.append(f"| {row['data']} | {row['network']} | {' | '.join(shown)} |")
    return "\n".join(lines)


def digits(seed: int) -> DataModule:
    return Digits(batch_size=64, seed=seed)


def dsprites(seed: int) -> DataModule:
    return DSprites(size=4000, batch_size=64, seed=seed)


CASES = [
    *(("digits", digits, {"network": "mlp", "hidden": hidden}) for hidden in (16, 32, 64, 128, 256, 512)),
    *(("digits, gaussian", digits, {"network": "mlp", "hidden": hidden, "likelihood": "gaussian"}) for hidden in (64, 256)),
    ("digits", digits, {"network": "conv"}),
    *(("dsprites", dsprites, {"network": "mlp", "hidden": hidden}) for hidden in (16, 64, 256)),
    ("dsprites", dsprites, {"network": "locatello", "latent_dim": 10, "posterior_options": {"scale": "exp"}}),
]


def now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


def build(data: DataModule, options: dict, seed: int) -> VAE:
    torch.manual_seed(seed)
    return VAE(data.spec, **options)


def alone_step(model: VAE) -> Callable[[Batch], None]:
    optimizer = model.configure_optimizers()

    def step(batch: Batch) -> None:
        loss, _ = model.objective(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def bare(make: Callable[[int], DataModule], options: dict, args: argparse.Namespace) -> tuple[float, float]:
    """Steps of models a second: one after another, and as one."""
    data, device = make(0), args.device
    data.setup()
    source = data.splits["train"].to(torch.device(device))
    x = torch.stack([source.take(torch.arange(64, device=device) + 64 * k, Generator).x for k in range(args.members)])
    steps = [alone_step(build(data, options, k).to(device).train()) for k in range(args.members)]
    stacked = [build(data, options, k).to(device) for k in range(args.members)]
    stack = Stack(stacked, [Generator(device).manual_seed(k) for k in range(args.members)])
    ways: list[Callable[[], object]] = [
        lambda: [step(Batch(each)) for step, each in zip(steps, x, strict=True)],
        lambda: stack.step(Batch(x)),
    ]
    fastest = [float("inf"), float("inf")]
    for each in ways:
        each()
    for _ in range(args.rounds):
        for number, each in enumerate(ways):
            start = now(device)
            for _ in range(args.steps):
                each()
            fastest[number] = min(fastest[number], (now(device) - start) / args.steps)
    return args.members / fastest[0], args.members / fastest[1]


def trained(make: Callable[[int], DataModule], options: dict, args: argparse.Namespace) -> tuple[float, float]:
    """The same of whole trainings."""
    batches = args.batches if options["network"] == "mlp" else args.batches // 5
    seeds, common = list(range(args.members)), {"max_steps": batches, "enable_progress_bar": False}
    common |= {"accelerator": "gpu" if args.device == "cuda" else "cpu", "log_every_n_steps": 50}
    common |= {"check_val_every_n_epoch": None, "val_check_interval": 105, "checkpoint_every": 105}
    seconds = []
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        for way in ("warm", "alone", "stacked"):
            data = [make(seed) for seed in seeds[: 1 if way == "warm" else None]]
            models = [build(each, options, seed) for each, seed in zip(data, seeds, strict=False)]
            start = now(args.device)
            if way == "stacked":
                fit_stacked(models, data, seeds, root=folder, **common)
            else:
                for model, each, seed in zip(models, data, seeds, strict=False):
                    last = {"max_steps": 2} if way == "warm" else {}
                    fit(model, each, root=folder, wandb="off", seed=seed, **common | last)
            seconds.append(now(args.device) - start)
    done = args.members * batches
    return done / seconds[1], done / seconds[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--steps", type=int, default=5, help="steps in a round of bare steps")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, default=105, help="of each whole training, a fifth of it for convolutions")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--only", nargs="*", type=int, help="numbers of rows")
    parser.add_argument("--out", type=Path, help="a csv file")
    args = parser.parse_args()
    keep_memory()  # as commands do
    quiet_lightning()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    on = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    common = {"date": datetime.date.today().isoformat(), "device": machine(on), "torch": torch.__version__}
    print("data, network                            bare: alone   as one   ratio     trainings: alone   as one   ratio")
    rows = []
    for number, (name, make, options) in enumerate(CASES):
        if args.only and number not in args.only:
            continue
        network = options["network"] + (f" {options['hidden']}" if "hidden" in options else "")
        (alone, stacked), (fit_alone, fit_one) = bare(make, options, args), trained(make, options, args)
        gc.collect()
        print(
            f"{name + ', ' + network:40s} {alone:11.0f} {stacked:8.0f} {stacked / alone:7.2f}"
            f" {fit_alone:20.0f} {fit_one:8.0f} {fit_one / fit_alone:7.2f}",
            flush=True,
        )
        numbers = (alone, stacked, stacked / alone, fit_alone, fit_one, fit_one / fit_alone)
        rows.append(
            common
            | {"threads": torch.get_num_threads(), "data": name, "network": network, "members": args.members, "batch": 64}
            | dict(zip(COLUMNS[-6:], (f"{each:.4g}" for each in numbers), strict=True))
        )
    if args.out:
        os.makedirs(args.out.parent, exist_ok=True)
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
