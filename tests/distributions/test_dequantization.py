"""Dequantization against what is known: densities that integrate to one, bounds in their order, exactly 8 bits."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.distributions.dequantization import (
    DequantizedFlow,
    LogitTransform,
    NoDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
    standard_normal,
)
from zoo.errors import ZooError
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.metrics.importance_weighting import importance_weighted_bound
from zoo.spec import DataSpec, level_dtype
from zoo.transforms import AffineAutoregressive, SplineAutoregressive, Transform


@pytest.fixture(autouse=True)
def _double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


class OnImages(Transform):
    """A transform of vectors as one of images."""

    def __init__(self, inner: Transform):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        y, log_det = self.inner(x.flatten(1), None if context is None else context.flatten(1))
        return y.view_as(x), log_det

    def inverse(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_det = self.inner.inverse(y.flatten(1), None if context is None else context.flatten(1))
        return x.view_as(y), log_det


class UniformFlow(Transform):
    """The logits of y ~ U[0, levels]^D to N(0, I): the quantile function of N(0, 1) of y / levels."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        share = (x.sigmoid() - 0.05) / 0.9
        z = torch.special.ndtri(share)
        log_slope = nn.functional.logsigmoid(x) + nn.functional.logsigmoid(-x) - math.log(0.9)
        return z, log_slope.flatten(1).sum(1) - standard_normal(z)


def cells(levels: int, dims: int, nodes: int = 48) -> tuple[Tensor, Tensor, Tensor]:
    """Every x (N, 1, 1, D), points of its cell [x, x + 1)^D (N, M, 1, 1, D), and their Gauss-Legendre weights (M,)."""
    at, weight = (torch.tensor(part) for part in np.polynomial.legendre.leggauss(nodes))
    u = torch.cartesian_prod(*[(at + 1) / 2] * dims).view(-1, 1, 1, dims)
    weights = torch.cartesian_prod(*[weight / 2] * dims).view(-1, dims).prod(1)
    x = torch.tensor(list(product(range(levels), repeat=dims)), dtype=torch.uint8).view(-1, 1, 1, dims)
    return x, x[:, None] + u, weights


def log_cell_integrals(model: DequantizedFlow, levels: int, dims: int) -> Tensor:
    """log P(x) of every x: the logarithm of p's integral over its cell, by quadrature."""
    x, y, weights = cells(levels, dims)
    log_p = model.log_density(y.flatten(0, 1)).view(len(x), -1)
    return (log_p + weights.log()).logsumexp(1)


def small_model(levels: int, dims: int, variational: bool = False) -> DequantizedFlow:
    torch.manual_seed(1)
    flow = OnImages(SplineAutoregressive(dims, bins=4, hidden=(16,)))
    if not variational:
        return DequantizedFlow(flow, UniformDequantizer(), levels)
    dequantizer = OnImages(AffineAutoregressive(dims, context_features=dims, hidden=(32,)))
    return DequantizedFlow(flow, VariationalDequantizer(dequantizer, levels), levels)


def shaken(module: nn.Module, size: float) -> None:
    for parameter in module.parameters():
        parameter.data += size * torch.randn_like(parameter)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_logits_round_trip_and_log_det_against_autograd(levels):
    y = torch.rand(5, 1, 2, 3) * levels
    v, log_det = LogitTransform(levels)(y)
    back, inverse_log_det = LogitTransform(levels).inverse(v)
    torch.testing.assert_close(back, y)
    torch.testing.assert_close(inverse_log_det, -log_det)
    for one, expected in zip(y, log_det, strict=True):
        jacobian = torch.autograd.functional.jacobian(lambda point: LogitTransform(levels)(point[None])[0].flatten(), one)
        torch.testing.assert_close(torch.linalg.slogdet(jacobian.view(6, 6)).logabsdet, expected)


def test_logits_of_the_ends_are_those_of_the_margin():
    v, _ = LogitTransform(256)(torch.tensor([[0.0], [128.0], [256.0]]))
    expected = math.log(0.95 / 0.05)
    torch.testing.assert_close(v, torch.tensor([[-expected], [0.0], [expected]]))


