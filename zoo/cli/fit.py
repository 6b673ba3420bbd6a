"""LightningCLI for the zoo: arguments become a model, data, and a Trainer that writes into one run folder."""

import argparse
import os
from pathlib import Path

import torch
import yaml
from jsonargparse import ArgumentParser
from pytorch_lightning import LightningDataModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from torch._dynamo.exc import TorchDynamoException

from callbacks import FinalValidation, MetricsProgressBar, NonFiniteGuard
from zoo import registry
from zoo.cli.command import Command, expand
from zoo.cli.parser import Parser, option_names, unknown_option, unwrapped
from zoo.distributed import require_gpus
from zoo.errors import ZooError
from zoo.lightning import quiet_lightning
from zoo.models.base import GenerativeModule
from zoo.registry import import_class
from zoo.runs.checkpoints import require_same_model
from zoo.runs.folder import new_run, run_of
from zoo.runs.loggers import MetricsCSV, wandb_logger, wandb_mode
from zoo.spec import spec_of

__all__ = ["ZooCLI", "fit"]


def _ancestor(path: str) -> str:
    """The registered model whose preset suits a class of the user's own: the nearest it derives from, or ``default``."""
    cls = import_class(path)
    if not (isinstance(cls, type) and issubclass(cls, GenerativeModule)):
        raise ZooError(f"{path} is not a model of the zoo: derive it from zoo.models.GenerativeModule.")
    names = {registry.find_class(entry.path): name for name, entry in registry.MODELS.items()}
    return next((names[base] for base in cls.__mro__ if base in names), "default")


def _short_name(class_path: str, entries: dict[str, registry.Entry]) -> str:
    cls = registry.find_class(class_path)
    names = {registry.find_class(e.path): name for name, e in entries.items() if e.path.endswith(f".{cls.__name__}")}
    return names.get(cls, cls.__name__.lower())


def _read_yaml(path: Path) -> dict:
    try:
        loaded = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ZooError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(loaded, dict):
        raise ZooError(f"{path} holds a {type(loaded).__name__}: settings, as --print_config shows them, are needed")
    return loaded


def _spec_dict(data: LightningDataModule) -> dict:
    return spec_of(data).to_dict()


