"""Every option of every registered model, data set and component: what is out of range is a line, or it works."""

import math
import types
import typing
import warnings
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
import torch
from PIL import Image
from test_contract import SMALL

from zoo import registry
from zoo.distributions.likelihoods import LIKELIHOODS
from zoo.distributions.posteriors import POSTERIORS
from zoo.distributions.priors import PRIORS
from zoo.errors import ZooError
from zoo.models.vae import VAE
from zoo.options import Option, options_of
from zoo.schedules import KLSchedule
from zoo.spec import Batch, DataSpec

IMAGES = DataSpec("pixels", (1, 8, 8), 17)
FAMILIES = {"posterior": POSTERIORS, "prior": PRIORS, "likelihood": LIKELIHOODS}
SCHEDULE = {"beta": 1.0, "warmup": 1, "period": 1, "free_bits": 0.0, "capacity": 0.0, "capacity_steps": 0}
NUMBERS = [-1, 0, 1, 10**9, 10**30, -(10**30)]
FLOATS = [-1.0, 0.0, 1e-30, 0.5, 1.0, 1e30, math.nan, math.inf, -math.inf]
WRONG = ["x", "", None, True, 1.5, [], {}, (), [None], {"a": 1}, b"x", 1j]


def values_for(annotation: Any) -> list[Any]:
    """Out-of-range values of a type, and values of other types."""
    if get_origin(annotation) in (typing.Union, types.UnionType):
        inner = [value for each in get_args(annotation) for value in values_for(each)]
        return [value for number, value in enumerate(inner) if repr(value) not in map(repr, inner[:number])]
    if get_origin(annotation) is tuple:
        n = 3 if get_args(annotation)[1:] == (...,) else len(get_args(annotation))
        each = values_for(get_args(annotation)[0])
        return [*WRONG, *((value,) * n for value in each), (1,) * (n - 1), (1,) * (n + 1)]
    if get_origin(annotation) is dict or annotation is KLSchedule:
        inside = [{name: value} for name in SCHEDULE for value in [*FLOATS, *NUMBERS, *WRONG]]
        return [*WRONG, *inside] if annotation is KLSchedule else WRONG
    own = {int: NUMBERS, float: FLOATS, bool: [2], str: ["no such thing", "no.such.Thing"]}
    if get_origin(annotation) is Literal:
        return ["no such thing", *WRONG]
    return [*own.get(annotation, []), *WRONG]


def require_working(model: torch.nn.Module) -> None:
    """A loss that is a number, of a batch, and samples."""
    torch.manual_seed(0)
    x, label = torch.randint(17, (3, *model.spec.shape)).to(torch.uint8), torch.zeros(3, dtype=torch.int64)
    loss, _ = model.objective(Batch(x, label=label))
    assert loss.dim() == 0 and not loss.isnan()
    assert model.eval().sample(2).shape == (2, *model.spec.shape)


def attempt(make: Any, works: Any) -> None:
    """A line, or something that works."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            made = make()
        except ZooError as error:
            lines = str(error).splitlines()
            assert 1 <= len(lines) <= 2 and all(len(line) < 400 for line in lines), error
            return
        works(made)


def cases(cls: type, given: int) -> list[tuple[str, Option]]:
    return list(options_of(cls, given).items())


MODELS = {name: registry.find_class(entry.path) for name, entry in registry.MODELS.items()}
MODEL_OPTIONS = [(name, option) for name, cls in MODELS.items() for option, _ in cases(cls, 1)]
# Of the other VAEs the options that are VAE's own are checked by the same lines.
OWN = [(name, option) for name, option in MODEL_OPTIONS if MODELS[name] is VAE or option not in options_of(VAE, 1)]


@pytest.mark.parametrize(("name", "option"), OWN)
def test_models(name, option):
    annotation = options_of(MODELS[name], 1)[option].annotation
    small = dict(SMALL.get(name, {}))
    if issubclass(MODELS[name], VAE):
        small |= {"network": "mlp", "hidden": 8, "latent_dim": 2}
    for value in values_for(annotation):
        attempt(lambda value=value: MODELS[name](IMAGES, **(small | {option: value})), require_working)


def kinds() -> list[tuple[str, str, str]]:
    return [
        (kind, name, option)
        for kind, family in FAMILIES.items()
        for name, cls in family.items()
        for option, _ in cases(cls, len(cls.given))
    ]


@pytest.mark.parametrize(("kind", "name", "option"), kinds())
def test_components(kind, name, option):
    for value in values_for(FAMILIES[kind].options(name)[option].annotation):
        options = {kind: name, f"{kind}_options": {option: value}, "network": "mlp", "hidden": 8, "latent_dim": 2}
        attempt(lambda options=options: VAE(IMAGES, **options), require_working)


@pytest.fixture
def folder(tmp_path):
    for number in range(60):
        Image.fromarray(np.full((9, 9), number, np.uint8)).save(tmp_path / f"{number}.png")
    return tmp_path


def data_options() -> list[tuple[str, str]]:
    found = {name: registry.find_class(entry.path) for name, entry in registry.DATA.items()}
    return [(name, option) for name, cls in found.items() for option, _ in cases(cls, 0)]


@pytest.mark.parametrize(("name", "option"), data_options())
def test_data(name, option, folder, monkeypatch):
    """What is made has a spec; of small embedded data also a batch."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ZOO_CACHE", str(folder / "cache"))
    cls = registry.find_class(registry.DATA[name].path)
    needed = {"folder": {"root": str(folder), "size": 4}, "toy": {"size": 50}}.get(name, {})
    if name == "scream_dsprites":
        Image.fromarray(np.zeros((300, 300, 3), np.uint8)).save(folder / "picture.png")
        needed = {"image": "picture.png"}

    def works(data) -> None:
        assert data.spec.dims > 0
        if name in ("digits", "toy", "folder"):
            assert len(next(iter(data.train_dataloader())).x)

    for value in values_for(options_of(cls)[option].annotation):
        attempt(lambda value=value: cls(**(needed | {option: value})), works)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KLSchedule(period=10), "a period without a warm-up"),
        (lambda: KLSchedule(capacity_steps=10), "capacity steps without a capacity"),
        (lambda: KLSchedule.of({"bata": 1}), "no option 'bata'.*Did you mean beta"),
        (lambda: MODELS["beta_vae"](IMAGES, kl={"beta": 4}), "there is one weight"),
        (lambda: MODELS["annealed_vae"](IMAGES, kl={"beta": 4}), "give weight and capacity once"),
        (lambda: MODELS["annealed_vae"](IMAGES, kl={"capacity": 4}), "give weight and capacity once"),
        (lambda: MODELS["annealed_vae"](IMAGES, kl={"free_bits": 4}), "give weight and capacity once"),
        (lambda: VAE(IMAGES, kl={"beta": "1"}), "beta='1' of kl: float is accepted"),
        (lambda: VAE(IMAGES, prior_options=[1]), "a dictionary of options is accepted"),
    ],
)
def test_options_that_contradict_one_another(make, message):
    with pytest.raises(ZooError, match=message):
        make()


