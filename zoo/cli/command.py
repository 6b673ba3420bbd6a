"""A training as it was typed, understood before anything heavy is imported, and its expansion for the parser."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from zoo import registry
from zoo.cli.options import FIT
from zoo.errors import ZooError

__all__ = ["Command", "data_options", "expand", "read_seeds"]

_MOST_SEEDS = 1000


class Command:
    """The short arguments of a training, taken out of what was typed, and what is left.

    Arguments:
        argv: What was typed.

    Attributes:
        model, data: A registered name, a dotted class path, or None.
        gpus: The number of GPUs, -1 for all, a list of them, or None.
        configs: The files given with ``--config``, in the order typed.
        settings: What ``config.yaml`` stores beside the options of classes: checkpoint, W&B mode, seed, compilation.
        seeds: Those of several runs, or None for one run.
        stack: ``auto``, ``on`` or ``off``: whether these are trained as one model; None where it was not typed.
        resume: The checkpoint to go on with, empty for the newest one, or None; once it is found it is among the settings.
        run_config: The configuration of the run that goes on, once it is found; it stands in a preset's place.
        rest: Everything else, in the order typed, as ``--key=value`` or ``--key value``.

    Raises:
        ZooError: for an argument that is none, with the nearest name, and for a value that is missing or not accepted.
    """

    def __init__(self, argv: list[str]):
        values, self.rest = FIT.read(argv)
        self.model: str | None = values.get("model")
        self.data: str | None = values.get("data")
        self.gpus: int | list[int] | None = values.get("gpus")
        self.configs: list[str] = values.get("config", [])
        stored = {"seed": "seed_everything"} | {argument.name: argument.name for argument in FIT.table if argument.setting}
        self.settings: dict[str, Any] = {key: values[name] for name, key in stored.items() if name in values}
        self.resume: str | None = values.get("resume")
        self.seeds: list[int] | None = read_seeds(values["seeds"]) if "seeds" in values else None
        self.stack: str | None = values.get("stack")
        self.run_config: Path | None = None
        if self.data is not None:
            registry.require_own_options(self.data, data_options(self.rest))
        if self.resume is not None and self.ckpt_path is not None:
            raise ZooError("--resume and --ckpt_path: one of them is enough.")
        if self.seeds is not None:
            if "seed_everything" in self.settings:
                raise ZooError("--seed and --seeds: one of them is enough.")
            if self.resume is not None or self.ckpt_path is not None:
                raise ZooError("--seeds begins several runs; each goes on by itself, with --ckpt_path and without --seeds.")
            self.settings["seed_everything"] = self.seeds[0]
        elif self.stack is not None:
            raise ZooError("--stack is of several seeds: type --seeds 0..9 too, or leave it out.")

    @property
    def root(self) -> str:
        """Where run folders are."""
        words = [part for word in self.rest for part in word.split("=", 1)]
        named = [value for key, value in pairwise(words) if key == "--trainer.default_root_dir"]
        return named[-1] if named else "runs"

    @property
    def ckpt_path(self) -> str | None:
        """The checkpoint to go on with, or None."""
        return self.settings.get("ckpt_path")

    @property
    def asks_help(self) -> bool:
        """Whether ``--help`` was typed."""
        return not {"-h", "--help"}.isdisjoint(self.rest)


def read_seeds(text: str) -> list[int]:
    """What ``--seeds`` says: numbers and ranges; ZooError for anything else.

    Example:
        >>> read_seeds("0..3,7")
        [0, 1, 2, 3, 7]
    """
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,10})(?:\.\.(\d{1,10}))?\s*", part, re.ASCII)
        if found is None or int(found[2] or found[1]) - int(found[1]) not in range(_MOST_SEEDS):
            raise ZooError(f"--seeds {text}: 0..9 or 0,3,5 is accepted, at most {_MOST_SEEDS} of them")
        seeds += range(int(found[1]), int(found[2] or found[1]) + 1)
    if len(set(seeds)) < len(seeds) or len(seeds) > _MOST_SEEDS:
        raise ZooError(f"--seeds {text}: each once, and at most {_MOST_SEEDS} of them")
    return seeds


def data_options(typed: list[str]) -> dict[str, Any]:
    """The values of ``--data.OPTION``, as YAML reads them, by their names.

    Example:
        >>> data_options(["--data.binarize", "null", "--data.root=here", "--model.lr", "1"])
        {'binarize': None, 'root': 'here'}
    """
    words = [part for word in typed for part in (word.split("=", 1) if word.startswith("--") else [word])]
    named = [(key, value) for key, value in pairwise(words) if key.startswith("--data.")]
    return {key.removeprefix("--data.").removeprefix("init_args."): _read(value) for key, value in named}


def _read(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:  # the parser says what is wrong with it
        return text


def expand(command: Command, ancestor: Callable[[str], str] = lambda path: "default") -> list[str]:
    """The arguments that LightningCLI understands: presets, then files, then short arguments, then options.

    It reads from left to right and the last one wins, so what was typed wins over files and files over presets, wherever
    they stood. ``ancestor`` tells for a class of the user's own which registered model's preset suits it.

    Example:
        >>> [Path(a).name for a in expand(Command(["--model.lr", "3e-4", "--model", "gan", "--gpus", "2"]))]
        ['gan.yaml', '--model=zoo.models.GAN', '--trainer.accelerator=gpu', '--trainer.devices=2', '--model.lr', '3e-4']
    """
    files: list[str | Path] = [command.run_config] if command.run_config else []
    short: list[str] = []
    if command.model is not None:
        known = command.model in registry.MODELS
        name = command.model if known else ancestor(command.model)
        files += registry.presets(name, command.data)
        short.append(f"--model={registry.MODELS[name].path if known else command.model}")
    if command.data is not None:
        path, options = registry.DATA[command.data][::2] if command.data in registry.DATA else (command.data, {})
        short.append(f"--data={path}")
        short += [f"--data.{name}={'null' if value is None else value}" for name, value in options.items()]
    if command.gpus is not None:
        devices = str(command.gpus or 1).replace(" ", "")
        short += [f"--trainer.accelerator={'gpu' if command.gpus else 'cpu'}", f"--trainer.devices={devices}"]
    settings = [
        f"--{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in command.settings.items()
    ]
    return [*(f"--config={file}" for file in (*files, *command.configs)), *short, *command.rest, *settings]
