"""The disentanglement objectives against independent computations, closed forms and one process with the whole batch."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import run
from pytorch_lightning import Trainer
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm
from test_contract import Made
from torch.utils.data import DataLoader
from two_processes_disentangling import CASES, Loss, examples

from zoo.distributions.posteriors import POSTERIORS
from zoo.errors import ZooError
from zoo.models import DIPVAE, VAE, AnnealedVAE, BetaTCVAE, BetaVAE, FactorVAE
from zoo.models.beta_tcvae import total_correlation
from zoo.models.dip_vae import code_covariance
from zoo.models.factor_vae import permute_dims
from zoo.nets.locatello import LatentDiscriminator, LocatelloDecoder, LocatelloEncoder
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

BINARY = DataSpec("binary", (1, 4, 4), levels=2)
VECTORS = DataSpec("vectors", (3,))
SMALL = {"network": "mlp", "hidden": 16, "latent_dim": 3}


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


# The networks of the study


def weights(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_networks_of_the_study_have_its_sizes():
    """Layer by layer from the description: weights and biases, for one channel and ten latents."""
    encoder = (4 * 4 * 1 + 1) * 32 + (4 * 4 * 32 + 1) * 32 + (2 * 2 * 32 + 1) * 64 + (2 * 2 * 64 + 1) * 64 + 1025 * 256
    decoder = 11 * 256 + 257 * 1024 + 4 * 4 * (64 * 64 + 64 * 32 + 32 * 32 + 32 * 1) + 64 + 32 + 32 + 1
    assert weights(LocatelloEncoder((1, 64, 64))) == encoder
    assert weights(LocatelloDecoder(10, (1, 64, 64))) == decoder
    assert weights(LatentDiscriminator(10)) == 11 * 1000 + 5 * 1001 * 1000 + 1001 * 2
    model = VAE(DataSpec("sprites", (1, 64, 64), 2), "locatello", 10, posterior_options={"scale": "exp"})
    assert weights(model) == encoder + decoder + 257 * 20


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 64, 64), (1, 8, 8), (1, 28, 28), (3, 12, 9), (1, 65, 33)])
def test_networks_of_the_study_take_any_image(shape):
    features = LocatelloEncoder(shape)(torch.randn(2, *shape))
    assert features.shape == (2, 256)
    assert LocatelloDecoder(10, shape)(torch.randn(2, 10)).shape == (2, *shape)


def test_weights_of_the_study_are_glorot_uniform():
    model = VAE(DataSpec("sprites", (1, 64, 64), 2), "locatello", 10, posterior_options={"scale": "exp"})
    bounds = {
        "encoder.layers.2.weight": (6 / (16 * 32 + 16 * 32)) ** 0.5,
        "encoder.layers.9.weight": (6 / (1024 + 256)) ** 0.5,
        "decoder.layers.7.weight": (6 / (16 * 64 + 16 * 32)) ** 0.5,
    }
    named = dict(model.named_parameters())
    for name, bound in bounds.items():
        assert 0.99 * bound < named[name].abs().max() <= bound, name
        assert named[name].std().item() == pytest.approx(bound / 3**0.5, rel=0.05), name
    assert all(not parameter.any() for name, parameter in named.items() if name.endswith("bias"))
    q = model.q(torch.zeros(1, 1, 64, 64, dtype=torch.uint8))
    variance = model.posterior.heads(model.encoder(-torch.ones(1, 1, 64, 64)))[0, 10:].exp()
    torch.testing.assert_close(q.base.variance[0], variance)


def test_an_unknown_network_is_named():
    with pytest.raises(ZooError, match="'locatelo' is not known; there are auto, mlp"):
        VAE(BINARY, "locatelo")


# The losses


def parts(model: VAE, x: torch.Tensor, seed: int) -> tuple[float, float, np.ndarray, np.ndarray, np.ndarray]:
    """Reconstruction and KL by NumPy, with the posterior's means and deviations and the latents drawn with the seed."""
    torch.manual_seed(seed)
    q = model.q(x)
    z, _ = q.rsample_and_log_prob()
    logits, pixels = model.decoder_output(z).detach().numpy().reshape(len(x), -1), x.numpy().reshape(len(x), -1)
    p = 1 / (1 + np.exp(-logits))
    reconstruction = -(pixels * np.log(p) + (1 - pixels) * np.log(1 - p)).sum(1).mean()
    mean, deviation = q.base.mean.detach().numpy(), q.base.stddev.detach().numpy()
    kl = 0.5 * (mean**2 + deviation**2 - np.log(deviation**2) - 1).sum(1).mean()
    return reconstruction, kl, mean, deviation, z.detach().numpy()


