"""Every name of Lightning and its parser that is private or undeclared and that the zoo asks, and its talk left out.

:mod:`zoo.resuming` besides derives from Lightning's loops.
"""

import contextlib
import logging
import subprocess
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from argparse import ArgumentParser

    from pytorch_lightning import LightningDataModule, LightningModule, Trainer

__all__ = [
    "attached_trainer",
    "checkpoint_of",
    "datamodule_of",
    "instantiate_stored",
    "is_fast_dev_run",
    "log_interval",
    "option_strings",
    "overfits",
    "own_hyperparameters",
    "process_rank",
    "quiet_lightning",
    "set_hyperparameters",
    "take_children",
    "writes_row",
]

T = TypeVar("T")


def writes_row(trainer: "Trainer") -> bool:
    """Whether loggers write a row of metrics after this training batch.

    No public name tells it: the count of batches that stepped, by which Lightning decides, is private too.
    """
    return trainer._logger_connector.should_update_logs or is_fast_dev_run(trainer)


def is_fast_dev_run(trainer: "Trainer") -> bool:
    """Whether the Trainer only tries a few batches and writes nothing.

    ``Trainer.fast_dev_run`` is public and documented, but not declared: Lightning sets it from another module.
    """
    return bool(cast(Any, trainer).fast_dev_run)


def log_interval(trainer: "Trainer") -> int:
    """Batches between two rows of metrics, at least 1. Public and not declared, as :func:`is_fast_dev_run`."""
    return cast(Any, trainer).log_every_n_steps or 50


def overfits(trainer: "Trainer") -> bool:
    """Whether the Trainer is to overfit a few batches. Public and not declared, as :func:`is_fast_dev_run`."""
    return cast(Any, trainer).overfit_batches > 0


def datamodule_of(trainer: "Trainer") -> "LightningDataModule | None":
    """The data that the Trainer runs on, None for loaders alone. Public and not declared, as :func:`is_fast_dev_run`."""
    return cast(Any, trainer).datamodule


def process_rank() -> int:
    """The number of this process before a Trainer exists.

    Lightning keeps it as an attribute of a function, ``rank_zero_only.rank``, which is public and can't be declared.
    """
    from pytorch_lightning.utilities import rank_zero_only

    return cast(Any, rank_zero_only).rank


def option_strings(parser: "ArgumentParser") -> list[str]:
    """What a parser takes, as it is typed: ``--trainer.max_steps``, …

    argparse, and jsonargparse which derives from it, give the names of their options to nobody: help and usage alone.
    """
    return list(parser._option_string_actions)


def take_children(trainer: "Trainer") -> "list[subprocess.Popen]":
    """The processes that Lightning has started from this one, which are ours to watch from now on; none under a launcher.

    Lightning looks at them every five seconds, and if one has failed it kills all, this one too, before anybody can say so.
    Its thread and the launcher share a list, which is emptied; the launcher gets another.
    """
    launcher: Any = trainer.strategy.launcher
    children = list(getattr(launcher, "procs", []))
    if children:
        launcher.procs.clear()
        launcher.procs = children
    return children


def attached_trainer(module: "LightningModule") -> "Trainer | None":
    """The module's Trainer, None where it has none.

    Raising RuntimeError is how ``LightningModule.trainer``, which is public, says that there is none.
    """
    try:
        return module.trainer
    except RuntimeError:
        return None


def checkpoint_of(trainer: "Trainer") -> dict[str, Any]:
    """What ``Trainer.save_checkpoint`` would write now; to have it without a file is private."""
    private: Any = trainer
    return private._checkpoint_connector.dump_checkpoint(weights_only=False)


def set_hyperparameters(module: "LightningModule", values: Mapping[str, Any]) -> None:
    """Make these the hyperparameters that checkpoints and loggers store, after ``save_hyperparameters()`` found others.

    Given a dictionary, ``save_hyperparameters`` forgets that they are the constructor's keyword arguments, and a checkpoint
    would not rebuild the model; what loggers are given is a private copy.
    """
    private: Any = module
    private._set_hparams(dict(values))
    private._hparams_initial = dict(module.hparams)


@contextlib.contextmanager
def own_hyperparameters() -> Iterator[None]:
    """Within it, a model that another one makes stores its own arguments.

    While the command line makes a model, ``save_hyperparameters`` takes what was typed for that one, whoever calls it.
    """
    from pytorch_lightning.core.mixins import hparams_mixin

    token = hparams_mixin._given_hyperparameters.set(None)
    try:
        yield
    finally:
        hparams_mixin._given_hyperparameters.reset(token)


def instantiate_stored(cls: type[T], options: Mapping[str, Any]) -> T:
    """An object of the command line from the arguments that it stored: dictionaries become the classes they are of.

    ``pytorch_lightning.cli.instantiate_module`` is what ``load_from_checkpoint`` calls; it is not documented.
    """
    from pytorch_lightning.cli import instantiate_module

    return instantiate_module(cls, dict(options))


def quiet_lightning() -> None:
    """Leave out what Lightning says of itself, and its warnings of things that are right here."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*log_every_n_steps.*",
        ".*LeafSpec.*",
        ".*GPU available but not used.*",
        "Checkpoint directory .*",
        ".*find the monitored key.*",
    ):
        warnings.filterwarnings("ignore", message=message)
