"""A zoo of deep generative models on PyTorch Lightning: any model, any data, one command, one table."""

import importlib
from typing import TYPE_CHECKING, Any

from zoo import registry

if TYPE_CHECKING:
    from zoo import evaluation, metrics, models, plots, runs, trained
    from zoo.models.af_prior_vae import AFPriorVAE
    from zoo.models.annealed_vae import AnnealedVAE
    from zoo.models.beta_tcvae import BetaTCVAE
    from zoo.models.beta_vae import BetaVAE
    from zoo.models.dip_vae import DIPVAE
    from zoo.models.factor_vae import FactorVAE
    from zoo.models.flow_posterior_vae import FlowPosteriorVAE
    from zoo.models.flowpp import FlowPlusPlus
    from zoo.models.gan import GAN
    from zoo.models.made import MADE
    from zoo.models.memorizer import Memorizer
    from zoo.models.noise_mixture import NoiseMixture
    from zoo.models.pixelcnn import PixelCNN
    from zoo.models.vae import VAE
    from zoo.runs.checkpoints import load

__all__ = [
    "DIPVAE",
    "GAN",
    "MADE",
    "VAE",
    "AFPriorVAE",
    "AnnealedVAE",
    "BetaTCVAE",
    "BetaVAE",
    "FactorVAE",
    "FlowPlusPlus",
    "FlowPosteriorVAE",
    "Memorizer",
    "NoiseMixture",
    "PixelCNN",
    "evaluation",
    "load",
    "metrics",
    "models",
    "plots",
    "runs",
    "trained",
]

__version__ = "0.1.0"

# What ``help(zoo)`` begins with; it is made of names, and imports none of what they stand for.
__doc__ = "\n".join(
    [
        __doc__,
        "",
        "Models, by the class here and the name that commands take:",
        "",
        *(f"    zoo.{entry.path.rpartition('.')[2]} ({name}): {entry.summary}" for name, entry in registry.MODELS.items()),
        "",
        "Data sets:",
        "",
        *(f"    {entry.path} ({name}): {entry.summary}" for name, entry in registry.DATA.items()),
    ]
)

_PACKAGES = ("evaluation", "metrics", "models", "plots", "runs", "trained")
_CLASSES = {entry.path.rpartition(".")[2]: entry.path for entry in registry.MODELS.values()}


def __getattr__(name: str) -> Any:
    """Import a model class, ``load`` or a package when it is first asked for, so that ``import zoo`` costs nothing."""
    if name == "load":
        from zoo.runs.checkpoints import load

        return load
    if name in _PACKAGES:
        return importlib.import_module(f"zoo.{name}")
    if name in _CLASSES:
        return registry.find_class(_CLASSES[name])
    raise AttributeError(f"module 'zoo' has no attribute {name!r}." + registry.suggestion(name, ["load", *_CLASSES]))


def __dir__() -> list[str]:
    """What can be asked for, which tab completion lists without importing it."""
    return sorted({*globals(), "load", *_PACKAGES, *_CLASSES})
