"""What torch.compile makes of the models on the CPU: losses and gradients, which a backend may get wrong silently."""

import shutil

import pytest
import torch

from zoo.distributions.likelihoods import LIKELIHOODS
from zoo.distributions.posteriors import POSTERIORS
from zoo.distributions.priors import PRIORS
from zoo.models import DIPVAE, GAN, VAE, AnnealedVAE, BetaTCVAE, FlowPlusPlus
from zoo.spec import Batch, DataSpec
from zoo.transforms import SplineAutoregressive
from zoo.transforms.coupling import MAPS

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on the CPU")

SPEC = DataSpec("gray", (1, 8, 8), levels=17)
VAES = {"network": "mlp", "hidden": 16, "latent_dim": 4}
FLOWS = {"couplings": (1, 1, 0), "filters": 8, "blocks": 1, "dequantizer_couplings": 1, "dropout": 0.0}


def discrepancy(build) -> float:
    """The largest |compiled gradient - gradient| / |gradient| of all parameters, after losses that are the same."""
    x = torch.randint(SPEC.levels, (16, *SPEC.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    losses, gradients = [], []
    torch.compiler.reset()
    for compiled in (False, True):
        torch.manual_seed(0)
        model = build()
        if isinstance(model, FlowPlusPlus):
            model.initialize(x)
        if compiled:
            model.compile(options={"fallback_random": True})  # the random numbers of what is not compiled
        torch.manual_seed(1)
        loss, terms = model.objective(Batch(x))
        (loss + terms.get("generator_loss", 0)).backward()
        losses.append(loss.item())
        gradients.append([parameter.grad for parameter in model.parameters() if parameter.grad is not None])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    pairs = list(zip(*gradients, strict=True))
    assert pairs
    return max(float((a - b).norm() / (a.norm() + 1e-6)) for a, b in pairs)


def test_splines():
    """zuko's are left out of what is compiled: with them, the gradients are wrong by a percent and more."""
    torch.compiler.reset()
    torch.manual_seed(0)
    step, x = SplineAutoregressive(3, hidden=(8,)), torch.randn(32, 3)
    gradients = []
    for function in (step, torch.compile(step)):
        y, log_det = function(x)
        gradients.append(torch.autograd.grad((y.square().sum(1) / 2 - log_det).sum(), list(step.parameters())))
    for plain, compiled in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        *({"posterior": name} for name in POSTERIORS),
        *({"prior": name} for name in PRIORS),
        *({"likelihood": name} for name in LIKELIHOODS if name != "bernoulli"),
        {"network": "conv"},
        {"network": "gated_conv"},
    ],
    ids=lambda options: "-".join(*options.items()),
)
def test_parts_of_a_vae(options):
    assert discrepancy(lambda: VAE(SPEC, **VAES | options)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("cls", [AnnealedVAE, BetaTCVAE, DIPVAE])
def test_objectives(cls):
    assert discrepancy(lambda: cls(SPEC, **VAES)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("coupling", MAPS)
def test_couplings(coupling):
    assert discrepancy(lambda: FlowPlusPlus(SPEC, coupling=coupling, **FLOWS)) < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_gan(network):
    assert discrepancy(lambda: GAN(SPEC, network=network, width=8, latent_dim=4, spectral_norm=True)) < 1e-4
