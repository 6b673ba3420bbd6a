"""Posteriors, priors and likelihoods by their names: options that are typed, and every way of giving a component."""

import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pytorch_lightning import Trainer
from torch import nn

import zoo
from zoo.distributions.component import Component, Family
from zoo.distributions.likelihoods import LIKELIHOODS, Gaussian
from zoo.distributions.posteriors import POSTERIORS, FlowPosterior, IAFPosterior, PlanarPosterior, Posterior
from zoo.distributions.priors import PRIORS, MAFPrior, Prior, VampPrior
from zoo.errors import ZooError
from zoo.models import VAE, AFPriorVAE, GenerativeModule
from zoo.runs.checkpoints import read
from zoo.spec import Batch, DataSpec

SPEC = DataSpec("gray", (1, 4, 4), levels=17)
SMALL = {"network": "mlp", "hidden": 8, "latent_dim": 3}
GIVEN = {"posterior": (8, 3), "prior": (3,), "likelihood": (SPEC,)}
FAMILIES = {"posterior": POSTERIORS, "prior": PRIORS, "likelihood": LIKELIHOODS}
NAMED = [(family, name) for family in FAMILIES.values() for name in family]
OPTIONS = [(family, name, option) for family, name in NAMED for option in family.options(name).values()]

named = pytest.mark.parametrize(("family", "name"), NAMED, ids=[name for _, name in NAMED])
every_option = pytest.mark.parametrize(
    ("family", "name", "option"), OPTIONS, ids=[f"{name}-{option.name}" for _, name, option in OPTIONS]
)


def vae(**options: Any) -> VAE:
    torch.manual_seed(0)
    return VAE(SPEC, **SMALL, **options)


def saved(model: GenerativeModule, path: Path) -> GenerativeModule:
    """The model, trained not at all, as a checkpoint gives it back."""
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = Trainer(accelerator="cpu", devices=1, max_steps=0, default_root_dir=path.parent, **quiet)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return zoo.load(path)


def outputs(model: VAE) -> list[torch.Tensor]:
    x = torch.randint(SPEC.levels, (5, *SPEC.shape), generator=torch.Generator().manual_seed(3), dtype=torch.uint8)
    torch.manual_seed(1)
    return [model.eval().objective(Batch(x))[0], model.encode(x), model.sample(4)]


# Options


@every_option
def test_options_are_typed_and_explained(family, name, option):
    assert option.annotation is not Any
    assert option.default is not inspect.Parameter.empty
    assert option.doc.endswith(".")


@named
def test_an_option_that_is_none_is_refused_with_the_nearest(family, name):
    known = list(family.options(name))
    for option in known:
        with pytest.raises(ZooError, match=rf"{name}: no option '{option}x'\. Accepted: .*Did you mean \w+\?"):
            vae(**{family.kind: name, f"{family.kind}_options": {f"{option}x": 1}})
    with pytest.raises(ZooError, match=f"no option 'nonsense'. Accepted: {', '.join(known) or 'none'}"):
        family.build(name, GIVEN[family.kind], {"nonsense": 1})


@every_option
def test_values_of_another_type_are_refused(family, name, option):
    wrong: list[Any] = ["four", True, [4], {"four": 4}]
    if float not in (option.annotation, *get_args(option.annotation)):
        wrong.append(2.5)
    for value in wrong:
        with pytest.raises(ZooError, match=f"{option.name}=.* is accepted"):
            family.build(name, GIVEN[family.kind], {option.name: value})


