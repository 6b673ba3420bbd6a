"""Whatever numbers a network gives, up to 10,000 in size, values and gradients are finite, and right at the bounds."""

import math
from itertools import product

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from zoo.distributions.likelihoods import LIKELIHOODS
from zoo.distributions.posteriors import POSTERIORS, DiagonalGaussian, FullGaussian
from zoo.distributions.priors import PRIORS
from zoo.errors import ZooError
from zoo.spec import DataSpec
from zoo.transforms import ActNorm, AffineAutoregressive, Coupling, GatedAutoregressive, SplineAutoregressive

SIZES = [30.0, 90.0, 104.0, 200.0, 1e4]
DTYPES = [torch.float32, torch.float64]
every_size = pytest.mark.parametrize("size", SIZES)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def signs(shape, size: float, dtype: torch.dtype) -> torch.Tensor:
    """Numbers of -size, 0 and size, with a gradient."""
    torch.manual_seed(0)
    return (size * torch.randint(-1, 2, shape)).to(dtype).requires_grad_()


def require_finite(values, inputs) -> None:
    """The values, and the gradients of each by all inputs."""
    for value in values:
        assert value.isfinite().all()
        gradients = torch.autograd.grad(value.sum(), inputs, retain_graph=True, allow_unused=True)
        assert all(gradient is None or gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", LIKELIHOODS)
@pytest.mark.parametrize("levels", [None, 2, 17, 256])
@every_size
@pytest.mark.parametrize("dtype", [*DTYPES, torch.bfloat16])
def test_likelihoods(name, levels, size, dtype):
    spec = DataSpec("pixels", (1, 4, 4), levels)
    if levels is None and name != "gaussian":
        pytest.skip("a likelihood of levels")
    likelihood = LIKELIHOODS.build(name, (spec,))
    raw = signs((64, likelihood.outputs, 1, 4, 4), size, dtype)
    x = torch.randn(64, 1, 4, 4) if levels is None else torch.randint(levels, (64, 1, 4, 4)).to(torch.uint8)
    require_finite([likelihood.log_prob(x, raw)], [raw])
    for draw in (likelihood.mean, likelihood.mean_for_plots, likelihood.sample):
        made = draw(raw.detach())
        assert made.isfinite().all()
        if levels is not None:
            assert made.min() >= 0 and made.max() <= levels - 1


@pytest.mark.parametrize("log_scale", [-200.0, -90.0, 90.0, 200.0])
@pytest.mark.parametrize("levels", [None, 256])
def test_a_learned_scale(log_scale, levels):
    likelihood = LIKELIHOODS.build("gaussian", (DataSpec("pixels", (1, 4, 4), levels),))
    likelihood.log_scale.data.fill_(log_scale)
    x = torch.randn(64, 1, 4, 4) if levels is None else torch.randint(levels, (64, 1, 4, 4)).to(torch.uint8)
    raw = torch.randn(64, 1, 1, 4, 4, requires_grad=True)
    require_finite([likelihood.log_prob(x, raw)], [raw, likelihood.log_scale])
    assert likelihood.sample(raw.detach()).isfinite().all()


@pytest.mark.parametrize("scale", [0, -1, 0.0, 1e-13, 1e13, math.nan, math.inf, -math.inf])
def test_a_scale_that_is_none(scale):
    with pytest.raises(ZooError, match=f"scale {scale} of a Gaussian: 1e-12 to 1e12 is accepted"):
        LIKELIHOODS.build("gaussian", (DataSpec("ring", (2,)),), {"scale": scale})


def test_a_fixed_scale_is_exact_as_far_as_it_may_be():
    for scale in (1e-12, 1e-3, 1e12):
        likelihood = LIKELIHOODS.build("gaussian", (DataSpec("ring", (2,)),), {"scale": scale}).double()
        x, mean = torch.zeros(1, 2).double(), torch.full((1, 1, 2), scale).double()
        torch.testing.assert_close(likelihood.log_prob(x, mean), Normal(scale, scale).log_prob(x).sum(1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("size", [7.0, 90.0, 104.0, 1e4])
@pytest.mark.parametrize("levels", [2, 17, 256])
def test_a_discretized_logistic_of_any_scale_is_normalized(size, levels):
    """Over all levels, and beyond the bound it is that of the bound."""
    likelihood = LIKELIHOODS.build("discretized_logistic", (DataSpec("pixels", (levels,), levels),)).double()
    for mean, log_scale in product((-200.0, 0.3, 200.0), (-size, size)):
        raw = torch.tensor([mean, log_scale]).double()[:, None].expand(1, 2, levels)
        log_p = likelihood.log_prob_of_values(torch.arange(levels)[None], raw.movedim(1, 0))
        assert log_p.exp().sum().item() == pytest.approx(1)


def outputs_of(layer: torch.nn.Linear, values: torch.Tensor) -> None:
    """Let a layer give these numbers, whatever it is given."""
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.copy_(values)


@pytest.mark.parametrize("name", [*POSTERIORS, "diagonal exp"])
@every_size
@every_dtype
def test_posteriors(name, size, dtype):
    """What the layers that see the features give is of that size."""
    torch.manual_seed(0)
    kind, _, scale = name.partition(" ")
    posterior = POSTERIORS.build(kind, (6, 4), {"scale": scale} if scale else {}).to(dtype)
    if size > 200 and "iaf" in kind:
        pytest.skip("their steps multiply: four of them overflow float32 where one gives 10,000")
    for module in posterior.modules():
        if isinstance(module, torch.nn.Linear) and module.weight.shape[1] == 6 and module.bias is not None:
            outputs_of(module, signs(module.bias.shape, size, dtype))
        elif isinstance(getattr(module, "bias", None), torch.nn.Parameter):
            with torch.no_grad():
                module.bias.copy_(signs(module.bias.shape, size, dtype))
    features = torch.randn(32, 6, dtype=dtype, requires_grad=True)
    q = posterior(features)
    z, log_q = q.rsample_and_log_prob((3,))
    kl = q.kl(PRIORS.build("normal", (4,)).to(dtype)())
    require_finite([z, log_q, *([] if kl is None else [kl])], [features, *posterior.parameters()])


@pytest.mark.parametrize("posterior", [DiagonalGaussian(6, 4), DiagonalGaussian(6, 4, "exp"), FullGaussian(6, 4)])
def test_the_density_of_a_draw_is_that_of_its_noise(posterior):
    q = posterior.double()(torch.randn(32, 6).double())
    z, log_q = q.rsample_and_log_prob((5,))
    mean, scale = q.gaussian
    exact = MultivariateNormal(mean, scale_tril=scale if scale.dim() == 3 else scale.diag_embed()).log_prob(z)
    torch.testing.assert_close(log_q, exact, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["mixture", "maf", "spline"])
@every_size
@every_dtype
def test_priors(name, size, dtype):
    """All numbers of a mixture, and the outputs of a flow's networks, are of that size."""
    torch.manual_seed(0)
    prior = PRIORS.build(name, (4,), {"steps": 1, "hidden": 8} if name != "mixture" else {}).to(dtype)
    layers = [module for module in prior.modules() if getattr(module, "bias", None) is not None]
    with torch.no_grad():
        for parameter in [layer.bias for layer in layers[-1:]] or prior.parameters():
            parameter.copy_(signs(parameter.shape, size, dtype))
    z = torch.randn(32, 4, dtype=dtype, requires_grad=True)
    require_finite([prior().log_prob(z)], [z, *prior.parameters()])
    assert prior.sample(64).isfinite().all()


@pytest.mark.parametrize("kind", ["mixture_logistic", "affine", "spline"])
@every_size
@every_dtype
def test_couplings(kind, size, dtype):
    coupling = Coupling((1, 4, 2), (1, 4, 2), kind, components=4, filters=8, blocks=1, heads=2).to(dtype).eval()
    outputs_of(coupling.net.last, signs(coupling.net.last.bias.shape, size, dtype))
    x, given = torch.randn(2, 16, 1, 4, 2, dtype=dtype)
    x.requires_grad_()
    for direction in (coupling.forward, coupling.inverse):
        require_finite(direction(x, given), [x, *coupling.net.last.parameters()])


@pytest.mark.parametrize("step", [AffineAutoregressive, GatedAutoregressive, SplineAutoregressive])
@every_size
@every_dtype
def test_steps_of_autoregressive_flows(step, size, dtype):
    """The function of one dimension, forwards; a closed gate has no way back."""
    flow = step(1, hidden=(4,))
    parameters = signs((512, flow.net.outputs), size, dtype)
    x = torch.randn(512, dtype=dtype, requires_grad=True)
    y, log_slope = flow.univariate(x, parameters)
    require_finite([y, log_slope], [x, parameters])
    if step is not GatedAutoregressive:
        require_finite([flow.univariate_inverse(x, parameters)], [x, parameters])


@every_size
def test_actnorms(size):
    norm = ActNorm((1, 4, 4))
    with torch.no_grad():
        norm.log_scale.copy_(signs(norm.log_scale.shape, size, torch.float32))
    x = torch.randn(8, 1, 4, 4, requires_grad=True)
    for direction in (norm.forward, norm.inverse):
        require_finite(direction(x), [x, *norm.parameters()])
    torch.testing.assert_close(norm(x)[1], -norm.inverse(x)[1])