@pytest.mark.parametrize("levels", [2, 17, 256, 1024, 2**16])
def test_a_uniform_model_has_log2_levels_bits_per_dim(levels):
    """Exactly: 8.0 for 8-bit data. D log(0.9 / 256) is inside, no '+8' outside."""
    spec = DataSpec("bytes", (3, 4, 4), levels)
    model = DequantizedFlow(UniformFlow(), UniformDequantizer(), levels)
    log_p, log_q = model(torch.randint(levels, (50, *spec.shape)).to(spec.dtype))
    assert not log_q.any()
    torch.testing.assert_close(bits_per_dim(log_p, spec), torch.full((50,), math.log2(levels)), rtol=0, atol=1e-9)


@pytest.mark.parametrize(("levels", "dims"), [(5, 1), (3, 2)])
def test_the_density_integrates_to_one(levels, dims):
    """Over all that the logits reach: the cells, and what lies beyond [0, levels] and is no level."""
    model = small_model(levels, dims)
    shaken(model.flow, 0.3)
    ends = torch.tensor([-levels / 18, *range(levels + 1), levels * 19 / 18])  # 0.05 + 0.9 y / levels is 0 and 1 there
    at, weight = (torch.tensor(part) / 2 for part in np.polynomial.legendre.leggauss(60))
    side = (ends[:-1, None] + (at + 0.5) * ends.diff()[:, None]).flatten()
    weights = (weight * ends.diff()[:, None]).flatten()
    y = torch.cartesian_prod(*[side] * dims).view(-1, 1, 1, dims)
    weights = torch.cartesian_prod(*[weights] * dims).view(-1, dims).prod(1)
    with torch.no_grad():
        mass = model.log_density(y).exp() * weights
        inside = ((y > 0) & (y < levels)).flatten(1).all(1)
        total = log_cell_integrals(model, levels, dims).exp().sum()
    assert mass.sum().item() == pytest.approx(1, abs=1e-3)
    assert total.item() == pytest.approx(mass[inside].sum().item(), abs=1e-3)
    assert total < 1


def test_a_density_inside_the_cells_gives_probabilities_that_sum_to_one():
    model = DequantizedFlow(UniformFlow(), UniformDequantizer(), 3)
    assert log_cell_integrals(model, 3, 2).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("dims", [1, 2])
def test_the_dequantizer_is_a_density_on_the_unit_cube(dims):
    """For every x, log q(u|x) integrates to one, and is the value that comes with a draw of u."""
    levels = 3
    dequantizer = small_model(levels, dims, variational=True).dequantizer
    shaken(dequantizer, 0.3)
    x, y, weights = cells(levels, dims, nodes=100)
    with torch.no_grad():
        for one, points in zip(x, y, strict=True):
            log_q = dequantizer.log_prob(points - one, one.expand(len(points), -1, -1, -1))
            assert (log_q.exp() * weights).sum().item() == pytest.approx(1, abs=1e-3)
        drawn, log_q = dequantizer(x)
        torch.testing.assert_close(dequantizer.log_prob(drawn - x, x), log_q)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [2, 17, 256, 4096, 2**16])
@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_noise_stays_inside_the_cell(kind, levels, dtype):
    """Also where a sigmoid or a sum is rounded up."""
    torch.set_default_dtype(dtype)
    dequantizer = UniformDequantizer()
    if kind == "variational":
        dequantizer = small_model(levels, 2, variational=True).dequantizer
        dequantizer.flow.inner.net.requires_grad_(False)
        shaken(dequantizer.flow, 30.0)  # saturated
    x = torch.randint(levels, (4000, 1, 1, 2)).to(level_dtype(levels))
    with torch.no_grad():
        y, log_q = dequantizer(x)
    assert y.dtype == dtype
    assert torch.equal(y.floor().to(x.dtype), x)
    assert log_q.isfinite().all()
    extreme = torch.full((20_000, 1, 1, 2), levels - 1, dtype=x.dtype)
    assert (dequantizer(extreme)[0] < levels).all()


