"""Models trained as one: each computes what it computes alone, whatever the others do."""

import contextlib
import copy
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from zoo import registry
from zoo.distributions.likelihoods import LIKELIHOODS
from zoo.distributions.posteriors import POSTERIORS
from zoo.distributions.priors import PRIORS
from zoo.errors import ZooError
from zoo.experiments.member_noise import MemberStreams, OwnNumber
from zoo.experiments.stack import Stack, why_not
from zoo.models import GAN, VAE, BetaTCVAE, FactorVAE
from zoo.models.base import GenerativeModule
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

DIGITS, POINTS = DataSpec("digits", (1, 8, 8), levels=17), DataSpec("points", (3,))
SPRITES = DataSpec("sprites", (1, 64, 64), levels=2)
SMALL = {"network": "mlp", "hidden": 8, "latent_dim": 3}
QUICK = {
    **{name: {"steps": 2} for name in ("planar", "radial")},
    **{name: {"steps": 2, "hidden": 8} for name in ("iaf", "spline_iaf", "maf", "spline")},
    **{name: {"components": 4} for name in ("mixture", "vamp", "discretized_logistic_mixture")},
    "sylvester_orthogonal": {"steps": 1},
}
VAES = [
    *(("vae", {kind: name, f"{kind}_options": QUICK.get(name), **SMALL})
      for kind, family in (("posterior", POSTERIORS), ("prior", PRIORS), ("likelihood", LIKELIHOODS)) for name in family),
    *(("vae", {"network": name, "latent_dim": 3}) for name in ("conv", "gated_conv")),
    *((name, SMALL) for name in ("beta_vae", "annealed_vae", "beta_tcvae", "dip_vae", "af_prior_vae", "flow_posterior_vae")),
    ("dip_vae", {"variant": "II", **SMALL}),
    ("factor_vae", {"discriminator_width": 8, **SMALL}),
    ("made", {"hidden": [8]}),
]  # fmt: skip


def seeded(make: Callable[[], GenerativeModule], seeds: range) -> tuple[list[GenerativeModule], list[Generator]]:
    """A model of each seed, and the random stream that is left of the seed."""
    models, streams = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(make())
        streams.append(Generator())
        streams[-1].set_state(torch.get_rng_state())
    return models, streams


def train_alone(model: GenerativeModule, optimizers: list, batch: Batch) -> dict[str, Tensor]:
    """A step as the Trainer makes it."""
    metrics: dict[str, Tensor] = {}
    for method, optimizer in zip(model.training_losses, optimizers, strict=True):
        loss, terms = getattr(model, method)(batch)
        for other in optimizers:
            other.zero_grad()
        loss.backward()
        optimizer.step()
        metrics = {"loss": loss.detach(), **metrics, **{name: value.detach() for name, value in terms.items()}}
    return metrics


def optimizers_of(model: GenerativeModule) -> list:
    configured = model.configure_optimizers()
    return configured if isinstance(configured, list) else [configured]


def compare(make: Callable[[], GenerativeModule], batches: list[Tensor], tolerance: float) -> None:
    """Every metric of every step, the weights, the optimizers' state and the random stream at the end."""
    members, streams = seeded(make, range(3))
    alone, states = copy.deepcopy(members), [stream.get_state() for stream in streams]
    stack = Stack(members, streams)
    together = [stack.step(Batch(x)) for x in batches]
    for number, model in enumerate(alone):
        torch.set_rng_state(states[number])
        optimizers = optimizers_of(model)
        for x, metrics in zip(batches, together, strict=True):
            expected = train_alone(model, optimizers, Batch(x[number]))
            own = {name: value[number] for name, value in metrics.items()}
            torch.testing.assert_close(own, expected, rtol=tolerance, atol=tolerance)
        assert torch.get_rng_state().equal(streams[number].get_state())
        torch.testing.assert_close(
            dict(members[number].state_dict()), dict(model.state_dict()), rtol=tolerance, atol=tolerance
        )
        stored = stack.optimizer_states(number)
        torch.testing.assert_close(stored, [each.state_dict() for each in optimizers], rtol=tolerance, atol=tolerance)
        assert members[number].training_batches == len(batches)


