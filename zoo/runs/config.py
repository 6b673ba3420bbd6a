"""``config.yaml`` of a run that was started from Python: what can be known of the objects that it was given."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pytorch_lightning import LightningDataModule

from zoo import registry
from zoo.models.base import GenerativeModule

__all__ = ["describe"]

_HEADER = """\
# Written by zoo.runs.fit for a run that was started from Python. What plain values can't say is not in it: callbacks,
# loggers and other objects that the Trainer was given.
"""


def describe(
    model: GenerativeModule, data: LightningDataModule, trainer_options: Mapping[str, Any], seed: int | None = None
) -> str:
    """The text of a ``config.yaml``: the class and the options of model and data, and the Trainer's plain options.

    A class that does not keep its options (:attr:`datamodules.DataModule.init_args`), or keeps some that YAML can't hold, is
    left out. The seed is that of the process if not given.

    Example:
        >>> from datamodules import Toy
        >>> from zoo.models import GAN
        >>> data = Toy("grid", batch_size=32)
        >>> loaded = yaml.safe_load(describe(GAN(data.spec, lr=0.01), data, {"max_steps": 5, "callbacks": [object()]}))
        >>> loaded["model"]["class_path"], loaded["model"]["init_args"]["lr"], loaded["trainer"]
        ('zoo.models.GAN', 0.01, {'max_steps': 5})
        >>> loaded["data"]["class_path"], loaded["data"]["init_args"]["density"]
        ('datamodules.Toy', 'grid')
    """
    options = {name: value for name, value in model.hparams.items() if name != "spec"}
    sections: dict[str, Any] = {
        "seed_everything": int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed,
        "model": _described(type(model), options, registry.MODELS),
        "data": _described(type(data), getattr(data, "init_args", None), registry.DATA),
        "trainer": {name: value for name, value in trainer_options.items() if _is_plain(value)},
    }
    known = {name: section for name, section in sections.items() if section is not None}
    return _HEADER + yaml.safe_dump(known, sort_keys=False)


def _described(cls: type, options: Mapping[str, Any] | None, entries: Mapping[str, registry.Entry]) -> dict | None:
    plain = {name: str(value) if isinstance(value, Path) else value for name, value in (options or {}).items()}
    if options is None or not _is_plain(plain):
        return None
    name = registry.name_of(cls, entries)
    path = entries[name].path if name in entries else f"{cls.__module__}.{cls.__qualname__}"
    return {"class_path": path, "init_args": plain}


def _is_plain(value: Any) -> bool:
    """Whether YAML can hold a value."""
    try:
        yaml.safe_dump(value)
    except yaml.representer.RepresenterError:
        return False
    return True
