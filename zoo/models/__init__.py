"""One file per method. Classes are imported when they are first asked for: ``from zoo.models import GAN``."""

from typing import TYPE_CHECKING, Any

from zoo import registry

if TYPE_CHECKING:
    from zoo.models.af_prior_vae import AFPriorVAE
    from zoo.models.annealed_vae import AnnealedVAE
    from zoo.models.base import GenerativeModule
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
    "GenerativeModule",
    "Memorizer",
    "NoiseMixture",
    "PixelCNN",
]

_HOME = {
    "AFPriorVAE": "zoo.models.af_prior_vae",
    "AnnealedVAE": "zoo.models.annealed_vae",
    "BetaTCVAE": "zoo.models.beta_tcvae",
    "BetaVAE": "zoo.models.beta_vae",
    "DIPVAE": "zoo.models.dip_vae",
    "FactorVAE": "zoo.models.factor_vae",
    "FlowPlusPlus": "zoo.models.flowpp",
    "FlowPosteriorVAE": "zoo.models.flow_posterior_vae",
    "GAN": "zoo.models.gan",
    "GenerativeModule": "zoo.models.base",
    "MADE": "zoo.models.made",
    "Memorizer": "zoo.models.memorizer",
    "NoiseMixture": "zoo.models.noise_mixture",
    "PixelCNN": "zoo.models.pixelcnn",
    "VAE": "zoo.models.vae",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return registry.find_class(f"{_HOME[name]}.{name}")
    raise AttributeError(f"module 'zoo.models' has no attribute {name!r}." + registry.suggestion(name, __all__))


def __dir__() -> list[str]:
    """The same names for tab completion, which imports none of them."""
    return sorted([*globals(), *__all__])
