"""Optimizers and schedules by option: for every model, in batches, and going on bit for bit."""

import math

import pytest
import torch
from pytorch_lightning import Callback

from datamodules import Digits
from zoo.errors import ZooError
from zoo.models import GAN, VAE, FactorVAE, FlowPlusPlus
from zoo.optimizers import OPTIMIZERS, SCHEDULES, Optimization
from zoo.registry import MODELS as REGISTERED
from zoo.registry import find_class
from zoo.runs import fit
from zoo.runs.checkpoints import read

SMALL = {"network": "mlp", "hidden": 4, "latent_dim": 2}
QUIET = {"wandb": "off", "enable_progress_bar": False, "limit_val_batches": 0}
CASES = {
    "vae": (VAE, SMALL, {}),
    "vae, accumulated": (VAE, SMALL, {"accumulate_grad_batches": 2}),
    "gan": (GAN, {"network": "mlp", "width": 4, "latent_dim": 2}, {}),
    "factor_vae": (FactorVAE, {**SMALL, "discriminator_width": 4}, {}),
}
COSINE = {"schedule": "cosine", "schedule_options": {"warmup": 4}}


class Rates(Callback):
    """The learning rate of each optimizer in each batch."""

    def __init__(self):
        self.rates = []

    def on_train_batch_end(self, trainer, *args):
        self.rates.append([optimizer.param_groups[0]["lr"] for optimizer in trainer.optimizers])


def train(tmp_path, case, rates=None, resume=None, **options):
    cls, small, more = CASES[case]
    keys = ("optimizer", "optimizer_options", "schedule", "schedule_options", "lr")
    how = {key: options.pop(key) for key in keys if key in options}
    torch.manual_seed(0)
    data = Digits()
    model = cls(data.spec, **small, **how)
    callbacks = [] if rates is None else [rates]
    return fit(model, data, root=tmp_path, seed=0, callbacks=callbacks, resume=resume, **QUIET, **more, **options)


@pytest.mark.parametrize("name", REGISTERED)
def test_every_model_takes_them_and_a_checkpoint_keeps_them(name, tmp_path):
    cls = find_class(REGISTERED[name].path)
    how = {"optimizer": "adamw", "optimizer_options": {"weight_decay": 0.1}, **COSINE}
    model = cls(Digits.spec, **how)
    made = model.configure_optimizers()
    for optimizer in made if isinstance(made, list) else [made]:
        assert type(optimizer) is torch.optim.AdamW
        assert optimizer.param_groups[0]["weight_decay"] == 0.1
    assert {key: model.hparams[key] for key in how} == how


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("case", ["vae", "gan", "factor_vae"])
def test_every_optimizer_trains(tmp_path, case, name):
    run = train(tmp_path, case, optimizer=name, max_steps=2)
    assert {type(optimizer) for optimizer in run.trainer.optimizers} == {OPTIMIZERS[name]}


@pytest.mark.parametrize("case", CASES)
def test_the_learning_rate_is_that_of_the_batch(tmp_path, case):
    """Of all optimizers, in batches, whether or not gradients are accumulated."""
    rates = Rates()
    run = train(tmp_path, case, rates, lr=0.1, max_steps=12, **COSINE)
    expected = [0.1 * min(1, (t + 1) / 4) * (1 + math.cos(math.pi * max(0, t - 4) / 8)) / 2 for t in range(12)]
    assert [rate[0] for rate in rates.rates] == pytest.approx(expected)
    assert all(len(rate) == len(run.trainer.optimizers) for rate in rates.rates)
    shares = [rate[-1] / rate[0] for rate in rates.rates]
    assert shares == pytest.approx([shares[0]] * 12), "all follow one schedule"


