"""Processor time of log p(x) with 5,000 importance samples of 200 images of 784 pixels; beside another checkout of the zoo.

From the root of the repository: ``OMP_NUM_THREADS=1 python -m benchmarks.likelihood --against ../zoo-before``

A VAE with two layers of 400 and 40 latents, in float32 and in bf16-mixed; the other checkout in float32. Processes
take turns; a ratio is the median of the turns'. Figures: benchmarks/README.md.
"""

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

TIMED = """
import sys, time, torch
from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.evaluation import evaluate_likelihood
from zoo.models import VAE
from zoo.spec import DataSpec

class Pixels(DataModule):
    spec = DataSpec("pixels", (1, 28, 28), levels=2)
    def load(self):
        x = torch.randint(2, (int(sys.argv[1]), 1, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        return {"test": Arrays(x)}

try:
    from zoo.cli.memory import keep_memory
    keep_memory()  # as the command does
except ImportError:  # in a checkout from before
    pass
torch.manual_seed(0)
model, data = VAE(Pixels.spec, "mlp", latent_dim=40, hidden=400), Pixels(eval_batch_size=100)
data.setup("test")
more = {"precision": sys.argv[3]} if len(sys.argv) > 3 else {}
start = time.process_time()
evaluate_likelihood(model, data, samples=int(sys.argv[2]), progress=False, **more)
print("seconds", time.process_time() - start)
"""


def seconds(checkout: Path, *arguments: str) -> float:
    """Of one process, in that checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", TIMED, *arguments]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split("seconds")[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", type=Path, help="the root of another checkout")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", default="200")
    parser.add_argument("--samples", default="5000")
    args = parser.parse_args()
    here = Path(__file__).resolve().parents[1]
    size = (args.images, args.samples)
    ways = {"float32": (here, *size), "bf16-mixed": (here, *size, "bf16-mixed")}
    first = {"the other's": (args.against.resolve(), *size)} if args.against else {}
    rounds = [{name: seconds(*way) for name, way in {**first, **ways}.items()} for _ in range(args.rounds)]
    yardstick = next(iter(rounds[0]))
    for name in rounds[0]:
        ratio = statistics.median(row[name] / row[yardstick] for row in rounds)
        print(f"{name:12s} {statistics.median(row[name] for row in rounds):6.2f} s   {ratio:.2f} times {yardstick}")


if __name__ == "__main__":
    main()
