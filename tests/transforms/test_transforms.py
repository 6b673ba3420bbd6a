"""Every transform keeps one contract, and each formula is checked against calculus."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import stats
from torch.distributions import (
    AffineTransform,
    Cauchy,
    Exponential,
    Gumbel,
    HalfNormal,
    Independent,
    Laplace,
    LogNormal,
    Normal,
    Pareto,
    SigmoidTransform,
    StudentT,
    TransformedDistribution,
    Uniform,
    Weibull,
)

from zoo.errors import ZooError
from zoo.transforms import (
    AffineAutoregressive,
    Compose,
    Entangle,
    GatedAutoregressive,
    Inverse,
    NotInvertibleError,
    Permutation,
    Planar,
    Radial,
    Reverse,
    SplineAutoregressive,
    Sylvester,
    Transform,
    autoregressive_flow,
)
from zoo.transforms.entangle import dct4
from zoo.transforms.normal_scores import from_normal_scores, inside_support, normal_scores
from zoo.transforms.planar import planar
from zoo.transforms.radial import radial
from zoo.transforms.sylvester import orthogonalize, reflect

CONTEXT = 3
PRIORS = {
    "normal": lambda d: Normal(torch.linspace(-1, 1, d).double(), torch.linspace(0.5, 2, d).double()),
    "uniform": lambda d: Uniform(-torch.ones(d).double(), torch.linspace(1, 2, d).double()),
    "laplace": lambda d: Laplace(torch.zeros(d).double(), torch.linspace(0.5, 2, d).double()),
}
TRANSFORMS = {
    "planar": Planar,
    "radial": Radial,
    "sylvester-orthogonal": Sylvester,
    "sylvester-narrow": lambda d, c: Sylvester(d, c, directions=max(1, d - 2)),
    "sylvester-householder": lambda d, c: Sylvester(d, c, kind="householder", reflections=3),
    "sylvester-triangular": lambda d, c: Sylvester(d, c, kind="triangular"),
    "sylvester-triangular-reverse": lambda d, c: Sylvester(d, c, kind="triangular", reverse=True),
    "affine": lambda d, c: AffineAutoregressive(d, c, hidden=(12, 12), order=torch.randperm(d)),
    "gated": lambda d, c: GatedAutoregressive(d, c, hidden=(12, 12)),
    "spline": lambda d, c: SplineAutoregressive(d, c, hidden=(12, 12), bins=4),
    "reverse": lambda d, c: Reverse(),
    "permutation": lambda d, c: Permutation(torch.randperm(d)),
    "inverse": lambda d, c: Inverse(AffineAutoregressive(d, c, hidden=(12,))),
    "compose": lambda d, c: Compose([Planar(d, c), Reverse(), Radial(d, c), Sylvester(d, c)]),
    "maf": lambda d, c: autoregressive_flow(AffineAutoregressive, d, steps=2, context_features=c, hidden=(12,)),
    "entangle-normal": lambda d, c: Entangle(PRIORS["normal"](d)),
    "entangle-laplace": lambda d, c: Entangle(PRIORS["laplace"](d)),
}
TOLERANCE = {"entangle-laplace": 1e-9}  # rounding of the CDF in the tails, amplified by the quantile function
LARGE = {"spline": 0.5}  # with 1.0 its slopes of 1e-3 to 1e3 multiply rounding by 1e9 over 5 dimensions


def make(name, d, c, state):
    """A transform of d dimensions in float64: as it starts, with large random parameters, or after training."""
    torch.manual_seed(0)
    transform = TRANSFORMS[name](d, c).double()
    parameters = list(transform.parameters())
    if state == "large":
        with torch.no_grad():
            for parameter in parameters:
                parameter.normal_(std=LARGE.get(name, 1.0))
    if state == "trained" and parameters:
        optimizer = torch.optim.Adam(parameters, lr=0.02)
        x, context = torch.randn(64, d).double(), torch.randn(64, CONTEXT).double()
        for _ in range(5):
            y, log_det = transform(2 * x + 1, context)
            loss = (y.square().sum(-1) / 2 - log_det).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return transform


def inputs(d, c, batch=4):
    torch.manual_seed(1)
    return torch.randn(batch, d).double(), torch.randn(batch, c).double() if c else None


def split_rows(jacobian):
    """The derivatives (B, n, B, m) of each row by itself, (B, n, m), and those by the other rows."""
    row = torch.arange(len(jacobian))
    own = jacobian[row, :, row]
    return own, jacobian - torch.einsum("bnm,bc->bncm", own, torch.eye(len(row), dtype=own.dtype))


every_transform = pytest.mark.parametrize("name", TRANSFORMS)
every_size = pytest.mark.parametrize("d", [1, 2, 5])
every_context = pytest.mark.parametrize("c", [0, CONTEXT], ids=["unconditional", "context"])


@every_transform
@every_size
@every_context
@pytest.mark.parametrize("state", ["fresh", "large", "trained"])
def test_contract(name, d, c, state):
    transform = make(name, d, c, state)
    x, context = inputs(d, c)
    y, log_det = transform(x, context)
    assert y.shape == x.shape and log_det.shape == x.shape[:1] and y.dtype == log_det.dtype == torch.float64

    tolerance = TOLERANCE.get(name, 1e-10)
    back, inverse_log_det = transform.inverse(y, context)
    torch.testing.assert_close(back, x, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=tolerance, atol=tolerance)

    own, others = split_rows(torch.func.jacrev(lambda x: transform(x, context)[0])(x))
    sign, log_abs_det = torch.linalg.slogdet(own)
    torch.testing.assert_close(log_abs_det, log_det, rtol=tolerance, atol=tolerance)
    if name not in ("reverse", "permutation", "compose", "entangle-normal", "entangle-laplace"):
        assert (sign > 0).all()
    assert not others.any(), "a row of the batch depends on another row"
    if c and list(transform.parameters()):
        own, others = split_rows(torch.func.jacrev(lambda context: transform(x, context)[0])(context))
        assert own.any() and not others.any(), "a row of the batch depends on another row's context"


@every_transform
def test_gradients_reach_every_parameter_both_ways(name):
    transform = make(name, 5, CONTEXT, "fresh")
    x, context = inputs(5, CONTEXT)
    for direction in (transform.forward, transform.inverse):
        transform.zero_grad()
        y, log_det = direction(x, context)
        assert y.isfinite().all()
        if list(transform.parameters()):
            (y.square().sum() + log_det.sum()).backward()
        for key, parameter in transform.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key


@every_transform
def test_gradient_of_the_inverse_is_that_of_the_inverse_function(name):
    transform = make(name, 2, CONTEXT, "fresh")
    x, context = inputs(2, CONTEXT)
    y = transform(x, context)[0].detach()
    there = torch.func.jacrev(lambda x: transform(x, context)[0])(x).reshape(8, 8)
    back = torch.func.jacrev(lambda y: transform.inverse(y, context)[0])(y).reshape(8, 8)
    torch.testing.assert_close(there @ back, torch.eye(8).double(), rtol=1e-8, atol=1e-8)
    # A change of the context that moves y = f(x; context) must be undone by the inverse at fixed x.
    by_context = torch.func.jacrev(lambda h: transform(x, h)[0])(context).reshape(8, -1)
    inverse_by_context = torch.func.jacrev(lambda h: transform.inverse(y, h)[0])(context).reshape(8, -1)
    torch.testing.assert_close(inverse_by_context, -back @ by_context, rtol=1e-7, atol=1e-7)


@every_transform
@every_context
def test_sample_dimensions_broadcast_against_the_context(name, c):
    transform = make(name, 5, c, "fresh")
    x, context = torch.randn(7, 4, 5).double(), inputs(5, c)[1]
    y, log_det = transform(x, context)
    assert y.shape == (7, 4, 5) and log_det.shape == (7, 4)
    for k in range(7):
        expected, expected_log_det = transform(x[k], context)
        torch.testing.assert_close((y[k], log_det[k]), (expected, expected_log_det), rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        torch.testing.assert_close(transform.inverse(y, context)[0], x, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("state", ["fresh", "trained"])
@every_transform
def test_density_integrates_to_one(name, state):
    transform = make(name, 2, 0, state)
    axis = torch.linspace(-13, 13, 301).double()
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        y, log_det = transform(grid)
    density = (Normal(0.0, 1.0).log_prob(y).sum(-1) + log_det).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=2e-3)


@every_transform
def test_float32_stays_close_and_autocast_is_kept_out(name):
    transform = make(name, 5, CONTEXT, "fresh")
    x, context = inputs(5, CONTEXT)
    exact = transform(x, context)
    transform = transform.float()
    single = transform(x.float(), context.float())
    with torch.autocast("cpu", torch.bfloat16):
        mixed = transform(x.float(), context.float())
    assert all(torch.equal(a, b) for a, b in zip(single, mixed, strict=True))
    for value, reference in zip(single, exact, strict=True):
        torch.testing.assert_close(value.double(), reference, rtol=1e-4, atol=1e-4)


@every_transform
def test_state_dict_round_trip(name):
    first, second = make(name, 5, CONTEXT, "large"), TRANSFORMS[name](5, CONTEXT).double()
    second.load_state_dict(first.state_dict())
    x, context = inputs(5, CONTEXT)
    assert torch.equal(first(x, context)[0], second(x, context)[0])
    assert torch.equal(first.inverse(x, context)[0], second.inverse(x, context)[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("d", [1, 2, 5, 64])
def test_planar_is_invertible_for_every_parameter(d, scale, dtype):
    torch.manual_seed(2)
    x, w, u = (torch.randn(5000, d, dtype=dtype) for _ in range(3))
    w, u = scale * w, scale * u
    assert ((w * u).sum(-1) < -1).float().mean() > 0.1, "the draws must include many that an unconstrained map folds"
    # On the hyperplane wᵀx + b = 0 the determinant is smallest, 1 + wᵀû; elsewhere it lies between that and 1.
    for b in (-(w * x).sum(-1, keepdim=True), torch.randn(5000, 1, dtype=dtype)):
        assert planar(x, w, u, b)[1].isfinite().all()


def test_planar_constraint_holds_and_the_solver_inverts_it():
    torch.manual_seed(2)
    x, w, u = (3 * torch.randn(5000, 5).double() for _ in range(3))
    b = torch.randn(5000, 1).double()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x, w, u, b: planar(x, w, u, b)[0]))(x, w, u, b)
    sign, log_abs_det = torch.linalg.slogdet(jacobian)
    log_det = planar(x, w, u, b)[1]
    safe = log_det > -20  # below, the numerical determinant is rounding
    assert (sign[safe] > 0).all() and safe.float().mean() > 0.99
    torch.testing.assert_close(log_abs_det[safe], log_det[safe], rtol=1e-5, atol=1e-5)


def test_planar_without_direction_is_a_translation():
    x, u, b = torch.randn(4, 3), torch.randn(4, 3), torch.randn(4, 1)
    y, log_det = planar(x, torch.zeros(4, 3), u, b)
    torch.testing.assert_close(y, x + u * torch.tanh(b))
    torch.testing.assert_close(log_det, torch.zeros(4))


def test_published_formulas():
    torch.manual_seed(3)
    x, w, u, b, alpha, beta = (torch.randn(1, n).double() for n in (4, 4, 4, 1, 1, 1))
    softplus, wu = torch.nn.functional.softplus, (w * u).sum()
    u_hat = u + (softplus(wu) - 1 - wu) * w / w.square().sum()
    torch.testing.assert_close(planar(x, w, u, b)[0], x + u_hat * torch.tanh((w * x).sum() + b))
    beta_hat = -softplus(alpha) + softplus(beta)
    h = 1 / (softplus(alpha) + (x - w).norm())
    torch.testing.assert_close(radial(x, w, alpha, beta)[0], x + beta_hat * h * (x - w))


@pytest.mark.parametrize("kind", ["orthogonal", "householder", "triangular"])
@pytest.mark.parametrize("scale", [1.0, 10.0, 100.0])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_sylvester_is_invertible_for_every_parameter(d, scale, kind):
    torch.manual_seed(4)
    flow = Sylvester(d, CONTEXT, kind=kind).double()
    with torch.no_grad():
        flow.parameters_of.weight.normal_(std=scale)
    x, context = torch.randn(2000, d).double(), torch.randn(2000, CONTEXT).double()
    q, r1, r2, _ = flow._build(context)
    torch.testing.assert_close(q.mT @ q, torch.eye(d).double().expand_as(q.mT @ q), rtol=1e-10, atol=1e-10)
    product = r1.diagonal(dim1=1, dim2=2) * r2.diagonal(dim1=1, dim2=2)
    assert (product > -1).all() and (product < -0.1).any()
    assert flow._log_det(torch.zeros(2000, d).double(), r1, r2).isfinite().all(), "smallest where tanh is steepest"
    y, log_det = flow(x, context)
    assert log_det.isfinite().all()
    if scale == 1:
        jacobian = torch.func.vmap(torch.func.jacrev(lambda x, h: flow(x, h)[0]))(x, context)
        sign, log_abs_det = torch.linalg.slogdet(jacobian)
        assert (sign > 0).all()
        torch.testing.assert_close(log_abs_det, log_det, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(flow.inverse(y, context)[0], x, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shape", [(5, 5), (64, 16), (3, 1), (1, 1)])
def test_orthogonalization_gives_the_polar_factor(shape):
    torch.manual_seed(5)
    a = torch.randn(50, *shape).double()
    left, _, right = torch.linalg.svd(a, full_matrices=False)
    torch.testing.assert_close(orthogonalize(a), left @ right, rtol=1e-7, atol=1e-7)


def nearly_singular(shape, condition, dtype):
    """Ten matrices with singular values from 1 down to 1 / condition, and their polar factors."""
    torch.manual_seed(5)
    left, right = (torch.linalg.qr(torch.randn(10, rows, shape[1], dtype=dtype))[0] for rows in shape)
    values = torch.logspace(0, -np.log10(condition), shape[1], dtype=dtype)
    return left * values @ right.mT, left @ right.mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(5, 5), (64, 16), (3, 2)])
@pytest.mark.parametrize("condition", [1e3, 1e7, 1e9, 1e12, 1e16, 1e30])
def test_orthogonalization_of_a_nearly_singular_matrix(condition, shape, dtype):
    """Orthonormal columns, none nearer to the matrix, the polar factor's own as far as rounding leaves it defined."""
    a, polar = nearly_singular(shape, condition, dtype)
    eps = torch.finfo(dtype).eps
    q = orthogonalize(a.requires_grad_())
    torch.testing.assert_close(q.mT @ q, torch.eye(shape[1], dtype=dtype).expand(10, -1, -1), rtol=0, atol=10 * eps)
    distance = torch.linalg.matrix_norm(a - q)
    torch.testing.assert_close(distance, torch.linalg.matrix_norm(a - polar), rtol=100 * eps, atol=0)
    torch.testing.assert_close(q, polar, rtol=0, atol=min(2.0, 1000 * eps * condition))
    (q * torch.randn_like(q)).sum().backward()
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["zero", "ones", "tiny", "huge", "rank 2", "a zero column"])
def test_orthogonalization_of_any_matrix(name, dtype):
    torch.manual_seed(5)
    random = torch.randn(7, 7, dtype=dtype)
    columns = torch.arange(7) > 0
    matrices = {
        "zero": 0 * random,
        "ones": torch.ones_like(random),
        "tiny": 1e-36 * random,
        "huge": 1e36 * random,
        "rank 2": random[:, :2] @ random[:2],
        "a zero column": random * columns,
    }
    for a in (matrices[name], matrices[name][:, :3]):
        q = orthogonalize(a.clone().requires_grad_())
        torch.testing.assert_close(q.mT @ q, torch.eye(a.shape[1], dtype=dtype))
        (q * torch.randn_like(q)).sum().backward()


