"""A training in a run folder: what every run has besides model, data and the options of the Trainer."""

import inspect
import os
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from lightning_fabric.plugins import CheckpointIO
from pytorch_lightning import Callback, LightningDataModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint, ProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch._dynamo.exc import TorchDynamoException

from callbacks import FinalValidation, GracefulStop, MetricsProgressBar, NonFiniteGuard, TrainingEstimate
from zoo import registry
from zoo.batches import Unprofiled
from zoo.errors import ZooError
from zoo.files import WriteError, write_atomically
from zoo.lightning import process_rank
from zoo.models.base import GenerativeModule
from zoo.options import require_seed
from zoo.runs.checkpoints import AtomicCheckpointIO, read, require_same_model
from zoo.runs.config import describe
from zoo.runs.folder import data_name, discard_run, missing_folders, new_config, new_run, require_name, run_of
from zoo.runs.loggers import MetricsCSV, wandb_logger, wandb_mode
from zoo.runs.monitors import MonitorCheck, require_possible_monitors
from zoo.runs.peers import PeerWatch, explain_lost_peers
from zoo.runs.run_checkpoint import RunCheckpoint, read_interval
from zoo.runs.run_record import RunRecord

__all__ = ["REFUSALS", "Run", "checked_options", "fit", "impossible"]

REFUSALS = (MisconfigurationException, ValueError, TypeError, ModuleNotFoundError)  # what a Trainer raises for its options


_LONG = 1000  # batches of a training for which it is worth while to think of its time


@dataclass
class Run:
    """A model that was trained, and where everything about it is.

    Attributes:
        model: The model, with the weights that training ended with.
        data: What it was trained on.
        trainer: Lightning's Trainer, with the last metrics in ``callback_metrics``.
        folder: The run folder; None on a process that was not told, as ``torchrun`` starts them.
        diverged: Whether it stopped because its loss was no number, where other runs were trained with it.
    """

    model: GenerativeModule
    data: LightningDataModule
    trainer: Trainer
    folder: Path | None
    diverged: bool = False

    @property
    def checkpoint(self) -> Path:
        """``best.ckpt`` of a model that names a metric to judge by, else ``last.ckpt``; for :func:`zoo.load`."""
        if self.folder is None:
            raise ZooError("the first process alone knows where the checkpoints are")
        best, last = (self.folder / "checkpoints" / f"{name}.ckpt" for name in ("best", "last"))
        return best if best.exists() else last


