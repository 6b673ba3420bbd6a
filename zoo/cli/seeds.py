"""Several seeds of one command: trained as one model where that is faster, else one after another."""

import sys
from collections.abc import Sequence
from typing import Any, Protocol

from pytorch_lightning import LightningDataModule

from callbacks.non_finite_guard import DivergedError
from zoo.errors import ZooError
from zoo.experiments.stacked_training import fit_stacked, pays, why_not_stacked
from zoo.resuming import random_state
from zoo.runs.loggers import wandb_mode

__all__ = ["Parsed", "fit_seeds"]


class Parsed(Protocol):
    """A command that was parsed, and builds and trains what it asks for: :class:`zoo.cli.fit.ZooCLI`."""

    config: Any
    config_init: Any
    model: Any
    datamodule: LightningDataModule

    def with_seed(self, seed: int) -> None:
        """Build all of it as a run with that seed does."""

    def train(self, name: str | None) -> None:
        """Train what was built."""

    def config_text(self) -> str:
        """The text of ``config.yaml``."""


def fit_seeds(cli: Parsed, seeds: Sequence[int], stack: str) -> None:
    """Train what a command asks for with each of several seeds; a run that diverges stops none of the others.

    Arguments:
        cli: The command, parsed.
        seeds: The seeds.
        stack: ``auto``: as one model where that can be and is faster; ``on``: as one model; ``off``: one after another.

    Raises:
        ZooError: where several processes are asked for, where ``on`` can't be, and at the end where a run has diverged.
    """
    if cli.config.trainer.devices not in (1, "auto") or (cli.config.trainer.num_nodes or 1) > 1:
        raise ZooError("--seeds trains on one device: leave --gpus out, or start a command for each of the GPUs.")
    if stack == "off":
        _one_after_another(cli, seeds)
        return
    models, data, options, configs, randoms = [], [], [], [], []
    for seed in seeds:
        cli.with_seed(seed)
        models.append(cli.model)
        data.append(cli.datamodule)
        options.append({**cli.config_init["trainer"]})
        configs.append(cli.config_text())
        randoms.append(random_state(cli.model))
    callbacks = [each.pop("callbacks") or [] for each in options]
    reason = _of_the_run(cli) or why_not_stacked(models, data, callbacks, options[0])
    if reason is not None and stack == "on":
        raise ZooError(f"{reason}.\nWithout --stack the seeds are trained one after another.")
    if reason is None and stack == "auto" and not pays(models, options[0]):
        reason = "as one model these networks would take longer on this device (--stack on does it all the same)"
    if reason is not None:
        print(f"{len(seeds)} seeds one after another: {reason}", file=sys.stderr)
        del models, data, callbacks
        _one_after_another(cli, seeds)
        return
    runs = fit_stacked(
        models,
        data,
        seeds,
        root=options[0].pop("default_root_dir") or "runs",
        names=[_name(cli, seed) for seed in seeds],
        checkpoint_every=cli.config.checkpoint_every,
        callbacks=callbacks,
        configs=configs,
        randoms=randoms,
        **options[0],
    )
    _tell([str(run.folder) for run in runs if run.diverged], len(seeds))


def _of_the_run(cli: Parsed) -> str | None:
    """Why the options of a run ask for one training at a time."""
    if cli.config.compile:
        return "models that are trained as one are not compiled"
    if cli.config.wandb in ("offline", "online") or (cli.config.wandb == "auto" and wandb_mode("auto") == "online"):
        return "W&B keeps one run at a time (--wandb off trains them as one model)"
    return None


def _one_after_another(cli: Parsed, seeds: Sequence[int]) -> None:
    diverged = []
    for seed in seeds:
        cli.with_seed(seed)
        try:
            cli.train(_name(cli, seed))
        except DivergedError as error:
            print(f"seed {seed}: {error}", file=sys.stderr)
            diverged.append(f"seed {seed}")
    _tell(diverged, len(seeds))


def _name(cli: Parsed, seed: int) -> Any:
    return f"{cli.config.name}-s{seed}" if cli.config.name else None


def _tell(diverged: Sequence[str], of: int) -> None:
    if diverged:
        raise ZooError(f"{len(diverged)} of {of} runs have diverged: {', '.join(diverged)}.\nThe others have their results.")
