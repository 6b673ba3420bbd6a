"""KL = mutual information + marginal KL: by quadrature on finite data sets, and what a VAE logs of it."""

import math

import pytest
import torch
from pytorch_lightning import Trainer
from test_contract import Made
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal, kl_divergence

from zoo.distributions.posteriors import SampledPosterior
from zoo.distributions.priors import PRIORS
from zoo.evaluation.disentanglement import ALL_SCORES
from zoo.metrics.elbo_surgery import ELBOSurgery, log_aggregate
from zoo.models import VAE
from zoo.spec import Batch, DataSpec

VECTORS = DataSpec("vectors", (3,))


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def finite(d: int, full: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Gaussian posteriors of four examples."""
    random = torch.Generator().manual_seed(d)
    mean = 1.5 * torch.randn(4, d, generator=random, dtype=torch.float64)
    if not full:
        return mean, 0.4 + torch.rand(4, d, generator=random, dtype=torch.float64)
    lower = 0.4 * torch.randn(4, d, d, generator=random, dtype=torch.float64).tril(-1)
    return mean, lower + (0.5 + torch.rand(4, d, generator=random, dtype=torch.float64)).diag_embed()


def gaussians(mean: torch.Tensor, scale: torch.Tensor):
    return MultivariateNormal(mean, scale_tril=scale) if scale.dim() == 3 else Independent(Normal(mean, scale), 1)


def by_quadrature(mean: torch.Tensor, scale: torch.Tensor) -> tuple[float, float]:
    """I_q[x, z] and KL(q(z) || N(0, I)) as integrals over a grid of one or two dimensions."""
    d = mean.shape[1]
    side = torch.linspace(-9, 9, 8001 if d == 1 else 701)
    grid = torch.cartesian_prod(*[side] * d).view(-1, d)
    cell = (side[1] - side[0]) ** d  # the integrands vanish at the border, where the trapezoidal rule is this sum
    log_aggregated = log_aggregate(mean, scale, grid)
    prior = Independent(Normal(torch.zeros(d), torch.ones(d)), 1).log_prob(grid)
    log_q = gaussians(mean, scale).log_prob(grid.unsqueeze(1)).T  # (n, points)
    information = (log_q.exp() * (log_q - log_aggregated)).sum() * cell / len(mean)
    marginal = (log_aggregated.exp() * (log_aggregated - prior)).sum() * cell
    assert (log_aggregated.exp().sum() * cell).item() == pytest.approx(1, abs=1e-9)
    return information.item(), marginal.item()


CASES = [(1, False), (1, True), (2, False), (2, True)]


@pytest.mark.parametrize(("d", "full"), CASES)
def test_the_identity_holds_exactly(d, full):
    """The closed-form KL, averaged over the examples, is the sum of the two integrals."""
    mean, scale = finite(d, full)
    normal = Independent(Normal(torch.zeros(d), torch.ones(d)), 1)
    kl = kl_divergence(gaussians(mean, scale), MultivariateNormal(torch.zeros(d), torch.eye(d)) if full else normal).mean()
    information, marginal = by_quadrature(mean, scale)
    assert information + marginal == pytest.approx(kl.item(), abs=1e-8)
    assert 0 < information < math.log(4)
    assert marginal > 0


@pytest.mark.parametrize(("d", "full"), CASES)
def test_the_metric_estimates_the_integrals(d, full):
    """Many copies of the same examples are the same finite data set, with a draw for each copy."""
    mean, scale = (parameter.repeat(1000, *[1] * (parameter.dim() - 1)) for parameter in finite(d, full))
    surgery = ELBOSurgery()
    prior = Independent(Normal(torch.zeros(d), torch.ones(d)), 1)
    for number in torch.arange(4000).split(300):
        surgery.update(SampledPosterior(gaussians(mean[number], scale[number])), prior)
    information, marginal = by_quadrature(*finite(d, full))
    found = surgery.compute()
    # log q(z|x) - log q(z) varies by less than 1 nat, so that 4,000 draws leave 0.016: three and a half times that
    assert found["index_code_information"].item() == pytest.approx(information, abs=0.055)
    assert found["marginal_kl"].item() == pytest.approx(marginal, abs=0.055)


@pytest.mark.parametrize("full", [False, True])
def test_the_aggregate_is_torchs_mixture(full):
    """Also far from the components, and for narrow ones."""
    mean, scale = finite(3, full)
    mean, scale = 100 + 5 * mean, scale * torch.logspace(-4, 0, 4).view(-1, *[1] * (scale.dim() - 1))
    z = torch.cat([mean + 0.1, 100 + 20 * torch.randn(50, 3)])
    mixture = MixtureSameFamily(Categorical(torch.ones(4)), gaussians(mean, scale))
    torch.testing.assert_close(log_aggregate(mean, scale, z), mixture.log_prob(z), rtol=1e-9, atol=1e-6)


def test_information_of_points_far_apart_is_the_logarithm_of_their_number():
    surgery = ELBOSurgery()
    x = 100 * torch.arange(50.0).unsqueeze(1)
    surgery.update(SampledPosterior(gaussians(x, torch.ones_like(x))), PRIORS["normal"](1)())
    assert surgery.compute()["index_code_information"].item() == pytest.approx(math.log(50), abs=1e-9)


def test_points_are_spread_and_bounded():
    surgery, seen = ELBOSurgery(points=100), torch.arange(950.0).unsqueeze(1)
    for batch in seen.split(64):
        surgery.update(SampledPosterior(gaussians(batch, torch.ones_like(batch))), PRIORS["normal"](1)())
        assert sum(map(len, surgery.mean)) <= 100
    assert torch.equal(torch.cat(surgery.mean), seen[::16])
    surgery.reset()
    assert not surgery.mean


def test_the_draws_come_from_a_stream_of_their_own():
    model, x = VAE(VECTORS, hidden=8, latent_dim=2), torch.randn(30, 3)
    before, found = torch.get_rng_state(), []
    for _ in range(2):
        model.elbo_surgery.update(model.q(x), model.prior())
        found.append(model.elbo_surgery.compute())
        model.elbo_surgery.reset()
    assert torch.equal(torch.get_rng_state(), before)
    assert found[0] == found[1]


@pytest.mark.parametrize("posterior", ["diagonal", "full", "planar"])
@pytest.mark.parametrize("prior", ["normal", "mixture"])
def test_a_vae_logs_all_three(posterior, prior, tmp_path):
    """Where the posterior is Gaussian; with a KL in closed form they agree to the last digit."""
    model = VAE(VECTORS, hidden=8, latent_dim=2, posterior=posterior, prior=prior)
    trainer = Trainer(accelerator="cpu", devices=1, default_root_dir=tmp_path, logger=False, enable_progress_bar=False,
                      enable_checkpointing=False, enable_model_summary=False)  # fmt: skip

    class Double(Made):
        def load(self):
            splits = super().load()
            for arrays in splits.values():
                arrays.x = arrays.x.double()
            return splits

    for stage, run in (("val", trainer.validate), ("test", trainer.test)):
        (metrics,) = run(model, Double(VECTORS), verbose=False)
        parts = [metrics.get(f"{stage}/{name}") for name in ("index_code_information", "marginal_kl")]
        if posterior == "planar":
            assert parts == [None, None]
        else:
            assert sum(parts) == pytest.approx(metrics[f"{stage}/kl"], abs=1e-6 if prior == "normal" else 1)
            assert 0 <= parts[0] <= math.log(48) + 0.5


def test_its_metrics_are_no_scores_names():
    """Both are logged of one model, under ``val/`` and ``test/``."""
    assert not {"index_code_information", "marginal_kl"} & set(ALL_SCORES)


@pytest.mark.parametrize("prior", ["normal", "vamp"])
def test_a_held_out_batch_is_encoded_once(prior):
    """By the objective and the surgery together; and the next batch, of the same tensor, anew."""
    torch.set_default_dtype(torch.float32)
    model, calls = VAE(VECTORS, hidden=8, latent_dim=2, prior=prior), []
    model.encoder.register_forward_hook(lambda module, args, output: calls.append(len(output)))
    batch = Batch(torch.randn(30, 3))
    pseudo = [100] if prior == "vamp" else []
    trainer = Trainer(accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False)
    loader = torch.utils.data.DataLoader([batch, batch], batch_size=None)
    trainer.validate(model, loader, verbose=False)
    assert calls == [30, *pseudo] * 2
    trainer.test(model, loader, verbose=False)
    assert calls == [30, *pseudo] * 4
    model.eval()
    for _ in range(2):
        model.objective(batch)
    assert calls == [30, *pseudo] * 6