def naive_tc(z: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> float:
    """Mean of log q(z) - sum_l log q(z_l), by loops, for the mixture of the batch's posteriors."""
    total = 0.0
    for point in z:
        log_q = np.array([norm.logpdf(point, m, s) for m, s in zip(mean, deviation, strict=True)])  # (N, d)
        joint = logsumexp(log_q.sum(1)) - np.log(len(mean))
        total += joint - sum(logsumexp(column) - np.log(len(mean)) for column in log_q.T)
    return total / len(z)


def naive_dip(covariance: np.ndarray, l_od: float, l_d: float) -> float:
    penalty = 0.0
    for i, j in np.ndindex(covariance.shape):
        penalty += l_d * (covariance[i, i] - 1) ** 2 if i == j else l_od * covariance[i, j] ** 2
    return penalty


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("cls", "options", "expected"),
    [
        (BetaVAE, {"beta": 6.0}, lambda rec, kl, m, s, z: rec + 6 * kl),
        (AnnealedVAE, {"gamma": 7.0, "capacity": 4.0}, lambda rec, kl, m, s, z: rec + 7 * abs(kl - 4)),
        (BetaTCVAE, {"beta": 5.0}, lambda rec, kl, m, s, z: rec + kl + 4 * naive_tc(z, m, s)),
        (BetaTCVAE, {"beta": 1.0}, lambda rec, kl, m, s, z: rec + kl),
        (DIPVAE, {"lambda_od": 3.0}, lambda rec, kl, m, s, z: rec + kl + naive_dip(np.cov(m.T, bias=True), 3, 30)),
        (
            DIPVAE,
            {"variant": "II", "lambda_od": 3.0},
            lambda rec, kl, m, s, z: rec + kl + naive_dip(np.cov(m.T, bias=True) + np.diag((s**2).mean(0)), 3, 3),
        ),
        (
            DIPVAE,
            {"variant": "II", "lambda_od": 3.0, "lambda_d": 0.5},
            lambda rec, kl, m, s, z: rec + kl + naive_dip(np.cov(m.T, bias=True) + np.diag((s**2).mean(0)), 3, 0.5),
        ),
    ],
)
def test_the_loss_is_the_equation(cls, options, expected):
    model = cls(BINARY, **SMALL, **options).eval()
    x = torch.randint(2, (9, 1, 4, 4), dtype=torch.uint8)
    torch.manual_seed(3)
    loss, _ = model.objective(Batch(x))
    assert loss.item() == pytest.approx(expected(*parts(model, x, seed=3)), rel=1e-9)


@pytest.mark.usefixtures("double")
def test_the_loss_of_factor_vae():
    """rec + KL + gamma mean(logit 0 - logit 1); the discriminator's is the mean cross-entropy, class 0 the joint."""
    model = FactorVAE(BINARY, gamma=5.0, discriminator_width=8, **SMALL).eval()
    x = torch.randint(2, (9, 1, 4, 4), dtype=torch.uint8)
    torch.manual_seed(3)
    loss, terms = model.objective(Batch(x))
    rec, kl, _, _, z = parts(model, x, seed=3)
    logits = model.discriminator(torch.from_numpy(z)).detach().numpy()
    assert loss.item() == pytest.approx(rec + kl + 5 * (logits[:, 0] - logits[:, 1]).mean(), rel=1e-9)
    assert terms["discriminator_loss"].isfinite()
    other = torch.randn(9, 3)
    both = torch.cat([torch.from_numpy(z), other])
    entropy = torch.nn.functional.cross_entropy(model.discriminator(both), torch.tensor([0] * 9 + [1] * 9))
    assert model.discriminator_loss(torch.from_numpy(z), other).item() == pytest.approx(entropy.item(), rel=1e-9)


