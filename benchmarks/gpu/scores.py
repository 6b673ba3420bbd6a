"""Part 3, scores: seconds of each disentanglement score of 10,000 points, on the device and on the CPU."""

from collections.abc import Iterator
from functools import partial

import torch

from benchmarks.disentanglement_scores import draw
from benchmarks.gpu.bench import Bench
from zoo.metrics.disentanglement import SCORES, score_codes

__all__ = ["run"]


def run(bench: Bench) -> None:
    """Of codes in which five factors were rotated: what is quick first, DCI's trees last; the device, then the CPU."""
    size = "small" if bench.tiny else "full"
    points = [torch.from_numpy(each) for each in draw("rotated", size)]
    names = ["all but dci", "dci"]
    devices = dict.fromkeys([bench.device, "cpu"])
    for device, name in bench.each("scores", [(d, n) for d in devices for n in names], " ".join):
        what = {"part": "scores", "model": name, "configuration": f"{len(points[0])} points {len(points[2])} test points"}
        bench.attempt("speed", partial(_timed, bench, device, name, points), mode=device, **what)


def _timed(bench: Bench, device: str, name: str, points: list[torch.Tensor]) -> Iterator[dict]:
    trees = [score for score in SCORES if score.startswith("dci")]
    metrics = trees if name == "dci" else [score for score in SCORES if score not in trees]
    score_codes(*(each[:200].to(device) for each in points), metrics=metrics)  # what only the first call costs
    moved = [each.to(device) for each in points]
    start = bench.synchronize()
    scores = score_codes(*moved, metrics=metrics)
    spent = 1e3 * (bench.synchronize() - start)
    note = ", ".join(f"{key} {value:.4f}" for key, value in list(scores.items())[:3])
    yield {"milliseconds": spent, "note": note}
