"""What the CPU beside a GPU is good for: ``python -m benchmarks.gpu.host --out DIR --seconds 240``.

To be started in the background while ``python -m benchmarks.gpu`` uses the GPU: steps in memory formats and precisions
(``benchmarks.steps``, on this CPU and on the GPU), and meanwhile, a process a model, which models keep their numbers in
bf16-mixed (``benchmarks.precision``). What is not done when the time is over is left out.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks.precision import MODELS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--seconds", type=float, default=240, help="when whatever still runs is ended")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + args.seconds
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(*command: str) -> subprocess.Popen:
        return subprocess.Popen([sys.executable, "-m", *command], env=environment)

    def left() -> float:
        return max(0.1, end - time.monotonic())

    running = [
        start("benchmarks.precision", "--out", str(args.out / f"precision-{number}.csv"), "--models", name)
        for number, name in enumerate(MODELS)
    ]
    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    running += [
        start("benchmarks.steps", "--device", each, "--out", str(args.out / f"steps-{each}.csv")) for each in devices
    ]
    for process in running:
        try:
            process.wait(left())
        except subprocess.TimeoutExpired:
            process.terminate()
    rows = [path.read_text().splitlines() for path in sorted(args.out.glob("precision-*.csv"))]
    if rows:
        (args.out / "precision.csv").write_text(
            "\n".join([rows[0][0], *(line for each in rows for line in each[1:])]) + "\n"
        )


if __name__ == "__main__":
    main()