@every_option
def test_numbers_out_of_range_are_refused(family, name, option):
    kinds = {option.annotation, *get_args(option.annotation)}
    for value in (0, -1, *((0.0, -0.5, float("nan"), float("inf")) if float in kinds else ())):
        if kinds & {int, float}:
            with pytest.raises(ZooError, match=option.name):
                family.build(name, GIVEN[family.kind], {option.name: value})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"posterior": "iaf", "posterior_options": {"steps": 0}}, "steps 0: 1 or more"),
        ({"posterior": "planar", "posterior_options": {"flow": "typo"}}, "no option 'flow'. Accepted: steps"),
        ({"posterior": "planar", "posterior_options": {"hidden": 64, "directions": 2}}, "no option 'hidden'"),
        ({"posterior": "sylvester_orthogonal", "posterior_options": {"directions": 4}}, "directions=4"),
        ({"posterior": "sylvester_orthogonal", "posterior_options": {"reflections": 4}}, "no option 'reflections'"),
        ({"prior": "maf", "prior_options": {"flow": "affine"}}, "no option 'flow'. Accepted: steps, hidden"),
        ({"prior": "maf", "prior_options": {"steps": "four"}}, "steps='four' of MAFPrior: int is accepted"),
        ({"prior": "MAF"}, "Did you mean maf"),
        ({"prior": MAFPrior(4)}, "MAFPrior has latent_dim 4, and the model needs 3"),
        ({"prior": MAFPrior(3), "prior_options": {"steps": 2}}, "give them to its constructor"),
        ({"prior": PlanarPosterior}, "PlanarPosterior is no prior: derive it from zoo.distributions.priors.Prior"),
        ({"prior": "pydoc.pipepager"}, "pipepager is no prior"),
        ({"prior": "torch.nn.Linear"}, "Linear is no prior"),
        ({"prior": Prior}, "Prior is abstract: it must define forward, sample"),
        ({"posterior": FlowPosterior}, "FlowPosterior is abstract: it must define __init__"),
        ({"prior": 3}, "3 is no prior"),
    ],
)
def test_what_is_no_component_is_refused(options, message):
    with pytest.raises(ZooError, match=message):
        vae(**options)


def test_a_flow_prior_can_not_be_turned_into_another_by_an_option():
    with pytest.raises(ZooError, match="no option 'flow'"):
        AFPriorVAE(SPEC, **SMALL, prior_options={"flow": "affine"})


def test_an_option_is_checked_in_python_too():
    with pytest.raises(ZooError, match=r"steps=2\.5 of IAFPosterior: int is accepted"):
        IAFPosterior(8, 3, steps=2.5)
    assert IAFPosterior(8, 3, steps=np.int64(2), hidden=4).constructor_options == {"steps": 2, "hidden": 4}


# Every way of giving a component


@named
def test_a_name_a_class_and_an_instance_give_the_same_model(family, name, tmp_path):
    options = {f"{family.kind}_options": {key: _other(option) for key, option in family.options(name).items()}}
    by_name, by_class = vae(**{family.kind: name}, **options), vae(**{family.kind: family[name]}, **options)
    instance = family[name](*GIVEN[family.kind], **options[f"{family.kind}_options"])
    by_instance = vae(**{family.kind: instance})
    assert dict(by_name.hparams) == dict(by_class.hparams) == dict(by_instance.hparams)
    assert by_name.hparams[family.kind] == name
    assert all(map(torch.equal, outputs(by_name), outputs(by_class)))
    assert getattr(by_instance, family.kind) is instance
    loaded = saved(by_instance, tmp_path / "model.ckpt")
    assert type(getattr(loaded, family.kind)) is family[name]
    assert getattr(loaded, family.kind).constructor_options == instance.constructor_options
    assert all(map(torch.equal, outputs(loaded), outputs(by_instance)))


def _other(option) -> Any:
    """A value that is not the default."""
    if choices := [choice for choice in get_args(option.annotation) if isinstance(choice, str)]:
        return choices[-1]
    return 0.7 if float in get_args(option.annotation) else 2


MINE = """
from zoo.distributions.priors import MAFPrior

class Mine(MAFPrior):
    '''A flow, shifted.

    Arguments:
        shift: Added to z.
    '''

    def __init__(self, latent_dim: int, shift: float = 1.0, activation=None, **options):
        super().__init__(latent_dim, **options)
        self.shift = shift

    def sample(self, n, temperature=1.0):
        return super().sample(n, temperature) + self.shift
"""


