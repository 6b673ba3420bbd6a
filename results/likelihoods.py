"""Likelihoods of VAEs with different posteriors and priors on dynamically binarised MNIST: writes likelihoods.csv.

    python results/likelihoods.py --root FOLDER_WITH_MNIST

Same encoder, decoder, latents, likelihood and budget for all: configs/{vae,flow_posterior_vae,af_prior_vae}-mnist.yaml.
Rows that the file holds are not computed again, so that an interrupted run goes on.
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

import torch
from pytorch_lightning import __version__ as lightning

HERE = Path(__file__).resolve().parent
METHODS = {
    "gaussian": ("vae", {}),
    "planar": ("flow_posterior_vae", {"posterior": "planar"}),
    "iaf": ("flow_posterior_vae", {"posterior": "iaf"}),
    "af_prior": ("af_prior_vae", {"prior": "maf"}),
    "spline_af_prior": ("af_prior_vae", {"prior": "spline"}),
    "sylvester": ("flow_posterior_vae", {"posterior": "sylvester_orthogonal", "posterior_options": "{directions: 16}"}),
}
MEASURED = ("elbo", "kl", "nll", "nll_standard_error", "nll_samples", "nll_examples", "active_units")


def seconds() -> float:
    """CPU seconds of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def row(method: str, seed: int, options: argparse.Namespace) -> dict[str, object]:
    """Train and evaluate one model by the two commands that a user would type."""
    model, settings = METHODS[method]
    words = [f"--model.{name}={value}" for name, value in settings.items()]
    root = options.runs / f"{method}-{seed}"
    where = ["--data.root", str(options.root), "--trainer.default_root_dir", str(root), "--wandb", "off"]
    sizes = ["--samples", str(options.samples), "--examples", str(options.examples)]
    start = seconds()
    fit = ["zoo.fit", "--model", model, "--data", "mnist", *words, "--seed", str(seed), *where]
    subprocess.run([sys.executable, "-m", *fit], check=True)
    trained = seconds()
    run = max((root / f"{model}-mnist").iterdir(), key=lambda folder: int(folder.name))
    best = run / "checkpoints" / "best.ckpt"
    subprocess.run([sys.executable, "-m", "zoo.evaluate", "--ckpt", str(best), *sizes], check=True)
    report = json.loads((run / "evaluation.json").read_text())
    weights = torch.load(best, weights_only=True)["state_dict"]
    return {
        "method": method,
        "data": report["data"],
        "command": " ".join(["python -m zoo.fit --model", model, "--data mnist", *words]),
        "seed": seed,
        "parameters": sum(weight.numel() for weight in weights.values()),
        **{name: round(report["metrics"][f"test/{name}"], 3) for name in MEASURED},
        "train_cpu_seconds": round(trained - start),
        "evaluate_cpu_seconds": round(seconds() - trained),
        "machine": f"{os.cpu_count()}-core CPU, in use, one thread; torch {torch.__version__}, lightning {lightning}",
        "python": platform.python_version(),
    }


def main() -> None:
    """Compute the missing rows, seed by seed, and write each as it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="folder with MNIST's files, or where to download them")
    parser.add_argument("--runs", type=Path, default=Path("runs/likelihoods"), help="folder of the runs")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--samples", type=int, default=1000, help="importance samples per example")
    parser.add_argument("--examples", type=int, default=1000, help="test examples, the first ones, for the NLL")
    options = parser.parse_args()
    out = HERE / "likelihoods.csv"
    done = {(each["method"], int(each["seed"])) for each in csv.DictReader(out.open())} if out.exists() else set()
    for seed in options.seeds:
        for method in METHODS:
            if (method, seed) in done:
                continue
            found = row(method, seed, options)
            with out.open("a", newline="") as file:
                writer = csv.DictWriter(file, found)
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow(found)


if __name__ == "__main__":
    main()
