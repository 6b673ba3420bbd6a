"""The data that a checkpoint was trained on, for the commands that need examples."""

import contextlib
from collections.abc import Sequence
from typing import Any

from pytorch_lightning import LightningDataModule

from zoo import registry, trained
from zoo.cli.arguments import Arguments
from zoo.cli.command import data_options
from zoo.cli.parser import Parser, option_names, unknown_option, unwrapped
from zoo.errors import ZooError
from zoo.files import read_yaml
from zoo.registry import import_class
from zoo.runs.checkpoints import named_in_config
from zoo.runs.folder import newest_config, run_of

__all__ = ["run_data"]


def run_data(
    ckpt: str, name: str | None, options: list[str], trust: Sequence[str], command: Arguments
) -> LightningDataModule:
    """The data of the run that a checkpoint lies in, by its configuration, or of a trained model, by its card; or the named
    ones. With the options typed.

    Arguments:
        ckpt: The checkpoint.
        name: A registered name or a dotted path; None for the run's own data.
        options: What was typed of ``--data.OPTION``.
        trust: Modules of one's own that classes may come from, beside those that the run's configuration names.
        command: The command, whose other options are suggested where one is none of the data's.

    Raises:
        ZooError: where no configuration names data, and for an option that they don't have.
    """
    run, card = run_of(ckpt), trained.find(ckpt)
    stored: dict[str, Any] = {} if card is None else card.data
    if run is not None:
        section = read_yaml(newest_config(run)).get("data")
        if isinstance(section, dict) and isinstance(section.get("class_path"), str):
            stored = section
    if name is not None:
        registry.require_own_options(name, data_options(options))
        path, fixed = registry.DATA[name][::2] if name in registry.DATA else (name, {})
        kept = stored.get("init_args", {}) if stored.get("class_path") == path else {}
        stored = {"class_path": path, "init_args": {**kept, **fixed}}
    if not stored:
        raise ZooError("no config.yaml beside the checkpoint says what it was trained on: name it with --data NAME.")
    with contextlib.nullcontext() if name is not None else registry.trusting({*trust, *named_in_config(ckpt)}):
        cls = import_class(stored["class_path"], LightningDataModule)
    known = [f"--data.{option}" for option in option_names(cls)]
    for option in [typed.partition("=")[0] for typed in options if typed.startswith("--")]:
        if option not in known:
            raise unknown_option(option, "", [*command.names, *known])
    parser = Parser()
    parser.add_class_arguments(cls, "data", fail_untyped=False)
    parser.set_defaults({f"data.{key}": value for key, value in stored.get("init_args", {}).items()})
    with unwrapped():
        return parser.instantiate_classes(parser.parse(options)).data
