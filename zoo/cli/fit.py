"""LightningCLI for the zoo: arguments become a model, data, and the options of their training."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningDataModule, seed_everything
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI

from zoo import registry
from zoo.cli.command import Command, data_options, expand
from zoo.cli.config_files import require_known_names
from zoo.cli.habits import as_typed_here
from zoo.cli.help import help_of_classes
from zoo.cli.options import FIT
from zoo.cli.parser import Parser, option_names, unknown_option, unwrapped
from zoo.distributed import require_gpus
from zoo.errors import ZooError
from zoo.files import read_yaml
from zoo.lightning import option_strings, process_rank, quiet_lightning
from zoo.models.base import GenerativeModule
from zoo.options import require_seed
from zoo.registry import import_class
from zoo.runs import training
from zoo.runs.checkpoints import newest_checkpoint
from zoo.runs.folder import data_name, newest_config, run_of
from zoo.spec import spec_of

__all__ = ["ZooCLI", "fit"]


def _ancestor(path: str) -> str:
    """The registered model whose preset suits a class of the user's own: the nearest it derives from, or ``default``."""
    cls = import_class(path)
    if not (isinstance(cls, type) and issubclass(cls, GenerativeModule)):
        raise ZooError(f"{path} is not a model of the zoo: derive it from zoo.models.GenerativeModule.")
    names = {registry.find_class(entry.path): name for name, entry in registry.MODELS.items()}
    return next((names[base] for base in cls.__mro__ if base in names), "default")


def _spec_dict(data: LightningDataModule) -> dict:
    return spec_of(data).to_dict()