def test_methods_that_agree_agree():
    """beta = 1 is the plain VAE, for beta-VAE and for beta-TCVAE; beta multiplies a warm-up."""
    x, losses = torch.randint(2, (9, 1, 4, 4), dtype=torch.uint8), []
    for cls, options in ((VAE, {}), (BetaVAE, {"beta": 1.0}), (BetaTCVAE, {"beta": 1.0})):
        torch.manual_seed(0)
        losses.append(cls(BINARY, **SMALL, **options).objective(Batch(x))[0].item())
    assert losses[0] == losses[1] == losses[2]
    warmed = BetaVAE(BINARY, beta=4.0, kl=KLSchedule(warmup=10), **SMALL)
    assert [warmed.kl.weight(step) for step in (0, 5, 10)] == [0, 2, 4]


def test_the_capacity_rises_and_the_kl_is_pulled_to_it():
    schedule = AnnealedVAE(BINARY, gamma=10.0, capacity=5.0, capacity_steps=100, **SMALL).kl
    assert [schedule.target(step) for step in (0, 50, 100, 1000, None)] == [0, 2.5, 5, 5, 5]
    for value, step, slope in ((1.0, 0, 10), (1.0, 50, -10), (4.0, 50, 10), (4.0, None, -10)):
        kl = torch.tensor(value, requires_grad=True)
        loss = schedule(kl, step)
        loss.backward()
        assert loss.item() == pytest.approx(10 * abs(value - schedule.target(step)))
        assert kl.grad.item() == slope
    with pytest.raises(ZooError, match="exclude each other"):
        KLSchedule(capacity=1.0, free_bits=1.0)


# Total correlation


@pytest.mark.usefixtures("double")
def test_total_correlation_of_a_gaussian():
    """Posteriors N(mu_i, s^2 I), mu_i ~ N(0, S): q(z) is N(0, S + s^2 I), and its TC -1/2 log(1 - r^2)."""
    covariance, s = torch.tensor([[1.0, 0.7], [0.7, 1.0]]), 0.5

    def normal(n: int, seed: int) -> torch.Tensor:
        uniform = torch.quasirandom.SobolEngine(2, scramble=True, seed=seed).draw(n, dtype=torch.float64)
        return torch.special.ndtri(uniform)

    mean = normal(2048, 0) @ torch.linalg.cholesky(covariance).T
    z = normal(1024, 1) @ torch.linalg.cholesky(covariance + s**2 * torch.eye(2)).T
    r = 0.7 / (1 + s**2)
    estimate = total_correlation(z, mean, torch.full_like(mean, s))
    assert estimate.item() == pytest.approx(-0.5 * np.log(1 - r**2), abs=0.005)


@pytest.mark.usefixtures("double")
def test_total_correlation_of_a_mixture_against_quadrature():
    """The mean over many draws of a mixture of three Gaussians is the integral of q (log q - log q_1 - log q_2)."""
    mean, stddev = torch.tensor([[-1.0, -0.8], [0.2, 0.5], [1.5, 1.0]]), torch.tensor([[0.5, 0.7], [0.4, 0.4], [0.8, 0.5]])
    side = np.linspace(-6, 7, 801)
    first, second = (np.array([norm.pdf(side, m, s) for m, s in zip(mean[:, k], stddev[:, k], strict=True)]) for k in (0, 1))
    q = np.einsum("na,nb->ab", first, second) / 3
    product = np.outer(first.mean(0), second.mean(0))
    exact = np.trapezoid(np.trapezoid(q * np.log(q / product), side), side)
    which = torch.randint(3, (40_000,))
    draws = mean[which] + stddev[which] * torch.randn(40_000, 2)
    assert total_correlation(draws, mean, stddev).item() == pytest.approx(exact, abs=0.02)


def test_codes_are_permuted_one_by_one():
    z = torch.arange(600.0).view(200, 3)
    shuffled = permute_dims(z)
    assert torch.equal(shuffled.sort(0).values, z)
    rows = (shuffled / 3).floor()
    assert all((rows[:, i] != rows[:, j]).float().mean() > 0.9 for i, j in ((0, 1), (0, 2), (1, 2)))