def fit(
    model: GenerativeModule,
    data: LightningDataModule,
    *,
    root: str | Path = "runs",
    resume: str | Path | None = None,
    wandb: Literal["auto", "off", "offline", "online"] = "auto",
    compile: bool = False,
    name: str | None = None,
    checkpoint_every: str | int | None = None,
    seed: int | None = None,
    config: str | None = None,
    **trainer_options: Any,
) -> Run:
    """Trains a model on data in a run folder of its own: what ``python -m zoo.fit`` does with what it has built.

    The run folder, ``<root>/<model>-<data>/<n>``, gets ``metrics.csv``, ``checkpoints/last.ckpt`` and, for models that name
    a metric to judge by, ``best.ckpt``, the pictures of callbacks, and the W&B run. Beside the callbacks given every run has
    :class:`callbacks.NonFiniteGuard`, :class:`callbacks.GracefulStop`, :class:`callbacks.FinalValidation`,
    :class:`callbacks.TrainingEstimate` and a progress bar.

    Arguments:
        model: The model; on several processes it is trained with the strategy that it names.
        data: The datamodule.
        root: Where run folders are made.
        resume: A checkpoint to go on with, in the folder of its run: weights, optimizers, place in the data, random state.
        wandb: The W&B mode; ``auto`` is online where you are logged in, else offline.
        compile: Whether to compile what a training batch computes, by ``torch.compile``.
        name: A name for the run: of its folder, in place of the number, and in W&B.
        checkpoint_every: When ``last.ckpt`` is written: every so many batches, or minutes (``"10m"``); if not given, at the
            end of every epoch. It is written after the last batch in any case.
        seed: Seeds all that training draws; if not given, random numbers go on from where they are. The weights are those
            that ``model`` has.
        config: The text of ``config.yaml``, from which the commands read what the run was; if not given, what can be known
            of ``model``, ``data`` and plain options of the Trainer.
        trainer_options: Options of Lightning's Trainer: ``max_steps``, ``callbacks``, … One device if not given.

    Returns:
        The run, when training is over.

    Raises:
        ZooError: for an option that the Trainer does not have, a strategy that can't train the model, a checkpoint of
            another model, a folder that can't be written, and a disk that is full.

    Example:
        >>> import tempfile
        >>> from datamodules import Toy
        >>> from zoo.models import GAN
        >>> data = Toy("ring")
        >>> run = fit(GAN(data.spec), data, root=tempfile.mkdtemp(), wandb="off", max_steps=2, enable_progress_bar=False)
        GAN, ... parameters, on toy_ring (2,), ...
        >>> run.checkpoint.name
        'last.ckpt'
    """
    require_seed(seed)
    if seed is not None:
        seed_everything(seed, workers=True, verbose=False)
    options = {"devices": 1, "enable_model_summary": False, **checked_options(trainer_options)}
    options["strategy"] = _strategy(model, options)
    names = registry.name_of(type(model), registry.MODELS), data_name(data)
    config = describe(model, data, options) if config is None else config
    every = read_interval(checkpoint_every)
    stored = read(resume) if resume else None
    _require_possible(model, options, resume, stored)
    made = missing_folders(root, *names)
    folder = _folder(model, data, root, names, resume, stored, name)
    behind = stored["global_step"] if stored else None  # before a later one takes its place
    del stored
    record = RunRecord(folder, names)
    options["callbacks"] = [*_listed(options.get("callbacks")), record, *_own_callbacks(model, folder, options, every)]
    options["logger"] = _loggers(options.get("logger"), model, folder, names, wandb, config, name)
    options["plugins"] = _listed(options.get("plugins"))
    options["profiler"] = options.get("profiler") or Unprofiled()
    if not any(isinstance(plugin, CheckpointIO) for plugin in options["plugins"]):
        options["plugins"].append(AtomicCheckpointIO())
    try:
        trainer = Trainer(default_root_dir=folder, **options)
    except REFUSALS as error:
        if folder is not None and process_rank() == 0 and not resume:
            discard_run(folder, made)
        raise impossible(error) from error
    if compile:
        model.compile()
    written = None
    if trainer.is_global_zero:
        if folder is not None:
            written = new_config(folder)
            with write_atomically(written, text=True) as file:
                file.write(f"# Goes on with {resume}\n{config}" if resume else config)
        weights, device = sum(parameter.numel() for parameter in model.parameters()), trainer.strategy.root_device
        print(f"{type(model).__name__}, {weights:,} parameters, on {model.spec.name} {model.spec.shape}, {device}")
        _recommend_precision(model, trainer)
    run = Run(model, data, trainer, folder)
    _train(run, resume, behind, written, made)
    record.finish(trainer)
    return run


def _recommend_precision(model: GenerativeModule, trainer: Trainer) -> None:
    """A line where bf16-mixed was measured to be faster and to keep the model's numbers, and training is not a short one."""
    short = 0 <= trainer.max_steps < _LONG
    if trainer.precision == "32-true" and not short and model.fast_in_bf16(trainer.strategy.root_device):
        print(
            "--trainer.precision bf16-mixed takes 0.6 to 0.8 of the time on this processor, and keeps this model's numbers."
        )


def _require_possible(
    model: GenerativeModule,
    options: Mapping[str, Any],
    resume: str | Path | None,
    stored: Mapping[str, Any] | None,
) -> None:
    """ZooError, before anything is written, for options that the Trainer or the model can't train with."""
    model.require_own_steps(options.get("accumulate_grad_batches") or 1)
    _require_optimizers(model)
    require_possible_monitors(model, _listed(options.get("callbacks")))
    bare = {"logger": False, "callbacks": None, "enable_checkpointing": False, "enable_progress_bar": False}
    bare["gradient_clip_val"] = options.get("gradient_clip_val")
    try:
        trainer = Trainer(**{**options, **bare})
    except REFUSALS as error:
        raise impossible(error) from error
    model.require_precision(str(trainer.precision))
    if stored is None:
        return
    begun = stored.get("zoo_progress", {}).get("epoch", stored.get("epoch", 0)) + 1
    for name, at, what in (("max_epochs", begun, "epochs begun"), ("max_steps", stored.get("global_step", 0), "steps")):
        most = options.get(name)
        if most is not None and 0 <= most < at:
            raise ZooError(f"{name} {most}: {resume} has {at} {what} already.\nGive {at} or more, or an earlier checkpoint.")


def _require_optimizers(model: GenerativeModule) -> None:
    """ZooError where an optimizer refuses its options, such as a negative learning rate."""
    try:
        with torch.random.fork_rng(devices=()):
            model.configure_optimizers()
    except ZooError:
        raise
    except ValueError as error:
        raise ZooError(f"the optimizer of {type(model).__name__} can't be made: {error}") from error
    except Exception:  # it needs what is there in a training alone
        return


