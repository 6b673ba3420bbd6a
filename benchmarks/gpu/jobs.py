"""The long trainings: what is trained on what, how long, and the published number that it is measured against."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pytorch_lightning import Callback

from benchmarks.gpu.cases import MNIST_FLOW
from callbacks import ExponentialMovingAverage
from datamodules import MNIST, Digits, DSprites
from datamodules.base import DataModule
from datamodules.files import find
from zoo import registry

__all__ = ["Job", "all_jobs", "mnist_found"]


class Job(NamedTuple):
    """A long training.

    Attributes:
        name: Of its row, its checkpoint, and ``--jobs``.
        model: Registered name.
        options: Of the model.
        data: Makes the data.
        batches: Of the whole training.
        measured: The row of throughput that says how fast it is, before it has run itself.
        published: What the paper has.
        precision, clip: Of the Trainer.
        callbacks: Make the Trainer's callbacks.
        samples: Importance samples of each example's log p(x); 0 for none.
    """

    name: str
    model: str
    options: dict[str, Any]
    data: Callable[[], DataModule]
    batches: int
    measured: str
    published: str
    precision: str = "32-true"
    clip: float | None = None
    callbacks: Callable[[], list[Callback]] = list
    samples: int = 0


def mnist_found(root: Path) -> bool:
    """Whether MNIST is there, so that nothing has to be downloaded."""
    return find(root, MNIST.folders, (*MNIST.archives, "train-images-idx3-ubyte", "train-images-idx3-ubyte.gz")) is not None


def all_jobs(root: Path, tiny: bool, seed: int) -> list[Job]:
    """Every job, most wanted first; on digits where MNIST isn't found under ``root``."""
    return [*_vaes(root, tiny, seed), _flow(root, tiny, seed), *_disentangling(tiny, seed)]


def _vaes(root: Path, tiny: bool, seed: int) -> list[Job]:
    """van den Berg et al. 2018, table 1: NLL in nats with 5,000 importance samples, after up to 2,000 epochs."""
    posteriors = {
        "gaussian": ("diagonal", {}, "vae", "82.14"),
        "planar": ("planar", {}, "flow_posterior_vae planar", "81.91"),
        "iaf": ("iaf", {}, "flow_posterior_vae iaf", "80.79"),
        "sylvester": ("sylvester_orthogonal", {"directions": 16}, "flow_posterior_vae sylvester", "80.22"),
    }
    sizes = {"network": "mlp", "hidden": 16, "latent_dim": 4} if tiny else {"network": "gated_conv", "latent_dim": 64}
    jobs = []
    for name, (posterior, flow, measured, published) in posteriors.items():
        small = {"steps": 1} if tiny and posterior != "diagonal" else {}
        options = {**sizes, "posterior": posterior, "kl": {"warmup": 5_000}}
        if flow or small:
            options["posterior_options"] = ({} if tiny else flow) | small
        jobs.append(
            Job(
                f"vae-{name}",
                "vae" if posterior == "diagonal" else "flow_posterior_vae",
                options,
                _digits(root, tiny, seed, "dynamic", 100),
                100_000,
                measured,
                f"NLL {published} nats on MNIST",
                samples=10 if tiny else 5_000,
            )
        )
    return jobs


def _flow(root: Path, tiny: bool, seed: int) -> Job:
    small = {"couplings": [1, 1, 0], "filters": 8, "blocks": 1, "components": 2, "dequantizer_couplings": 1}
    return Job(
        "flowpp-mnist",
        "flowpp",
        {**(small if tiny else MNIST_FLOW), "lr": 1e-3, "warmup": 500},
        _digits(root, tiny, seed, None, 64),
        200_000,
        "flowpp mnist",
        "1.05 (Glow) and 0.97 (Residual Flow) bits/dim on MNIST",
        precision="bf16-mixed",
        clip=1.0,
        callbacks=lambda: [ExponentialMovingAverage("density", 0.999)],
        samples=2 if tiny else 16,
    )


def _disentangling(tiny: bool, seed: int) -> list[Job]:
    """Locatello et al. 2019, arXiv:1811.12359: 300,000 batches of dSprites, by the presets."""
    names = ("beta_tcvae", "beta_vae", "annealed_vae", "dip_vae", "factor_vae")
    return [_disentangler(name, tiny, seed) for name in names]


def _disentangler(name: str, tiny: bool, seed: int) -> Job:
    preset = yaml.safe_load(registry.preset(name).read_text())
    options, batch = preset["model"]["init_args"], preset["data"]["init_args"]["batch_size"]
    if name == "factor_vae":
        options["discriminator_width"] = 8 if tiny else 500  # 1,000 in the paper: its checkpoint would be 68 MB
    if tiny:
        options |= {"network": "mlp", "hidden": 16}
        data = {"size": 2000, "resolution": 16, "factors": {"orientation": [0]}}
    else:
        data = {}
    return Job(
        f"dsprites-{name}",
        name,
        options,
        lambda: DSprites(batch_size=batch, seed=seed, **data),
        300_000,
        name,
        "",
    )


def _digits(root: Path, tiny: bool, seed: int, binarize: str | None, batch: int) -> Callable[[], DataModule]:
    if tiny or not mnist_found(root):
        return lambda: Digits(batch_size=batch, seed=seed)
    return lambda: MNIST(str(root), binarize, batch, 1000, seed)
