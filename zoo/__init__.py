"""A zoo of deep generative models on PyTorch Lightning: any model, any data, one command, one table."""

import importlib
from typing import Any

from zoo import registry

__version__ = "0.1.0"

_PACKAGES = ("evaluation", "metrics", "models", "plots", "runs")
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