def test_beta_is_the_weight():
    assert MODELS["beta_vae"](IMAGES, beta=3, kl={"warmup": 5}).kl == KLSchedule(beta=3, warmup=5)
    assert MODELS["annealed_vae"](IMAGES, gamma=3, capacity=0).kl == KLSchedule(beta=3)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("vae", {"network": "conv", "hidden": 8}, "hidden 8 without effect: network conv"),
        ("beta_vae", {"hidden": 8}, "hidden 8 without effect: network conv"),
        ("vae", {"kl": {"beta": 0, "warmup": 10}}, "with beta 0"),
        ("gan", {"depth": 5}, "depth 5 without effect"),
        ("flowpp", {"dequantization": "uniform", "dequantizer_blocks": 3}, "dequantizer_blocks 3 without effect"),
        ("flowpp", {"dequantizer_couplings": 0, "dequantizer_blocks": 3}, "dequantizer_blocks 3 without effect"),
        ("flowpp", {"coupling": "affine", "components": 3}, "components 3 without effect"),
        ("flowpp", {"attention": False, "heads": 2}, "heads 2 without effect"),
        ("vae", {"network": "mlp", "hidden": 8}, None),
        ("gan", {"network": "mlp", "depth": 5}, None),
        ("flowpp", {"dequantization": "uniform", "coupling": "affine", "attention": False, "filters": 8}, None),
    ],
)
def test_options_that_nothing_reads(name, options, said):
    """A line for those that were given; none for defaults."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        MODELS[name](IMAGES, **options)
    messages = [str(each.message) for each in caught if "effect" in str(each.message)]
    assert [said in message for message in messages] == [True] if said else not messages


@pytest.mark.parametrize("network", ["mlp", "dcgan"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 2), (3, 3, 3), (1, 5, 5), (1, 1, 9), (2, 8, 1), (1, 2, 30), (1, 13, 4)])
def test_gans_of_any_size(network, shape):
    model = MODELS["gan"](DataSpec("pixels", shape, 17), network=network, width=4, gradient_penalty=1.0)
    require_working(model)
    x = torch.rand(3, *shape)
    assert model.discriminate(x).shape == (3,) and model.penalty(x, x).isfinite()


@pytest.mark.parametrize("network", ["mlp", "conv", "gated_conv", "locatello"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (3, 3, 5), (1, 1, 9)])
def test_vaes_of_any_size(network, shape):
    require_working(VAE(DataSpec("pixels", shape, 17), network=network))


@pytest.mark.parametrize("split", ["columns", "checkerboard"])
@pytest.mark.parametrize("shape", [(1, 2, 1), (1, 1, 2), (1, 6, 1), (2, 1, 1), (1, 3, 5), (3, 5, 1)])
def test_flows_of_any_size_that_can_be_split(split, shape):
    model = MODELS["flowpp"](DataSpec("pixels", shape, 17), split=split, **SMALL["flowpp"])
    require_working(model)
    assert model.density.inversion_error(torch.randint(17, (3, *shape)).to(torch.uint8)) < 1e-2


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 3, 1)])
def test_flows_of_what_cannot_be_split(shape):
    with pytest.raises(ZooError, match="two columns or two channels, or an even number of rows"):
        MODELS["flowpp"](DataSpec("pixels", shape, 17), **SMALL["flowpp"])
