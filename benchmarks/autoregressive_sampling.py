"""Sampling from MADE and PixelCNN at 28x28: what keeps what it computed, and one pass of the whole network for each value.

Run from the root of the repository:

    OMP_NUM_THREADS=1 python -m benchmarks.autoregressive_sampling
    python -m benchmarks.autoregressive_sampling --n 64 --device cuda

Measured with torch 2.13 on a 2-core CPU that was in use by others, one thread, CPU seconds, 16 images:

                                cached    one pass each        different pixels
    made, 500 units                 0.02 s      0.8 s     38x                  0
    made, 2000 units                0.03 s      3.7 s    109x                  0
    pixelcnn, 5 layers of 32        0.16 s     32.3 s    197x                  0
"""

import argparse
import time

import torch

from zoo.models import MADE, PixelCNN
from zoo.models.autoregressive import AutoregressiveModel
from zoo.spec import DataSpec

MODELS: dict[str, tuple[type[AutoregressiveModel], dict]] = {
    "made, 500 units": (MADE, {"hidden": 500}),
    "made, 2000 units": (MADE, {"hidden": 2000}),
    "pixelcnn, 5 layers of 32": (PixelCNN, {}),
    "pixelcnn, 10 layers of 64": (PixelCNN, {"layers": 10, "channels": 64}),
}


def seconds(model: AutoregressiveModel, n: int, sequential: bool) -> tuple[float, torch.Tensor]:
    """CPU seconds, on a GPU seconds, of n samples; and the samples, which the seed decides."""
    clock = time.process_time if model.device.type == "cpu" else time.perf_counter
    torch.manual_seed(0)
    start = clock()
    x = model.sequential_sample(n) if sequential else model.sample(n)
    if model.device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start, x.cpu()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    print(f"{'':28s}    cached    one pass each        different pixels")
    for name, (cls, options) in MODELS.items():
        torch.manual_seed(0)
        model = cls(DataSpec("pixels", (1, 28, 28), levels=2), **options).to(args.device).eval()
        seconds(model, args.n, sequential=False)  # warms up
        cached, x = min((seconds(model, args.n, sequential=False) for _ in range(3)), key=lambda found: found[0])
        slow, y = seconds(model, args.n, sequential=True)
        print(f"{name:28s} {cached:7.2f} s {slow:8.1f} s {slow / cached:6.0f}x {(x != y).sum().item():18d}")


if __name__ == "__main__":
    main()
