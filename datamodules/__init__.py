"""One file per data set; all give the same Batch. Classes are imported when they are first asked for."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.base import DataModule
    from datamodules.cars3d import Cars3D
    from datamodules.cifar10 import CIFAR10
    from datamodules.digits import Digits
    from datamodules.dsprites import DSprites
    from datamodules.dsprites_variants import BackgroundDSprites, ColorDSprites, NoisyDSprites, ScreamDSprites
    from datamodules.factor_files import FactorFiles
    from datamodules.factors import FactorGrid
    from datamodules.folder import ImageFolder
    from datamodules.mnist import MNIST, FashionMNIST
    from datamodules.shapes3d import Shapes3D
    from datamodules.smallnorb import SmallNORB
    from datamodules.stacked_mnist import StackedMNIST
    from datamodules.toy import Toy

__all__ = [
    "CIFAR10",
    "MNIST",
    "BackgroundDSprites",
    "Cars3D",
    "ColorDSprites",
    "DSprites",
    "DataModule",
    "Digits",
    "FactorFiles",
    "FactorGrid",
    "FashionMNIST",
    "ImageFolder",
    "NoisyDSprites",
    "ScreamDSprites",
    "Shapes3D",
    "SmallNORB",
    "StackedMNIST",
    "Toy",
]

_HOME = {
    "BackgroundDSprites": "dsprites_variants",
    "CIFAR10": "cifar10",
    "Cars3D": "cars3d",
    "ColorDSprites": "dsprites_variants",
    "DSprites": "dsprites",
    "DataModule": "base",
    "Digits": "digits",
    "FactorFiles": "factor_files",
    "FactorGrid": "factors",
    "FashionMNIST": "mnist",
    "ImageFolder": "folder",
    "MNIST": "mnist",
    "NoisyDSprites": "dsprites_variants",
    "ScreamDSprites": "dsprites_variants",
    "Shapes3D": "shapes3d",
    "SmallNORB": "smallnorb",
    "StackedMNIST": "stacked_mnist",
    "Toy": "toy",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"datamodules.{_HOME[name]}"), name)
    raise AttributeError(f"module 'datamodules' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