class ZooCLI(LightningCLI):
    """Parses a :class:`~zoo.cli.command.Command` and builds what it asks for.

    Attributes:
        model, datamodule, trainer: What was asked for.
        folder: The run folder, on rank 0; None on other ranks that did not inherit it.
    """

    def __init__(self, command: Command):
        self.command = command
        self.folder: Path | None = None
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
        parser.add_argument("--ckpt_path", type=str | None, default=None, help="Checkpoint to go on with.")
        parser.add_argument("--wandb", choices=["auto", "off", "offline", "online"], default="auto", help="W&B mode.")
        parser.add_argument("--compile", type=bool, nargs="?", const=True, default=False, help="Use torch.compile.")
        parser.add_argument("--help-all", action="help", help="Show every option.")
        parser.link_arguments("data", "model.init_args.spec", compute_fn=_spec_dict, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: None) -> None:
        """Expand the short words, refuse what is no option by its exact name, and parse."""
        command = self.command
        if command.ckpt_path and not command.model and not command.configs:
            if (run := run_of(command.ckpt_path)) is None:
                raise ZooError(f"no config.yaml beside {command.ckpt_path}: name the model and data, or give --config.")
            command.run_config = run / "config.yaml"
        if any(word in ("-h", "--help") for word in command.rest):
            self._print_help()
            raise SystemExit(0)
        arguments = expand(command, _ancestor)
        self._refuse_unknown(parser, arguments)
        self.config = parser.parse(arguments)
        if isinstance(devices := self.config.trainer.devices, str) and devices.isdecimal():
            self.config.trainer.devices = int(devices)  # the parser tries `str` first and would save '4'

    def _classes(self, arguments: list[str]) -> dict[str, type]:
        """The classes that --model and --data stand for, from the configuration files and words, the last one winning."""
        paths: dict[str, str] = {}
        for argument in arguments:
            key, _, value = argument.partition("=")
            if key == "--config" and Path(value).is_file():
                for group, section in _read_yaml(Path(value)).items():
                    if group in ("model", "data") and isinstance(section, dict) and "class_path" in section:
                        paths[group] = section["class_path"]
            elif key in ("--model", "--data"):
                paths[key[2:]] = value
        return {group: import_class(path) for group, path in paths.items()}

    def _refuse_unknown(self, parser: LightningArgumentParser, arguments: list[str]) -> None:
        """ZooError for an option that is none, or is only the beginning of one."""
        known = {option for option in parser._option_string_actions if option.startswith("--")}
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
                if name.partition(".")[0] in options or name in ("class_path", "help"):
                    continue
                whose, near = f" of {cls.__name__}", [f"--{group}.{option}" for option in options]
            raise unknown_option(key, whose, near)

    def _print_help(self) -> None:
        words = {"model": (self.command.model, registry.MODELS), "data": (self.command.data, registry.DATA)}
        parser = ArgumentParser(prog="python -m zoo.fit", add_help=False, usage=argparse.SUPPRESS)
        for group, (name, entries) in words.items():
            if name is not None:
                cls = import_class(entries[name].path if name in entries else name)
                parser.add_class_arguments(cls, group, skip={"spec"}, fail_untyped=False)
        lines = parser.format_help().replace("``", "").strip().splitlines()
        print("\n".join(line for line in lines if "Path to a configuration file" not in line))
        print("\nThe words common to all models: python -m zoo.fit --help")

    def instantiate_classes(self) -> None:
        """Build model, data and Trainer; GPUs that are not there are noticed first."""
        require_gpus(self.command.gpus)
        with unwrapped():
            super().instantiate_classes()

    def instantiate_trainer(self, **kwargs) -> Trainer:
        """A Trainer that writes into the run folder, with the model's own strategy when it uses several processes."""
        config = self.config_init["trainer"]
        names = [_short_name(self.config[g].class_path, e) for g, e in (("model", registry.MODELS), ("data", registry.DATA))]
        if _several_processes(config):
            if config["strategy"] == "auto":
                config["strategy"] = self.model.strategy
            elif config["strategy"] == "ddp" != self.model.strategy:
                own = f"--trainer.strategy {self.model.strategy}, or leave it out"
                raise ZooError(f"--trainer.strategy ddp can't train {type(self.model).__name__}: type {own}.")
        if rank_zero_only.rank == 0:
            if self.config.ckpt_path:
                require_same_model(self.config.ckpt_path, self.model)
            run = run_of(self.config.ckpt_path) if self.config.ckpt_path else None
            self.datamodule.prepare_data()  # Lightning does it too, but files that are missing need no run folder
            self.folder = run or new_run(config["default_root_dir"] or "runs", *names)
            os.environ["ZOO_RUN_FOLDER"] = str(self.folder.resolve())  # Lightning starts the other processes
        elif "ZOO_RUN_FOLDER" in os.environ:
            self.folder = Path(os.environ["ZOO_RUN_FOLDER"])
        config["callbacks"] = [*(config["callbacks"] or []), *self._own_callbacks(config)]
        config["default_root_dir"] = self.folder
        config["logger"] = self._loggers(config["logger"], *names)
        return super().instantiate_trainer(**kwargs)

    def _own_callbacks(self, config: dict) -> list:
        """What every run has, unless the same was given or switched off."""
        given, own = config["callbacks"] or [], []
        if not any(isinstance(callback, NonFiniteGuard) for callback in given):
            own.append(NonFiniteGuard())
        own.append(FinalValidation())
        if config["enable_progress_bar"] is not False and not any(isinstance(callback, ProgressBar) for callback in given):
            own.append(MetricsProgressBar())
        if config["enable_checkpointing"] is not False and not any(isinstance(each, ModelCheckpoint) for each in given):
            folder = self.folder / "checkpoints" if self.folder else None
            common = {"dirpath": folder, "enable_version_counter": False, "auto_insert_metric_name": False}
            own.append(ModelCheckpoint(filename="last", save_on_train_epoch_end=True, **common))
            if self.model.monitor:
                best = {"monitor": self.model.monitor, "mode": self.model.monitor_mode}
                own.append(ModelCheckpoint(filename="best", **best, **common))
        return own

    def _loggers(self, given: list | Logger | bool | None, model: str, data: str) -> list:
        """metrics.csv always; beside it the loggers that were given, else W&B."""
        if rank_zero_only.rank != 0:
            return []
        loggers: list = [MetricsCSV(self.folder)]
        if given not in (None, True):
            return [*(given if isinstance(given, list) else [given] if given else []), *loggers]
        if (mode := wandb_mode(self.config.wandb)) != "off":
            summaries = {self.model.monitor: self.model.monitor_mode} if self.model.monitor else {}
            seed = self.config.seed_everything
            settings = yaml.safe_load(self.parser.dump(self.config, skip_unset=False))
            if (logger := wandb_logger(mode, self.folder, model, data, seed, settings, summaries)) is not None:
                loggers.append(logger)
        return loggers

    def fit(self) -> None:
        """Train, and say where the results are."""
        weights = sum(parameter.numel() for parameter in self.model.parameters())
        if self.config.compile:
            self.model.compile()
        if self.trainer.is_global_zero:
            again = self.config.clone()
            again.ckpt_path = None  # the file starts a run like this one anew
            (self.folder / "config.yaml").write_text(self.parser.dump(again, skip_unset=False))
            name, data = type(self.model).__name__, self.model.spec
            print(f"{name}, {weights:,} parameters, on {data.name} {data.shape}, {self.trainer.strategy.root_device}")
        try:
            self.trainer.fit(self.model, self.datamodule, ckpt_path=self.config.ckpt_path, weights_only=True)
        except TorchDynamoException as error:
            raise ZooError(
                f"torch.compile: {str(error).strip().splitlines()[0]}\n"
                "It needs a C++ compiler on the CPU, Triton on a GPU; or leave --compile out."
            ) from error
        except OSError as error:
            last = self.folder / "checkpoints" / "last.ckpt"
            advice = f"go on with --ckpt_path {last}" if last.exists() else "start again"
            raise ZooError(
                f"{error.strerror or error}: {error.filename or self.folder}; training stopped at batch "
                f"{self.trainer.global_step}.\nWhen that is mended, {advice}."
            ) from error
        finally:
            if self.trainer.is_global_zero:
                for logger in self.trainer.loggers:
                    if isinstance(logger, WandbLogger):
                        logger.experiment.finish()
                print(f"pictures: {self.folder}/pictures\nmetrics:  {self.folder}/metrics.csv")
                print(f"run: {self.folder}", flush=True)


def _several_processes(trainer: dict) -> bool:
    devices = trainer["devices"]
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count()
    elif isinstance(devices, str):
        devices = devices.split(",") if "," in devices else int(devices)
    return (devices if isinstance(devices, int) else len(devices)) > 1 or (trainer["num_nodes"] or 1) > 1


def fit(command: Command) -> None:
    """Train as the command says."""
    quiet_lightning()
    ZooCLI(command).fit()
