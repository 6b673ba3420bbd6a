"""Trains and evaluates the models of a comparison, each by the two commands that a user would type, and writes its table.

    python results/compare.py likelihoods --root FOLDER_WITH_MNIST
    python results/compare.py dequantization
    python results/compare.py dequantization_mnist --root FOLDER_WITH_MNIST

The settings are the presets in configs/; a method is what it changes in them. Rows that the table holds are not computed
again, so that an interrupted comparison goes on. ``--table`` prints it for docs/results.md.
"""

import argparse
import csv
import json
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

import torch
from pytorch_lightning import __version__ as lightning


class Method(NamedTuple):
    """A name in the table, and the arguments that follow ``python -m zoo.fit``."""

    name: str
    arguments: str


class Comparison(NamedTuple):
    """Methods that are trained alike, what is measured of each, and by which arguments of ``python -m zoo.evaluate``."""

    methods: tuple[Method, ...]
    measured: tuple[str, ...]
    checkpoint: str
    evaluated: str


_SYLVESTER = "--model.posterior sylvester_orthogonal --model.posterior_options {directions:16}"
_MNIST = "--model flowpp --data mnist --trainer.max_steps 200 --trainer.val_check_interval 200 --trainer.limit_val_batches 4"
_NLL = ("nll", "nll_standard_error", "nll_samples", "nll_examples")
COMPARISONS = {
    "likelihoods": Comparison(
        methods=(
            Method("gaussian", "--model vae --data mnist_binary"),
            Method("planar", "--model flow_posterior_vae --data mnist_binary --model.posterior planar"),
            Method("iaf", "--model flow_posterior_vae --data mnist_binary --model.posterior iaf"),
            Method("af_prior", "--model af_prior_vae --data mnist_binary --model.prior maf"),
            Method("spline_af_prior", "--model af_prior_vae --data mnist_binary --model.prior spline"),
            Method("sylvester", f"--model flow_posterior_vae --data mnist_binary {_SYLVESTER}"),
        ),
        measured=("elbo", "kl", *_NLL, "active_units"),
        checkpoint="best",
        evaluated="--samples 1000 --examples 1000",
    ),
    "dequantization": Comparison(
        # as many parameters each, within 4 %, by the number of filters
        methods=(
            Method("variational", "--model flowpp --data digits"),
            Method("uniform", "--model flowpp --data digits --model.dequantization uniform --model.filters 44"),
            Method("affine", "--model flowpp --data digits --model.coupling affine --model.filters 34 --model.heads 2"),
            Method("no_attention", "--model flowpp --data digits --model.attention false"),
        ),
        measured=("elbo", "bits_per_dim", "log_q", *_NLL, "nll_bits_per_dim", "inversion_error"),
        checkpoint="last",
        evaluated="--samples 64 --examples 180",
    ),
    "dequantization_mnist": Comparison(
        methods=(
            Method("variational", _MNIST),
            Method("uniform", f"{_MNIST} --model.dequantization uniform --model.filters 34 --model.heads 1"),
        ),
        measured=("elbo", "bits_per_dim", "log_q", *_NLL, "nll_bits_per_dim", "inversion_error"),
        checkpoint="last",
        evaluated="--samples 16 --examples 50",
    ),
}


def seconds() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(comparison: Comparison, method: Method, seed: int, runs: Path, data: list[str]) -> dict[str, object]:
    """Train and evaluate one model."""
    start, root = seconds(), runs / f"{method.name}-{seed}"
    where = ["--trainer.default_root_dir", str(root), "--wandb", "off"]
    data = data if "mnist" in method.arguments else []
    arguments = [*method.arguments.split(), "--seed", str(seed), *data, *where]
    subprocess.run([sys.executable, "-m", "zoo.fit", *arguments], check=True)
    trained = seconds()
    run = max(root.glob("*/*"), key=lambda folder: int(folder.name))
    checkpoint = run / "checkpoints" / f"{comparison.checkpoint}.ckpt"
    evaluated = comparison.evaluated.split()
    subprocess.run([sys.executable, "-m", "zoo.evaluate", "--ckpt", str(checkpoint), *evaluated], check=True)
    report = json.loads((run / "evaluation.json").read_text())
    weights = torch.load(checkpoint, weights_only=True)["state_dict"].values()
    return {
        "method": method.name,
        "data": report["data"],
        "command": f"python -m zoo.fit {method.arguments}",
        "seed": seed,
        "parameters": sum(weight.numel() for weight in weights if weight.is_floating_point()),
        **{name: f"{report['metrics'][f'test/{name}']:.6g}" for name in comparison.measured},
        "train_cpu_seconds": round(trained - start),
        "evaluate_cpu_seconds": round(seconds() - trained),
        "machine": f"{os.cpu_count()}-core CPU, in use, one thread; torch {torch.__version__}, lightning {lightning}",
        "python": platform.python_version(),
    }


def table(path: Path) -> str:
    """The table in Markdown: means over seeds, with the standard deviation where there are several."""
    rows = list(csv.DictReader(path.open()))
    shown = [name for name in COMPARISONS[path.stem].measured if not name.endswith(("_error", "_samples", "_examples"))]
    lines = [["method", "parameters", "seeds", *shown], ["---"] * (3 + len(shown))]
    for method in COMPARISONS[path.stem].methods:
        of_method = [each for each in rows if each["method"] == method.name]
        if of_method:
            columns = [[float(each[name]) for each in of_method] for name in shown]
            lines.append([method.name, f"{int(of_method[0]['parameters']):,}", str(len(of_method)), *map(_spread, columns)])
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _spread(values: list[float]) -> str:
    digits = 3 if abs(mean(values)) < 10 else 2
    return f"{mean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def main() -> None:
    """Compute the missing rows, seed by seed, and write each as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("comparison", choices=COMPARISONS)
    parser.add_argument("--root", default="data", help="folder with MNIST's files, or where to download them")
    parser.add_argument("--runs", type=Path, default=Path("runs/results"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--methods", nargs="+", help="only these: several processes may write one table")
    parser.add_argument("--table", action="store_true", help="only print what is there, in Markdown")
    options = parser.parse_args()
    comparison = COMPARISONS[options.comparison]
    out = Path(__file__).resolve().with_name(f"{options.comparison}.csv")
    if options.table:
        print(table(out), end="")
        return
    done = {(each["method"], int(each["seed"])) for each in csv.DictReader(out.open())} if out.exists() else set()
    for seed in options.seeds:
        for method in comparison.methods:
            if (method.name, seed) in done or (options.methods and method.name not in options.methods):
                continue
            found = row(comparison, method, seed, options.runs, ["--data.root", options.root])
            with out.open("a", newline="") as file:
                writer = csv.DictWriter(file, found, lineterminator="\n")
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(found)


if __name__ == "__main__":
    main()
