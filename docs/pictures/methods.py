"""A picture of each method, on its page: what it has learned, and not only that it draws.

Run from the root of the repository: ``python docs/pictures/methods.py [NAME ...]``; all if none is named. Everything is
trained here, on digits or toy data, with seed 0; each line that is printed has the seconds of CPU time that it took.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from pytorch_lightning import LightningDataModule, Trainer, seed_everything
from torch import Tensor, nn

from datamodules import Digits, Toy
from zoo.distributions.posteriors import POSTERIORS
from zoo.evaluation import sample
from zoo.models import GAN, MADE, VAE, AFPriorVAE, BetaVAE, PixelCNN
from zoo.models.base import GenerativeModule

M = TypeVar("M", bound=GenerativeModule)
CLASSES = "tab10"


def trained(make: Callable[[], M], data: LightningDataModule, steps: int) -> M:
    """A model after so many batches of the data."""
    seed_everything(0, verbose=False)
    model = make()
    fit(model, data, steps)
    return model.eval()


def fit(model: GenerativeModule, data: LightningDataModule, steps: int) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    Trainer(max_steps=steps, accelerator="cpu", limit_val_batches=0, **quiet).fit(model, data)


def figure(width: float, height: float, rows: int, columns: int, **options) -> tuple[Figure, list]:
    """A figure and its axes, row by row."""
    whole = Figure(figsize=(width, height), dpi=90, layout="constrained")
    return whole, list(whole.subplots(rows, columns, squeeze=False, **options).flat)


def show(axes, images: Tensor, columns: int, title: str) -> None:
    """Digits (N, 1, 8, 8) as a grid, with gray lines between them."""
    framed = nn.functional.pad(images[:, 0].float(), (1, 1, 1, 1), value=5.0)
    rows = framed.view(-1, columns, 10, 10).transpose(1, 2).reshape(-1, columns * 10)
    axes.imshow(rows, cmap="gray", vmin=0, vmax=16, interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.axis("off")


@torch.no_grad()
def plane_of_codes(model: VAE, reach: float) -> tuple[Tensor, Tensor]:
    """Means of p(x|z) for z on a square, and the square's coordinates."""
    side = torch.linspace(-reach, reach, 15)
    rows, columns = torch.meshgrid(-side, side, indexing="ij")
    return model.likelihood.mean(model.decoder_output(torch.stack((columns, rows), -1).view(-1, 2))), side


def vae() -> Figure:
    """The plane of codes of a VAE: posterior means of test digits, and what is decoded from each place."""
    data = Digits(seed=0)
    model = trained(lambda: VAE(data.spec, network="mlp", hidden=200, latent_dim=2), data, 3000)
    test = data.splits["test"]
    whole, (codes, plane) = figure(8, 4, 1, 2)
    with torch.no_grad():
        z = model.encode(test.x)
        images, _ = plane_of_codes(model, 2.5)
    codes.scatter(*z.T, c=test.label, cmap=CLASSES, s=14)
    codes.set(title="codes of test digits, by class", xlim=(-2.7, 2.7), ylim=(-2.7, 2.7), aspect="equal")
    show(plane, images, 15, "means of p(x|z) over the same square")
    return whole


def af_prior_vae() -> Figure:
    """Priors on two codes, normal and learned, over draws of the aggregate posterior that they are to match."""
    data = Digits(seed=0)
    options = {"network": "mlp", "hidden": 200, "latent_dim": 2}
    models = {
        "normal prior": trained(lambda: VAE(data.spec, **options), data, 3000),
        "spline prior": trained(lambda: AFPriorVAE(data.spec, prior="spline", **options), data, 3000),
    }
    whole, places = figure(8, 4, 1, 2)
    for axes, (name, model) in zip(places, models.items(), strict=True):
        with torch.no_grad():
            z, _ = model.q(data.splits["train"].x).rsample_and_log_prob()
            reach = z.abs().quantile(0.995).item() * 1.1
            side = torch.linspace(-reach, reach, 200)
            rows, columns = torch.meshgrid(side, side, indexing="ij")
            density = model.prior().log_prob(torch.stack((columns, rows), -1).view(-1, 2)).exp().view(200, 200)
        limits = (-reach, reach)
        axes.imshow(density.sqrt(), extent=limits + limits, origin="lower", cmap="Greys")
        axes.scatter(*z.T, color="tab:orange", s=2)
        axes.set(xlim=limits, ylim=limits)
        axes.set_title(f"{name}, √p(z), and draws of q(z)", fontsize=10)
    return whole