@pytest.mark.parametrize(("levels", "dims"), [(5, 1), (3, 2)])
def test_bounds_are_in_their_order(levels, dims):
    """Of a known distribution of one or two pixels: uniform < variational < importance-weighted < exact < -H."""
    model = small_model(levels, dims, variational=True)
    x, y, weights = cells(levels, dims)
    p = torch.rand(len(x)).pow(2)
    p = p / p.sum()
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(150):  # both parts together, each x as often as it is probable
        drawn = x[torch.multinomial(p, 128, replacement=True)]
        log_p, log_q = model(drawn)
        loss = (log_q - log_p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    with torch.no_grad():
        exact = log_cell_integrals(model, levels, dims)
        log_p = model.log_density(y.flatten(0, 1)).view(len(x), -1)
        uniform = (log_p * weights).sum(1)  # E_u[log p(x + u)], u ~ U[0, 1)^D, by quadrature

        def log_weights(k: int) -> Tensor:
            log_p, log_q = model(x.repeat(k, 1, 1, 1))
            return (log_p - log_q).view(k, -1)

        variational = log_weights(4000).mean(0)
        several = (log_weights(4000).unflatten(0, (500, 8)).logsumexp(1) - math.log(8)).mean(0)
        many = importance_weighted_bound(log_weights, 20_000, 4000)
    assert (uniform < exact).all()
    assert (variational < exact).all()
    mean = {"uniform": p @ uniform, "variational": p @ variational, "several": p @ several, "exact": p @ exact}
    assert mean["uniform"] + 0.05 < mean["variational"]
    assert mean["variational"] + 0.01 < mean["several"]
    assert mean["several"] + 0.005 < mean["exact"]
    assert mean["exact"] < p @ p.log(), "no model gives more than minus the entropy"
    assert ((many.log_p - exact).abs() < 4 * many.standard_error + 1e-6).all(), "many samples reach the exact value"


def test_without_noise_a_density_is_not_bounded():
    """It grows without limit as the density gathers at the points; the bounds cannot."""

    class Narrow(Transform):
        def __init__(self, factor: float):
            super().__init__()
            self.factor = factor

        def forward(self, x, context=None):
            return x * self.factor, x.new_full((len(x),), math.log(self.factor)) * x[0].numel()

    x = torch.full((200, 1, 1, 1), 8, dtype=torch.uint8)  # the center of 17 levels, whose logit is 0
    for dequantizer, grows in ((NoDequantizer(), True), (UniformDequantizer(), False)):
        wide, narrow = (DequantizedFlow(Narrow(factor), dequantizer, 17)(x)[0].mean() for factor in (10.0, 1e6))
        assert (narrow > wide + 5) == grows
        assert (narrow > 0) == grows


def test_continuous_data_take_no_noise():
    y, log_q = NoDequantizer()(torch.full((2, 1, 1, 1), 0.3))
    assert y.unique().item() == 0.3
    assert not log_q.any()
    flow = OnImages(SplineAutoregressive(1, bins=4, hidden=(8,)))
    x = torch.randn(5, 1, 1, 1)
    z, log_det = flow(x)
    torch.testing.assert_close(DequantizedFlow(flow, NoDequantizer(), None)(x)[0], standard_normal(z) + log_det)
    with pytest.raises(ZooError, match="continuous"):
        DequantizedFlow(flow, UniformDequantizer(), None)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("levels", [1024, 2**16])
def test_many_levels_are_told_apart(levels, dtype):
    """To latents and back every one of 10 or 16 bits is itself, in single precision too; none wraps around."""
    model = DequantizedFlow(OnImages(SplineAutoregressive(1, bins=4, hidden=(16,))), UniformDequantizer(), levels).to(dtype)
    x = torch.arange(levels).to(level_dtype(levels)).view(-1, 1, 1, 1)
    with torch.no_grad():
        assert model.centers(x).dtype == dtype
        back = model.quantize(model.decode(model.encode(model.centers(x))[0]))
    assert back.dtype == x.dtype
    assert torch.equal(back, x)


def test_the_type_of_the_weights_decides():
    """Not torch's default: a flow in float64 gets points with 53 bits, of which those of float32 would have 24."""
    torch.set_default_dtype(torch.float32)
    x = torch.randint(2**16, (100, 1, 1, 2), dtype=torch.int32)
    for variational in (False, True):
        model = small_model(2**16, 2, variational).double()
        y, log_q = model.dequantizer(x)
        assert y.dtype == log_q.dtype == model(x)[0].dtype == torch.float64
        assert not torch.equal(y, y.float().double())


def test_points_become_the_levels_of_their_cells():
    model = small_model(17, 2)
    y = torch.tensor([-0.3, 0.0, 0.99, 1.0, 16.999, 17.0, 18.2]).view(-1, 1, 1, 1)
    assert model.quantize(y).flatten().tolist() == [0, 0, 0, 1, 16, 16, 16]
    assert model.quantize(y).dtype == torch.uint8
    x = torch.randint(17, (20, 1, 1, 2), dtype=torch.uint8)
    points, _ = model.dequantizer(x)
    assert torch.equal(model.quantize(model.decode(model.encode(points)[0])), x)
    assert model.inversion_error(x) < 1e-9
