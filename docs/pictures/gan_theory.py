"""The numbers and the picture of docs/gan_theory.md: the theory of the GAN on densities that are known.

Run from the root of the repository: ``python docs/pictures/gan_theory.py`` (half a minute of one core). The losses are the
GAN's own; what is here are densities, integrals and loops. ``tests/models/test_gan_theory.py`` runs the same functions.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from zoo.models import GAN
from zoo.models.gan import jsd_estimate
from zoo.spec import DataSpec

STEPS, EXAMPLES = 1000, 1024
SEEN = 0.02  # errors of D are measured where (pi + p) / 2 is above it: elsewhere there is nothing to learn from


def mixture(means: list[list[float]], std: float) -> MixtureSameFamily:
    """Equally likely Gaussians around means (M, D)."""
    centers = torch.tensor(means, dtype=torch.float64)
    return MixtureSameFamily(Categorical(torch.ones(len(centers))), Independent(Normal(centers, std), 1))


RING = [[math.cos(angle), math.sin(angle)] for angle in (torch.arange(6) * math.pi / 3).tolist()]
CASES = {  # the data pi, and p of a generator that stays as it is
    "one dimension": (mixture([[-2.0], [0.0], [1.5]], 0.4), mixture([[-1.0], [1.0]], 0.7)),
    "two dimensions": (mixture(RING, 0.4), mixture([[0.3, 0.0], [-0.5, -0.6]], 0.8)),
    "p = pi": (mixture([[-1.0], [1.0]], 0.7), mixture([[-1.0], [1.0]], 0.7)),
}


class Plane(NamedTuple):
    """Points of a fine grid, (N, D), and the length, area, … that each of them stands for."""

    x: Tensor
    cell: float


def plane(dimensions: int) -> Plane:
    """A grid over [-5, 5]^D, by which densities are integrated."""
    side = torch.linspace(-5, 5, 4001 if dimensions == 1 else 301, dtype=torch.float64)
    x = side.unsqueeze(1) if dimensions == 1 else torch.cartesian_prod(*[side] * dimensions)
    return Plane(x, (side[1] - side[0]).item() ** dimensions)


class Optimum(NamedTuple):
    """A discriminator that was trained against a fixed generator, and what theory says of it.

    Attributes:
        error: max |D - pi / (pi + p)| where there are examples.
        value: V of D, by integration, nats.
        expected: 2 JSD(pi || p) - 2 log 2, by integration, nats.
        values: V of the batch during training, (steps,).
        d: D on the grid, (N,).
        best: D* there.
    """

    error: float
    value: float
    expected: float
    values: Tensor
    d: Tensor
    best: Tensor


def trained(pi: MixtureSameFamily, p: MixtureSameFamily, steps: int = STEPS) -> Optimum:
    """Train D, by the GAN's loss, against the density p of a generator that does not move."""
    torch.manual_seed(0)
    dimensions = pi.event_shape[0]
    model = GAN(DataSpec("density", (dimensions,)), loss="minimax", network="mlp", width=64, depth=3)
    adam = model.build_optimizer(model.discriminator.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    values = []
    for _ in range(steps):
        real, fake = (density.sample((EXAMPLES,)).float() for density in (pi, p))  # fresh ones: none is learned by heart
        loss = model.discriminator_loss(model.discriminate(real), model.discriminate(fake))
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        values.append(-loss.detach())

    x, cell = plane(dimensions)
    log_pi, log_p = pi.log_prob(x), p.log_prob(x)
    with torch.no_grad():
        logit = model.discriminate(x.float()).double()
    seen = (log_pi.exp() + log_p.exp()) / 2 > SEEN
    error = (logit.sigmoid() - (log_pi - log_p).sigmoid()).abs()[seen].max().item()
    log_m = torch.logaddexp(log_pi, log_p) - math.log(2)
    jsd = (log_pi.exp() * (log_pi - log_m) + log_p.exp() * (log_p - log_m)).sum().item() * cell / 2
    v = _value(logit, log_pi, log_p) * cell
    return Optimum(error, v, 2 * jsd - 2 * math.log(2), torch.stack(values), logit.sigmoid(), (log_pi - log_p).sigmoid())


def _value(logit: Tensor, log_pi: Tensor, log_p: Tensor) -> float:
    """The sum of pi log D + p log(1 - D) over the grid."""
    log_d, log_not_d = nn.functional.logsigmoid(logit), nn.functional.logsigmoid(-logit)
    return (log_pi.exp() * log_d + log_p.exp() * log_not_d).sum().item()


class Point(nn.Module):
    """A generator of one example, whatever the latent is."""

    def __init__(self) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.ones(1))

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, 1)."""
        return self.place.expand(len(z), 1)


class DiracGAN(GAN):
    """The smallest game: data at 0, a generator that puts all its examples at one place, D(x) = sigmoid(slope x)."""

    def build_generator(self) -> nn.Module:
        return Point()

    def build_discriminator(self) -> nn.Module:
        linear = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(linear.weight)
        return nn.Sequential(linear, nn.Flatten(0))


class Game(NamedTuple):
    """A game, step by step.

    Attributes:
        place: Where the generator is, (steps + 1,).
        slope: The discriminator's parameter, (steps + 1,).
        discriminator_loss: In nats, (steps,).
        generator_loss: The same.
        jsd: The estimate (V + 2 log 2) / 2 of the divergence.
    """

    place: Tensor
    slope: Tensor
    discriminator_loss: Tensor
    generator_loss: Tensor
    jsd: Tensor


def play(loss: str = "minimax", steps: int = 500, rate: float = 0.1, **options: float) -> Game:
    """Alternate gradient steps of both players, from a generator at 1."""
    model = DiracGAN(DataSpec("zero", (1,)), loss=loss, **options)
    players = [torch.optim.SGD(player.parameters(), lr=rate) for player in (model.discriminator, model.generator)]
    x, (slope,) = torch.zeros(4, 1), model.discriminator.parameters()
    path, rows = [(model.generator.place.item(), slope.item())], []
    for _ in range(steps):
        fake = model.generate(model.noise(len(x)))
        real_logits, fake_logits = model.discriminate(x), model.discriminate(fake.detach())
        loss_d = model.discriminator_loss(real_logits, fake_logits)
        players[0].zero_grad()
        (loss_d + model.penalty(x, fake.detach())).backward()
        players[0].step()
        loss_g = model.generator_loss(model.discriminate(x).detach(), model.discriminate(fake))
        players[1].zero_grad()
        loss_g.backward()
        players[1].step()
        state = model.diagnostics(real_logits, fake_logits)
        rows.append((loss_d.item(), loss_g.item(), jsd_estimate(state["value_function"]).item()))
        path.append((model.generator.place.item(), slope.item()))
    return Game(*torch.tensor(path).unbind(1), *torch.tensor(rows).unbind(1))


def turns(game: Game) -> float:
    """How often the two players went round the optimum."""
    angle = torch.atan2(game.slope, game.place)
    steps = (angle[1:] - angle[:-1] + math.pi) % (2 * math.pi) - math.pi
    return (steps.sum().abs() / (2 * math.pi)).item()


def _draw_line(axes: Axes, found: Optimum, pi: MixtureSameFamily, p: MixtureSameFamily) -> None:
    x = plane(1).x
    axes.plot(x, pi.log_prob(x).exp(), color="C0", label=r"$\pi$")
    axes.plot(x, p.log_prob(x).exp(), color="C1", label="$p$")
    axes.plot(x, found.best, color="black", label=r"$D^* = \pi / (\pi + p)$")
    axes.plot(x, found.d, color="C3", linestyle="--", label="$D$, trained")
    axes.set_xlim(-4, 4)
    axes.set_title("D against a fixed G, on a line")
    axes.legend(fontsize=8)


def _draw_plane(axes: Axes, found: Optimum, figure: Figure) -> None:
    side = int(len(found.d) ** 0.5)
    shown = slice(side // 5, side - side // 5)
    options = {"extent": (-3, 3, -3, 3), "origin": "lower"}
    image = axes.imshow(found.d.view(side, side).T[shown, shown], vmin=0, vmax=1, cmap="coolwarm", **options)
    lines = axes.contour(found.best.view(side, side).T[shown, shown], [0.25, 0.5, 0.75], colors="black", **options)
    axes.clabel(lines, fontsize=7)
    figure.colorbar(image, ax=axes, shrink=0.8)
    axes.set_title("trained D in color, contours of $D^*$")


def main() -> None:
    """Print the numbers of the page and draw its picture."""
    figure = Figure(figsize=(12, 7.2), dpi=100, layout="constrained")
    (line, flat, values), (path, losses, divergence) = figure.subplots(2, 3)
    found = {name: trained(*densities) for name, densities in CASES.items()}
    for (name, optimum), color in zip(found.items(), ("C0", "C2", "C4"), strict=True):
        gap = abs(optimum.value - optimum.expected)
        print(f"{name}: max |D - D*| {optimum.error:.4f}, V {optimum.value:.5f}, |V - (2 JSD - 2 log 2)| {gap:.1e}")
        values.plot(optimum.values, color=color, label=name.replace("pi", r"$\pi$"))
        values.axhline(optimum.expected, color=color, linestyle=":")
    values.set_ylim(-1.42, -0.9)
    values.set_title(r"V in training; dotted: 2 JSD $-$ 2 log 2")
    values.set_xlabel("step of D")
    values.legend(fontsize=8)
    _draw_line(line, found["one dimension"], *CASES["one dimension"])
    _draw_plane(flat, found["two dimensions"], figure)

    for name, options in {"minimax": {}, "minimax, R1": {"r1": 1.0}}.items():
        game = play(**options)
        distance = torch.hypot(game.place, game.slope)
        print(f"{name}: distance from the optimum {distance[0]:.2f} -> {distance[-1]:.2g}, turns {turns(game):.1f}")
        path.plot(game.place, game.slope, label=name)
        losses.plot(game.discriminator_loss, label=f"{name}: D")
        losses.plot(game.generator_loss, label=f"{name}: G")
        divergence.plot(game.jsd, label=name)
    path.plot(0, 0, "k+", markersize=12)
    path.set_xlabel("place of G")
    path.set_ylabel("slope of D")
    path.set_title("alternating steps around the optimum")
    path.set_aspect("equal")
    losses.set_title("losses, nats")
    divergence.set_title(r"(V + 2 log 2) / 2, nats")
    for axes in (losses, divergence):
        axes.set_xlabel("step of both")
    path.legend(fontsize=8, loc=(0.28, 0.62))
    losses.legend(fontsize=8, loc="center right")
    divergence.set_ylim(-0.16, 0.19)
    divergence.legend(fontsize=8, loc="upper right")
    path = Path(__file__).with_suffix(".png")
    figure.savefig(path)
    Image.open(path).convert("RGB").quantize(64).save(path, optimize=True)  # a third of the size


if __name__ == "__main__":
    main()
