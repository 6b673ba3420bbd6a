"""Codes: the posterior's mean, in closed form or by fixed draws, against closed forms and the means of many draws."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Laplace, MultivariateNormal

from zoo.distributions.normal import factorized_normal
from zoo.distributions.posteriors import _PER_CALL, POSTERIORS, FlowPosterior, SampledPosterior
from zoo.errors import ZooError
from zoo.models import VAE
from zoo.spec import DataSpec
from zoo.transforms import Transform

FLOWS = [name for name, cls in POSTERIORS.items() if issubclass(cls, FlowPosterior)]
SPEC = DataSpec("gray", (1, 4, 4), levels=17)


class Exp(Transform):
    """y = exp(x), element by element: a log-normal, whose mean is known; it notes the sizes that it was given."""

    def __init__(self):
        super().__init__()
        self.seen: list[torch.Size] = []

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.seen.append(x.shape)
        return x.exp(), x.sum(-1)


class Affine(Transform):
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return 3 * x.flip(-1) + 1, torch.zeros(x.shape[:-1])


def bent(name: str, features: Tensor) -> SampledPosterior:
    """A flow with parameters as large as training makes them."""
    torch.manual_seed(2)
    posterior = POSTERIORS.build(name, (features.shape[1], 3), {"hidden": 16} if "iaf" in name else {}).double()
    for parameter in posterior.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return posterior(features.double())


def gaussian(d: int = 3, full: bool = False, n: int = 4):
    mean, scale = torch.randn(n, d), 0.2 + 0.5 * torch.rand(n, d)
    if not full:
        return factorized_normal(mean, scale)
    return MultivariateNormal(mean, scale_tril=torch.diag_embed(scale) + 0.3 * torch.randn(n, d, d).tril(-1))


@pytest.mark.parametrize("name", sorted(set(POSTERIORS) - set(FLOWS)))
def test_of_a_gaussian_it_is_the_mean(name):
    q = POSTERIORS[name](5, 3)(torch.randn(4, 5))
    assert torch.equal(q.mean(), q.base.mean)
    assert torch.equal(q.location, q.base.mean)


@pytest.mark.parametrize("full", [False, True])
def test_of_a_flow_it_is_the_mean_and_the_location_is_not(full):
    q = SampledPosterior(gaussian(full=full), Exp())
    variance = q.base.covariance_matrix.diagonal(dim1=-2, dim2=-1) if full else q.base.variance
    expected = (q.base.mean + variance / 2).exp()
    deviation = expected * (variance.exp() - 1).sqrt()
    assert ((q.mean(40_000) - expected).abs() < 5 * deviation / 40_000**0.5).all()
    assert ((q.mean() - expected).abs() < 5 * deviation / 64**0.5).all()
    torch.testing.assert_close(q.location, q.base.mean.exp())
    assert (q.location < expected).all()


@pytest.mark.parametrize("full", [False, True])
def test_what_is_linear_has_no_error(full):
    q = SampledPosterior(gaussian(full=full), Affine())
    torch.testing.assert_close(q.mean(2), 3 * q.base.mean.flip(-1) + 1)


@torch.no_grad()
@pytest.mark.parametrize("name", FLOWS)
def test_against_the_mean_of_many_draws(name):
    q = bent(name, torch.randn(6, 5, generator=torch.Generator().manual_seed(1)))
    z, _ = q.rsample_and_log_prob((20_000,))
    mean, deviation = z.mean(0), z.std(0)
    for samples in (64, 4096):
        error = 5 * deviation * (samples**-0.5 + 20_000**-0.5)
        assert ((q.mean(samples) - mean).abs() < error).all(), samples
    assert ((q.location - mean).abs() > 0.1 * deviation).any(), "the case must tell the mean from the location"


@torch.no_grad()
@pytest.mark.parametrize("name", FLOWS)
def test_an_example_has_one_code(name):
    """Whatever else is in the batch, at every call, in chunks or not; torch's random state stays as it is."""
    features = torch.randn(5, 4, generator=torch.Generator().manual_seed(1)).repeat(80, 1)
    codes = bent(name, features).mean().unflatten(0, (80, 5))
    alone = torch.cat([bent(name, features[k : k + 1]).mean() for k in range(5)])
    torch.testing.assert_close(codes, alone.expand_as(codes), rtol=1e-9, atol=1e-9)
    q = bent(name, features[:5])
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert torch.equal(q.mean(), q.mean())
    assert not torch.equal(q.mean(), q.mean(seed=1))
    assert torch.equal(torch.get_rng_state(), before)


def test_memory_is_bounded():
    for n in (1, 300, _PER_CALL):
        q = SampledPosterior(gaussian(2, n=n), Exp())
        q.mean()
        assert sum(size[0] for size in q.transform.seen) == 64
        assert max(size[0] * size[1] for size in q.transform.seen) <= 2 * _PER_CALL


def test_a_base_that_is_no_gaussian():
    """Draws of its own, which leave torch's random state as it is."""
    base = Independent(Laplace(torch.randn(4, 3), 0.1 + 0.2 * torch.rand(4, 3)), 1)
    q = SampledPosterior(base, Exp())
    before = torch.get_rng_state()
    found = q.mean(20_000)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found, q.mean(20_000))
    location, scale = base.base_dist.loc, base.base_dist.scale
    expected = location.exp() / (1 - scale**2)
    deviation = (torch.exp(2 * location) / (1 - 4 * scale**2) - expected**2).sqrt()
    assert ((found - expected).abs() < 5 * deviation / 20_000**0.5).all()


@pytest.mark.parametrize("full", [False, True])
def test_autocast_changes_nothing(full):
    q = SampledPosterior(gaussian(full=full), Exp())
    plain = q.mean()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(q.mean(), plain)


def test_a_mean_needs_two_draws():
    with pytest.raises(ZooError, match="samples 1: 2 or more"):
        SampledPosterior(gaussian(), Exp()).mean(1)


def test_in_double_precision():
    q = SampledPosterior(factorized_normal(torch.zeros(2, 3).double(), torch.ones(2, 3).double()), Exp())
    assert q.mean().dtype == torch.float64


def test_a_unit_that_does_not_depend_on_x_is_not_active():
    """With noise of its own for each example, the means of 64 draws would vary by 1/64, more than the limit of 0.01."""
    model = VAE(SPEC, network="mlp", hidden=8, latent_dim=3, posterior="planar")
    with torch.no_grad():
        for name, parameter in model.posterior.named_parameters():
            if name.endswith("weight"):
                parameter.zero_()
        codes = model.encode(torch.randint(17, (50, *SPEC.shape), dtype=torch.uint8))
    assert codes.var(0).max() < 1e-10


def test_codes_of_a_model_are_means_and_keep_their_gradient():
    model = VAE(SPEC, network="mlp", hidden=8, latent_dim=3, posterior="iaf", posterior_options={"hidden": 8})
    x = torch.randint(17, (5, *SPEC.shape), dtype=torch.uint8)
    codes = model.encode(x)
    torch.testing.assert_close(codes, model.q(x).mean())
    codes.sum().backward()
    assert model.posterior.gaussian.heads.weight.grad.isfinite().all()