def test_a_trained_discriminator_gives_the_total_correlation():
    """Of a Gaussian with correlation 0.8: -1/2 log(1 - 0.64) = 0.51 nats."""
    model = FactorVAE(VECTORS, discriminator_width=32, network="mlp", hidden=8, latent_dim=2)
    adam = torch.optim.Adam(model.discriminator.parameters(), 2e-3)
    root = torch.linalg.cholesky(torch.tensor([[1.0, 0.8], [0.8, 1.0]]))
    for _ in range(300):
        loss = model.discriminator_loss(torch.randn(256, 2) @ root.T, permute_dims(torch.randn(256, 2) @ root.T))
        adam.zero_grad()
        loss.backward()
        adam.step()
    z = torch.randn(20_000, 2) @ root.T
    ratio = model.discriminate(z).diff(dim=1).neg().mean()
    assert ratio.item() == pytest.approx(0.511, abs=0.1)


# The covariance of the codes


@pytest.mark.usefixtures("double")
def test_the_covariance_is_that_of_the_aggregate_posterior():
    mean, scale = torch.randn(4, 3), torch.randn(4, 3, 3).tril()
    draws = (mean + torch.einsum("nij,knj->kni", scale, torch.randn(200_000, 4, 3))).flatten(0, 1)
    torch.testing.assert_close(code_covariance(mean, scale), draws.T.cov(), rtol=0, atol=0.05)
    stddev = torch.rand(4, 3)
    torch.testing.assert_close(code_covariance(mean, stddev), code_covariance(mean, stddev.diag_embed()))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(code_covariance(mean.float(), scale.float()), code_covariance(mean, scale).float())


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (DIPVAE, {"variant": "III"}, "variant 'III'"),
        (DIPVAE, {"posterior": "planar"}, "diagonal or full"),
        (BetaTCVAE, {"posterior": "full"}, "diagonal Gaussian"),
        (BetaTCVAE, {"posterior": "iaf"}, "diagonal Gaussian"),
        (VAE, {"posterior_options": {"scale": "log"}}, "softplus, exp"),
    ],
)
def test_what_can_not_be_computed_is_refused(cls, options, message):
    with pytest.raises(ZooError, match=message):
        cls(VECTORS, **SMALL, **options)


def test_factor_vae_takes_every_posterior():
    for posterior in POSTERIORS:
        model = FactorVAE(VECTORS, posterior=posterior, discriminator_width=8, **SMALL)
        assert model.objective(Batch(torch.randn(4, 3)))[0].isfinite()


# Training


def fit(model, folder: Path, steps: int, ckpt: Path | None = None, batch: Batch | None = None) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=steps, default_root_dir=folder, **quiet)
    alone = DataLoader([batch], batch_size=None)
    trainer.fit(model, *([alone, alone] if batch else [Made(model.spec)]), ckpt_path=ckpt)
    return trainer


def factor_vae() -> FactorVAE:
    torch.manual_seed(0)
    return FactorVAE(VECTORS, discriminator_width=8, **SMALL)


def test_factor_vae_trains_the_vae_on_the_first_half_and_the_discriminator_on_both(tmp_path):
    models = [factor_vae(), factor_vae()]
    x = torch.randn(8, 3)
    moved = torch.cat([x[:4], x[4:] + 5])
    for model, batch in zip(models, (Batch(x), Batch(moved)), strict=True):
        torch.manual_seed(1)
        fit(model, tmp_path, 1, batch=batch)
    start = factor_vae().state_dict()
    same, changed = (model.state_dict() for model in models)
    for name, weight in same.items():
        own = not name.startswith("discriminator.")
        assert torch.equal(changed[name], weight) == own, name
        assert not torch.equal(start[name], weight) or "log_scale" in name, name


def test_a_resumed_factor_vae_is_one_that_was_not_interrupted(tmp_path):
    whole, first, rest = factor_vae(), factor_vae(), factor_vae()
    torch.manual_seed(1)
    fit(whole, tmp_path, 5)
    torch.manual_seed(1)
    fit(first, tmp_path, 3).save_checkpoint(tmp_path / "half.ckpt")
    torch.manual_seed(2)
    assert fit(rest, tmp_path, 5, tmp_path / "half.ckpt").global_step == 5
    for name, weight in whole.state_dict().items():
        assert torch.equal(rest.state_dict()[name], weight), name