def levels(spec: DataSpec, steps: int, members: int = 3) -> list[Tensor]:
    """Batches of 6, the last of 5, as at the end of an epoch."""
    sizes = [6] * (steps - 1) + [5]
    return [torch.randint(spec.levels, (members, size, *spec.shape), dtype=torch.uint8) for size in sizes]


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize(("name", "options"), VAES, ids=lambda each: each if isinstance(each, str) else "-".join(
    str(value) for value in each.values() if isinstance(value, str)))  # fmt: skip
def test_member_k_is_run_k(name, options, double):
    """Twenty steps in double precision, four of convolutions, uneven batches among them."""
    cls = registry.find_class(registry.MODELS[name].path)
    with pytest.warns() if options.get("likelihood") == "bernoulli" else contextlib.nullcontext():
        steps = 10 if options.get("network") in ("mlp", None) else 2
        compare(lambda: cls(DIGITS, **options), levels(DIGITS, steps) + levels(DIGITS, steps), 1e-10)


def test_in_single_precision():
    """The same to what float32 has."""
    compare(lambda: VAE(DIGITS, **SMALL), levels(DIGITS, 20), 1e-5)


def test_the_networks_of_the_study(double):
    compare(lambda: VAE(SPRITES, "locatello", latent_dim=3), levels(SPRITES, 2), 1e-10)


def test_vectors(double):
    compare(lambda: VAE(POINTS, **SMALL), [torch.randn(3, 6, 3) for _ in range(20)], 1e-10)


def test_every_member_has_its_own_settings(double):
    """Learning rates, Adam's betas, schedules, and weights of the loss, of which one is 1 and the other a float."""
    settings = iter([
        {"lr": 1e-2, "kl": KLSchedule(beta=1, warmup=3), "beta": 2},
        {"lr": 1e-2, "kl": KLSchedule(beta=0.5, warmup=3), "beta": 1.5, "schedule_options": {"warmup": 4}},
        {"optimizer_options": {"betas": (0.5, 0.9)}, "kl": KLSchedule(beta=4, warmup=3), "beta": 7.0},
    ])  # fmt: skip
    compare(lambda: BetaTCVAE(DIGITS, **SMALL, **next(settings)), levels(DIGITS, 20), 1e-10)


def test_free_bits_and_capacity(double):
    """Numbers that a schedule compares, and one that becomes a tensor."""
    bits = iter((0.1, 0.5, 2.0))
    compare(lambda: VAE(DIGITS, **SMALL, kl=KLSchedule(free_bits=next(bits))), levels(DIGITS, 5), 1e-10)
    capacities = iter((1.0, 5.0, 25.0))
    schedule = {"beta": 10.0, "capacity_steps": 3}
    compare(lambda: VAE(DIGITS, **SMALL, kl=KLSchedule(capacity=next(capacities), **schedule)), levels(DIGITS, 5), 1e-10)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_by_the_members_own_norm(algorithm, double):
    members, streams = seeded(lambda: VAE(DIGITS, **SMALL), range(3))
    alone, states = copy.deepcopy(members), [stream.get_state() for stream in streams]
    stack, batches = Stack(members, streams, clip=0.5, clip_algorithm=algorithm), levels(DIGITS, 5)
    for x in batches:
        stack.step(Batch(x))
    for number, model in enumerate(alone):
        torch.set_rng_state(states[number])
        model.expect_clipping(0.5, algorithm)
        (optimizer,) = optimizers_of(model)
        for x in batches:
            optimizer.zero_grad()
            model.objective(Batch(x[number]))[0].backward()
            clip = torch.nn.utils.clip_grad_norm_ if algorithm == "norm" else torch.nn.utils.clip_grad_value_
            clip(model.parameters(), 0.5)
            optimizer.step()
        torch.testing.assert_close(dict(members[number].state_dict()), dict(model.state_dict()), rtol=1e-10, atol=1e-10)


