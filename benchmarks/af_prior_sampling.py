"""Sampling from an affine autoregressive-flow prior: ours, the plain sequential inverse, and zuko's MAF.

Run from the root of the repository, with zuko installed:

    OMP_NUM_THREADS=1 python -m benchmarks.af_prior_sampling
    python -m benchmarks.af_prior_sampling --features 64 --steps 4 --batch 64 --widths 64 640 --device cuda

Measured with torch 2.13 and zuko 1.6 on a 2-core CPU with nothing else running, 1 thread, the least of 12 rounds:

    d = 64, 4 steps, batch 64
    two hidden layers of    ours  sequential        zuko   max|ours - sequential|
                     64    8.0 ms    41.5 ms  5.2x    41.3 ms  5.2x   2.4e-07
                    128    8.7 ms    57.5 ms  6.6x    53.1 ms  6.1x   2.4e-07
                    256   10.0 ms    99.5 ms 10.0x   101.3 ms 10.2x   2.4e-07
                    320   10.7 ms   127.2 ms 11.9x   129.9 ms 12.2x   2.4e-07
                    640   15.3 ms   349.0 ms 22.9x   584.3 ms 38.3x   2.4e-07
                   1024   21.5 ms   951.5 ms 44.3x  1010.7 ms 47.0x   2.4e-07

320 is the width of the priors maf and spline unless another is given. Narrower than 256, the time is that of some 3,300
small calls (64 dimensions × 4 steps × 13), whatever their size.
"""

import argparse
import time

import torch
import zuko

from zoo.transforms import AffineAutoregressive, Compose, autoregressive_flow


def sequential_inverse(flow: Compose, noise: torch.Tensor) -> torch.Tensor:
    for step in reversed(flow.transforms):
        noise, _ = step.sequential_inverse(noise)
    return noise


def milliseconds(functions: dict, rounds: int) -> dict[str, float]:
    """The least time of each function, measured in turns: what else the machine does falls on all of them alike."""
    best = dict.fromkeys(functions, float("inf"))
    for _ in range(rounds + 1):  # the first round warms up, and is never the least
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            best[name] = min(best[name], 1e3 * (time.perf_counter() - start))
    return best


def compare(width: int, args: argparse.Namespace) -> str:
    """One line of the table: two hidden layers of this width, untrained."""
    hidden = (width, width)
    ours = autoregressive_flow(AffineAutoregressive, args.features, args.steps, hidden=hidden).to(args.device)
    theirs = zuko.flows.MAF(args.features, transforms=args.steps, hidden_features=hidden).to(args.device)
    noise = torch.randn(args.batch, args.features, device=args.device)
    functions = {
        "ours": lambda: ours.inverse(noise)[0],
        "sequential": lambda: sequential_inverse(ours, noise),
        "zuko": lambda: theirs().transform.inv(noise),
    }
    times = milliseconds(functions, args.rounds)
    difference = (functions["ours"]() - functions["sequential"]()).abs().max().item()
    columns = [f"{times[name]:7.1f} ms {times[name] / times['ours']:4.1f}x" for name in ("sequential", "zuko")]
    return f"{width:19d} {times['ours']:6.1f} ms {' '.join(columns)}   {difference:.1e}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 320, 640, 1024])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    torch.manual_seed(0)
    where = f"{args.device}, {torch.get_num_threads()} thread(s)"
    print(f"d = {args.features}, {args.steps} steps, batch {args.batch}, {where}")
    print("two hidden layers of    ours  sequential        zuko   max|ours - sequential|")
    with torch.no_grad():
        for width in args.widths:
            print(compare(width, args))


if __name__ == "__main__":
    main()
