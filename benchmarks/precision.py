"""Which models keep their numbers under ``--trainer.precision bf16-mixed``: the table results/precision.csv.

From the root of the repository, in the background (the rows that the file has are not made again):

    OMP_NUM_THREADS=1 nice -n 10 python -m benchmarks.precision

Each model is trained on digits for as many batches in float32 and in bf16-mixed, from the same three seeds, and judged on
the validation split in float32: columns have how far bf16-mixed is from float32, the mean over the seeds of val/elbo (or
-val/nll) in nats, the spread of the seeds in float32, and how much the validation differs if it is in bf16-mixed too.
"""

import argparse
import contextlib
import csv
import io
import statistics
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from pytorch_lightning import Trainer, seed_everything

from datamodules import Digits
from zoo import models
from zoo.lightning import quiet_lightning
from zoo.models.base import GenerativeModule

SEEDS = (0, 1, 2)
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
SMALL = {"hidden": 128, "latent_dim": 8}
FEW = {
    "couplings": (2, 1, 1),
    "filters": 8,
    "blocks": 1,
    "components": 2,
    "dequantizer_couplings": 1,
    "dequantizer_blocks": 1,
}
MODELS: dict[str, tuple[type[GenerativeModule], dict, int]] = {
    "vae (mlp)": (models.VAE, {"network": "mlp", **SMALL}, 150),
    "vae (conv)": (models.VAE, {"latent_dim": 8}, 75),
    "vae (gated_conv)": (models.VAE, {"network": "gated_conv", "latent_dim": 8}, 50),
    "vae (vamp)": (models.VAE, {"network": "mlp", "prior": "vamp", "prior_options": {"components": 50}, **SMALL}, 100),
    "beta_vae": (models.BetaVAE, {"network": "mlp", **SMALL}, 150),
    "annealed_vae": (models.AnnealedVAE, {"network": "mlp", **SMALL}, 150),
    "beta_tcvae": (models.BetaTCVAE, {"network": "mlp", **SMALL}, 150),
    "dip_vae": (models.DIPVAE, {"network": "mlp", **SMALL}, 150),
    "factor_vae": (models.FactorVAE, {"network": "mlp", "discriminator_width": 64, **SMALL}, 100),
    "af_prior_vae": (models.AFPriorVAE, {"network": "mlp", **SMALL}, 75),
    "flow_posterior_vae": (models.FlowPosteriorVAE, {"network": "mlp", **SMALL}, 75),
    "made": (models.MADE, {}, 75),
    "pixelcnn": (models.PixelCNN, {"layers": 3, "channels": 24}, 37),
    "flowpp": (models.FlowPlusPlus, {**FEW, "dequantizer_couplings": 1, "warmup": 20}, 20),
}


def score(model: GenerativeModule, data: Digits, precision: str) -> float:
    """val/elbo, or -val/nll."""
    torch.manual_seed(0)
    trainer = Trainer(accelerator="cpu", precision=precision, **QUIET)
    (found,) = trainer.validate(model, data, verbose=False)
    return found["val/elbo"] if "val/elbo" in found else -found["val/nll"]


def trained(build: Callable[[], GenerativeModule], batches: int, precision: str, seed: int) -> tuple[float, float]:
    """The score of a model after as many batches, in float32 and in the precision that it was trained in."""
    seed_everything(seed, verbose=False)
    model, data = build(), Digits(seed=seed)
    trainer = Trainer(accelerator="cpu", precision=precision, max_steps=batches, max_epochs=-1, limit_val_batches=0, **QUIET)
    trainer.fit(model, data)
    return score(model, data, "32-true"), score(model, data, precision)


def row(name: str) -> dict[str, str | int | float]:
    """One of the table."""
    cls, options, batches = MODELS[name]
    plain, half, judged = [], [], []
    for seed in SEEDS:
        plain.append(trained(lambda: cls(Digits().spec, **options), batches, "32-true", seed)[0])
        score_of_half, own = trained(lambda: cls(Digits().spec, **options), batches, "bf16-mixed", seed)
        half.append(score_of_half)
        judged.append(own - score_of_half)
    differences = [b - a for a, b in zip(plain, half, strict=True)]
    mean, spread = statistics.mean(differences), statistics.stdev(plain)
    return {
        "model": name,
        "batches": batches,
        "float32": round(statistics.mean(plain), 3),
        "spread_of_seeds": round(spread, 3),
        "bf16_mixed_minus_float32": round(mean, 3),
        "largest": round(max(differences, key=abs), 3),
        "judged_in_bf16_mixed": round(statistics.mean(judged), 3),
        "keeps": "yes" if abs(mean) <= spread else "no",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("results/precision.csv"))
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    args = parser.parse_args()
    quiet_lightning()
    warnings.simplefilter("ignore")
    rows = list(csv.DictReader(args.out.open())) if args.out.exists() else []
    for name in args.models:
        if name in {each["model"] for each in rows}:
            continue
        with contextlib.redirect_stderr(io.StringIO()):
            rows.append({key: str(value) for key, value in row(name).items()})
        print(rows[-1], flush=True)
        with args.out.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
