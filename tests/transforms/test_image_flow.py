"""The image flow and its pieces, checked against calculus, exact arithmetic and the published parameter counts."""

import math
from itertools import product

import mpmath
import pytest
import torch
from torch.distributions import Normal

from zoo.errors import ZooError
from zoo.transforms import (
    ActNorm,
    ChannelSplit,
    CheckerboardSplit,
    ColumnSplit,
    Coupling,
    ImageFlow,
    Invertible1x1Conv,
    SpaceToDepth,
    mixture_logit,
    mixture_logit_inverse,
)

SMALL = {"filters": 8, "heads": 2, "blocks": 1, "components": 3, "dropout": 0.0}
FLOWS = {
    "mixture": ((1, 4, 4), {}),
    "color": ((3, 4, 2), {}),
    "odd width": ((1, 4, 3), {}),
    "odd sides": ((2, 3, 3), {}),
    "odd after depth": ((1, 6, 6), {"couplings": (0, 0, 3)}),
    "checkerboard": ((1, 4, 4), {"split": "checkerboard"}),
    "checkerboard, odd width": ((1, 4, 3), {"split": "checkerboard"}),
    "checkerboard, odd sides": ((1, 3, 3), {"split": "checkerboard"}),
    "one pixel": ((4, 1, 1), {}),
    "one column": ((2, 3, 1), {"split": "checkerboard"}),
    "one section": ((1, 4, 4), {"couplings": (3, 0, 0)}),
    "affine": ((1, 4, 4), {"coupling": "affine"}),
    "spline": ((1, 4, 4), {"coupling": "spline"}),
    "real nvp": ((1, 4, 4), {"coupling": "affine", "norm": "channel", "attention": False, "split": "checkerboard"}),
    "context": ((1, 4, 4), {"context_channels": 2}),
    "context, odd width": ((2, 4, 3), {"context_channels": 1, "split": "checkerboard"}),
}
every_flow = pytest.mark.parametrize("name", FLOWS)


def make(name, state="fresh", dtype=torch.float64):
    """A small flow: as it starts, with every parameter moved far, or after training steps."""
    torch.manual_seed(0)
    shape, options = FLOWS[name]
    flow = ImageFlow(shape, **{"couplings": (2, 1, 1), **SMALL, **options}).to(dtype)
    if state == "moved":
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.1)
    if state == "trained":
        train(flow, *inputs(name, 32, dtype), steps=4)
    return flow


def inputs(name, batch=2, dtype=torch.float64):
    torch.manual_seed(1)
    shape, options = FLOWS[name]
    c = options.get("context_channels", 0)
    x = 2 * torch.randn(batch, *shape, dtype=dtype) + 1
    return x, torch.randn(batch, c, *shape[1:], dtype=dtype) if c else None


def negative_log_likelihood(flow, x, context=None):
    z, log_det = flow(x, context)
    return (z.square().flatten(1).sum(1) / 2 - log_det).mean()


def train(flow, x, context=None, steps=4):
    flow.initialize(x, context)
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        negative_log_likelihood(flow, x, context).backward()
        optimizer.step()


def assert_log_det_is_that_of_the_jacobian(f, x):
    """To 1e-8, and with no derivative of one image by another."""
    y, log_det = f(x)
    assert log_det.shape == (len(x),)
    jacobian = torch.autograd.functional.jacobian(lambda x: f(x)[0], x, vectorize=True)
    jacobian = jacobian.reshape(len(x), y[0].numel(), len(x), y[0].numel())
    for i, j in product(range(len(x)), repeat=2):
        if i == j:
            expected = torch.linalg.slogdet(jacobian[i, :, i]).logabsdet
            torch.testing.assert_close(log_det[i], expected, rtol=1e-8, atol=1e-8)
        else:
            assert not jacobian[i, :, j].any(), "an image depends on another of the batch"