def _is_of_lightning(error: Exception) -> bool:
    """Whether Lightning raised an error, of the options of a training and not of the code that is trained."""
    last = _passed(error)[-1]
    if isinstance(error, RuntimeError) and last.name == "early_stopping.py":
        return True
    there = {"pytorch_lightning", "lightning_fabric"}.intersection(last.parts)
    return isinstance(error, MisconfigurationException) or (type(error) in (ValueError, TypeError) and bool(there))


def _passed(error: Exception) -> list[Path]:
    """The files that an error went through, outermost first."""
    return [Path(frame.filename) for frame in traceback.extract_tb(error.__traceback__)]


def impossible(error: Exception) -> ZooError:
    """What to say where a Trainer refuses its options."""
    text = " ".join(str(error).split())
    return ZooError(f"Lightning can't train with these options: {text[:300]}\n`--help-all` lists the Trainer's options.")


def checked_options(options: dict[str, Any]) -> dict[str, Any]:
    """The same options; ZooError for one that the Trainer does not have, or that is ours to give."""
    known = set(inspect.signature(Trainer).parameters)
    for name in options:
        if name == "default_root_dir":
            raise ZooError("default_root_dir: run folders are made under root; give that one.")
        if name not in known:
            raise ZooError(f"the Trainer has no option {name}.{registry.suggestion(name, known)}")
    return options


def _strategy(model: GenerativeModule, options: Mapping[str, Any]) -> Any:
    """The strategy given, or on several processes the model's own in place of ``auto``."""
    given = options.get("strategy", "auto")
    if not _several_processes(options):
        return given
    if given == "ddp" != model.strategy:
        own = f"--trainer.strategy {model.strategy}, or leave it out"
        raise ZooError(f"--trainer.strategy ddp can't train {type(model).__name__}: type {own}.")
    return model.strategy if given == "auto" else given


def _several_processes(options: Mapping[str, Any]) -> bool:
    devices = options["devices"]
    if devices in ("auto", -1, "-1"):
        devices = torch.cuda.device_count()
    elif isinstance(devices, str):
        devices = devices.split(",") if "," in devices else int(devices)
    return (devices if isinstance(devices, int) else len(devices)) > 1 or (options.get("num_nodes") or 1) > 1


def _folder(
    model: GenerativeModule,
    data: LightningDataModule,
    root: str | Path,
    names: tuple[str, str],
    resume: str | Path | None,
    stored: Mapping[str, Any] | None,
    name: str | None,
) -> Path | None:
    """The run folder: a new one, or on going on that of the checkpoint. Processes that Lightning starts inherit it."""
    if process_rank() != 0:
        return Path(os.environ["ZOO_RUN_FOLDER"]) if "ZOO_RUN_FOLDER" in os.environ else None
    require_name(name)
    if resume:
        require_same_model(resume, model)
        _require_same_seed(stored or {}, data)
        if name is not None and run_of(resume) is not None:
            raise ZooError(f"name {name}: a run goes on in its own folder, {run_of(resume)}. Leave it out, or train anew.")
    data.prepare_data()  # Lightning does it too, but files that are missing need no run folder
    folder = (run_of(resume) if resume else None) or new_run(root, *names, name)
    os.environ["ZOO_RUN_FOLDER"] = str(folder.resolve())
    return folder


def _require_same_seed(checkpoint: Mapping[str, Any], data: LightningDataModule) -> None:
    """ZooError where data would have another order and other noise than those that a run goes on in."""
    place = checkpoint.get(type(data).__qualname__)
    given, stored = getattr(data, "seed", None), place.get("seed") if isinstance(place, dict) else None
    if None not in (given, stored) and given != stored:
        raise ZooError(f"seed {given}: a run goes on in the order of its seed, {stored}. Leave it out, or train anew.")


def _own_callbacks(
    model: GenerativeModule, folder: Path | None, options: Mapping[str, Any], every: int | timedelta | None
) -> list[Callback]:
    """What every run has, unless the same was given or switched off."""
    given = _listed(options.get("callbacks"))
    own: list[Callback] = [PeerWatch(), MonitorCheck()]
    if not any(isinstance(callback, NonFiniteGuard) for callback in given):
        own.append(NonFiniteGuard())
    if not any(isinstance(callback, GracefulStop) for callback in given):
        own.append(GracefulStop())
    own.append(FinalValidation())
    if options.get("enable_progress_bar") is not False and not any(isinstance(each, TrainingEstimate) for each in given):
        own.append(TrainingEstimate())
    if options.get("enable_progress_bar") is not False and not any(isinstance(each, ProgressBar) for each in given):
        own.append(MetricsProgressBar())
    if options.get("enable_checkpointing") is not False and not any(isinstance(each, ModelCheckpoint) for each in given):
        where = folder / "checkpoints" if folder else None
        if model.monitor:
            own.append(RunCheckpoint(where, "best", model.monitor, model.monitor_mode))
        own.append(RunCheckpoint(where, "last", every=every))
    return own


