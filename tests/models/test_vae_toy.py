"""In two dimensions all can be integrated: flow posteriors and priors are densities, and learn what no Gaussian can."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from datamodules import Toy
from zoo.distributions.posteriors import POSTERIORS
from zoo.distributions.priors import PRIORS


def banana(z: Tensor) -> Tensor:
    """log p of u ~ N(0, 1), w ~ N(u^2 - 1, 0.4^2) at z = (u, w), (..., 2) -> (...): normalized, in nats."""
    u, w = z.unbind(-1)
    return -u.square() / 2 - (w - u.square() + 1).square() / (2 * 0.4**2) - math.log(2 * math.pi * 0.4)


def grid(lower: float, upper: float, points: int) -> tuple[Tensor, float]:
    """Points (n, 2) on a square and the area of each."""
    side = torch.linspace(lower, upper, points)
    return torch.cartesian_prod(side, side), ((upper - lower) / (points - 1)) ** 2


def adam(module: torch.nn.Module, loss, steps: int, lr: float) -> None:
    """``steps`` steps on ``loss()``, the learning rate falling to 0 along a cosine."""
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def best_gaussian() -> float:
    """min KL(N(m, L L^T) || banana) over m and L: expectations of a polynomial, exact by Gauss-Hermite quadrature."""
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(8))
    noise = torch.cartesian_prod(nodes, nodes)
    weights = torch.outer(weights, weights).flatten() / weights.sum() ** 2
    m, scale = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    optimizer = torch.optim.LBFGS([m.requires_grad_(), scale.requires_grad_()], max_iter=200, line_search_fn="strong_wolfe")

    def kl() -> Tensor:
        entropy = 1 + math.log(2 * math.pi) + scale.diagonal().abs().log().sum()
        return -entropy - (weights * banana(m + noise @ scale.tril().T)).sum()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = kl()
        loss.backward()
        return loss

    optimizer.step(closure)
    return kl().item()


# Options, and by how many nats the KL is to lie below the best Gaussian's 0.650: about half of what the weakest of three
# seeds gained. In 250 steps radial and Sylvester maps take on little of the bend, planar and autoregressive ones most of it.
FLOWS = {
    "planar": ({"steps": 8}, 0.2),
    "radial": ({"steps": 12}, 0.07),
    "sylvester_orthogonal": ({"steps": 3}, 0.07),
    "sylvester_householder": ({"steps": 4}, 0.05),
    "sylvester_triangular": ({"steps": 4}, 0.1),
    "iaf": ({"steps": 2, "hidden": 32}, 0.15),
    "spline_iaf": ({"steps": 1, "hidden": 32}, 0.2),
}


def test_every_flow_posterior_is_here():
    assert set(FLOWS) == set(POSTERIORS) - {"diagonal", "full"}


@pytest.mark.parametrize("name", FLOWS)
def test_a_flow_posterior_is_a_density_and_beats_the_best_gaussian(name):
    """Fitted by the ELBO to a banana: through its inverse q integrates to 1 and KL(q || p) is found by quadrature."""
    options, margin = FLOWS[name]
    torch.manual_seed(0)
    posterior, features = POSTERIORS[name](1, 2, **options), torch.ones(1, 1)

    def negative_elbo() -> Tensor:
        z, log_q = posterior(features).rsample_and_log_prob((128,))
        return (log_q - banana(z)).mean()

    adam(posterior, negative_elbo, 250, 0.03)
    z, area = grid(-8, 14, 281)
    with torch.no_grad():
        q = posterior(features)
        z0, log_det = q.transform.inverse(z.unsqueeze(1), q.context)
        log_q = (q.base.log_prob(z0) + log_det).squeeze(1)
        drawn, log_drawn = q.rsample_and_log_prob((20_000,))
    assert (log_q.exp().sum() * area).item() == pytest.approx(1, abs=2e-3)
    kl = (log_q.exp() * (log_q - banana(z))).sum().item() * area
    gaussian = best_gaussian()
    assert gaussian == pytest.approx(0.650, abs=1e-3)
    assert 0 <= kl < gaussian - margin
    sampled = log_drawn - banana(drawn)
    error = sampled.std().item() / math.sqrt(len(sampled))
    assert sampled.mean().item() == pytest.approx(kl, abs=5 * error), "the density of samples is that of the grid"


# Nats above the best Gaussian, which is 1.30 below the truth; two seeds gained 1.0 (maf) and 1.24 (spline), less a fifth.
@pytest.mark.parametrize(("prior", "options", "margin"), [("maf", {"steps": 4}, 0.8), ("spline", {"steps": 2}, 1.0)])
def test_a_flow_prior_is_a_density_and_beats_the_best_gaussian(prior, options, margin):
    """Fitted to samples of two moons, whose log p is known: after training it integrates to 1 and stays below the truth."""
    torch.manual_seed(0)
    data = Toy("moons", size=20_000)
    data.setup()
    x, held_out = data.splits["train"].x, data.splits["val"].x
    module = PRIORS[prior](2, hidden=32, **options)
    adam(module, lambda: -module().log_prob(x[torch.randint(len(x), (256,))]).mean(), 300, 0.01)
    gaussian = MultivariateNormal(x.mean(0), torch.cov(x.T)).log_prob(held_out).mean().item()
    truth = data.distribution.log_prob(held_out)
    z, area = grid(-4, 4, 401)
    with torch.no_grad():
        learned = module().log_prob(held_out)
        mass = module().log_prob(z).exp().sum().item() * area
    assert mass == pytest.approx(1, abs=2e-3)
    assert learned.mean().item() > gaussian + margin
    error = (learned - truth).std().item() / math.sqrt(len(truth))
    assert (learned - truth).mean().item() < 4 * error, "no density is better than the data's own"


@pytest.mark.parametrize("model", ["vae", "af_prior_vae", "flow_posterior_vae"])
def test_presets_take_two_dimensional_data(cli, model):
    """From the command line; images of every kind are in tests/test_contract.py."""
    status, out, err = cli("fit", "--model", model, "--data", "toy", "--data.density", "moons", "--data.size", 500,
                           "--trainer.max_steps", 3, "--trainer.max_epochs", 1)  # fmt: skip
    assert status == 0, err
    assert (Path(out.splitlines()[-1].removeprefix("run: ")) / "pictures" / "samples.png").exists()