@pytest.mark.parametrize("data", ["dsprites", "digits"])
def test_a_preset_cut_short_has_metrics_and_pictures(cli, data):
    """The study validates every 10,000 batches; scores are computed where the data have factors."""
    few = ("--data.resolution", 8, "--data.factors", '{"orientation": [0], "posX": [0, 31], "posY": [0, 31]}')
    options = few if data == "dsprites" else ()
    status, out, err = cli("fit", "--model", "dip_vae", "--data", data, "--trainer.max_steps", 2, *options)
    assert status == 0, err
    folder = Path(out.splitlines()[-1].removeprefix("run: "))
    with (folder / "metrics.csv").open() as file:
        last = list(csv.DictReader(file))[-1]
    assert float(last["val/elbo"]) < 0 and last["val/off_diagonal"]
    assert ("val/mig" in last) == (data == "dsprites")
    drawn = {"samples.png", "reconstructions.png", "traversals.png", "traversals_animated.gif"}
    drawn |= {"information.png", "importance.png"} if data == "dsprites" else set()
    assert drawn == {path.name for path in (folder / "pictures").iterdir() if "-" not in path.name}
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}


# Several processes


@pytest.fixture(scope="module")
def processes(tmp_path_factory) -> list[dict]:
    """What tests/two_processes_disentangling.py found on each of two processes."""
    folder = tmp_path_factory.mktemp("processes")
    return run(Path(__file__).with_name("two_processes_disentangling.py"), "gradients", folder, 2)[2]


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("name", CASES)
def test_two_processes_are_one_with_the_whole_batch(name, processes):
    """The loss, as the mean over processes, and the gradient of every weight, as DDP gives it."""
    whole = Loss(name)
    loss = whole(examples())
    loss.backward()
    losses, gradients = zip(*(found[name] for found in processes), strict=True)
    assert torch.stack(losses).mean().item() == pytest.approx(loss.item(), rel=1e-9)
    for key, weight in whole.named_parameters():
        for rank in (0, 1):
            torch.testing.assert_close(gradients[rank][key], weight.grad, rtol=1e-6, atol=1e-9)
    if name in ("annealed", "free bits"):
        kl = [whole.model.q(half).kl(whole.model.prior()).mean() for half in examples().tensor_split(2)]
        bend = whole.model.kl.capacity or whole.model.kl.free_bits
        assert min(kl) < bend < max(kl), "the case must tell the mean of the distances from the distance of the mean"


@pytest.mark.usefixtures("double")
def test_processes_may_have_different_numbers_of_rows(processes):
    rows = [examples()[:5], examples()[:3]]
    for found, start, own in zip(processes, (0, 5), rows, strict=True):
        together, gradient = found["rows"]
        assert torch.equal(together, torch.cat(rows))
        # 1 from the first process and 2 from the second, times the row's number in the whole
        assert torch.equal(gradient, 3 * torch.arange(start + 1.0, start + len(own) + 1)[:, None].expand_as(gradient))


@pytest.mark.usefixtures("double")
def test_the_surgery_is_over_all_processes(processes):
    model = Loss("beta-TC").model
    x = torch.cat([examples()[:7], examples()[:5]])
    kl = model.q(x).kl(model.prior()).mean().item()
    first, second = (found["surgery"] for found in processes)
    assert first == second
    assert (first["index_code_information"] + first["marginal_kl"]).item() == pytest.approx(kl, rel=1e-9)


def test_multivariate_reference_is_scipys():
    """The naive estimate of these tests is itself the density of scipy's multivariate normal."""
    mean, deviation, z = np.array([[0.3, -1.0]]), np.array([[0.5, 2.0]]), np.array([[1.0, 1.0]])
    joint = multivariate_normal.logpdf(z[0], mean[0], np.diag(deviation[0] ** 2))
    assert norm.logpdf(z[0], mean[0], deviation[0]).sum() == pytest.approx(joint)
    assert naive_tc(z, mean, deviation) == pytest.approx(0, abs=1e-12)
