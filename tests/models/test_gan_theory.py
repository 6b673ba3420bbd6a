"""The theory of the GAN on known densities: the numbers of docs/gan_theory.md, by the script that draws its picture."""

import math
import re
import runpy

import pytest
import torch
from conftest import REPOSITORY

THEORY = runpy.run_path(str(REPOSITORY / "docs" / "pictures" / "gan_theory.py"))
PAGE = (REPOSITORY / "docs" / "gan_theory.md").read_text()


def row(name: str) -> list[float]:
    """The numbers of a table's row on the page."""
    (found,) = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, re.MULTILINE)
    return [float(cell) for cell in found.split("|")]


@pytest.mark.parametrize("name", THEORY["CASES"])
def test_a_trained_discriminator_is_the_optimal_one(name):
    """max |D - pi / (pi + p)| and |V - (2 JSD - 2 log 2)| are below the page's bounds, and its numbers come out."""
    error, bound, value, limit, gap = row(name)
    found = THEORY["trained"](*THEORY["CASES"][name])
    assert error < bound and abs(value - limit) < gap, "the page contradicts itself"
    assert found.error < bound
    assert abs(found.value - found.expected) < gap
    assert found.value < found.expected + 1e-5, "V is at most that of the best discriminator"
    assert found.expected == pytest.approx(limit, abs=6e-5)
    assert found.value == pytest.approx(value, abs=gap)
    assert found.values[-200:].mean().item() == pytest.approx(found.expected, abs=0.02)


def test_where_the_densities_agree_the_limit_is_the_games_optimum():
    assert row("p = pi")[3] == pytest.approx(-2 * math.log(2), abs=5e-5)
    pi, p = THEORY["CASES"]["p = pi"]
    found = THEORY["trained"](pi, p, steps=1)
    assert found.expected == pytest.approx(-2 * math.log(2), abs=1e-9)
    assert (found.best == 0.5).all()


@pytest.mark.parametrize(("name", "options"), [("minimax", {}), ("minimax, R1", {"r1": 1.0})])
def test_alternating_steps_circle_unless_they_are_damped(name, options):
    distance, turns = row(name)
    game = THEORY["play"](**options)
    path = torch.hypot(game.place, game.slope)
    assert path[-1].item() == pytest.approx(distance, abs=6e-3)
    assert THEORY["turns"](game) == pytest.approx(turns, abs=0.06)
    late = game.discriminator_loss[250:], game.generator_loss[250:], game.jsd[250:]
    if options:
        assert all(curve.max() - curve.min() < 1e-4 for curve in late), "at rest"
        assert late[2].abs().max() < 1e-4
        assert late[0].mean().item() == pytest.approx(2 * math.log(2), abs=1e-4)
    else:
        assert path.min() > 0.95 and path.max() < 1.05, "never nearer to the optimum"
        assert all(curve.max() - curve.min() > 0.2 for curve in late), "oscillating to the end"
        assert 0.3 < (late[2] < 0).float().mean() < 0.7


def test_the_game_on_paper():
    """The first step of both, by hand: D from slope 0 at place 1, then G against the new D."""
    game = THEORY["play"](steps=1, rate=0.1)
    slope = -0.1 * 0.5  # the derivative of softplus(psi theta) in psi is theta sigmoid(psi theta)
    assert game.slope[1].item() == pytest.approx(slope)
    assert game.place[1].item() == pytest.approx(1 + 0.1 * slope / (1 + math.exp(-slope)))
    assert game.discriminator_loss[0].item() == pytest.approx(2 * math.log(2))
