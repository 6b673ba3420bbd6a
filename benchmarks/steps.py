"""The step of a model in memory formats and precisions, as a part of its float32 step in the usual format, on this device.

From the root of the repository: ``OMP_NUM_THREADS=1 python -m benchmarks.steps``

Of each network an objective, its gradients and an Adam step, in turns of all ways, so that what else the machine does falls
on all of them; a ratio is the median of the rounds'. With one CPU thread it is the processor time, on a GPU the clock.
Figures: benchmarks/README.md.
"""

import argparse
import contextlib
import copy
import csv
import os
import statistics
import time
from pathlib import Path

import torch

from zoo import models
from zoo.cli.memory import keep_memory
from zoo.models.base import GenerativeModule
from zoo.spec import Batch, DataSpec

SPRITES, PIXELS = DataSpec("dsprites", (1, 64, 64), levels=2), DataSpec("pixels", (1, 28, 28), levels=2)
DIGITS, COLORS = DataSpec("digits", (1, 8, 8), levels=17), DataSpec("colors", (3, 32, 32), levels=256)
NETWORKS: dict[str, tuple[type[GenerativeModule], DataSpec, int, dict]] = {
    "locatello 64x64": (models.BetaVAE, SPRITES, 64, {"network": "locatello", "latent_dim": 10}),
    "conv 64x64": (models.VAE, SPRITES, 64, {"network": "conv"}),
    "conv 28x28": (models.VAE, PIXELS, 100, {"network": "conv"}),
    "conv 8x8": (models.VAE, DIGITS, 64, {"network": "conv"}),
    "gated_conv 28x28": (models.VAE, PIXELS, 16, {"network": "gated_conv"}),
    "mlp 512 28x28": (models.VAE, PIXELS, 100, {"network": "mlp", "hidden": 512}),
    "mlp 400 28x28": (models.VAE, PIXELS, 100, {"network": "mlp", "hidden": 400}),
    "mlp 64 28x28": (models.VAE, PIXELS, 100, {"network": "mlp", "hidden": 64}),
    "pixelcnn 28x28": (models.PixelCNN, PIXELS, 8, {}),
    "flowpp 8x8": (models.FlowPlusPlus, DIGITS, 32, {}),
    "gan 32x32": (models.GAN, COLORS, 64, {}),
}
WAYS = ("float32", "channels_last", "bf16", "bf16 channels_last")


def now(device: str) -> float:
    """Seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.process_time() if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter()


class Way:
    """A model that takes steps in one of the ways."""

    def __init__(self, model: GenerativeModule, way: str, device: str):
        self.model, self.device = model.to(device).train(), device
        if "channels_last" in way:
            self.model.to(memory_format=torch.channels_last)
        self.half = "bf16" in way
        self.adam = torch.optim.Adam(self.model.parameters(), fused=True)

    def step(self, batch: Batch) -> None:
        """One."""
        with torch.autocast(self.device, torch.bfloat16) if self.half else contextlib.nullcontext():
            loss, _ = self.model.objective(batch)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


def measure(name: str, device: str, rounds: int, steps: int) -> dict[str, float]:
    """Median milliseconds in float32, and the other ways' ratios to it."""
    cls, spec, size, options = NETWORKS[name]
    torch.manual_seed(0)
    model = cls(spec, **options)
    batch = Batch(torch.randint(spec.levels or 2, (size, *spec.shape)).to(spec.dtype).to(device))
    ways = {way: Way(copy.deepcopy(model), way, device) for way in WAYS}
    for each in ways.values():
        each.step(batch)
        each.step(batch)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way, each in ways.items():
            start = now(device)
            for _ in range(steps):
                each.step(batch)
            seconds[way].append((now(device) - start) / steps)
    plain = seconds["float32"]
    ratios = {way: statistics.median(a / b for a, b in zip(seconds[way], plain, strict=True)) for way in WAYS[1:]}
    return {"float32 ms": 1000 * statistics.median(plain), **ratios}


def processor() -> str:
    """The name of this CPU, and the units for bfloat16 that it has."""
    text = Path("/proc/cpuinfo").read_text() if os.path.exists("/proc/cpuinfo") else ""
    lines = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    found = {key.strip(): value.strip() for key, value in lines.items()}
    units = [unit for unit in ("amx_bf16", "avx512_bf16") if unit in found.get("flags", "")]
    return f"{found.get('model name', 'CPU')}, {', '.join(units) or 'no unit for bfloat16'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--out", type=Path, help="a CSV file that rows are added to")
    parser.add_argument("--free", action="store_true", help="give memory back to the system, as Python alone does")
    args = parser.parse_args()
    if not args.free:
        keep_memory()
    device = torch.cuda.get_device_name() if args.device == "cuda" else processor()
    print(f"{device}, torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
    print(f"{'network':20s}" + "".join(f"{each:>20s}" for each in ("float32 ms", *WAYS[1:])))
    for name in args.networks:
        found = measure(name, args.device, args.rounds, args.steps)
        print(f"{name:20s}" + "".join(f"{value:20.2f}" for value in found.values()), flush=True)
        if args.out:
            fresh = not args.out.exists()
            with args.out.open("a", newline="") as file:
                writer = csv.writer(file)
                if fresh:
                    writer.writerow(["device", "network", *found])
                writer.writerow([device, name, *(f"{value:.3f}" for value in found.values())])


if __name__ == "__main__":
    main()
