"""The VAE against evidence that is known: closed forms, the theorem of the flow prior, bounds that order as they should."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import softplus

from zoo.distributions.likelihoods import LIKELIHOODS, default_likelihood
from zoo.distributions.posteriors import POSTERIORS, SampledPosterior
from zoo.distributions.priors import PRIORS
from zoo.errors import ZooError
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.metrics.importance_weighting import importance_weighted_bound
from zoo.models.vae import VAE
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

D, LATENT, SIGMA = 3, 2, 0.5


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class Linear(VAE):
    """x = W z + b + sigma eps, whose evidence N(x; b, W W^T + sigma^2 I) and posterior are known."""

    def __init__(self, exact: bool, posterior: str = "full"):
        super().__init__(DataSpec("linear", (D,)), "mlp", LATENT, posterior=posterior, likelihood_options={"scale": SIGMA})
        random = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(D, LATENT, generator=random, dtype=torch.get_default_dtype()))
        self.bias = nn.Parameter(torch.randn(D, generator=random, dtype=torch.get_default_dtype()))
        self.decoder = nn.Linear(LATENT, D)
        self.decoder.weight, self.decoder.bias = self.weight, self.bias
        if exact:
            self.set_exact_posterior()

    @property
    def encoder_features(self) -> int:
        return D

    def build_encoder(self) -> nn.Module:
        return nn.Identity()

    def set_exact_posterior(self) -> None:
        """N(M^-1 W^T (x - b) / sigma^2, M^-1), M = I + W^T W / sigma^2."""
        w, b = self.weight.detach(), self.bias.detach()
        covariance = torch.linalg.inv(torch.eye(LATENT) + w.T @ w / SIGMA**2)
        slope = covariance @ w.T / SIGMA**2
        scale = torch.linalg.cholesky(covariance)
        raw = scale + torch.diag_embed(torch.log(torch.expm1(scale.diagonal() - 1e-5)) - scale.diagonal())
        heads = self.posterior.heads
        with torch.no_grad():
            heads.weight.zero_()
            heads.weight[:LATENT] = slope
            heads.bias[:LATENT] = -slope @ b
            index = self.posterior.index
            heads.bias[LATENT:] = raw[index[0], index[1]]

    def evidence(self, x: torch.Tensor) -> torch.Tensor:
        covariance = self.weight @ self.weight.T + SIGMA**2 * torch.eye(D)
        return MultivariateNormal(self.bias, covariance).log_prob(x).detach()


@pytest.mark.usefixtures("double")
def test_the_elbo_is_the_evidence_at_the_exact_posterior():
    """With one sample: log p(x, z) - log q(z|x) does not depend on z there."""
    model, x = Linear(exact=True), torch.randn(20, D)
    bound = model.importance_weighted(x, 1)
    torch.testing.assert_close(bound.log_p, model.evidence(x), rtol=0, atol=1e-9)
    _, terms = model.objective(Batch(x))
    q, prior = model.q(x), model.prior()
    z, _ = q.rsample_and_log_prob((200_000,))
    reconstruction = model.likelihood.log_prob(x, model.decoder_output(z)).mean(0)
    elbo = reconstruction - q.kl(prior)
    torch.testing.assert_close(elbo, model.evidence(x), rtol=0, atol=0.05)
    assert terms["elbo"].isfinite()


@pytest.mark.usefixtures("double")
def test_bounds_rise_with_k_and_reach_the_evidence_within_their_error():
    model, x = Linear(exact=True), torch.randn(30, D)
    with torch.no_grad():  # off the exact posterior by as much as leaves the weights a finite variance
        model.posterior.heads.bias[:LATENT] += 0.2
        model.posterior.heads.bias[LATENT:] += 0.1
    evidence = model.evidence(x)
    repeats = 2000
    means = [model.log_likelihood(x.repeat(repeats, 1), k).view(repeats, -1).mean(0) for k in (1, 5, 25)]
    assert (means[0] < evidence).all(), "the ELBO is a lower bound"
    gaps = [(evidence - mean).mean().item() for mean in means]
    assert gaps[0] > gaps[1] > gaps[2] > 0
    best = model.importance_weighted(x, 100_000)
    assert ((best.log_p - evidence).abs() < 4 * best.standard_error + 1e-9).all()
    assert best.standard_error.max() < 0.2


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(("samples", "chunk"), [(1, 4), (3, 4), (4, 4), (10, 4), (12, 4), (7, 100)])
def test_k_is_exact_and_chunks_change_nothing(samples, chunk):
    draws = iter(torch.randn(200, 5).mul(30).split(1))
    used = []

    def log_weights(k):
        used.append(torch.cat([next(draws) for _ in range(k)]))
        return used[-1]

    bound = importance_weighted_bound(log_weights, samples, chunk)
    drawn = torch.cat(used)
    assert len(drawn) == samples
    assert max(map(len, used)) <= chunk
    torch.testing.assert_close(bound.log_p, drawn.logsumexp(0) - math.log(samples))
    if samples > 1:
        weights = (drawn - drawn.amax(0)).exp()
        error = weights.std(0) / weights.mean(0) / math.sqrt(samples)
        torch.testing.assert_close(bound.standard_error, error)


def test_the_standard_error_is_that_of_repeated_estimates():
    torch.manual_seed(0)
    estimates = [importance_weighted_bound(lambda k: 0.7 * torch.randn(k, 1), 200, 50) for _ in range(400)]
    spread = torch.stack([estimate.log_p for estimate in estimates]).std()
    claimed = torch.stack([estimate.standard_error for estimate in estimates]).mean()
    assert spread.item() == pytest.approx(claimed.item(), rel=0.15)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("prior", ["maf", "spline"])
def test_a_flow_prior_is_an_iaf_posterior(prior, dtype, tolerance):
    """The theorem of Chen et al. 2017, with the same f, encoder and noise; eps = f(z)."""
    torch.set_default_dtype(dtype)
    try:
        model = VAE(DataSpec("digits", (1, 8, 8), 17), "mlp", 5, hidden=32, prior=prior, prior_options={"hidden": 32})
        x = torch.randint(17, (64, 1, 8, 8), dtype=torch.uint8)
        f, q = model.prior.transform, model.q(x)
        z, log_q = q.rsample_and_log_prob()

        # a VAE with the flow prior, on z
        left = model.likelihood.log_prob(x, model.decoder_output(z)) + model.prior().log_prob(z) - log_q

        # a VAE with the prior N(0, I) and the posterior that f induces, on eps
        eps, log_det = f(z)
        decoded = model.decoder_output(f.inverse(eps)[0])
        log_q_eps = log_q - log_det
        right = model.likelihood.log_prob(x, decoded) + model.prior.normal().log_prob(eps) - log_q_eps
        scale = left.abs().mean()
        torch.testing.assert_close(right / scale, left / scale, rtol=0, atol=tolerance)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_closed_form_and_sampled_kl_agree(posterior):
    torch.manual_seed(0)
    q = POSTERIORS[posterior](4, 3)(torch.randn(5, 4))
    prior = PRIORS["normal"](3)()
    closed = q.kl(prior)
    z, log_q = q.rsample_and_log_prob((200_000,))
    sampled = log_q - prior.log_prob(z)
    error = sampled.std(0) / math.sqrt(len(sampled))
    assert ((sampled.mean(0) - closed).abs() < 4 * error).all()


@pytest.mark.usefixtures("double")
def test_kl_of_full_covariance_against_torch():
    lower = torch.randn(4, 3, 3).tril(-1) + torch.diag_embed(torch.rand(4, 3) + 0.2)
    q = MultivariateNormal(torch.randn(4, 3), scale_tril=lower)
    p_mean, p_scale = torch.randn(3), torch.rand(3) + 0.5
    p = torch.distributions.Independent(Normal(p_mean, p_scale), 1)
    expected = kl_divergence(q, MultivariateNormal(p_mean, torch.diag(p_scale**2)))
    torch.testing.assert_close(SampledPosterior(q).kl(p), expected)


@pytest.mark.parametrize("posterior", POSTERIORS)
@pytest.mark.parametrize("prior", PRIORS)
def test_every_posterior_with_every_prior(posterior, prior):
    """A loss with a gradient for every parameter; a vamp prior says which posteriors it can take."""
    spec = DataSpec("vectors", (2,))

    def build():
        return VAE(spec, latent_dim=3, hidden=16, posterior=posterior, prior=prior)

    if prior == "vamp" and posterior not in ("diagonal", "full"):
        with pytest.raises(ZooError, match="vamp prior"):
            build()
        return
    model = build()
    loss, _ = model.objective(Batch(torch.randn(8, 2)))
    loss.backward()
    assert loss.isfinite()
    assert [name for name, p in model.named_parameters() if p.grad is None and p.requires_grad] == []
    assert model.log_likelihood(torch.randn(4, 2), samples=5).isfinite().all()


@pytest.mark.parametrize("prior", [name for name in PRIORS if name != "vamp"])
def test_prior_densities_integrate_to_one_and_samples_follow_them(prior):
    torch.manual_seed(0)
    module = PRIORS[prior](2, **({"hidden": 16} if prior in ("maf", "spline") else {}))
    for parameter in module.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    side = torch.linspace(-8, 8, 401)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        mass = module().log_prob(grid).exp().reshape(401, 401)
        integral = torch.trapezoid(torch.trapezoid(mass, side), side)
        z = module.sample(20_000)
    assert integral.item() == pytest.approx(1, abs=2e-3)
    x_marginal = torch.trapezoid(mass, side)
    mean = torch.trapezoid(x_marginal * side, side)
    assert z[:, 0].mean().item() == pytest.approx(mean.item(), abs=0.05)


@pytest.mark.usefixtures("double")
@pytest.mark.parametrize(
    ("name", "levels"), [("bernoulli", 2), ("categorical", 2), ("categorical", 17), ("discretized_logistic", 17),
                         ("discretized_logistic", 256), ("discretized_logistic_mixture", 17),
                         ("discretized_logistic_mixture", 256), ("discretized_logistic", 4096),
                         ("discretized_logistic_mixture", 1024), ("categorical", 300)]
)  # fmt: skip
def test_likelihoods_of_levels_sum_to_one(name, levels):
    """Over all levels of a pixel, for parameters far and near."""
    spec = DataSpec("pixel", (1, 1, 1), levels)
    likelihood = LIKELIHOODS[name](spec)
    raw = 5 * torch.randn(50, likelihood.outputs, 1, 1, 1)
    x = torch.arange(levels).to(spec.dtype).view(-1, 1, 1, 1)
    log_p = torch.stack([likelihood.log_prob(x, one.expand(levels, *one.shape)) for one in raw])
    assert log_p.isfinite().all()
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(50), rtol=0, atol=1e-8)


@pytest.mark.parametrize("log_scale", [-1.0, -7.0, -50.0])
def test_16_bits_in_single_precision(log_scale):
    """Levels that lie 3e-5 apart have a probability of their own each, and a scale of less than a level is possible."""
    spec = DataSpec("pixel", (1, 1, 1), 2**16)
    likelihood = LIKELIHOODS["discretized_logistic"](spec)
    x = torch.arange(2**16, dtype=torch.int32).view(-1, 1, 1, 1)
    raw = torch.tensor([spec.to_signed(x[40_000]).item(), log_scale]).view(1, 2, 1, 1, 1)
    log_p = likelihood.log_prob(x, raw.expand(len(x), -1, -1, -1, -1))
    assert log_p.double().logsumexp(0).item() == pytest.approx(0, abs=1e-4)
    assert log_p[40_000] > log_p[1:-1].max() - 1e-4  # the outermost two have the tails
    if log_scale == -50:
        assert log_p.exp().max() > 0.9
    draws = likelihood.sample(raw.expand(1000, -1, -1, -1, -1))
    assert draws.dtype == torch.int32
    assert draws.double().mean().item() == pytest.approx(40_000, abs=2 if log_scale == -50 else 6000)


def test_likelihoods_suit_their_data():
    names = [default_likelihood(DataSpec("data", (1, 2, 2), levels)) for levels in (None, 2, 17, 256)]
    assert names == ["gaussian", "bernoulli", "categorical", "discretized_logistic"]
    with pytest.raises(ZooError, match="continuous"):
        LIKELIHOODS["bernoulli"](DataSpec("vectors", (2,)))
    gray = VAE(DataSpec("gray", (1, 4, 4), 17), "mlp", likelihood="bernoulli")
    _, terms = gray.objective(Batch(torch.zeros(3, 1, 4, 4, dtype=torch.uint8)))
    assert "bits_per_dim" not in terms, "a Bernoulli on gray levels is a loss, not a likelihood"


def test_bits_per_dim_of_a_uniform_model():
    spec = DataSpec("bytes", (3, 4, 4), 256)
    assert bits_per_dim(torch.tensor(-spec.dims * math.log(256)), spec).item() == pytest.approx(8)


def test_schedules():
    assert KLSchedule(beta=4).weight(0) == 4
    warmed = KLSchedule(beta=2, warmup=10)
    assert [warmed.weight(step) for step in (0, 5, 10, 50, None)] == [0, 1, 2, 2, 2]
    cyclic = KLSchedule(warmup=5, period=10)
    assert [cyclic.weight(step) for step in (0, 5, 9, 10, 12)] == [0, 1, 1, 0, 0.4]
    free = KLSchedule(free_bits=3.0)
    kl = torch.tensor(2.0, requires_grad=True)
    loss = free(kl, 0)
    loss.backward()
    assert (loss.item(), kl.grad.item()) == (3, 0)
    for wrong in ({"beta": -1}, {"warmup": 10, "period": 5}):
        with pytest.raises(ZooError, match="none may be negative"):
            KLSchedule(**wrong)


def test_the_layers_of_an_mlp_are_counted_or_listed():
    """One number: two layers of it. A list: those of the encoder, and the decoder has them in the other order."""
    spec = DataSpec("vectors", (5,))

    def widths(network):
        return [(layer.in_features, layer.out_features) for layer in network.modules() if isinstance(layer, nn.Linear)]

    two, one, three = (VAE(spec, "mlp", 3, hidden=hidden) for hidden in (8, [7], [8, 6, 4]))
    assert widths(two.encoder) == [(5, 8), (8, 8)]
    assert widths(one.encoder) == [(5, 7)]
    assert widths(three.encoder) == [(5, 8), (8, 6), (6, 4)]
    assert widths(one.decoder)[0] == (3, 7)
    assert [width for width, _ in widths(three.decoder)] == [3, 4, 6, 8]
    other = VAE(spec, "mlp", 3, hidden=[8, 6], decoder_hidden=[4, 5, 6])
    assert [width for width, _ in widths(other.decoder)] == [3, 4, 5, 6]
    for model in (one, three, other):
        assert model(torch.zeros(2, 5)).shape == (2, 3)
        assert model.sample(2).shape == (2, 5)
    for wrong, said in (([], "one hidden layer or more"), ([0], "hidden 0"), ([8, -1], "hidden -1"), (0, "hidden 0")):
        with pytest.raises(ZooError, match=said):
            VAE(spec, "mlp", 3, hidden=wrong)


@pytest.mark.parametrize(("scale", "seen"), [("signed", [-1.0, 0.0, 1.0]), ("unit", [0.0, 0.5, 1.0])])
def test_the_scale_that_the_encoder_sees(scale, seen):
    """Of the same examples, by the model, by a copy from its checkpoint, and in an importance-weighted likelihood."""
    model = VAE(DataSpec("vectors", (3,), 17), "mlp", 2, hidden=4, input_scale=scale)
    found = []
    model.encoder.register_forward_pre_hook(lambda encoder, given: found.append(given[0]))
    x = torch.tensor([[0, 8, 16]], dtype=torch.uint8)
    model.encode(x), model.log_likelihood(x, 2), model.objective(Batch(x))
    assert len(found) == 3 and all(each.tolist() == [seen] for each in found)
    assert VAE(**model.hparams).input_scale == scale


def test_a_flow_is_computed_once_for_many_draws():
    """Its parameters depend on x alone; what is decoded at once stays small."""
    model = VAE(DataSpec("digits", (1, 8, 8), 17), "mlp", 2, hidden=4, posterior="sylvester_orthogonal")
    flows, decoded = [], []
    model.posterior.transform.register_forward_hook(lambda flow, given, found: flows.append(len(found[0])))
    model.decoder.register_forward_hook(lambda decoder, given, found: decoded.append(len(found)))
    bound = model.importance_weighted(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), 50)
    assert flows == [50]
    assert len(decoded) > 5 and sum(decoded) == 50 * 64
    assert bound.log_p.shape == (64,) and bool(bound.log_p.isfinite().all())
    flows.clear()
    model.importance_weighted(torch.zeros(64, 1, 8, 8, dtype=torch.uint8), 300)  # more than are drawn at once, with a rest
    assert flows == [256, 44]


def test_a_scale_is_of_levels(recwarn):
    with pytest.raises(ZooError, match="input_scale"):
        VAE(DataSpec("vectors", (3,), 17), "mlp", 2, hidden=4, input_scale="half")
    VAE(DataSpec("points", (3,)), "mlp", 2, hidden=4, input_scale="unit")
    assert any("input_scale unit without effect: points has no levels" in str(each.message) for each in recwarn)


def test_gated_layers():
    """(A x + a) times the gate sigma(B x + b), in encoder and decoder, and a linear layer at the decoder's end."""
    spec = DataSpec("digits", (1, 8, 8), 17)
    model = VAE(spec, "gated_mlp", 3, hidden=[7, 6])
    layer = model.encoder[1][0]
    x = torch.randn(5, 64)
    (a, b), (a0, b0) = layer.linear.weight.chunk(2), layer.linear.bias.chunk(2)
    torch.testing.assert_close(layer(x), (x @ a.T + a0) * torch.sigmoid(x @ b.T + b0))
    assert [type(each).__name__ for each in model.decoder[0]] == ["GatedLinear", "GatedLinear"]
    assert model.decoder[1].in_features == 7
    assert model.sample(2).shape == (2, 1, 8, 8)


