"""What a class must define is abstract: one that lacks it can't be made, and the command line says what it lacks."""

import sys

import pytest
import torch
from torch import nn
from torch.distributions import Distribution

import zoo
from datamodules.base import DataModule
from zoo.distributions.dequantization import Dequantizer
from zoo.distributions.likelihoods import LIKELIHOODS, Likelihood
from zoo.distributions.posteriors import FlowPosterior, Posterior
from zoo.distributions.priors import FlowPrior, Prior
from zoo.models import VAE, GenerativeModule
from zoo.spec import DataSpec
from zoo.transforms import Transform
from zoo.transforms.autoregressive import Autoregressive
from zoo.transforms.splits import Split

SPEC = DataSpec("binary", (1, 4, 4), levels=2)
BASES = [
    (GenerativeModule, (SPEC,), {"objective", "sample"}),
    (Posterior, (8, 2), {"forward"}),
    (FlowPosterior, (8, 2), {"__init__"}),
    (Prior, (2,), {"forward", "sample"}),
    (FlowPrior, (2,), {"__init__"}),
    (Likelihood, (SPEC,), {"log_prob_of_values", "mean", "sample"}),
    (Dequantizer, (), {"forward"}),
    (Transform, (), {"forward"}),
    (Autoregressive, (3, 0, 1), {"univariate", "univariate_inverse"}),
    (Split, ((1, 2, 2), ((1, 2, 1), (1, 2, 1))), {"forward", "inverse"}),
    (DataModule, (), {"spec", "load"}),
]

MINE = """
import torch
from datamodules.base import DataModule
from zoo.models import GenerativeModule
from zoo.spec import DataSpec

class NoSample(GenerativeModule):
    def __init__(self, spec, width: int = 3):
        super().__init__(spec)
        self.weight = torch.nn.Parameter(torch.zeros(width))

    def objective(self, batch):
        return self.weight.square().sum(), {}

class Whole(NoSample):
    def sample(self, n):
        return torch.zeros(n, *self.spec.shape, dtype=torch.uint8)

class NoLoad(DataModule):
    spec = DataSpec("mine", (2,))
"""


@pytest.mark.parametrize(("base", "arguments", "needed"), BASES, ids=lambda value: getattr(value, "__name__", ""))
def test_a_class_that_lacks_a_method_can_not_be_made(base, arguments, needed):
    """For each of them alone."""
    assert base.__abstractmethods__ == needed
    whole = {name: lambda self, *arguments: None for name in needed}
    for missing in needed:
        lacking = type("Lacking", (base,), {name: method for name, method in whole.items() if name != missing})
        with pytest.raises(TypeError, match=f"abstract class Lacking .*{missing}"):
            made(lacking, *arguments)
    made(type("Complete", (base,), whole), *arguments)


def made(cls: type, *arguments: object) -> object:
    if issubclass(cls, Autoregressive):  # the number of parameters is given by its name
        return cls(*arguments[:2], outputs=arguments[2])
    return cls(*arguments)


def test_a_likelihood_of_ones_own_needs_what_it_is_asked_for():
    class Half(LIKELIHOODS["bernoulli"]):
        sample = Likelihood.sample

    with pytest.raises(zoo.errors.ZooError, match=r"Half is abstract: it must define sample"):
        VAE(SPEC, network="mlp", likelihood=Half)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    (tmp_path / "my_file.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("my_file", None)


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--model my_file.NoSample", "my_file.NoSample is abstract: it must define sample."),
        ("--model my_file.NoSample --help", "my_file.NoSample is abstract: it must define sample."),
        ("--model zoo.models.GenerativeModule", "GenerativeModule is abstract: it must define objective, sample."),
        ("--model vae --data my_file.NoLoad", "my_file.NoLoad is abstract: it must define load."),
    ],
)
def test_the_command_line_says_what_is_missing(cli, tmp_path, arguments, message):
    status, _, err = cli("fit", *arguments.split())
    assert status == 2
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("mine")
def test_a_class_over_an_abstract_one_is_trained_and_loaded(cli):
    """By the command line, by its own class, and by zoo.load; not by the abstract one, which can't be made."""
    status, out, err = cli("fit", "--model", "my_file.Whole", "--help")
    assert "--model.width" in out, err
    status, out, err = cli("fit", "--model", "my_file.Whole", "--model.width", 5, "--trainer.max_steps", 2)
    assert status == 0, err
    path = f"{out.splitlines()[-1].removeprefix('run: ')}/checkpoints/last.ckpt"
    cls = type(zoo.load(path))
    assert cls.__name__ == "Whole"
    assert cls.load_from_checkpoint(path, weights_only=True).weight.shape == (5,)
    with pytest.raises(TypeError, match="abstract"):
        GenerativeModule.load_from_checkpoint(path, weights_only=True)


def test_what_is_abstract_is_a_module_like_any_other():
    class Fixed(Prior):
        def forward(self) -> Distribution:
            return self.normal()

        def sample(self, n, temperature=1.0):
            return self.normal(temperature).sample((n,))

    prior = nn.Sequential(Fixed(3)).double()[0]
    assert prior.zero.dtype == torch.float64
    assert prior.sample(2).shape == (2, 3)