def test_what_is_no_number_stays_in_its_member():
    members, streams = seeded(lambda: VAE(DIGITS, **SMALL), range(3))
    sound, same = seeded(lambda: VAE(DIGITS, **SMALL), range(3))
    with torch.no_grad():
        next(members[1].parameters()).fill_(torch.nan)
    batches = levels(DIGITS, 4)
    stack, other = Stack(members, streams, clip=1.0), Stack(sound, same, clip=1.0)
    for x in batches:
        losses = stack.step(Batch(x))["loss"]
        other.step(Batch(x))
    assert losses.isfinite().tolist() == [True, False, True]
    for number in (0, 2):
        torch.testing.assert_close(dict(members[number].state_dict()), dict(sound[number].state_dict()), rtol=0, atol=0)


class Dropping(VAE):
    """Draws by a function that has no stream of each member."""

    def objective(self, batch):
        loss, terms = super().objective(batch)
        return loss + torch.dropout(loss, 0.5, True), terms


class Looking(VAE):
    """Goes another way by a number of the batch."""

    def objective(self, batch):
        loss, terms = super().objective(batch)
        return (loss if loss > 0 else -loss), terms


class Stepping(VAE):
    def training_step(self, batch, batch_idx):
        return super().training_step(batch, batch_idx)


@pytest.mark.parametrize(
    ("models", "reason"),
    [
        (lambda: [GAN(DIGITS), GAN(DIGITS)], "GAN has a training_step of its own"),
        (lambda: [Stepping(DIGITS, **SMALL)] * 2, "Stepping has a training_step of its own"),
        (lambda: [VAE(DIGITS, **SMALL), FactorVAE(DIGITS, **SMALL)], "there are VAE and FactorVAE"),
        (
            lambda: [VAE(DIGITS, **SMALL), VAE(DIGITS, **{**SMALL, "hidden": 9})],
            r"encoder.1.0.weight is \(8, 64\) and \(9, 64\)",
        ),
        (lambda: [VAE(DIGITS, **SMALL, kl=KLSchedule(warmup=n)) for n in (1, 2)], "VAE.kl.warmup is 1, 2"),
        (
            lambda: [VAE(DIGITS, **SMALL, posterior_options={"scale": n}) for n in ("exp", "softplus")],
            "scale is exp, softplus",
        ),
    ],
)
def test_why_models_are_not_trained_as_one(models, reason):
    made = models()
    with pytest.raises(ZooError, match=reason):
        Stack(made, [Generator() for _ in made])
    assert "\n" not in (why_not(made) or "")


@pytest.mark.parametrize(
    ("model", "reason"), [(Dropping, "random"), (Looking, "several models at once")], ids=["dropout", "branch"]
)
def test_what_can_not_be_computed_at_once_is_told_before_training(model, reason):
    members, streams = seeded(lambda: model(DIGITS, **SMALL), range(2))
    before, states = copy.deepcopy(members), [stream.get_state() for stream in streams]
    with pytest.raises(ZooError, match=reason):
        Stack(members, streams).try_step(Batch(levels(DIGITS, 1, 2)[0]))
    for old, new in zip(before, members, strict=True):
        torch.testing.assert_close(dict(old.state_dict()), dict(new.state_dict()), rtol=0, atol=0)
        assert new.training_batches == 0
    assert all(state.equal(stream.get_state()) for state, stream in zip(states, streams, strict=True))


def test_numbers_that_members_do_not_agree_on():
    """A comparison of which the answer would depend on the member is an error, and no guess."""
    streams = MemberStreams([Generator(), Generator()], torch.device("cpu"))
    number = OwnNumber([1.0, 3.0], streams, "VAE.beta")
    assert (2 * number - 1).values == (1.0, 5.0)
    assert number > 0
    assert bool(number)
    with pytest.raises(ZooError, match=r"VAE.beta 1, 3: what is computed depends on it"):
        assert number > 2