@pytest.mark.parametrize("kind", ["orthogonal", "householder", "triangular"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sylvester_s_log_determinant_is_right_where_its_matrix_is_nearly_singular(kind, dtype):
    """Against Jacobians, with parameters so that I + A has nearly no rank, and with some of size 200."""
    torch.manual_seed(4)
    flow = Sylvester(4, kind=kind).to(dtype)
    for scale in (1e-9, 200):
        with torch.no_grad():
            flow.parameters_of.bias.normal_(std=scale if scale > 1 else 1.0)
            if kind != "triangular" and scale < 1:
                flow.parameters_of.bias[:16] = -torch.eye(4).flatten() + scale * torch.randn(16)
        x = torch.randn(50, 4, dtype=dtype)
        y, log_det = flow(x)
        q = flow._build(None)[0]
        torch.testing.assert_close(q.mT @ q, torch.eye(4, dtype=dtype), rtol=0, atol=20 * torch.finfo(dtype).eps)
        assert log_det.isfinite().all()
        if scale < 1 and dtype == torch.float64:
            own, _ = split_rows(torch.func.jacrev(lambda x: flow(x)[0])(x))
            torch.testing.assert_close(torch.linalg.slogdet(own)[1], log_det, rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(flow.inverse(y)[0], x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("size", [1e-36, 1e-13, 1e18, 1e36])
def test_reflections_of_any_size_are_orthogonal(size):
    q = reflect(size * torch.randn(3, 4, 5))
    torch.testing.assert_close(q @ q.mT, torch.eye(5).expand(3, 5, 5))


@pytest.mark.parametrize("shape", [(2, 6, 4), (3, 3), (5, 1), (1, 1)])
def test_gradient_of_the_orthogonalization(shape):
    """Against finite differences, away from the identity and at it, where all singular values are the same."""
    random = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    identity = torch.eye(*shape[-2:], dtype=torch.float64).expand(shape)
    for a in (random, identity + 0.1 * random, identity.clone()):
        assert torch.autograd.gradcheck(orthogonalize, a.requires_grad_())


def test_reflections_are_orthogonal_and_a_zero_one_is_none():
    v = torch.randn(3, 4, 5).double()
    v[:, 1] = 0
    q = reflect(v)
    torch.testing.assert_close(q @ q.mT, torch.eye(5).double().expand(3, 5, 5))
    torch.testing.assert_close(q, reflect(v[:, [0, 2, 3]]))


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("d", [2, 3, 10])
def test_entangling_leaves_the_prior_and_mixes_every_latent(name, d):
    torch.manual_seed(6)
    prior = PRIORS[name](d)
    f = Entangle(Independent(prior, 1))
    z = prior.sample((4000,))
    y, log_det = f(z)
    for j in range(d):
        # Under its own CDF a marginal that is unchanged is uniform.
        assert stats.kstest(prior.cdf(y)[:, j].numpy(), "uniform").pvalue > 1e-3
    torch.testing.assert_close(prior.log_prob(z).sum(-1), prior.log_prob(y).sum(-1) + log_det, rtol=1e-9, atol=1e-9)

    jacobian = torch.func.vmap(torch.func.jacrev(lambda z: f(z)[0]))(z[:100])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[:100], rtol=1e-8, atol=1e-8)
    assert jacobian.abs().min() > 0
    back, inverse_log_det = f.inverse(y)
    torch.testing.assert_close(back, z, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", PRIORS)
def test_entangling_keeps_the_tails_finite(name, dtype):
    prior = PRIORS[name](4)
    z = torch.tensor([1e-6, 0.3, 5.0, 30.0], dtype=dtype).expand(2, 4)
    f = Entangle(prior)
    if name == "uniform":
        z = z.clamp(max=0.999)
    for value in (*f(z), *f(-z)):
        assert value.isfinite().all() and value.dtype == dtype


def logistic(d):
    """As torch makes it, of a uniform distribution, whose values have no digits for its upper tail."""
    unit = Uniform(torch.zeros(d).double(), torch.ones(d).double())
    return TransformedDistribution(unit, [SigmoidTransform().inv, AffineTransform(torch.zeros(d), torch.ones(d))])


def scale(cls, *factors):
    return lambda d: cls(*(factor * torch.ones(d).double() for factor in factors))


TAILS = {
    "laplace": (scale(Laplace, 0, 1), stats.laplace(), [-1e6, -1000, -17, -8, 8, 17, 1000, 1e6]),
    "logistic": (logistic, stats.logistic(), [-1000, -40, 40, 1000]),
    "cauchy": (scale(Cauchy, 0, 1), stats.cauchy(), [-1e20, -1e6, 1e6, 1e20]),
    "gumbel": (scale(Gumbel, 0, 1), stats.gumbel_r(), [-10, -3.5, 30, 35]),
    "exponential": (scale(Exponential, 1), stats.expon(), [1e-300, 1e-9, 20, 1000]),
    "half-normal": (scale(HalfNormal, 1), stats.halfnorm(), [1e-300, 1e-9, 6, 30]),
    "log-normal": (scale(LogNormal, 0, 1), stats.lognorm(1), [1e-14, 1e-9, 1e9, 1e14]),
    "weibull": (scale(Weibull, 1, 1.5), stats.weibull_min(1.5), [1e-9, 1e-8, 15, 20]),
    "pareto": (scale(Pareto, 1, 2), stats.pareto(2), [1e9, 1e40]),
    "uniform": (scale(Uniform, 0, 1), stats.uniform(), [1e-300, 1e-9, 1 - 1e-9, 1 - 1e-15]),
}


@pytest.mark.parametrize("name", TAILS)
def test_normal_scores_are_right_however_far_in_a_tail(name):
    """log Φ(±s) is the logarithm of the probability beyond z, as SciPy has it, and s leads back to z."""
    make_prior, reference, points = TAILS[name]
    prior, z = make_prior(1), torch.tensor(points, dtype=torch.float64)[:, None]
    s = normal_scores(z, prior)
    if name == "laplace":  # of which SciPy knows no more than float64 does
        beyond = -np.abs(points) - np.log(2)
    else:
        beyond = np.where(s.squeeze(1) > 0, reference.logsf(points), reference.logcdf(points))
    np.testing.assert_allclose(stats.norm.logsf(s.squeeze(1).abs().numpy()), beyond, rtol=1e-10)
    torch.testing.assert_close(from_normal_scores(s, prior), z, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("d", [1, 10])
def test_entangling_is_right_in_the_tails(name, d):
    """All latents at one end of what TAILS lists: finite, the way back, the density, and the gradient."""
    make_prior, _, points = TAILS[name]
    prior = make_prior(d)
    f = Entangle(prior)
    for point in points:
        z = torch.full((1, d), point, dtype=torch.float64).requires_grad_()
        y, log_det = f(z)
        assert y.isfinite().all() and log_det.isfinite().all()
        torch.testing.assert_close(prior.log_prob(y).sum(-1) + log_det, prior.log_prob(z).sum(-1))
        (y.sum() + log_det.sum()).backward()
        assert z.grad.isfinite().all()
        if inside_support(z, prior).float().isfinite().all():
            assert all(value.isfinite().all() for value in f(inside_support(z.detach().float(), prior)))


@pytest.mark.parametrize("point", [-17.0, -8.0, -1e5, 17.0, 1e5])
def test_a_laplace_prior_entangled_far_out_leads_back(point):
    prior = Laplace(torch.zeros(10).double(), torch.ones(10).double())
    z = point + torch.randn(3, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    f = Entangle(prior)
    y, log_det = f(z)
    back, inverse_log_det = f.inverse(y)
    torch.testing.assert_close(back, z, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(inverse_log_det, -log_det)
    own, _ = split_rows(torch.func.jacrev(lambda z: f(z)[0])(z))
    torch.testing.assert_close(torch.linalg.slogdet(own)[1], log_det, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", PRIORS)
def test_entangling_in_float32_is_that_in_float64_rounded(name):
    torch.manual_seed(7)
    exact = PRIORS[name](4)
    prior = type(exact)(*(getattr(exact, argument).float() for argument in exact.arg_constraints))
    z = prior.sample((4000,))
    y = Entangle(prior)(z)[0]
    torch.testing.assert_close(y.double(), Entangle(prior)(z.double())[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Entangle(prior).inverse(y)[0], z, rtol=1e-4, atol=1e-4)


def test_normal_is_the_limit_of_the_general_path():
    class Wrapped(torch.distributions.Distribution):
        """A normal distribution that isn't recognized as one."""

        def __init__(self, base):
            super().__init__(base.batch_shape, validate_args=False)
            self.cdf, self.icdf, self.log_prob = base.cdf, base.icdf, base.log_prob

    prior = PRIORS["normal"](4)
    z = prior.sample((100,))
    torch.testing.assert_close(Entangle(Wrapped(prior))(z), Entangle(prior)(z), rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("d", range(1, 70))
def test_cosine_matrix_is_orthogonal_without_a_zero(d):
    a = dct4(d)
    torch.testing.assert_close(a @ a, torch.eye(d).double(), rtol=0, atol=1e-13)
    assert a.abs().min() > 0.5 * d**-1.5


class ForwardOnly(Transform):
    def forward(self, x, context=None):
        return x, x.new_zeros(x.shape[:-1])


@pytest.mark.parametrize(
    "mistake, error, message",
    [
        (lambda: ForwardOnly().inverse(torch.zeros(1, 2)), NotInvertibleError, "ForwardOnly has no inverse"),
        (lambda: Compose([Reverse(), ForwardOnly()]).inverse(torch.zeros(1, 2)), NotInvertibleError, "no inverse"),
        (lambda: Inverse(ForwardOnly())(torch.zeros(1, 2)), NotInvertibleError, "no inverse"),
        (lambda: Planar(2, 3)(torch.zeros(1, 2)), ZooError, "context of 3 features"),
        (lambda: AffineAutoregressive(2, 3)(torch.zeros(1, 2)), ZooError, "context of 3 features"),
        (lambda: AffineAutoregressive(2, 3).inverse(torch.zeros(1, 2)), ZooError, "context of 3 features"),
        (lambda: AffineAutoregressive(2, order=[0, 0]), ZooError, "exactly once"),
        (lambda: AffineAutoregressive(2, hidden=()), ZooError, "hidden layer"),
        (lambda: Permutation([0, 2]), ZooError, "exactly once"),
        (lambda: Sylvester(2, kind="qr"), ZooError, "orthogonal, householder, triangular"),
        (lambda: Sylvester(2, directions=3), ZooError, "directions=3"),
        (lambda: Sylvester(2, directions=1, kind="triangular"), ZooError, "directions=1"),
        (lambda: Entangle(Normal(0.0, 1.0)), ZooError, "batch shape"),
        (lambda: Entangle(PRIORS["laplace"](2), torch.eye(2)), ZooError, "zero entry"),
        (lambda: Entangle(StudentT(torch.ones(2))), ZooError, "StudentT: its CDF and quantiles are needed"),
        (lambda: Entangle(PRIORS["laplace"](2), torch.ones(2, 2)), ZooError, "identity"),
        (lambda: Entangle(PRIORS["laplace"](3), torch.eye(2)), ZooError, "3 dimensions"),
    ],
)
def test_mistakes_are_named(mistake, error, message):
    with pytest.raises(error, match=message):
        mistake()


def test_empty_composition_is_the_identity():
    x = torch.randn(3, 2)
    for y, log_det in (Compose([])(x), Compose([]).inverse(x)):
        assert torch.equal(y, x) and torch.equal(log_det, torch.zeros(3))


def test_importing_the_transforms_imports_neither_lightning_nor_zuko():
    code = "import sys, zoo.transforms; print({'pytorch_lightning', 'lightning', 'zuko'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
