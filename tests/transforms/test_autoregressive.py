"""The masked network keeps its order, its fast inverse is the slow one, and zuko's flows with its weights agree."""

import pytest
import torch
import zuko
from torch.distributions import AffineTransform, Normal

from zoo.nets.made import MADE
from zoo.transforms import (
    AffineAutoregressive,
    GatedAutoregressive,
    Inverse,
    SplineAutoregressive,
    autoregressive_flow,
)
from zoo.transforms.spline import monotonic_spline, spline_inverse

STEPS = {"affine": AffineAutoregressive, "gated": GatedAutoregressive, "spline": SplineAutoregressive}
every_step = pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)


def sequential_inverse(flow, y, context=None):
    total = 0.0
    for transform in reversed(flow.transforms):
        y, log_det = transform.sequential_inverse(y, context)
        total = total + log_det
    return y, total


@pytest.mark.parametrize("context_features", [0, 3])
@pytest.mark.parametrize("hidden", [(16,), (16, 9), (3, 2)], ids=str)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_jacobian_is_strictly_triangular_in_the_order(d, hidden, context_features):
    torch.manual_seed(0)
    order = torch.randperm(d)
    net = MADE(d, 3, hidden, context_features, order, torch.tanh).double()
    context = torch.randn(context_features).double() if context_features else None
    jacobian = torch.func.jacrev(lambda x: net(x, context))(torch.randn(d).double())  # (d, P, d)
    depends = jacobian.abs().sum(1) > 0
    before = order[:, None] > order
    assert not (depends & ~before).any()
    if min(hidden) >= d:
        assert torch.equal(depends, before), "an allowed dependence is missing"
    if context_features:
        by_context = torch.func.jacrev(lambda h: net(torch.zeros(d).double(), h))(context)
        assert (by_context.abs().sum((1, 2)) > 0).all(), "a dimension, such as the first one, doesn't see the context"


def test_degrees_are_dealt_in_turn():
    net = MADE(4, 1, hidden=(7,))
    inputs_seen = net.layers[0].mask.sum(1).tolist()
    assert inputs_seen == [1, 1, 1, 2, 2, 3, 3]
    assert net.output.mask.sum(1).tolist() == [0, 3, 5, 7]


