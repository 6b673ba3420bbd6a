"""Speed of the scores of samples: MMD-FUSE against its limit, every score, and the largest samples.

Run from the root of the repository: ``python -m benchmarks.two_sample_scores``

``--threads`` sets how many are used (2), ``--large`` adds 50,000 x 50,000 examples with the memory that they take. What has
a limit says whether it was kept, and the command ends with status 1 where one was not. Times are those of a clock, beside
the CPU time of each thread: on a machine that others use too, a limit counts as kept where that is below it.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor

from zoo.metrics import (
    authenticity,
    c2st,
    c_t,
    clipped_density_coverage,
    frechet_distance,
    frechet_distance_infinity,
    kernel_distance,
    mind,
    mmd,
    mmd_fuse,
    prdc,
    sliced_wasserstein,
)

SCORES: dict[str, Callable[[Tensor, Tensor, Tensor], object]] = {
    "c2st": lambda train, x, y: c2st(x, y),
    "mmd": lambda train, x, y: mmd(x, y),
    "mmd_fuse": lambda train, x, y: mmd_fuse(x, y, permutations=1000),
    "frechet_distance": lambda train, x, y: frechet_distance(x, y),
    "frechet_distance_infinity": lambda train, x, y: frechet_distance_infinity(x, y),
    "kernel_distance": lambda train, x, y: kernel_distance(x, y),
    "prdc": lambda train, x, y: prdc(x, y),
    "clipped_density_coverage": lambda train, x, y: clipped_density_coverage(x, y),
    "sliced_wasserstein": lambda train, x, y: sliced_wasserstein(x, y),
    "mind": lambda train, x, y: mind(x, y),
    "c_t": lambda train, x, y: c_t(train, x, y),
    "authenticity": lambda train, x, y: authenticity(train, y),
}
LARGE = ("frechet_distance", "kernel_distance", "prdc", "clipped_density_coverage", "sliced_wasserstein", "authenticity")


def draw(n: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training, test and generated examples."""
    train, x, y = torch.randn(3, n, d, generator=torch.Generator().manual_seed(0))
    return train, x, 1.02 * y


def seconds(run: Callable[[], object]) -> tuple[float, float]:
    """By the clock, and of CPU time, each thread's."""
    start, cpu = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - start, (time.process_time() - cpu) / torch.get_num_threads()


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6 if sys.platform == "linux" else float("nan")


def report(label: str, value: float, limit: float, cpu: float | None = None) -> bool:
    kept = min(value, value if cpu is None else cpu) < limit
    told = f"{value:7.2f} GB           " if cpu is None else f"{value:7.2f} s, CPU {cpu:6.2f} s"
    print(f"  {label:44s} {told}  limit {limit:g}{'' if kept else '   NOT KEPT'}", flush=True)
    return kept


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--large", action="store_true", help="add 50,000 x 50,000 examples, which take minutes")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for score in SCORES.values():  # what only the first call costs
        score(*draw(100, 64))
    kept = []
    for d in (2, 64):
        _, x, y = draw(1000, d)
        spent, cpu = seconds(lambda x=x, y=y: mmd_fuse(x, y, permutations=2000))
        kept.append(report(f"mmd_fuse, 2,000 permutations, n = 1,000, d = {d}", spent, 5, cpu))
    examples, total = draw(2000, 64), [0.0, 0.0]
    for name, score in SCORES.items():
        spent, cpu = seconds(lambda score=score: score(*examples))
        total = [total[0] + spent, total[1] + cpu]
        print(f"    {name:42s} {spent:7.2f} s, CPU {cpu:6.2f} s", flush=True)
    kept.append(report("every score together, n = 2,000, d = 64", total[0], 30, total[1]))
    if arguments.large:
        examples, before = draw(50_000, 2), peak_gigabytes()
        for name in LARGE:
            spent, cpu = seconds(lambda name=name: SCORES[name](*examples))
            print(f"    {name:42s} {spent:7.2f} s, CPU {cpu:6.2f} s", flush=True)
        kept.append(report("memory, n = 50,000, d = 2", peak_gigabytes() - before, 2))
    sys.exit(0 if all(kept) else 1)


if __name__ == "__main__":
    main()