@pytest.fixture
def mine(tmp_path, monkeypatch) -> ModuleType:
    """A module of the user's own, with a prior."""
    (tmp_path / "my_priors.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__("my_priors")
    del sys.modules["my_priors"]


def test_a_class_of_ones_own_is_stored_by_its_path(mine, tmp_path):
    """With its own options, and those that it hands on to the class it derives from."""
    instance = mine.Mine(3, shift=np.float32(2.5), steps=1)
    for options in ({"prior": instance}, {"prior": mine.Mine, "prior_options": {"shift": 2.5, "steps": 1}}):
        model = vae(**options)
        loaded = saved(model, tmp_path / "model.ckpt")
        stored = read(tmp_path / "model.ckpt")["hyper_parameters"]
        assert (stored["prior"], stored["prior_options"]) == ("my_priors.Mine", {"shift": 2.5, "steps": 1})
        assert isinstance(loaded.prior, mine.Mine)
        assert all(map(torch.equal, outputs(loaded), outputs(model)))
    assert list(PRIORS.options(mine.Mine)) == ["shift", "activation", "steps", "hidden"]
    with pytest.raises(ZooError, match=r"no option 'shfit'. .*Did you mean shift"):
        vae(prior="my_priors.Mine", prior_options={"shfit": 1})
    with pytest.raises(ZooError, match="steps='1' of Mine"):
        mine.Mine(3, steps="1")


def test_what_no_checkpoint_can_hold_is_refused_when_the_model_is_made(mine):
    class Local(MAFPrior):
        pass

    with pytest.raises(ZooError, match=r"no checkpoint can name the prior .*Local: define it at the top of a file"):
        vae(prior=Local)
    with pytest.raises(ZooError, match="prior option activation is the class ReLU, which no checkpoint can hold"):
        vae(prior=mine.Mine(3, activation=nn.ReLU))


@pytest.mark.parametrize("value", [Path("x"), nn.ReLU, len, np.zeros(2), {1, 2}, b"x"], ids=lambda each: type(each).__name__)
def test_hyperparameters_that_no_checkpoint_can_hold_are_refused_by_name(value):
    class Holder(VAE):
        def __init__(self, spec, extra=None, **options):
            super().__init__(spec, **options)

    for extra, name in ((value, "extra"), ([value], "extra"), ({"key": value}, r"extra\.key")):
        with pytest.raises(ZooError, match=f"{name} is .*, which no checkpoint can hold"):
            Holder(SPEC, extra, **SMALL)
    kept = Holder(SPEC, {"a": [1, np.float64(2.0)], "b": (None, "c")}, lr=np.float32(0.5), **SMALL).hparams
    assert (kept.extra, kept.lr) == ({"a": [1, 2.0], "b": (None, "c")}, 0.5)
    assert type(kept.lr) is type(kept.extra["a"][1]) is float


def test_an_instance_that_is_made_for_other_data_is_refused():
    with pytest.raises(ZooError, match=r"Gaussian has spec .*other"):
        vae(likelihood=Gaussian(DataSpec("other", (1, 4, 4), 17)))


def test_a_vamp_prior_takes_every_posterior_that_is_a_gaussian():
    assert vae(posterior=POSTERIORS["full"], prior=VampPrior(3, 5)).hparams["prior_options"] == {"components": 5}
    with pytest.raises(ZooError, match="vamp prior needs a posterior with a density"):
        vae(posterior=PlanarPosterior, prior="vamp")
    with pytest.raises(ZooError, match="make it as the prior of a VAE"):
        VampPrior(3)()


@pytest.mark.parametrize("arguments", [("--model.posterior", "iaf"), ("--model.posterior=iaf",)])
def test_help_of_a_component_lists_its_options(cli, arguments):
    status, out, _ = cli("fit", "--model", "vae", *arguments, "--help")
    assert status == 0
    for option in ("--model.posterior_options.steps", "--model.posterior_options.hidden", "(type: int, default: 320)"):
        assert option in " ".join(out.split())
    assert "--model.prior_options PRIOR_OPTIONS" in out
    status, _, err = cli("fit", "--model", "vae", "--model.posterior", "iag", "--help")
    assert status == 2
    assert "Did you mean iaf?" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.posterior", "iaf", "--model.posterior_options", "{steps: 0}"], "steps 0: 1 or more"),
        (["--model.posterior_options", "{scal: exp}"], "Did you mean scale?"),
        (["--model.prior", "maf", "--model.prior_options.steps", "four"], "steps='four' of MAFPrior: int is accepted"),
        (["--model.prior", "mat"], "Did you mean maf?"),
    ],
)
def test_wrong_options_of_components_on_the_command_line(cli, tmp_path, arguments, message):
    status, _, err = cli("fit", "--model", "vae", *arguments)
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) <= 2
    assert not any(tmp_path.iterdir())


def test_every_family_has_a_base_and_concrete_members():
    assert [family.base for family in FAMILIES.values()] == [Posterior, Prior, LIKELIHOODS.base]
    for family in FAMILIES.values():
        assert isinstance(family, Family)
        assert inspect.isabstract(family.base)
        assert issubclass(family.base, Component)