@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_bit_for_bit(tmp_path, case):
    how = {
        "optimizer": "adamw",
        "optimizer_options": {"weight_decay": 0.1},
        "schedule_options": {"warmup": 4, "batches": 12},
    }
    how["schedule"] = "cosine"
    whole = train(tmp_path, case, max_steps=12, **how)
    part = train(tmp_path, case, max_steps=7, **how)
    last = part.folder / "checkpoints" / "last.ckpt"
    train(tmp_path, case, resume=last, max_steps=12, **how)
    found, expected = read(last), read(whole.folder / "checkpoints" / "last.ckpt")
    torch.testing.assert_close(found["state_dict"], expected["state_dict"], rtol=0, atol=0)
    for ours, theirs in zip(found["optimizer_states"], expected["optimizer_states"], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_options_at_a_resume_are_applied_or_refused(tmp_path):
    part = train(tmp_path, "vae", max_steps=3, lr=0.1)
    last = part.folder / "checkpoints" / "last.ckpt"
    with pytest.raises(ZooError, match=r"optimizer sgd: .* has the state of adam"):
        train(tmp_path, "vae", resume=last, max_steps=6, optimizer="sgd")
    rates = Rates()
    train(tmp_path, "vae", rates, resume=last, max_steps=6, lr=0.1, schedule="linear")
    assert [rate[0] for rate in rates.rates] == pytest.approx([0.1 * (1 - t / 6) for t in (3, 4, 5)])
    rates = Rates()
    train(tmp_path, "vae", rates, resume=last, max_steps=8, lr=0.1, optimizer_options={"weight_decay": 0.01})
    assert [rate[0] for rate in rates.rates] == [0.1, 0.1], "no schedule any more"
    group = read(last)["optimizer_states"][0]["param_groups"][0]
    assert group["weight_decay"] == 0.01


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules(schedule):
    it = Optimization(schedule=schedule, schedule_options={"warmup": 10, "final": 0.25})
    assert it.factor(0, 100) == pytest.approx(0.1)
    assert it.factor(9, 100) == it.factor(10, 100) == 1.0
    assert it.factor(100, 100) == it.factor(500, 100) == pytest.approx(1.0 if schedule == "constant" else 0.25)
    factors = [it.factor(t, 100) for t in range(10, 101)]
    assert factors == sorted(factors, reverse=True)
    half = {"constant": 1, "linear": 0.625, "cosine": 0.625, "exponential": 0.5}[schedule]
    assert it.factor(55, 100) == pytest.approx(half)


def test_multistep():
    """Falls at each milestone, whatever the length of the training."""
    it = Optimization(schedule="multistep", schedule_options={"milestones": [3, 5], "gamma": 0.5})
    for total in (7, None):
        assert [it.factor(t, total) for t in range(7)] == [1, 1, 1, 0.5, 0.5, 0.25, 0.25]
    assert it.varies


def test_flowpp_warms_up_in_batches():
    assert FlowPlusPlus(Digits.spec, warmup=7).optimization.warmup == 7
    both = FlowPlusPlus(Digits.spec, warmup=7, schedule="cosine", schedule_options={"final": 0.1}).optimization
    assert (both.warmup, both.final, both.schedule) == (7, 0.1, "cosine")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"optimizer": "adamm"}, "optimizer 'adamm' is not known; .* Did you mean adam?"),
        ({"schedule": "cosin"}, "Did you mean cosine?"),
        ({"optimizer_options": {"momentum": 0.9}}, "no option 'momentum' of adam"),
        ({"optimizer_options": {"lr": 0.9}}, "no option 'lr' of adam"),
        ({"optimizer_options": {"weight_decay": -1}}, "Invalid weight_decay value: -1"),
        ({"schedule_options": {"warm_up": 3}}, "Did you mean warmup?"),
        ({"schedule_options": {"warmup": -1}}, "warmup -1: a whole number, 0 or more, is needed"),
        ({"schedule_options": {"warmup": 1.5}}, "warmup 1.5: a whole number"),
        ({"schedule_options": {"batches": 0}}, "batches 0: a whole number, 1 or more"),
        ({"schedule": "exponential", "schedule_options": {"final": 0.0}}, "needs more than 0"),
        ({"schedule": "multistep"}, r"milestones \[\]: a list of batches is needed"),
        ({"schedule": "multistep", "schedule_options": {"milestones": 3}}, "milestones 3: a list"),
        ({"schedule": "multistep", "schedule_options": {"milestones": [5, 3]}}, r"milestones \[5, 3\]: .* rising"),
        ({"schedule": "multistep", "schedule_options": {"milestones": [3], "gamma": 2}}, "gamma 2: a number above 0"),
        ({"schedule": "cosine", "schedule_options": {"milestones": [3]}}, "no option 'milestones' of schedule cosine"),
    ],
)
def test_what_cant_be(how, said):
    with pytest.raises(ZooError, match=said):
        VAE(Digits.spec, **SMALL, **how)


def test_a_schedule_without_an_end(tmp_path):
    with pytest.raises(ZooError, match=r"training has no end that is known. Give --trainer.max_steps"):
        train(tmp_path, "vae", schedule="cosine", max_epochs=-1)
    assert not list(tmp_path.iterdir())


def test_a_model_of_ones_own_needs_none_of_them(tmp_path):
    """Its constructor takes what it says, and a checkpoint gives it no more."""

    class Own(VAE):
        def __init__(self, spec, hidden: int = 4):
            super().__init__(spec, network="mlp", hidden=hidden, latent_dim=2)

    assert Own(Digits.spec).hparams.keys() & {"optimizer", "schedule"} == set()


def test_on_the_command_line(cli):
    typed = ("--optimizer", "adamw", "--model.optimizer_options", "{weight_decay: 0.1}", "--schedule", "cosine")
    status, _, err = cli("fit", "--model", "gan", *typed, "--warmup", 2, "--max_steps", 2, "--wandb", "off")
    assert status == 2
    typed += ("--model.schedule_options.warmup", 2)
    status, _, err = cli("fit", "--model", "gan", *typed, "--max_steps", 2, "--wandb", "off")
    assert status == 0, err
