"""One file per data set; all give the same Batch. Classes are imported when they are first asked for."""

import importlib
from typing import Any

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
    "Toy": "toy",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"datamodules.{_HOME[name]}"), name)
    raise AttributeError(f"module 'datamodules' has no attribute {name!r}; it has {', '.join(__all__)}")
