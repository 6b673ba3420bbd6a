"""One file per data set; all give the same Batch. Classes are imported when they are first asked for."""

import importlib

_HOME = {
    "CIFAR10": "cifar10",
    "DSprites": "dsprites",
    "DataModule": "base",
    "Digits": "digits",
    "FashionMNIST": "mnist",
    "ImageFolder": "folder",
    "MNIST": "mnist",
    "Toy": "toy",
}

__all__ = list(_HOME)


def __getattr__(name: str):
    if name in _HOME:
        return getattr(importlib.import_module(f"datamodules.{_HOME[name]}"), name)
    raise AttributeError(f"module 'datamodules' has no attribute {name!r}; it has {', '.join(__all__)}")