def flow_posterior_vae() -> Figure:
    """Posteriors fitted to a density of two bent ridges by min KL(q || p)."""

    def log_p(z: Tensor) -> Tensor:
        """Energy 4 of Rezende and Mohamed 2015, table 1, with a bound on the sides: (..., 2) -> (...)."""
        x, y = z[..., 0], z[..., 1]
        w1, w3 = torch.sin(2 * torch.pi * x / 4), 3 * torch.sigmoid((x - 1) / 0.3)
        ridges = torch.logaddexp(-0.5 * ((y - w1) / 0.4).square(), -0.5 * ((y - w1 + w3) / 0.35).square())
        return ridges - 0.5 * (x / 2).square()

    side = torch.linspace(-4, 4, 200)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    grid = log_p(torch.stack((columns, rows), -1))
    log_z = grid.logsumexp((0, 1)) + 2 * torch.log(side[1] - side[0])
    named = {"diagonal": {}, "full": {}, "planar": {"steps": 16}, "sylvester_orthogonal": {"steps": 8}, "spline_iaf": {}}
    whole, places = figure(9, 6.2, 2, 3, sharex=True, sharey=True)
    places[0].imshow(grid.exp(), extent=(-4, 4, -4, 4), origin="lower", cmap="Blues")
    places[0].set_title("the density to be matched")
    for axes, (name, options) in zip(places[1:], named.items(), strict=True):
        seed_everything(0, verbose=False)
        posterior, features = POSTERIORS[name](1, 2, **options), torch.ones(1, 1)
        weights = nn.ParameterList(posterior.parameters())
        optimizer = torch.optim.Adam(weights, lr=5e-3)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 1500)
        for _ in range(1500):
            z, log_q = posterior(features).rsample_and_log_prob((200,))
            loss = (log_q - log_p(z)).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 5.0)
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            z, log_q = posterior(features).rsample_and_log_prob((20_000,))
            kl = (log_q - log_p(z)).mean() + log_z
        axes.hist2d(*z[:, 0].T.numpy(), bins=100, range=[[-4, 4], [-4, 4]], cmap="Blues")
        axes.set_title(f"{name}: KL {kl:.2f} nats")
    for axes in places:
        axes.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal")
    return whole


def autoregressive() -> Figure:
    """Samples of both models, and which pixels decide on the one in the middle."""
    data = Digits(seed=0)
    models = {
        "MADE": trained(lambda: MADE(data.spec, lr_decay=0.999), data, 2100),
        "PixelCNN": trained(lambda: PixelCNN(data.spec, lr_decay=0.998), data, 1200),
    }
    whole, places = figure(8, 2.5, 1, 2)
    for axes, (name, model) in zip(places, models.items(), strict=True):
        show(axes, sample(model, 50), 10, f"50 samples of the {name}")
    return whole


def disentangling() -> Figure:
    """What a larger beta costs: reconstructions of the same digits; and what single codes do."""
    data = Digits(seed=0)
    whole, places = figure(8, 6.4, 4, 2, width_ratios=(1.5, 1))
    places[1].axis("off")
    for i, beta in enumerate((1.0, 4.0, 16.0)):

        def make(beta: float = beta) -> BetaVAE:
            return BetaVAE(data.spec, beta=beta, network="mlp", hidden=200, latent_dim=6)

        model = trained(make, data, 2500)
        x = data.splits["test"].x
        if i == 0:
            show(places[0], x[:30], 15, "test digits")
        with torch.no_grad():
            q = model.q(x)
            kl = q.kl(model.prior()) if hasattr(q, "kl") else None
            z = model.encode(x)
            output = model.decoder_output(z)
            reconstruction = -model.likelihood.log_prob(x, output).mean()
            order = z.var(0).argsort(descending=True)[:3]
            moved = z[3].repeat(3, 9, 1)
            for row, code in enumerate(order):
                moved[row, :, code] = torch.linspace(-2.2, 2.2, 9)
            traversed = model.likelihood.mean(model.decoder_output(moved.view(-1, 6)))
        spent = f", KL {kl.mean():.1f}" if kl is not None else ""
        title = f"β = {beta:g}: −log p(x|z) {reconstruction:.0f}{spent} nats"
        show(places[2 * i + 2], model.likelihood.mean(output[:30]), 15, title)
        show(places[2 * i + 3], traversed, 9, "three codes that vary most, moved")
    return whole


def gan() -> Figure:
    """A GAN on the ring in training: its samples over D. Optimizers start anew where training pauses for a picture."""
    data = Toy("ring", seed=0)
    seed_everything(0, verbose=False)
    model = GAN(data.spec, r1=0.05, latent_dim=4, width=128, lr=3e-3)
    whole, places = figure(9, 3.4, 1, 3, sharex=True, sharey=True)
    side = torch.linspace(-3, 3, 150)
    rows, columns = torch.meshgrid(side, side, indexing="ij")
    points = torch.stack((columns, rows), -1).view(-1, 2)
    for axes, (before, steps) in zip(places, ((0, 100), (100, 1000), (1000, 4000)), strict=True):
        fit(model, data, steps - before)
        with torch.no_grad():
            d = model.discriminate(points).sigmoid().view(150, 150)
        image = axes.imshow(d, extent=(-3, 3, -3, 3), origin="lower", cmap="RdBu", vmin=0, vmax=1)
        axes.scatter(*sample(model, 500).T, s=3, color="black", label="samples")
        axes.scatter(*data.means.T, s=40, facecolors="none", edgecolors="tab:orange", label="means of the data")
        axes.set(title=f"after {steps:,} batches", xlim=(-3, 3), ylim=(-3, 3))
    places[0].legend(loc="lower left", fontsize=7)
    whole.colorbar(image, ax=places, label="D(x)")
    return whole


PICTURES = {
    "vae-codes": vae,
    "af-prior": af_prior_vae,
    "flow-posteriors": flow_posterior_vae,
    "autoregressive-digits": autoregressive,
    "beta-vae-digits": disentangling,
    "gan-ring": gan,
}


def main() -> None:
    for name in sys.argv[1:] or PICTURES:
        begun = time.process_time()
        path = Path(__file__).with_name(f"{name}.png")
        canvas = FigureCanvasAgg(PICTURES[name]())
        canvas.draw()
        Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(100).save(path, optimize=True)
        print(f"{path.name}: {time.process_time() - begun:.0f} s, {path.stat().st_size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