@pytest.mark.parametrize("state", ["fresh", "moved", "trained"])
@every_flow
def test_flow_is_exact(name, state):
    flow, (x, context) = make(name, state).eval(), inputs(name)
    z, log_det = flow(x, context)
    assert z.shape == (2, *flow.latent_shape) and math.prod(flow.latent_shape) == x[0].numel()
    with torch.no_grad():
        back, inverse_log_det = flow.inverse(z, context)
    torch.testing.assert_close(back, x, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-10, atol=1e-10)
    if state != "fresh":
        assert_log_det_is_that_of_the_jacobian(lambda x: flow(x, context), x)


@pytest.mark.parametrize("state", ["fresh", "moved", "trained"])
@every_flow
def test_round_trip_in_float32(name, state):
    flow, (x, context) = make(name, state, torch.float32).eval(), inputs(name, 64, torch.float32)
    with torch.no_grad():
        z, log_det = flow(x, context)
        back, inverse_log_det = flow.inverse(z, context)
        exact, exact_log_det = flow.double()(x.double(), None if context is None else context.double())
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(z.double(), exact, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(log_det.double(), exact_log_det, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("split", ["columns", "checkerboard"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 12, 9), (3, 16, 16), (1, 28, 28), (3, 32, 32)])
def test_every_size(shape, split):
    flow, x = ImageFlow(shape, (1, 1, 2), split=split, **SMALL), torch.randn(2, *shape)
    flow.initialize(torch.randn(16, *shape))
    with torch.no_grad():
        z, log_det = flow(x)
        back, inverse_log_det = flow.inverse(z)
    assert z.shape == (2, *flow.latent_shape)
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize("name", ["mixture", "affine", "spline", "context"])
def test_gradient_reaches_every_parameter_both_ways(name):
    flow, (x, context) = make(name, "moved"), inputs(name)
    for direction in (flow.forward, flow.inverse):
        flow.zero_grad()
        y, log_det = direction(x if direction == flow.forward else flow(x, context)[0].detach(), context)
        (y.sin().sum() + log_det.sum()).backward()
        for key, parameter in flow.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all() and parameter.grad.any(), key


@pytest.mark.parametrize("coupling", ["mixture_logistic", "affine", "spline"])
def test_density_integrates_to_one(coupling):
    torch.manual_seed(0)
    flow = ImageFlow((1, 1, 2), (2, 1, 1), coupling, **SMALL).double()
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        axis = torch.linspace(-12, 12, 201).double()
        z, log_det = flow(torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2))
    density = (Normal(0.0, 1.0).log_prob(z).flatten(1).sum(1) + log_det).exp()
    assert density.sum().item() * (axis[1] - axis[0]).item() ** 2 == pytest.approx(1, abs=2e-3)


def published(filters=96, blocks=10, shape=(3, 32, 32), couplings=(4, 2, 3), **options):
    with torch.device("meta"):
        flow = ImageFlow(shape, couplings, filters=filters, blocks=blocks, **options)
    return sum(parameter.numel() for parameter in flow.parameters())


@pytest.mark.parametrize("count, options", [
    (31_443_440, {}),
    (31_443_440, {"attention": False}),
    (32_045_708, {"filters": 108, "coupling": "affine"}),
])  # fmt: skip
def test_published_parameter_counts(count, options):
    """Of the flow together with its dequantizer, from the headers of the published configurations for CIFAR-10."""
    dequantizer = published(couplings=(4, 0, 0), context_channels=3, **{**options, "blocks": 2})
    assert published(**options) + dequantizer == count


def test_flow_never_waits_for_the_device():
    """Tensors without data: whatever asks for a value fails."""
    with torch.device("meta"):
        flow = ImageFlow((3, 8, 8), (2, 2, 1), **SMALL)
        z, log_det = flow(torch.empty(5, 3, 8, 8))
        x, _ = flow.inverse(z)
    assert z.shape == (5, 12, 4, 4) and x.shape == (5, 3, 8, 8) and log_det.shape == (5,)


