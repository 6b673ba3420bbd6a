"""The game of the GAN against mathematics: losses, value, divergence, penalties, and who moves when."""

import math
from itertools import pairwise

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, Normal

from datamodules import Digits, Toy
from zoo.errors import ZooError
from zoo.models.gan import GAN, LOSSES, gradient_penalty, jsd_estimate, r1_penalty, r2_penalty, value_function
from zoo.spec import DataSpec

DIGITS = DataSpec("digits", (1, 8, 8), levels=17)
VECTORS = DataSpec("vectors", (2,))


def fit(model: GAN, data, folder, *callbacks: Callback, steps: int = 4, **options) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_steps=steps,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=any(isinstance(callback, ModelCheckpoint) for callback in callbacks),
        callbacks=list(callbacks),
        log_every_n_steps=1,
        **options,
    )
    trainer.fit(model, data)
    return trainer


# Losses


def _log_d(logit: float) -> float:
    return math.log(1 / (1 + math.exp(-logit)))


CLOSED_FORMS = {
    "minimax": (lambda r, f: -_log_d(r) - _log_d(-f), lambda r, f: _log_d(-f)),
    "non_saturating": (lambda r, f: -_log_d(r) - _log_d(-f), lambda r, f: -_log_d(f)),
    "hinge": (lambda r, f: max(0, 1 - r) + max(0, 1 + f), lambda r, f: -f),
    "least_squares": (lambda r, f: ((r - 1) ** 2 + f**2) / 2, lambda r, f: (f - 1) ** 2 / 2),
    "wasserstein": (lambda r, f: f - r, lambda r, f: -f),
    "relativistic": (lambda r, f: -_log_d(r - f), lambda r, f: -_log_d(f - r)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_their_formulas(name):
    """The mean over the batch of each paper's formula, at logits on both sides of every kink."""
    discriminator, generator = CLOSED_FORMS[name]
    real, fake = [-3.0, -0.5, 0.0, 2.5], [4.0, 0.25, -0.75, -2.0]
    r, f = torch.tensor(real, dtype=torch.float64), torch.tensor(fake, dtype=torch.float64)
    expected = sum(map(discriminator, real, fake)) / len(real)
    torch.testing.assert_close(LOSSES[name].discriminator(r, f).item(), expected)
    torch.testing.assert_close(LOSSES[name].generator(r, f).item(), sum(map(generator, real, fake)) / len(fake))


def _d(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


# Of one pair: the slopes of D's loss in its logits on the real and on the generated example, and of G's loss in the latter.
SLOPES = {
    "minimax": (lambda r, f: _d(r) - 1, lambda r, f: _d(f), lambda r, f: -_d(f)),
    "non_saturating": (lambda r, f: _d(r) - 1, lambda r, f: _d(f), lambda r, f: _d(f) - 1),
    "hinge": (lambda r, f: -float(r < 1), lambda r, f: float(f > -1), lambda r, f: -1.0),
    "least_squares": (lambda r, f: r - 1, lambda r, f: f, lambda r, f: f - 1),
    "wasserstein": (lambda r, f: -1.0, lambda r, f: 1.0, lambda r, f: -1.0),
    "relativistic": (lambda r, f: -_d(f - r), lambda r, f: _d(f - r), lambda r, f: -_d(r - f)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_on_a_line_by_hand(name):
    """D(x) = a x + b and G(z) = c z + e in one dimension: what both players' steps follow, from the chain rule on paper."""
    on_real, on_fake, of_generator = SLOPES[name]
    x, z = [-1.5, 0.3, 2.0], [0.7, -0.4, 1.1]
    a, b, c, e = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.8, -0.3, 1.7, 0.2))
    real = a * torch.tensor(x, dtype=torch.float64) + b
    y = c * torch.tensor(z, dtype=torch.float64) + e
    fake = a * y + b
    pairs = list(zip(x, real.tolist(), z, y.tolist(), fake.tolist(), strict=True))

    of_a, of_b = torch.autograd.grad(LOSSES[name].discriminator(real, a * y.detach() + b), (a, b), retain_graph=True)
    assert of_a.item() == pytest.approx(sum(on_real(r, f) * xi + on_fake(r, f) * yi for xi, r, _, yi, f in pairs) / 3)
    assert of_b.item() == pytest.approx(sum(on_real(r, f) + on_fake(r, f) for _, r, _, _, f in pairs) / 3)

    of_c, of_e = torch.autograd.grad(LOSSES[name].generator(real.detach(), fake), (c, e))
    assert of_c.item() == pytest.approx(sum(of_generator(r, f) * 0.8 * zi for _, r, zi, _, f in pairs) / 3)
    assert of_e.item() == pytest.approx(sum(of_generator(r, f) * 0.8 for _, r, _, _, f in pairs) / 3)


def test_the_loss_of_pairs_knows_differences_alone():
    """A constant added to all logits changes neither loss, and the two losses are each other's with exchanged examples."""
    real, fake = torch.randn(2, 9, dtype=torch.float64)
    of_d, of_g = LOSSES["relativistic"].discriminator, LOSSES["relativistic"].generator
    torch.testing.assert_close(of_d(real + 7, fake + 7), of_d(real, fake))
    torch.testing.assert_close(of_g(real, fake), of_d(fake, real))
    assert of_d(real, real).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_do_not_overflow(name):
    """Losses and gradients are finite where D is sure, and wrong, as early in training."""
    logits = torch.tensor([-1e4, -1e2, 0.0, 1e2, 1e4])
    real, fake = logits.clone().requires_grad_(), logits.flip(0).clone().requires_grad_()
    loss = LOSSES[name].discriminator(real, fake) + LOSSES[name].generator(real, fake)
    loss.backward()
    assert loss.isfinite()
    assert real.grad.isfinite().all()
    assert fake.grad.isfinite().all()


def test_why_the_loss_is_called_non_saturating():
    """d/dl log(1 - D) = -D vanishes where D is sure that an example is generated; d/dl -log D = -(1 - D) does not."""
    logit = torch.tensor([-10.0], requires_grad=True)
    slopes = {
        name: torch.autograd.grad(LOSSES[name].generator(torch.zeros(1), logit), logit)[0].item()
        for name in ("minimax", "non_saturating")
    }
    assert slopes["minimax"] == pytest.approx(-1 / (1 + math.exp(10)))
    assert slopes["non_saturating"] == pytest.approx(-1, abs=1e-4)


# V and the Jensen-Shannon divergence


def mixture(means: list[float], std: float) -> MixtureSameFamily:
    means = torch.tensor(means, dtype=torch.float64)
    return MixtureSameFamily(Categorical(torch.ones(len(means))), Normal(means, torch.full_like(means, std)))


P, Q = mixture([-2.0, 0.0, 1.5], 0.3), mixture([-1.0, 1.0], 0.6)
LINE = torch.linspace(-8, 8, 200_001, dtype=torch.float64)


def expectation_points(density: MixtureSameFamily, n: int) -> Tensor:
    """The quantiles (i + 1/2) / n, (n,): a mean over them is the expectation, by the midpoint rule."""
    cumulative = density.cdf(LINE)
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    upper = torch.searchsorted(cumulative, levels).clamp(1, len(LINE) - 1)
    low, high = cumulative[upper - 1], cumulative[upper]
    return LINE[upper - 1] + (LINE[upper] - LINE[upper - 1]) * (levels - low) / (high - low)


def jsd(p: MixtureSameFamily, q: MixtureSameFamily) -> float:
    """1/2 KL(p || m) + 1/2 KL(q || m), m = (p + q) / 2, by quadrature."""
    log_p, log_q = p.log_prob(LINE), q.log_prob(LINE)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    integrand = (log_p.exp() * (log_p - log_m) + log_q.exp() * (log_q - log_m)) / 2
    return torch.trapezoid(integrand, LINE).item()


def best_logit(x: Tensor) -> Tensor:
    """The logit of D* = p / (p + q)."""
    return P.log_prob(x) - Q.log_prob(x)


def test_the_value_at_the_best_discriminator_is_the_jsd():
    """max_D V = 2 JSD - 2 log 2 (Goodfellow et al. 2014, Theorem 1)."""
    real, fake = expectation_points(P, 100_000), expectation_points(Q, 100_000)
    v, expected = value_function(best_logit(real), best_logit(fake)), jsd(P, Q)
    assert 0.1 < expected < math.log(2)
    assert v.item() == pytest.approx(2 * expected - 2 * math.log(2), abs=1e-4)
    assert jsd_estimate(v).item() == pytest.approx(expected, abs=1e-4)


def test_any_other_discriminator_gives_a_lower_bound():
    real, fake = expectation_points(P, 20_000), expectation_points(Q, 20_000)
    best = value_function(best_logit(real), best_logit(fake))
    others = {
        "constant": lambda x: torch.full_like(x, 0.3),
        "too sure": lambda x: 2 * best_logit(x),
        "not sure enough": lambda x: 0.5 * best_logit(x),
        "biased": lambda x: best_logit(x) + 0.2,
        "wrong in places": lambda x: best_logit(x) + 0.3 * (5 * x).sin(),
        "reversed": lambda x: -best_logit(x),
    }
    for name, logit in others.items():
        assert value_function(logit(real), logit(fake)) < best - 1e-3, name


def test_where_the_game_ends():
    """Where both densities are the same D is 1/2 everywhere, V = -2 log 2 and the divergence 0."""
    v = value_function(torch.zeros(5, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
    assert v.item() == pytest.approx(-2 * math.log(2), abs=1e-12)
    assert jsd_estimate(v).item() == pytest.approx(0, abs=1e-12)
    assert jsd(P, P) == pytest.approx(0, abs=1e-12)


def test_a_trained_discriminator_finds_the_ratio_of_the_densities():
    """G fixed: D, trained by its own loss, comes to p / (p + q), and V to 2 JSD - 2 log 2."""
    torch.manual_seed(0)
    model = GAN(DataSpec("line", (1,)), network="mlp", width=64, depth=3)
    real, fake = (expectation_points(density, 2000).float().unsqueeze(1) for density in (P, Q))  # (2000, 1)
    steps = 800
    adam = model.build_optimizer(model.discriminator.parameters(), lr=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for _ in range(steps):
        adam.zero_grad()
        model.discriminator_loss(model.discriminate(real), model.discriminate(fake)).backward()
        adam.step()
        decay.step()
    with torch.no_grad():
        state = model.diagnostics(model.discriminate(real), model.discriminate(fake))
        x = LINE[(P.log_prob(LINE).exp() + Q.log_prob(LINE).exp()) / 2 > 0.02]  # where there are examples to learn from
        error = (model.discriminate(x.float().unsqueeze(1)).sigmoid() - best_logit(x).sigmoid()).abs()
    assert error.max() < 0.04
    assert error.mean() < 0.005
    assert state["jsd"].item() == pytest.approx(jsd(P, Q), abs=5e-4)
    assert state["value_function"].item() == pytest.approx(2 * jsd(P, Q) - 2 * math.log(2), abs=1e-3)


@pytest.mark.parametrize("name", LOSSES)
def test_the_same_names_mean_the_same_for_every_loss(name):
    """V, its estimate of the divergence, and D as a probability, from the same logits."""
    state = GAN(VECTORS, loss=name, width=8).diagnostics(torch.tensor([3.0]), torch.tensor([-1.0]))
    d_real, d_fake = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(1))
    v = math.log(d_real) + math.log(1 - d_fake)
    assert state["d_real"].item() == pytest.approx(d_real)
    assert state["d_fake"].item() == pytest.approx(d_fake)
    assert state["value_function"].item() == pytest.approx(v, abs=1e-6)
    assert state["jsd"].item() == pytest.approx(v / 2 + math.log(2), abs=1e-6)


# Penalties


class Linear(nn.Module):
    """D(x) = <w, x>: its gradient is w everywhere."""

    def __init__(self, weight: Tensor):
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        return (x * self.weight).flatten(1).sum(1)


class Bowl(nn.Module):
    """D(x) = |x|^2 / 2: its gradient is x. It remembers where it was asked."""

    def forward(self, x: Tensor) -> Tensor:
        self.asked = x.detach()
        return x.flatten(1).square().sum(1) / 2


@pytest.mark.parametrize("shape", [(2,), (3, 4, 5)])
def test_penalties_of_a_linear_critic(shape):
    """(|w| - 1)^2 and |w|^2 / 2, with the norm over all dimensions of an example, whatever its shape and the batch."""
    critic = Linear(torch.randn(shape))
    real, fake = torch.randn(7, *shape), torch.randn(7, *shape)
    norm = critic.weight.detach().norm()
    torch.testing.assert_close(gradient_penalty(critic, real, fake), (norm - 1).square())
    torch.testing.assert_close(r1_penalty(critic, real), norm.square() / 2)


def test_penalties_have_one_norm_per_example():
    x = torch.tensor([[3.0, 4.0], [0.0, 1.0]]).view(2, 1, 1, 2)  # gradients of norms 5 and 1
    assert r1_penalty(Bowl(), x).item() == pytest.approx((25 + 1) / 2 / 2)
    assert gradient_penalty(Bowl(), x, x).item() == pytest.approx(((5 - 1) ** 2 + 0) / 2)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_zero_centered_penalties_are_half_of_the_squared_slopes(loss, network):
    """gamma/2 E |grad D|^2 at real and at generated examples, example by example, for every loss."""
    model = GAN(DIGITS, loss=loss, network=network, width=4, r1=0.7, r2=1.3, gradient_penalty=0.0).double()
    x, y = torch.randn(2, 5, *DIGITS.shape, dtype=torch.float64)

    def by_hand(examples: Tensor) -> float:
        total = 0.0
        for example in examples:
            at = example[None].clone().requires_grad_()
            (slope,) = torch.autograd.grad(model.discriminator(at).squeeze(), at)
            total += slope.square().sum().item()
        return total / len(examples)

    assert model.penalty(x, y).item() == pytest.approx(0.7 / 2 * by_hand(x) + 1.3 / 2 * by_hand(y))


def test_a_batch_of_any_size_has_the_mean_of_its_examples():
    """Penalties of parts of a batch, weighted by their sizes as several processes weight them, are those of the whole."""
    model = GAN(VECTORS, loss="relativistic", width=8, r1=1.0, r2=2.0)
    x, y = torch.randn(2, 7, 2)
    whole = model.penalty(x, y) + model.discriminator_loss(model.discriminate(x), model.discriminate(y))
    parts = [(x[:4], y[:4]), (x[4:6], y[4:6]), (x[6:], y[6:])]
    losses = [model.penalty(a, b) + model.discriminator_loss(model.discriminate(a), model.discriminate(b)) for a, b in parts]
    together = sum(loss * len(a) / 7 for loss, (a, _) in zip(losses, parts, strict=True))
    torch.testing.assert_close(together, whole)


def test_penalties_train_the_critic():
    """Their gradient with respect to w: w for R1, 2 (|w| - 1) w / |w| for the gradient penalty; the examples get none."""
    for penalty, slope in (
        (lambda critic, x: r1_penalty(critic, x), lambda w: w),
        (lambda critic, x: r2_penalty(critic, x), lambda w: w),
        (lambda critic, x: gradient_penalty(critic, x, -x), lambda w: 2 * (w.norm() - 1) * w / w.norm()),
    ):
        critic, x = Linear(torch.randn(1, 4, 4)), torch.randn(6, 1, 4, 4, requires_grad=True)
        penalty(critic, x).backward()
        torch.testing.assert_close(critic.weight.grad, slope(critic.weight.detach()))
        assert x.grad is None


def test_the_gradient_penalty_is_taken_between_real_and_generated():
    """At one random point of each example's own segment; where D is flat it is 1, with a finite gradient."""
    bowl, real, fake = Bowl(), torch.zeros(1000, 2, 1, 1), torch.tensor([1.0, 2.0]).view(1, 2, 1, 1).expand(1000, -1, -1, -1)
    gradient_penalty(bowl, real, fake)
    first, second = bowl.asked.flatten(1).unbind(1)
    torch.testing.assert_close(second, 2 * first)
    assert first.min() >= 0
    assert first.max() <= 1
    assert first.mean().item() == pytest.approx(0.5, abs=0.05)
    flat = Linear(torch.zeros(2, 1, 1))
    penalty = gradient_penalty(flat, real, fake)
    penalty.backward()
    assert penalty.item() == pytest.approx(1, abs=1e-5)
    assert flat.weight.grad.isfinite().all()


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_penalties_are_float32_under_autocast(network):
    model = GAN(DIGITS, network=network, width=16)
    x, y = torch.randn(2, 8, *DIGITS.shape)

    def squared_slopes(at: Tensor) -> Tensor:
        (slope,) = torch.autograd.grad(model.discriminator(at.requires_grad_()).sum(), at)
        return slope.flatten(1).square().sum(1)

    torch.manual_seed(1)
    share = torch.rand(8, 1, 1, 1)
    expected = (squared_slopes(share * x + (1 - share) * y).sqrt() - 1).square().mean()
    expected_r1 = squared_slopes(x.clone()).mean() / 2
    with torch.autocast("cpu", torch.bfloat16):
        assert model.discriminator(x).dtype == torch.bfloat16, "autocast is on"
        assert model.discriminate(x).dtype == torch.float32
        torch.testing.assert_close(r1_penalty(model.discriminator, x), expected_r1, rtol=1e-5, atol=0)
        torch.manual_seed(1)
        torch.testing.assert_close(gradient_penalty(model.discriminator, x, y), expected, rtol=1e-5, atol=0)


def test_penalties_are_weighted():
    x, y = torch.randn(2, 5, 2)
    plain = GAN(VECTORS, width=8)
    assert plain.penalty(x, y).item() == 0
    model = GAN(VECTORS, width=8, r1=3.0)
    torch.testing.assert_close(model.penalty(x, y), 3 * r1_penalty(model.discriminator, x))
    model = GAN(VECTORS, width=8, r2=5.0)
    torch.testing.assert_close(model.penalty(x, y), 5 * r2_penalty(model.discriminator, y))
    model = GAN(VECTORS, loss="wasserstein", width=8, r1=3.0, r2=5.0, gradient_penalty=0.0)
    both = 3 * r1_penalty(model.discriminator, x) + 5 * r2_penalty(model.discriminator, y)
    torch.testing.assert_close(model.penalty(x, y), both)
    assert GAN(VECTORS, loss="wasserstein", width=8).gradient_penalty == 10
    assert GAN(VECTORS, loss="wasserstein", width=8, gradient_penalty=0.5).gradient_penalty == 0.5


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
def test_spectral_norm_bounds_every_layer(network):
    """The largest singular value of every weight comes to 1, however large the weights were."""
    model = GAN(DIGITS, network=network, width=16, spectral_norm=True)
    layers = [layer for layer in model.discriminator.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    assert len(layers) > 1
    with torch.no_grad():
        for layer in layers:
            layer.parametrizations.weight.original.mul_(50)
        for _ in range(200):
            model.discriminator(torch.randn(2, *DIGITS.shape))
        for layer in layers:
            assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, abs=1e-2)


# Who moves when


class Weights(Callback):
    """Both players' weights before training and after each batch."""

    def __init__(self):
        self.seen: dict[str, list[Tensor]] = {"generator": [], "discriminator": []}

    def _note(self, model: GAN) -> None:
        for player, seen in self.seen.items():
            seen.append(nn.utils.parameters_to_vector(getattr(model, player).parameters()).detach().clone())

    def on_train_start(self, trainer, pl_module):
        self._note(pl_module)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self._note(pl_module)

    def moved(self, player: str) -> list[bool]:
        return [not torch.equal(*pair) for pair in pairwise(self.seen[player])]


@pytest.mark.parametrize("critic_steps", [1, 2, 3])
def test_the_generator_moves_after_every_critic_steps_batches(critic_steps, tmp_path):
    weights = Weights()
    fit(GAN(VECTORS, width=16, critic_steps=critic_steps), Toy(size=500, batch_size=50), tmp_path, weights, steps=7)
    assert weights.moved("discriminator") == [True] * 7
    assert weights.moved("generator") == [batch % critic_steps == 0 for batch in range(1, 8)]


def test_neither_step_moves_the_other_player(tmp_path):
    rates = {"generator": {"lr": 0.0, "discriminator_lr": 1e-3}, "discriminator": {"lr": 1e-3, "discriminator_lr": 0.0}}
    for idle, options in rates.items():
        weights = Weights()
        fit(GAN(DIGITS, width=8, r1=1.0, **options), Digits(), tmp_path, weights)
        for player in ("generator", "discriminator"):
            assert weights.moved(player) == [player != idle] * 4


def test_each_player_gets_only_its_own_gradient(tmp_path):
    """G's backward pass goes through D and leaves D's gradients as they were: each parameter has one gradient per batch."""
    model, counts = GAN(DIGITS, width=8), {}
    for name, parameter in model.named_parameters():
        counts[name] = 0

        def count(_, name=name):
            counts[name] += 1

        parameter.register_post_accumulate_grad_hook(count)
    fit(model, Digits(), tmp_path, steps=3)
    assert set(counts.values()) == {3}
    assert all(parameter.requires_grad for parameter in model.parameters())


@pytest.mark.filterwarnings("ignore:.*pre-optimization state.*")  # the weights after the step are the ones wanted
def test_steps_are_batches(tmp_path):
    """max_steps, global_step and every_n_train_steps count batches, not the steps of two optimizers."""

    class Count(Callback):
        batches = 0

        def on_train_batch_end(self, *args):
            self.batches += 1

    count = Count()
    files = ModelCheckpoint(tmp_path / "files", filename="{step}", every_n_train_steps=5, save_top_k=-1)
    trainer = fit(GAN(VECTORS, width=8), Toy(size=500, batch_size=50), tmp_path, count, files, steps=10)
    assert count.batches == trainer.global_step == 10
    assert sorted(path.stem for path in (tmp_path / "files").iterdir()) == ["step=10", "step=5"]


def test_the_options_reach_the_optimizers():
    model = GAN(VECTORS, width=8, lr=1e-3, discriminator_lr=4e-3, betas=[0.0, 0.9])
    discriminator, generator = model.configure_optimizers()
    assert discriminator.param_groups[0]["params"] == list(model.discriminator.parameters())
    assert (discriminator.defaults["lr"], generator.defaults["lr"]) == (4e-3, 1e-3)
    assert discriminator.defaults["betas"] == generator.defaults["betas"] == (0.0, 0.9)
    assert GAN(VECTORS, width=8, lr=1e-3).discriminator_lr == 1e-3


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_every_loss_trains(loss, precision, tmp_path):
    model = GAN(DIGITS, loss=loss, width=8, r1=0.1, spectral_norm=loss == "hinge")
    trainer = fit(model, Digits(), tmp_path, precision=precision, val_check_interval=2)
    metrics = trainer.callback_metrics
    assert {"train/discriminator_loss", "train/generator_loss", "train/d_real", "val/discriminator_loss"} <= set(metrics)
    assert all(value.isfinite() and value.dtype == torch.float32 for value in metrics.values())
    assert all(parameter.isfinite().all() for parameter in model.parameters())


# Networks and samples


@pytest.mark.parametrize("network", ["auto", "mlp"])
@pytest.mark.parametrize(
    "shape",
    [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 64, 64), (3, 17, 23), (2, 5, 40), (1, 2, 3), (1,), (2,), (10,)],
    ids=lambda shape: "x".join(map(str, shape)),
)
def test_networks_fit_any_data(network, shape):
    """Examples of the data's shape, one logit per example, and a gradient for every parameter of both players."""
    model = GAN(DataSpec("any", shape, levels=256 if len(shape) == 3 else None), network=network, latent_dim=5, width=4)
    assert model.network == ("dcgan" if len(shape) == 3 and network == "auto" else "mlp")
    fake = model.generate(model.noise(6))
    assert fake.shape == (6, *shape)
    logits = model.discriminate(fake)
    assert logits.shape == (6,)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.eval().sample(1).shape == (1, *shape)


def test_one_images_logit_does_not_depend_on_the_others():
    model = GAN(DIGITS, width=8).train()
    x = torch.randn(6, *DIGITS.shape)
    torch.testing.assert_close(model.discriminate(x)[:2], model.discriminate(x[:2]))


def test_what_is_wrong_is_said():
    for options, message in (
        ({"network": "dcgan"}, "network dcgan takes images"),
        ({"network": "resnet"}, "auto, mlp, dcgan"),
        ({"loss": "lsgan"}, "least_squares"),
        ({"critic_steps": 0}, "1 or more"),
        ({"r2": -1.0}, "r2 -1.0: 0 or more"),
    ):
        with pytest.raises(ZooError, match=message) as caught:
            GAN(VECTORS, **options)
        assert len(str(caught.value).splitlines()) <= 2


class Extreme(nn.Module):
    """A generator of very large and very small values: the sign of each latent's first entry."""

    def forward(self, z: Tensor) -> Tensor:
        return (1e4 * z[:, 0].sign()).view(-1, 1, 1, 1).expand(-1, 1, 8, 8)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_samples_are_levels(levels):
    """Black is level 0 and white the last one; between them every level can occur."""
    model = GAN(DataSpec("gray", (1, 8, 8), levels=levels), width=8).eval()
    assert model.sample(3).dtype == torch.uint8
    model.generator = Extreme()
    x = model.decode(torch.tensor([[-1.0], [1.0]]))
    assert x.flatten(1).float().mean(1).tolist() == [0, levels - 1]
    assert model.generate(torch.tensor([[-1.0], [1.0]])).aminmax() == (-1, 1)


def test_samples_of_vectors_are_not_squashed():
    model = GAN(VECTORS, width=8).eval()
    last = [layer for layer in model.generator.modules() if isinstance(layer, nn.Linear)][-1]
    nn.init.constant_(last.bias, 100.0)
    x = model.sample(4)
    assert x.dtype == torch.float32
    assert x.min() > 50
    assert not x.requires_grad


class Relativistic(GAN):
    """Losses of one's own, on a generator of one's own."""

    def build_generator(self) -> nn.Module:
        return nn.Linear(self.latent_dim, 2)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return nn.functional.softplus(fake - real).mean()

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return (fake - real).square().mean()


def test_a_game_of_ones_own(tmp_path):
    torch.manual_seed(0)
    model, weights = Relativistic(VECTORS, width=8, latent_dim=3, discriminator_lr=0.0), Weights()
    trainer = fit(model, Toy(size=500, batch_size=50), tmp_path, weights)
    assert isinstance(model.generator, nn.Linear)
    assert weights.moved("generator") == [True] * 4
    assert trainer.callback_metrics["train/generator_loss"] >= 0
    real, fake = torch.tensor([1.0, 2.0]), torch.tensor([0.5, -1.0])
    assert model.discriminator_loss(real, fake).item() == pytest.approx(
        (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(-3))) / 2
    )
    assert model.sample(5).shape == (5, 2)


@pytest.mark.parametrize("loss", ["relativistic", "own"])
def test_the_generator_plays_against_the_discriminator_as_it_is(loss, tmp_path):
    """D's logits on real examples in G's loss are those of the D that was just stepped, and pull D nowhere."""

    class Watch(Relativistic if loss == "own" else GAN):
        def generator_loss(self, real, fake):
            if self.training:
                with torch.no_grad():
                    torch.testing.assert_close(real, self.discriminate(self.shown), rtol=0, atol=0)
            return super().generator_loss(real, fake)

        def training_step(self, batch, batch_idx):
            self.shown = batch.x
            return super().training_step(batch, batch_idx)

    torch.manual_seed(0)
    options = {} if loss == "own" else {"loss": loss}
    weights = Weights()
    fit(Watch(VECTORS, width=8, discriminator_lr=0.1, **options), Toy(size=500, batch_size=50), tmp_path, weights)
    assert weights.moved("generator") == weights.moved("discriminator") == [True] * 4


def test_a_loss_of_before_is_told_what_it_lacks():
    class Before(GAN):
        def generator_loss(self, fake):
            return -fake.mean()

    with pytest.raises(ZooError, match=r"Before\.generator_loss\(self, fake\): \(self, real, fake\) is needed") as caught:
        Before(VECTORS)
    assert len(str(caught.value).splitlines()) <= 2
