"""The models that are run: every registered one at the sizes of its paper, and small ones for what needs no size."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo import registry
from zoo.spec import DataSpec

__all__ = ["CIFAR10", "MNIST_FLOW", "Case", "Pixels", "build", "paper_cases", "pixels", "small_cases"]

BINARY = DataSpec("pixels-28", (1, 28, 28), levels=2)
GREY = DataSpec("pixels-28-grey", (1, 28, 28), levels=256)
SPRITES = DataSpec("pixels-64", (1, 64, 64), levels=2)
CIFAR10 = DataSpec("pixels-32-color", (3, 32, 32), levels=256)
FACES = DataSpec("pixels-64-color", (3, 64, 64), levels=256)
SMALL = DataSpec("pixels-16", (1, 16, 16), levels=17)


class Case(NamedTuple):
    """A model, its options, and batches of random pixels of the data's shape and levels.

    Attributes:
        model: Its registered name.
        spec: Of the data.
        batch: Examples of a batch.
        options: Of the model.
        label: Tells cases of one model apart.
    """

    model: str
    spec: DataSpec
    batch: int
    options: dict[str, Any]
    label: str = ""

    @property
    def name(self) -> str:
        """As rows have it."""
        return f"{self.model} {self.label}".strip()

    @property
    def configuration(self) -> str:
        """Data, batch and options in one line."""
        shape = "x".join(map(str, self.spec.shape))
        options = " ".join(f"{key}={value}".replace(" ", "") for key, value in self.options.items())
        return f"{shape} levels={self.spec.levels} batch={self.batch} {options}".strip()


# van den Berg et al. 2018, arXiv:1803.05649: gated convolutions, 64 latents, batches of 100
_GATED = {"network": "gated_conv", "latent_dim": 64}
# Locatello et al. 2019, arXiv:1811.12359: batches of 64; of FactorVAE both halves have 64
_STUDY = {"network": "locatello", "latent_dim": 10, "posterior_options": {"scale": "exp"}}
_SYLVESTER = {"posterior": "sylvester_orthogonal", "posterior_options": {"directions": 32}}
MNIST_FLOW = {"filters": 32, "blocks": 2, "components": 8}  # as small as its checkpoint has to be
_PAPERS = (
    Case("vae", BINARY, 100, _GATED),
    Case("af_prior_vae", BINARY, 100, _GATED),
    Case("flow_posterior_vae", BINARY, 100, _GATED, "planar"),
    Case("flow_posterior_vae", BINARY, 100, _GATED | {"posterior": "iaf"}, "iaf"),
    Case("flow_posterior_vae", BINARY, 100, _GATED | _SYLVESTER, "sylvester"),
    *(Case(name, SPRITES, 64, _STUDY) for name in ("beta_vae", "annealed_vae", "beta_tcvae", "dip_vae")),
    Case("factor_vae", SPRITES, 128, _STUDY),
    # Radford et al. 2016, arXiv:1511.06434: 64x64 pixels, 100 latents, batches of 128
    Case("gan", FACES, 128, {"latent_dim": 100}),
    Case("flowpp", GREY, 64, MNIST_FLOW, "mnist"),
    # Ho et al. 2019, arXiv:1902.00275: the published flow for CIFAR-10
    Case("flowpp", CIFAR10, 64, {"filters": 96, "blocks": 10, "components": 32}),
    Case("flowpp", CIFAR10, 64, {"filters": 96, "blocks": 10, "components": 32, "checkpoint": True}, "checkpoint"),
)
# What makes a model of many layers quick, and its noise the same on every device; no option but sizes and dropout.
_QUICK = {
    "flowpp": {
        **{"couplings": (2, 1, 1), "filters": 16, "blocks": 1, "components": 4},
        **{"dequantizer_couplings": 2, "dropout": 0.0},
    },
    "factor_vae": {"discriminator_width": 64},
    "pixelcnn": {"layers": 2, "channels": 16, "first_kernel": 3},
}
# What registered models don't have by default, each a VAE's, a flow's or a GAN's option with mathematics of its own.
_VARIANTS = (
    *(("vae", {"posterior": name}) for name in ("full", "iaf", "radial", "sylvester_orthogonal", "sylvester_householder")),
    *(("vae", {"prior": name}) for name in ("mixture", "vamp", "spline")),
    *(("vae", {"likelihood": name}) for name in ("gaussian", "discretized_logistic")),
    *(("vae", {"network": name}) for name in ("mlp", "gated_conv", "locatello")),
    *(("flowpp", {"coupling": name}) for name in ("affine", "spline")),
    ("gan", {"loss": "wasserstein", "spectral_norm": True}),
    ("pixelcnn", {"likelihood": "discretized_logistic_mixture"}),
    ("dip_vae", {"variant": "II"}),
)


def paper_cases(tiny: bool) -> list[Case]:
    """Every registered model at its paper's sizes, by default options where none are given; small ones if ``tiny``."""
    if tiny:
        return [case._replace(batch=4) for case in small_cases() if not case.label]
    known = {case.model for case in _PAPERS}
    return [*_PAPERS, *(Case(name, BINARY, 100, {}) for name in registry.MODELS if name not in known)]


def small_cases() -> list[Case]:
    """Every registered model on 16x16 pixels, then variants of some."""
    plain = [Case(name, SMALL, 16, _QUICK.get(name, {})) for name in registry.MODELS]
    return plain + [
        Case(name, SMALL, 16, _QUICK.get(name, {}) | options, "-".join(map(str, next(iter(options.items())))))
        for name, options in _VARIANTS
    ]


def build(case: Case, seed: int):
    """The case's model on the CPU, with the weights of that seed; what starts from data starts from random pixels."""
    torch.manual_seed(seed)
    model = registry.find_class(registry.MODELS[case.model].path)(case.spec, **case.options)
    if hasattr(model, "initialize"):
        model.initialize(pixels(case.spec, min(case.batch, 16)))
    return model


def pixels(spec: DataSpec, n: int) -> Tensor:
    """n random examples of the data's shape and levels, always the same."""
    return torch.randint(spec.levels, (n, *spec.shape), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Pixels(DataModule):
    """As many random examples as some batches take, in all three splits.

    Arguments:
        case: Whose data and batch size.
        batches: How many.
        on_device: see :class:`DataModule`.
    """

    def __init__(self, case: Case, batches: int, on_device: bool = True):
        super().__init__(case.batch, seed=0, on_device=on_device)
        self.case, self.batches = case, batches

    @property
    def spec(self) -> DataSpec:
        """The case's."""
        return self.case.spec

    def load(self) -> dict[str, Arrays]:
        """The same pixels in each split."""
        return dict.fromkeys(("train", "val", "test"), Arrays(pixels(self.spec, self.batches * self.batch_size)))