@pytest.mark.parametrize("coupling", ["mixture_logistic", "affine", "spline"])
def test_autocast_changes_the_networks_alone(coupling):
    torch.manual_seed(0)
    flow = ImageFlow((3, 8, 8), (2, 2, 1), coupling, **SMALL)
    train(flow, x := torch.randn(32, 3, 8, 8))
    z, log_det = flow(x)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z_bf16, log_det_bf16 = flow(x.bfloat16().float())
        assert z_bf16.dtype == log_det_bf16.dtype == torch.float32
        # bfloat16 has 8 bits. In nats per dimension: 1/100.
        assert (log_det_bf16 - log_det).abs().mean().item() / x[0].numel() < 1e-2
        assert (z_bf16 - z).abs().mean() < 2e-2
        torch.testing.assert_close(flow.inverse(flow(x)[0])[0], x, rtol=1e-2, atol=1e-2)


def test_checkpointing_gives_the_same_gradients():
    gradients, kept = [], []
    for checkpoint in (False, True):
        torch.manual_seed(0)
        flow = ImageFlow((3, 8, 8), (2, 2, 1), **{**SMALL, "dropout": 0.5, "blocks": 3}, checkpoint=checkpoint)
        x = torch.randn(4, 3, 8, 8)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, saved=saved: saved.append(t.nbytes) or t, lambda t: t):
            loss = negative_log_likelihood(flow, x)
        kept.append(sum(saved))
        loss.backward()
        gradients.append({key: parameter.grad for key, parameter in flow.named_parameters()})
    for key, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][key]), key
    assert kept[1] < kept[0] / 5


def test_context_is_used_and_needed():
    flow, (x, context) = make("context", "moved"), inputs("context")
    context.requires_grad_()
    z, log_det = flow(x, context)
    (gradient,) = torch.autograd.grad(z.sum() + log_det.sum(), context)
    assert gradient.flatten(1).any(1).all()
    with pytest.raises(ZooError, match="2 channels"):
        flow(x)


def test_initialization_normalizes_each_step_and_is_not_done_again():
    flow, (x, _) = make("color"), inputs("color", 256)
    flow.initialize(x)
    outputs = []
    norms = [module for module in flow.modules() if isinstance(module, ActNorm)]
    for norm in norms:
        norm.register_forward_hook(lambda norm, inputs, output: outputs.append(output[0]))
    flow(x)
    assert len(outputs) == len(norms) == 8
    for y in outputs:
        torch.testing.assert_close(y.mean(0), torch.zeros_like(y[0]), rtol=0, atol=1e-10)
        torch.testing.assert_close(y.var(0, correction=0), torch.ones_like(y[0]), rtol=1e-10, atol=0)

    again = make("color")
    again.load_state_dict(flow.state_dict())
    again.initialize(3 * x + 7)
    assert all(torch.equal(value, flow.state_dict()[key]) for key, value in again.state_dict().items())


@pytest.mark.parametrize("per", ["element", "channel"])
def test_actnorm(per):
    norm, x = ActNorm((3, 4, 2), per).double(), 3 + 2 * torch.randn(50, 3, 4, 2).double()
    assert torch.equal(norm(x)[0], x), "the identity before it is initialized"
    norm.initialize(x)
    over = 0 if per == "element" else (0, 2, 3)
    y, log_det = norm(x)
    torch.testing.assert_close(y.mean(over), torch.zeros_like(y.mean(over)), rtol=0, atol=1e-12)
    torch.testing.assert_close(y.var(over, correction=0), torch.ones_like(y.mean(over)))
    back, inverse_log_det = norm.inverse(y)
    torch.testing.assert_close((back, inverse_log_det), (x, -log_det), rtol=1e-12, atol=1e-12)
    assert_log_det_is_that_of_the_jacobian(norm, x[:2])


def test_actnorm_of_what_never_varies_stays_finite():
    norm = ActNorm((1, 2, 2))
    norm.initialize(torch.full((8, 1, 2, 2), 5.0))
    assert norm(torch.full((1, 1, 2, 2), 6.0))[0].flatten().tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("channels", [1, 3, 12])