class ZooCLI(LightningCLI):
    """Parses a :class:`~zoo.cli.command.Command` and builds what it asks for.

    Attributes:
        model, datamodule: What was asked for.
    """

    parser: Parser

    def __init__(self, command: Command):
        self.command = command
        super().__init__(
            model_class=GenerativeModule,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=None,
            parser_class=Parser,
            seed_everything_default=0,
            trainer_defaults={"devices": 1, "enable_model_summary": False},
            run=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The zoo's own options, and the data's spec for the model."""
        for each in FIT.table:
            if each.setting:
                kind = each.type | None if each.default is None else each.type
                parser.add_argument(f"--{each.name}", type=kind, default=each.default, help=each.help)
        parser.add_argument("--help-all", action="help", help="Show every option.")
        parser.link_arguments("data", "model.init_args.spec", compute_fn=_spec_dict, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Expand the short arguments, refuse what is no option by its exact name, and parse."""
        command = self.command
        command.configs = [str(registry.config_file(name)) for name in command.configs]
        if command.resume is not None:
            self._resume(command)
        if command.ckpt_path and not command.model and not command.configs:
            if (run := run_of(command.ckpt_path)) is None:
                raise ZooError(f"no config.yaml beside {command.ckpt_path}: name the model and data, or give --config.")
            command.run_config = newest_config(run)
            began, typed = read_yaml(command.run_config).get("seed_everything"), command.settings.get("seed_everything")
            if typed not in (None, began):
                raise ZooError(f"--seed {typed}: a run goes on with its seed, {began}. Leave it out, or train anew.")
        if command.asks_help:
            print(help_of_classes(command))
            raise SystemExit(0)
        arguments = self._expanded(command)
        for path in command.configs:
            require_known_names(path, option_strings(parser), self._classes(arguments))
        self._refuse_unknown(parser, arguments)
        self.config = self.parser.parse(arguments)
        if isinstance(devices := self.config.trainer.devices, str) and devices.isdecimal():
            self.config.trainer.devices = int(devices)  # the parser tries `str` first and would save '4'
        require_seed(self.config.seed_everything if type(self.config.seed_everything) is int else None)

    def _expanded(self, command: Command) -> list[str]:
        """The arguments of a command, those that were typed without their group, or as elsewhere, put in our words."""
        parser: LightningArgumentParser = self.parser
        known = {option for option in option_strings(parser) if option.startswith("--")}
        strange = [word.partition("=")[0] for word in command.rest if word.startswith("--")]
        if strange := [option for option in strange if "." not in option and option.removesuffix("+") not in known]:
            for group, cls in self._classes(expand(command, _ancestor)).items():
                known |= {f"--{group}.{option}" for option in option_names(cls)}
            meant = {option: as_typed_here(option, sorted(known)) for option in strange}
            command.rest = [
                meant.get(word.partition("=")[0], word.partition("=")[0]) + "".join(word.partition("=")[1:])
                if word.startswith("--")
                else word
                for word in command.rest
            ]
            if process_rank() == 0:
                print(*(f"{typed} is {option}" for typed, option in meant.items()), sep=", ", file=sys.stderr)
            if command.data is not None:
                registry.require_own_options(command.data, data_options(command.rest))
        return expand(command, _ancestor)

    def _resume(self, command: Command) -> None:
        """Find what ``--resume`` stands for; where there is nothing to go on with, training starts anew."""
        found = command.resume or (os.environ.get("ZOO_RESUME") if process_rank() else None)
        if not found:
            names = self._names(self._expanded(command))
            if (path := newest_checkpoint(command.root, *names, command.settings.get("name"))) is None:
                print(f"no checkpoint of {'-'.join(names)} in {command.root}: starting anew.", file=sys.stderr)
                return
            command.settings.pop("name", None)  # which its folder has
            found = os.environ["ZOO_RESUME"] = str(path)  # for the processes that Lightning starts
            print(f"going on with {found}")
        command.settings["ckpt_path"] = found
        if run_of(found) is not None:
            command.model = command.data = None  # which the run's own configuration says

    def _names(self, arguments: list[str]) -> tuple[str, str]:
        """What the run folder of a training calls its model and its data; ``*`` for one that is not named."""
        classes = self._classes(arguments)
        model = registry.name_of(classes["model"], registry.MODELS) if "model" in classes else "*"
        if "data" not in classes:
            return model, "*"
        data = classes["data"]
        if registry.name_of(data, registry.DATA) not in registry.DATA:
            return model, data.__name__.lower()
        known = option_names(data)
        return model, data_name(data(**{name: v for name, v in self._data_options(arguments).items() if name in known}))

    def _classes(self, arguments: list[str]) -> dict[str, type]:
        """The classes that --model and --data stand for, in configuration files or as typed; the last one wins."""
        kinds: dict[str, type] = {"model": GenerativeModule, "data": LightningDataModule}
        paths = {group: section["class_path"] for group, section in self._sections(arguments) if "class_path" in section}
        return {group: import_class(path, kinds[group]) for group, path in paths.items()}

    def _data_options(self, arguments: list[str]) -> dict[str, Any]:
        """The options of the data, from configuration files and as typed."""
        options: dict[str, Any] = {}
        path = None
        for section in (section for group, section in self._sections(arguments) if group == "data"):
            if section.get("class_path", path) != path:
                path, options = section["class_path"], {}
            options |= section.get("init_args") or {}
        return options | data_options(arguments)

    def _sections(self, arguments: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """What configuration files and ``--model`` and ``--data`` say of each of the two, in their order."""
        for argument in arguments:
            key, _, value = argument.partition("=")
            if key == "--config" and Path(value).is_file():
                sections = {group: section for group, section in read_yaml(Path(value)).items() if isinstance(section, dict)}
                yield from ((group, sections[group]) for group in ("model", "data") if group in sections)
            elif key in ("--model", "--data"):
                yield key[2:], {"class_path": value}

    def _refuse_unknown(self, parser: LightningArgumentParser, arguments: list[str]) -> None:
        """ZooError for an option that is none, or is only the beginning of one."""
        known = {option for option in option_strings(parser) if option.startswith("--")}
        prefixes = tuple(f"{option}." for option in known if option not in ("--trainer", "--model", "--data"))
        classes = self._classes(arguments)
        for argument in arguments:
            key = argument.partition("=")[0].removesuffix("+")
            if not key.startswith("--") or key in known or key.startswith(prefixes):
                continue
            group = key[2:].partition(".")[0]
            whose, near = "", sorted(option for option in known if option.startswith(f"--{group}."))
            if group in ("model", "data"):
                if (cls := classes.get(group)) is None:
                    continue
                options = option_names(cls)
                name = key.removeprefix(f"--{group}.").removeprefix("init_args.")
                first = name.partition(".")[0]
                grouped = any(option.startswith(f"{first}.") for option in options)
                if name in options or name in ("class_path", "help") or (first in options and not grouped):
                    continue
                whose, near = f" of {cls.__name__}", [f"--{group}.{option}" for option in options]
                near = [option for option in near if grouped and option.startswith(f"--{group}.{first}.")] or near
            raise unknown_option(key, whose, near)

    def instantiate_classes(self) -> None:
        """Build model, data, callbacks and loggers; GPUs that are not there are noticed first."""
        require_gpus(self.command.gpus)
        with unwrapped():
            self.config_init = self.parser.instantiate_classes(self.config)
        self.model, self.datamodule = self.config_init["model"], self.config_init["data"]

    def config_text(self) -> str:
        """Every setting as YAML, of which the run's ``config.yaml`` is made: a run that starts anew."""
        again = self.config.clone()
        again.ckpt_path = again.name = None
        return self.parser.dump(again, skip_unset=False)

    def with_seed(self, seed: int) -> None:
        """Build all of it anew, as a run with that seed builds it."""
        self.config.seed_everything = seed
        seed_everything(seed, workers=True, verbose=False)
        self.instantiate_classes()

    def train(self, name: str | None) -> None:
        """Train what was built, in a run of that name."""
        options = {**self.config_init["trainer"]}
        training.fit(
            self.model,
            self.datamodule,
            root=options.pop("default_root_dir") or "runs",
            resume=self.config.ckpt_path,
            wandb=self.config.wandb,
            compile=self.config.compile,
            name=name,
            checkpoint_every=self.config.checkpoint_every,
            config=self.config_text(),
            **options,
        )


def fit(command: Command) -> None:
    """Train as the command says."""
    quiet_lightning()
    cli = ZooCLI(command)
    if command.seeds is None:
        cli.train(cli.config.name)
        return
    from zoo.cli.seeds import fit_seeds

    fit_seeds(cli, command.seeds, command.stack or "auto")