@every_step
@pytest.mark.parametrize("context_features", [0, 3])
@pytest.mark.parametrize("d", [1, 2, 16])
@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_fast_inverse_is_the_sequential_one(step, d, context_features, dtype, tolerance):
    torch.manual_seed(1)
    flow = autoregressive_flow(step, d, steps=2, context_features=context_features, hidden=(24, 10)).to(dtype)
    y = torch.randn(9, d, dtype=dtype)
    context = torch.randn(9, context_features, dtype=dtype) if context_features else None
    expected = sequential_inverse(flow, y, context)
    recorded = flow.inverse(y, context)
    with torch.no_grad():
        unrecorded = flow.inverse(y, context)
    torch.testing.assert_close(recorded, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(unrecorded, expected, rtol=tolerance, atol=tolerance)


@every_step
def test_gradients_through_the_fast_inverse(step):
    torch.manual_seed(2)
    flow = autoregressive_flow(step, 4, steps=2, context_features=3, hidden=(12, 12)).double()
    y, context = torch.randn(5, 4).double().requires_grad_(), torch.randn(5, 3).double().requires_grad_()
    wanted = [y, context, *flow.parameters()]

    def gradients(x, log_det):
        return torch.autograd.grad(x.square().sum() + log_det.sin().sum(), wanted)

    expected = gradients(*sequential_inverse(flow, y, context))
    for ours, theirs in zip(gradients(*flow.inverse(y, context)), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_one_context_serves_many_samples():
    torch.manual_seed(3)
    step = AffineAutoregressive(4, 3, hidden=(12, 12)).double()
    y, context = torch.randn(6, 5, 4).double(), torch.randn(5, 3).double()
    with torch.no_grad():
        x, log_det = step.inverse(y, context)
        for k in range(6):
            torch.testing.assert_close((x[k], log_det[k]), step.inverse(y[k], context), rtol=1e-12, atol=1e-12)
        alone = step.inverse(y[0, 0], context[0])
        torch.testing.assert_close((x[0, 0], log_det[0, 0]), alone, rtol=1e-12, atol=1e-12)


def test_orders_alternate_and_every_dimension_depends_on_every_other():
    torch.manual_seed(4)
    flow = autoregressive_flow(AffineAutoregressive, 5, steps=2, hidden=(16,)).double()
    jacobian = torch.func.jacrev(lambda x: flow(x)[0])(torch.randn(5).double())
    assert (jacobian != 0).all()


def test_gated_step_is_the_published_one():
    torch.manual_seed(5)
    step = GatedAutoregressive(4, 3, hidden=(12,)).double()
    z, h = torch.randn(5, 4).double(), torch.randn(5, 3).double()
    m, s = step.net(z, h).unbind(-1)
    gate = torch.sigmoid(s + 1.5)
    y, log_det = step(z, h)
    torch.testing.assert_close(y, gate * z + (1 - gate) * m)
    torch.testing.assert_close(log_det, gate.log().sum(-1))


def test_extreme_outputs_of_the_network_stay_finite():
    a = torch.tensor([-1e4, 0.0, 1e4])
    step = AffineAutoregressive(3)
    parameters = torch.stack((torch.zeros(3), a), dim=-1)
    y, log_derivative = step.univariate(torch.ones(3), parameters)
    assert y.isfinite().all() and log_derivative.isfinite().all()
    torch.testing.assert_close(step.univariate_inverse(y, parameters), torch.ones(3))


def test_flow_prior_and_inverse_flow_posterior_are_one_model():
    # log p(z) + log|det| under a flow prior is the bound of a standard prior with the inverse flow in the posterior.
    torch.manual_seed(6)
    flow = autoregressive_flow(AffineAutoregressive, 6, steps=3, hidden=(16,)).double()
    noise = torch.randn(10, 6).double()
    posterior = Normal(torch.randn(10, 6).double(), 0.3)
    z = posterior.mean + 0.3 * noise
    decoder = torch.nn.Linear(6, 3).double()
    with torch.no_grad():
        log_q = posterior.log_prob(z).sum(-1)
        epsilon, log_det = flow(z)
        prior_side = decoder(z).sum(-1) + Normal(0, 1).log_prob(epsilon).sum(-1) + log_det - log_q
        back, inverse_log_det = Inverse(flow)(epsilon)
        posterior_side = decoder(back).sum(-1) + Normal(0, 1).log_prob(epsilon).sum(-1) - (log_q + inverse_log_det)
    torch.testing.assert_close(prior_side, posterior_side, rtol=0, atol=1e-10)


def load_zuko_weights(ours: MADE, theirs: torch.nn.Sequential) -> None:
    """Copies the weights of zuko's masked network, its hidden units sorted by their degrees."""
    d, (first, second, last) = ours.features, [layer for layer in theirs if hasattr(layer, "mask")]
    by_degree = first.mask[:, :d].sum(1).argsort(stable=True)
    # A unit of the second layer sees the more of the first one, the higher its degree is.
    by_second_degree = second.mask.sum(1).argsort(stable=True)
    ranked = ours.ranked
    rows = (ranked[:, None] * ours.outputs + torch.arange(ours.outputs)).flatten()
    with torch.no_grad():
        ours.layers[0].weight.copy_(first.weight[by_degree][:, ranked])
        ours.layers[0].bias.copy_(first.bias[by_degree])
        if ours.context is not None:
            ours.context.weight.copy_(first.weight[by_degree][:, d:])
        ours.layers[1].weight.copy_(second.weight[by_second_degree][:, by_degree])
        ours.layers[1].bias.copy_(second.bias[by_second_degree])
        ours.output.weight.copy_(last.weight[rows][:, by_second_degree])
        ours.output.bias.copy_(last.bias[rows])
    assert torch.equal(ours.layers[0].mask, first.mask[by_degree][:, ranked])
    assert torch.equal(ours.layers[1].mask, second.mask[by_second_degree][:, by_degree])
    assert torch.equal(ours.output.mask, last.mask[rows][:, by_second_degree])


def affine(mean, a):
    scale = torch.exp(-torch.asinh(a))
    return AffineTransform(-mean * scale, scale)


@pytest.mark.parametrize("context_features", [0, 3])
@pytest.mark.parametrize("name", ["affine", "spline"])
def test_agrees_with_zuko_given_its_weights(name, context_features):
    torch.manual_seed(7)
    shape = {"features": 4, "context": context_features, "transforms": 3, "hidden_features": (24, 36)}
    theirs = zuko.flows.MAF(univariate=affine, **shape) if name == "affine" else zuko.flows.NSF(bins=8, **shape)
    theirs = theirs.double()
    ours = autoregressive_flow(STEPS[name], 4, 3, context_features=context_features, hidden=(24, 36)).double()
    for step, transform in zip(ours.transforms, theirs.transform.transforms, strict=True):
        load_zuko_weights(step.net, transform.hyper)
    x = torch.randn(50, 4).double()
    context = torch.randn(50, 3).double() if context_features else None
    y, log_det = ours(x, context)
    expected = theirs(context).log_prob(x) if context_features else theirs().log_prob(x)
    torch.testing.assert_close(Normal(0, 1).log_prob(y).sum(-1) + log_det, expected, rtol=1e-10, atol=1e-10)
    inverse = theirs(context).transform.inv(y) if context_features else theirs().transform.inv(y)
    torch.testing.assert_close(ours.inverse(y, context)[0], inverse, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("deviation", [1, 10, 30, 200])
def test_a_spline_of_any_parameters_has_an_inverse_to_rounding(deviation, dtype):
    """f(f⁻¹(y)) is y, and f⁻¹(f(x)) is x where f isn't too flat for y to keep it: in units of rounding, and of the slope."""
    generator = torch.Generator().manual_seed(0)
    parameters = (deviation * torch.randn(100_000, k, generator=generator, dtype=dtype) for k in (8, 8, 7))
    spline = monotonic_spline(*parameters)
    points = 12 * torch.rand(2, 100_000, generator=generator, dtype=dtype) - 6
    unit = torch.finfo(dtype).eps * 5
    x = spline_inverse(spline, points[0])
    y, log_slope = spline.call_and_ladj(x)
    assert x.isfinite().all() and ((y - points[0]).abs() <= 40 * unit * (1 + log_slope.exp())).all()
    y, log_slope = spline.call_and_ladj(points[1])
    back = spline_inverse(spline, y)
    assert ((spline(back) - y).abs() <= 40 * unit * (1 + spline.call_and_ladj(back)[1].exp())).all()
    steep = log_slope > -1  # at a knot the slope changes, but not by much to begin with
    torch.testing.assert_close(back[steep], points[1][steep], rtol=0, atol=2000 * unit)


def test_the_gradient_of_a_spline_s_inverse_is_finite_at_its_knots():
    parameters = [(30 * torch.randn(64, k, dtype=torch.float64)).requires_grad_() for k in (8, 8, 7)]
    spline = monotonic_spline(*parameters)
    for y in spline.vertical.detach().unbind(-1):
        gradients = torch.autograd.grad(spline_inverse(monotonic_spline(*parameters), y).sum(), parameters)
        assert all(gradient.isfinite().all() for gradient in gradients)