def test_pointwise(channels):
    f, x = Invertible1x1Conv(channels, noise=0.5).double(), torch.randn(2, channels, 3, 2).double()
    y, log_det = f(x)
    torch.testing.assert_close(y[1, :, 2, 0], f.weight @ x[1, :, 2, 0])
    torch.testing.assert_close(f.inverse(y), (x, -log_det), rtol=1e-10, atol=1e-10)
    assert_log_det_is_that_of_the_jacobian(f, x)


@pytest.mark.parametrize("kind", ["mixture_logistic", "affine", "spline"])
@pytest.mark.parametrize("shapes", [((2, 3, 2), (2, 3, 2)), ((1, 2, 1), (1, 2, 2)), ((1, 2, 2), (3, 2, 1))])
def test_coupling(kind, shapes):
    coupling = Coupling(*shapes, kind, **SMALL, context_channels=2).double()
    with torch.no_grad():
        coupling.net.last.weight.mul_(10)
    x, given = (2 * torch.randn(2, *shape).double() for shape in reversed(shapes))
    context = torch.randn(2, 2, shapes[0][1], max(shapes[0][2], shapes[1][2])).double()
    y, log_det = coupling(x, given, context)
    back, inverse_log_det = coupling.inverse(y, given, context)
    torch.testing.assert_close((back, inverse_log_det), (x, -log_det), rtol=1e-10, atol=1e-10)
    assert_log_det_is_that_of_the_jacobian(lambda x: coupling(x, given, context), x)


def test_space_to_depth():
    x = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    y, log_det = SpaceToDepth()(x)
    for i, j, c in product(range(2), range(2), range(3)):
        assert torch.equal(y[:, 6 * i + 3 * j + c], x[:, c, i::2, j::2])
    assert torch.equal(SpaceToDepth().inverse(y)[0], x) and not log_det.any()


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 4), (2, 4, 5), (2, 3, 3)])
@pytest.mark.parametrize("kind", [ColumnSplit, CheckerboardSplit, ChannelSplit])
def test_split(kind, shape):
    if (kind == CheckerboardSplit and shape == (2, 3, 3)) or (kind == ChannelSplit and shape[0] == 1):
        with pytest.raises(ZooError, match="use a column"):
            kind(shape)
        return
    split, (c, h, w) = kind(shape), shape
    x = torch.arange(2 * c * h * w).view(2, *shape)
    a, b = split(x)
    assert (a.shape[1:], b.shape[1:]) == split.shapes and torch.equal(split.inverse(a, b), x)
    i, j = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    first = {ColumnSplit: j % 2 == 0, CheckerboardSplit: (i + j) % 2 == 0}.get(kind)
    if first is not None:
        assert a[0, 0].flatten().sort().values.tolist() == x[0, 0][first].tolist()


def exact(x, logits, means, log_scales):
    """logit(CDF) and the logarithm of its derivative, with 1,000 digits."""
    with mpmath.workdps(1000):
        weights = [mpmath.exp(logit) for logit in logits]
        scales = [mpmath.exp(log_scale) for log_scale in log_scales]
        cdfs = [1 / (1 + mpmath.exp((mean - x) / scale)) for mean, scale in zip(means, scales, strict=True)]
        cdf = sum(w * f for w, f in zip(weights, cdfs, strict=True)) / sum(weights)
        density = sum(w * f * (1 - f) / s for w, f, s in zip(weights, cdfs, scales, strict=True)) / sum(weights)
        return float(mpmath.log(cdf / (1 - cdf))), float(mpmath.log(density / (cdf * (1 - cdf))))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 2e-4)])
