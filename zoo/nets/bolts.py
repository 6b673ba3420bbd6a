"""The ResNet-18 autoencoder of lightning-bolts as encoder and decoder of images of any size."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from math import ceil
from types import ModuleType

from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.nets.batch_norm import synchronize_batch_norm

__all__ = ["BoltsDecoder", "BoltsEncoder"]

_COMPONENTS = "pl_bolts.models.autoencoders.components"


@contextmanager
def _shells() -> Iterator[None]:
    """The packages around the components as empty shells: their own code imports torchvision and adds names to NumPy."""
    packages = ("pl_bolts", "pl_bolts.utils", "pl_bolts.models", "pl_bolts.models.autoencoders")
    try:
        for package in packages:
            if (spec := find_spec(package)) is None:
                raise ZooError(f"network bolts_resnet18 needs lightning-bolts, which has no {package} here: make bolts")
            sys.modules[package] = module_from_spec(spec)  # has a __path__; its code is not run
        yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == "pl_bolts"]:
            del sys.modules[name]  # a later ``import pl_bolts`` is the real one


@cache
def _components() -> ModuleType:
    """``pl_bolts.models.autoencoders.components`` and nothing else of bolts, unless the user has imported all of it."""
    if "pl_bolts" in sys.modules:
        return import_module(_COMPONENTS)
    if find_spec("pl_bolts") is None:
        raise ZooError("network bolts_resnet18 needs lightning-bolts: make bolts")
    with _shells(), warnings.catch_warnings():  # it also changes what is warned of
        return import_module(_COMPONENTS)


def _built(name: str, *args: int) -> nn.Module:
    build = getattr(_components(), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bolts calls each of its parts "under review"
        return synchronize_batch_norm(build(*args, first_conv=False, maxpool1=False))


class BoltsEncoder(nn.Module):
    """Images (B, C, H, W) to features (B, features): bolts' ``resnet18_encoder``, then a linear layer and ReLU.

    Bolts' first convolution takes 3 channels; here one of the same size, 3x3 with stride 1, takes C.

    Arguments:
        shape: (C, H, W).
        features: Size of the output.

    Raises:
        ZooError: where lightning-bolts is not installed.

    References:
        | lightning-bolts 0.7.0, ``pl_bolts.models.autoencoders.components``
        | https://github.com/Lightning-Universe/lightning-bolts
    """

    def __init__(self, shape: tuple[int, int, int], features: int = 256):
        super().__init__()
        resnet = _built("resnet18_encoder")
        resnet.conv1 = nn.Conv2d(shape[0], 64, 3, padding=1, bias=False)
        self.layers = nn.Sequential(resnet, nn.Linear(512, features), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, features)."""
        return self.layers(x)


class BoltsDecoder(nn.Module):
    """Latents (B, latent_dim) to (B, channels, H, W): bolts' ``resnet18_decoder``.

    Bolts' makes squares of 3 channels. Here its first interpolation goes to (H/8, W/8), rounded up, what exceeds H x W in
    the end is cut off, and the last convolution, 3x3 with a bias, gives the channels that are asked for.

    Arguments:
        latent_dim: Size of the input.
        shape: (channels, H, W) of the output.

    Raises:
        ZooError: where lightning-bolts is not installed.

    References:
        | lightning-bolts 0.7.0, ``pl_bolts.models.autoencoders.components``
        | https://github.com/Lightning-Universe/lightning-bolts
    """

    def __init__(self, latent_dim: int, shape: tuple[int, int, int]):
        super().__init__()
        self.shape = shape
        channels, height, breadth = shape
        self.resnet = _built("resnet18_decoder", latent_dim, 8)
        self.resnet.upscale1 = nn.Upsample((ceil(height / 8), ceil(breadth / 8)))
        self.resnet.conv1 = nn.Conv2d(64, channels, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        """(B, latent_dim) -> (B, channels, H, W)."""
        return self.resnet(z)[..., : self.shape[1], : self.shape[2]]