def test_a_penalty_of_ones_own_is_added_to_the_loss():
    class Sparse(VAE):
        def penalty(self, batch, q, z):
            size = z.abs().sum(-1).mean()
            return 10 * size, {"size": size}

    spec = DataSpec("vectors", (2,))
    torch.manual_seed(0)
    plain = VAE(spec, hidden=8)
    torch.manual_seed(0)
    sparse = Sparse(spec, hidden=8)
    x = torch.randn(4, 2)
    losses = []
    for model in (plain, sparse):
        torch.manual_seed(1)
        losses.append(model.objective(Batch(x)))
    assert (losses[1][0] - losses[0][0]).item() == pytest.approx(10 * losses[1][1]["size"].item(), rel=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "plana"}, "Did you mean planar"),
        ({"prior": "no.such.Prior"}, "can't import the prior"),
        ({"latent_dim": 0}, "latent_dim 0"),
        ({"network": "conv"}, "network conv takes images"),
        ({"posterior_options": {"steps": 3}}, "diagonal: .*'steps'. Accepted: scale"),
        ({"posterior": "iaf", "posterior_options": {"step": 3}}, "iaf: .*'step'. Accepted: steps, hidden. Did you mean s"),
        ({"prior": "mixture", "prior_options": {"number": 3}}, "mixture: .*'number'. Accepted: components"),
        ({"likelihood": "gausian"}, "Did you mean gaussian"),
    ],
)
def test_wrong_parts(options, message):
    with pytest.raises(ZooError, match=message):
        VAE(DataSpec("vectors", (2,)), **options)


def test_softplus_scales_never_vanish():
    q = POSTERIORS["diagonal"](1, 2)
    with torch.no_grad():
        q.heads.bias[2:] = -1e4
    assert q(torch.zeros(1, 1)).base.stddev.min() > 0
    assert softplus(torch.tensor(-1e4)) == 0


def test_directions_are_the_columns_of_the_sylvester_posterior():
    spec = DataSpec("digits", (1, 8, 8), levels=17)
    options = {"directions": 3, "steps": 2}
    model = VAE(spec, network="mlp", posterior="sylvester_orthogonal", posterior_options=options)
    assert [step.directions for step in model.posterior.transform.transforms] == [3, 3]