@pytest.mark.parametrize("means, log_scales", [
    ((-1.0, 0.25, 2.0), (-1.5, 0.5, -0.25)),
    ((-2.0, 0.0, 2.0), (-4.0, -3.5, -4.0)),  # modes with a gap where the density is exp(-100)
    ((0.0, 0.0, 0.0), (-6.0, -6.0, 1.0)),
])  # fmt: skip
def test_mixture_logit_is_exact_in_the_tails(means, log_scales, dtype, tolerance):
    logits = (0.5, -1.0, 2.0)
    points = [-16.0, -3.0, -1.0, -0.125, 0.0, 0.5, 1.0, 4.0, 20.0]
    expected = torch.tensor([exact(x, logits, means, log_scales) for x in points], dtype=torch.float64)
    parameters = (torch.tensor(p, dtype=dtype).expand(len(points), 3) for p in (logits, means, log_scales))
    y, log_slope = mixture_logit(torch.tensor(points, dtype=dtype), *parameters)
    torch.testing.assert_close(torch.stack((y, log_slope), 1).double(), expected, rtol=tolerance, atol=tolerance)


def test_mixture_logit_where_the_naive_formula_overflows():
    x = torch.tensor([20.0, 50.0, 500.0])
    standard = torch.zeros(3, 4)
    cdf = (standard.softmax(-1) * torch.sigmoid(x.unsqueeze(-1))).sum(-1)
    assert (cdf / (1 - cdf)).log().isinf().all()
    torch.testing.assert_close(mixture_logit(x, standard, standard, standard)[0], x)


def random_mixtures(n, dtype):
    torch.manual_seed(3)
    logits, means = 2 * torch.randn(n, 8).double(), 3 * torch.randn(n, 8).double()
    return tuple(p.to(dtype) for p in (logits, means, torch.empty(n, 8).double().uniform_(-7, 3)))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("size", [1e-3, 1.0, 20.0, 100.0, 1000.0])
def test_inverse_converges_for_every_target(size, dtype):
    parameters = random_mixtures(2000, dtype)
    y = size * torch.linspace(-1, 1, 2000, dtype=dtype)
    x, inverse_log_slope = mixture_logit_inverse(y, *parameters)
    torch.testing.assert_close(inverse_log_slope, mixture_logit(x, *parameters)[1], rtol=1e-3, atol=1e-3)
    value, log_slope = mixture_logit(x.double(), *(p.double() for p in parameters))
    # What remains is the rounding of x, magnified by the slope, and that of y.
    rounding = 8 * torch.finfo(dtype).eps * (1 + x.abs() * log_slope.exp() + y.abs())
    assert x.isfinite().all() and ((value - y).abs() <= rounding).all()


@pytest.mark.parametrize("components", [1, 4])
def test_inverse_has_the_derivatives_of_the_inverse_function(components):
    parameters = [p[:, :components].clone().requires_grad_() for p in random_mixtures(6, torch.float64)]
    parameters[2] = (parameters[2].detach() / 7).requires_grad_()
    y = torch.linspace(-5, 5, 6).double().requires_grad_()
    assert torch.autograd.gradcheck(mixture_logit_inverse, (y, *parameters), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "mistake, message",
    [
        (lambda: ImageFlow((1, 1, 1)), "can't be split"),
        (lambda: ImageFlow((1, 4, 4), split="rows"), "'columns' or 'checkerboard'"),
        (lambda: ImageFlow((1, 4, 4), (2, 2)), "three numbers"),
        (lambda: ImageFlow((1, 4, 4), (2, -1, 0)), "three numbers"),
        (lambda: ImageFlow((1, 4, 4), coupling="cubic"), "mixture_logistic, affine, spline"),
        (lambda: ImageFlow((1, 4, 4), components=0), "components=0"),
        (lambda: ImageFlow((1, 4, 4), filters=0), "0 filters"),
        (lambda: ImageFlow((1, 4, 4), heads=0), "0 heads"),
        (lambda: ImageFlow((1, 4, 4), filters=9), "multiple of heads"),
        (lambda: ImageFlow((1, 4, 4), norm="batch"), "'element' or per 'channel'"),
        (lambda: Coupling((1, 2, 2), (1, 2, 2), context_channels=3)(*torch.zeros(2, 1, 1, 2, 2)), "of 3 channels"),
        (lambda: SpaceToDepth()(torch.zeros(1, 1, 3, 4)), "two even sides"),
    ],
)
def test_mistakes_are_named(mistake, message):
    with pytest.raises(ZooError, match=message):
        mistake()
