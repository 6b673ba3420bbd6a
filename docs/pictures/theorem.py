"""Draws docs/pictures/theorem.png: dSprites by a disentangled and an entangled model of equal likelihood.

Run from the root of the repository: ``python docs/pictures/theorem.py`` (a minute of one core, nearly all for DCI).
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor
from torch.distributions import Uniform

from datamodules.dsprites_render import FACTOR_NAMES, FACTOR_SIZES, render
from zoo.metrics import PointScores
from zoo.transforms import Entangle

POINTS, TEST_POINTS, STEPS = 10000, 5000, 10
SIZES = torch.tensor(FACTOR_SIZES)


def factors_of(z: Tensor) -> Tensor:
    """The factors that a latent z in (-1, 1)^5 stands for: each interval is cut into equal parts, one for each value."""
    return ((z + 1) / 2 * SIZES).long().clamp(min=0).minimum(SIZES - 1)


def sprites(z: Tensor) -> Tensor:
    """Images (rows * 64, columns * 64) of latents (rows, columns, 5)."""
    images = torch.from_numpy(render(factors_of(z.flatten(0, 1)).numpy()))
    return images.view(*z.shape[:2], 64, 64).transpose(1, 2).flatten(2).flatten(0, 1)


def main() -> None:
    """Score both codes, draw both models, print the scores."""
    torch.manual_seed(0)
    prior = Uniform(-torch.ones(5).double(), torch.ones(5).double())
    entangle = Entangle(prior)
    z = prior.sample((POINTS + TEST_POINTS,))
    factors = factors_of(z)
    start = torch.tensor([0.8, 0.5, -0.6, 0.0, 0.0]).double()
    steps = torch.linspace(-0.95, 0.95, STEPS).double()
    figure = Figure(figsize=(12, 6.8), dpi=100, layout="constrained")
    axes = figure.subplots(2, 2, height_ratios=(1, 1))
    models = (("codes z", z, start, lambda y: y), ("codes f(z)", entangle(z)[0], entangle(start)[0], entangle.inverse))
    for column, (name, codes, first, back) in enumerate(models):
        scores = PointScores(codes[:POINTS], factors[:POINTS], codes[POINTS:], factors[POINTS:])
        found = {key: scores.compute(key) for key in ("mig", "dci_disentanglement", "sap")}
        print(name, found)
        moved = first.repeat(5, STEPS, 1)
        moved[torch.arange(5), :, torch.arange(5)] = steps
        latents = moved if name == "codes z" else back(moved)[0]
        axes[0, column].imshow(sprites(latents), cmap="gray")
        axes[0, column].set_yticks(32 + 64 * torch.arange(5), [f"code {i}" for i in range(5)])
        axes[0, column].set_xticks([])
        axes[0, column].set_title(f"{name}: one code moved in each row")
        axes[1, column].imshow(scores.information, cmap="Blues", vmin=0, vmax=3, aspect="auto")
        axes[1, column].set_xticks(range(5), FACTOR_NAMES)
        axes[1, column].set_yticks(range(5), [f"code {i}" for i in range(5)])
        for i in range(5):
            for k in range(5):
                value = scores.information[i, k].item()
                color = "white" if value > 1.8 else "black"
                axes[1, column].text(k, i, f"{value:.2f}", ha="center", va="center", color=color)
        mig, dci, sap = found.values()
        axes[1, column].set_title(f"information in nats; MIG {mig:.3f}, DCI {dci:.3f}, SAP {sap:.3f}")
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
