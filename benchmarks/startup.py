"""Processor time of ``python -m zoo.fit`` up to its first training batch; side by side with another checkout of the zoo.

From the root of the repository: ``OMP_NUM_THREADS=1 python -m benchmarks.startup --against ../zoo-before``

The processes are started in turns; a ratio is the median of the turns'. Figures: benchmarks/README.md.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback

RUNS = {
    "digits": ["--data", "digits", "--wandb", "off"],
    "digits, W&B offline": ["--data", "digits", "--wandb", "offline"],
    "dSprites": ["--data", "dsprites", "--data.size", "16", "--wandb", "off"],
}


class FirstBatch(Callback):
    """Ends the process at the first batch, and tells its processor time."""

    def on_train_batch_start(self, *args: Any) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(f"seconds {used.ru_utime + used.ru_stime}", flush=True)
        os._exit(0)


def seconds(checkout: Path, arguments: list[str]) -> float:
    """Of one process, in that checkout."""
    own = Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "zoo.fit", "--model", "vae", *arguments, "--trainer.max_steps", "1"]
        command += ["--trainer.default_root_dir", folder, "--trainer.callbacks+=benchmarks.startup.FirstBatch"]
        environment = {**os.environ, "PYTHONPATH": f"{checkout}{os.pathsep}{own}"}
        done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)
    found = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("seconds")]
    if not found:
        sys.exit(f"{' '.join(command)} in {checkout}:\n{done.stderr[-1000:]}")
    return float(found[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="the root of another checkout")
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    checkouts = [here, *([args.against.resolve()] if args.against else [])]
    for name, arguments in RUNS.items():
        rounds = [[seconds(checkout, arguments) for checkout in checkouts] for _ in range(args.rounds)]
        line = f"{name:20s} {statistics.median(row[0] for row in rounds):5.2f} s"
        if args.against:
            ratios = sorted(row[0] / row[1] for row in rounds)
            line += f"   {statistics.median(ratios):.2f} times the other's ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(line, flush=True)


if __name__ == "__main__":
    main()
