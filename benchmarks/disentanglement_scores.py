"""CPU seconds of the disentanglement scores: ours, the reference's as recorded, and scikit-learn's estimators side by side.

Run from the root of the repository: ``OMP_NUM_THREADS=1 python -m benchmarks.disentanglement_scores``

``--size full`` is the study's 10000 points and 5000 test points (two minutes a case, nearly all in scikit-learn's trees;
``--no-dci`` leaves them out), ``--size small`` a tenth of that. Codes are drawn as the reference's were: ten codes of five
factors with 3, 6, 8, 8, 8 values, in the cases perfect, rotated, noise and collapsed.

On one core of a 2-core CPU (AMD EPYC) that was in use, torch 2.13, scikit-learn 1.9, full size, from case to case: all
scores but DCI 0.12 to 0.31 s, where the reference took 2.0 to 3.0 s (8 to 18 times as long); DCI 5.3 to 9.9 s, where the
reference took 97 to 171 s (16 to 23 times), and scikit-learn's trees in the same run 11 to 12 times as long (rotated,
collapsed). SAP is 6 to 13 times faster than scikit-learn's estimator, explicitness 1.4 to 1.9 times.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from zoo.metrics import SCORES, score_codes

GOLDEN = json.loads((Path(__file__).parents[1] / "tests/data/disentanglement_golden.json").read_text())
SIZES = np.array(GOLDEN["factor_sizes"])
POINTS = {"small": (1000, 500), "full": (10000, 5000)}
DCI = [name for name in SCORES if name.startswith("dci")]
QUICK = [name for name in SCORES if name not in DCI]


def draw(case: str, size: str) -> list[np.ndarray]:
    """Codes, factors, test codes and test factors of a case."""
    random, (train, test) = np.random.default_rng(0), POINTS[size]
    factors = np.stack([random.integers(n, size=train + test) for n in SIZES], axis=1)
    signal = (factors - (SIZES - 1) / 2) / np.sqrt((SIZES**2 - 1) / 12)
    noise = random.normal(size=(train + test, 10))
    if case == "rotated":
        rotation = np.linalg.qr(random.normal(size=(10, 10)))[0]
        codes = signal @ rotation[:5] + 0.02 * noise
    elif case == "noise":
        codes = noise
    else:
        rest = 0.01 if case == "collapsed" else 1.0
        codes = np.concatenate([signal + 0.02 * noise[:, :5], rest * noise[:, 5:]], axis=1)
    codes = codes.astype(np.float32)
    return [codes[:train], factors[:train], codes[train:], factors[train:]]


def seconds(run: Callable[[], object], repeats: int = 1) -> tuple[float, object]:
    """The least CPU seconds of some runs, and the result."""
    spent = []
    for _ in range(repeats):
        start = time.process_time()
        result = run()
        spent.append(time.process_time() - start)
    return min(spent), result


def sklearn_sap(codes: np.ndarray, factors: np.ndarray, codes_test: np.ndarray, factors_test: np.ndarray) -> float:
    scores = np.zeros((codes.shape[1], factors.shape[1]))
    for d, k in np.ndindex(*scores.shape):
        machine = LinearSVC(C=0.01, class_weight="balanced").fit(codes[:, [d]], factors[:, k])
        scores[d, k] = machine.score(codes_test[:, [d]], factors_test[:, k])
    ordered = np.sort(scores, axis=0)
    return float((ordered[-1] - ordered[-2]).mean())


def sklearn_explicitness(codes: np.ndarray, factors: np.ndarray, codes_test: np.ndarray, factors_test: np.ndarray) -> float:
    mean, std, areas = codes.mean(0), codes.std(0), []
    for k in range(factors.shape[1]):
        model = LogisticRegression().fit((codes - mean) / std, factors[:, k])
        probabilities = model.predict_proba((codes_test - mean) / std)
        areas.append(roc_auc_score(np.eye(SIZES[k])[factors_test[:, k]], probabilities))
    return float(np.mean(areas))


def report(label: str, ours: float, theirs: float, note: str = "") -> None:
    print(f"  {label:34s} {ours:9.3f} {theirs:9.3f} {theirs / ours:7.1f}x  {note}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(POINTS), default="full")
    parser.add_argument("--cases", nargs="+", default=["perfect", "rotated", "noise", "collapsed"])
    parser.add_argument("--no-dci", action="store_true", help="leave out scikit-learn's trees, which take minutes")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    for case in arguments.cases:
        points, recorded = draw(case, arguments.size), GOLDEN["reference_cpu_seconds"][case][arguments.size]
        print(f"{case} {arguments.size} {'ours':>28s} {'theirs':>9s}   ratio")
        score_codes(*(part[:100] for part in points), metrics=QUICK)  # what only the first call costs

        spent, scores = seconds(lambda points=points: score_codes(*points, metrics=QUICK), repeats=3)
        report("all but DCI, reference", spent, sum(recorded.values()) - recorded["dci"])
        for name, estimate in (("sap", sklearn_sap), ("explicitness", sklearn_explicitness)):
            spent, score = seconds(lambda points=points, name=name: score_codes(*points, metrics=name)[name], repeats=3)
            theirs, other = seconds(lambda points=points, estimate=estimate: estimate(*points))
            report(f"{name}, scikit-learn", spent, theirs, f"{score:.4f} and {other:.4f}")
        spent, scores = seconds(lambda points=points: score_codes(*points, metrics=DCI))
        report("DCI, reference", spent, recorded["dci"])
        if not arguments.no_dci:
            theirs, others = seconds(lambda points=points: score_codes(*points, metrics=DCI, estimator="sklearn"))
            agreement = ", ".join(f"{name[4:]} {scores[name]:.4f} and {others[name]:.4f}" for name in DCI)
            report("DCI, scikit-learn", spent, theirs, agreement)


if __name__ == "__main__":
    main()