def _loggers(
    given: Sequence[Logger] | Logger | bool | None,
    model: GenerativeModule,
    folder: Path | None,
    names: tuple[str, str],
    wandb: Literal["auto", "off", "offline", "online"],
    config: str,
    name: str | None,
) -> list[Logger]:
    """metrics.csv always; beside it the loggers that were given, else W&B."""
    if process_rank() != 0 or folder is None:
        return []
    loggers: list[Logger] = [MetricsCSV(folder)]
    if given not in (None, True):
        return [*_listed(given), *loggers]
    if (mode := wandb_mode(wandb)) != "off":
        summaries = {model.monitor: model.monitor_mode} if model.monitor else {}
        settings = yaml.safe_load(config)
        seed = int(os.environ.get("PL_GLOBAL_SEED", 0))
        if (logger := wandb_logger(mode, folder, *names, seed, settings, summaries, name)) is not None:
            loggers.append(logger)
    return loggers


def _listed(given: Any) -> list[Any]:
    """One or several, or none, as a list."""
    return [*given] if isinstance(given, list | tuple) else [given] if given else []


def _train(run: Run, resume: str | Path | None, behind: int | None, config: Path | None, made: list[Path]) -> None:
    """Train, and say where the results are.

    Arguments:
        run: The run, ready.
        resume: The checkpoint to go on with.
        behind: The batch that it is of.
        config: The file with the settings of this part of the run.
        made: The folders that were made for the run's.
    """
    trainer, folder = run.trainer, run.folder
    begun, ended = run.model.training_batches, False
    try:
        with explain_lost_peers(lambda: f"{_go_on(folder).capitalize()}."):
            trainer.fit(run.model, run.data, ckpt_path=resume, weights_only=True)
        ended = True
    except TorchDynamoException as error:
        raise ZooError(
            f"torch.compile: {str(error).strip().splitlines()[0]}\n"
            "It needs a C++ compiler on the CPU, Triton on a GPU; or leave --compile out."
        ) from error
    except OSError as error:
        what = f"{error.strerror or error}: {error.filename or folder}"
        if isinstance(error, WriteError):
            what = str(error).splitlines()[0].rstrip(".")
        what = f"{what}; training stopped at batch {trainer.global_step}"
        raise ZooError(f"{what}.\nWhen that is mended, {_go_on(folder)}.") from error
    except Exception as error:
        restoring = any(file.name == "checkpoint_connector.py" for file in _passed(error))
        if resume and restoring and str(resume) not in str(error):
            why = " ".join((str(error) or type(error).__name__).split())
            raise ZooError(f"{resume} is damaged or foreign: no training can go on from it ({why[:300]}).") from error
        if _is_of_lightning(error):
            raise impossible(error) from error
        raise
    finally:
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                if isinstance(logger, WandbLogger):
                    logger.experiment.finish()
        if not ended and not resume and folder is not None and run.model.training_batches == begun:
            if trainer.is_global_zero:
                discard_run(folder, made)  # it was made for this, and nothing was trained
        elif trainer.is_global_zero:
            if ended and resume and trainer.global_step == behind:
                print(_nothing_left(trainer, resume))
                if config is not None and config.stem != "config":
                    config.unlink(missing_ok=True)  # of a part that there was not
            _print_results(folder)


def _nothing_left(trainer: Trainer, resume: str | Path) -> str:
    """What to say where a run goes on that was over."""
    limits = {"max_steps": trainer.max_steps, "max_epochs": trainer.max_epochs}
    given = " and ".join(f"{name} {most}" for name, most in limits.items() if most is not None and most > 0)
    return f"nothing was trained: with {given}, the {trainer.global_step} batches that {resume} has are all. Give more."


def _print_results(folder: Path | None) -> None:
    """Where what is there of a run lies."""
    folder = Path() if folder is None else folder
    if any(folder.glob("pictures/*")):
        print(f"pictures: {folder}/pictures")
    if (folder / "metrics.csv").exists():
        print(f"metrics:  {folder}/metrics.csv")
    if len(parts := list(folder.glob("wandb/offline-run-*"))) > 1:
        print(f"W&B:      {len(parts)} parts of one run; to upload: wandb sync {folder}/wandb/offline-run-*")
    print(f"run: {folder}", flush=True)


def _go_on(folder: Path | None) -> str:
    """What to do after a training that broke off."""
    last = folder / "checkpoints" / "last.ckpt" if folder is not None else None
    return f"go on with --ckpt_path {last}" if last is not None and last.exists() else "start again"
