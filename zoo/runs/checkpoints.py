"""Checkpoints: read safely, explained when they are not what they should be, and turned back into models."""

import contextlib
import importlib.util
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_buffer_registration_hook,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.nn.parameter import is_lazy

from zoo import registry, trained
from zoo.errors import ZooError
from zoo.files import read_yaml, write_atomically
from zoo.lightning import instantiate_stored
from zoo.models.base import GenerativeModule
from zoo.optimizers import OPTIMIZERS
from zoo.runs.contents import read
from zoo.runs.folder import newest_config, run_of
from zoo.spec import DataSpec

__all__ = [
    "AtomicCheckpointIO",
    "load",
    "named_in_config",
    "newest_checkpoint",
    "read",
    "require_same_data",
    "require_same_model",
]

_RESUMED = ("loops", "optimizer_states", "lr_schedulers", "callbacks")  # what training goes on with beside the model


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole on the disk or not there at all; a plugin for the Trainer, which every run of the zoo has.

    Lightning's own writes into the folder for temporary files and then moves: where that is another file system, a move is
    a copy, and a kill or a full disk leaves half a file in the place of the last good one.

    Raises:
        WriteError: where a checkpoint can't be written; it says with which one to go on.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(plugins=[AtomicCheckpointIO()], accelerator="cpu", logger=False)
    """

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options: Any = None) -> None:
        """Write ``checkpoint`` to ``path`` by :func:`zoo.files.write_atomically`; to an address, as Lightning does."""
        if "://" in str(path) or storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        with write_atomically(path, advice=_advice(Path(path))) as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """The contents of the file at ``path`` by :func:`read`; of an address, as Lightning reads it."""
        if "://" in str(path):
            return super().load_checkpoint(path, map_location, weights_only)
        return read(path)


def _advice(path: Path) -> str:
    """What to do where ``path`` can't be written."""
    kept = max(path.parent.glob("*.ckpt"), key=lambda each: each.stat().st_mtime, default=None)
    if kept is None:
        return "There is no earlier checkpoint: make room, or name another folder, and start again."
    return f"When that is mended, go on with --ckpt_path {kept}"


def load(path: str | Path, map_location: str | torch.device = "cpu", trust: Iterable[str] = ()) -> GenerativeModule:
    """The model of a checkpoint, of the class that was trained, in evaluation mode.

    Where the run averaged weights (:class:`callbacks.ExponentialMovingAverage`), the model has the average.

    A checkpoint names the classes of its model and of the model's parts, and importing a class runs its module. So these
    come from the zoo alone, from what is imported already, from what ``trust`` names, and from what the ``config.yaml`` of
    the run that the file lies in names, if that is a file of your own; and each must be of the kind that its place asks for.

    Arguments:
        path: A file of a run's ``checkpoints`` folder, or one that a Trainer of your own saved, or the name of a trained
            model that comes along (:mod:`zoo.trained`); the hash of such a one's file is looked at.
        map_location: Device of the model.
        trust: Modules and packages that may be imported for it: ``("my_file",)``.

    Raises:
        ZooError: where the file is none, or damaged, or of a class that may not be imported or is no model.

    Example:
        >>> load("gan-digits").sample(4).shape
        torch.Size([4, 1, 8, 8])
    """
    if (card := trained.find(path)) is not None:
        path = card.checked()
    elif not Path(path).exists() and Path(path).name == str(path) and not Path(path).suffix:
        trained.read_card(str(path))  # a name, then, that there is not: this says so
    checkpoint = read(path)
    with registry.trusting({*trust, *named_in_config(path)}), _told(path, checkpoint["zoo_class"]):
        model = _build(checkpoint)
        state = {**checkpoint["state_dict"], **checkpoint.get("zoo_average", {}).get("weights", {})}
        if misfits := _misfits(model, state):
            raise ZooError(f"its weights don't fit the class as it is here: {misfits[0]} and {len(misfits) - 1} more")
        model.on_load_checkpoint(checkpoint)
        model.load_state_dict(state)
    return model.to(map_location).eval()


def named_in_config(path: str | Path) -> set[str]:
    """The modules of the classes in the ``config.yaml`` of the run that a checkpoint lies in, if that file is one's own.

    A module that lies in the run folder itself came with it, and does not count.
    """
    run = run_of(path)
    if run is None or (hasattr(os, "getuid") and newest_config(run).stat().st_uid != os.getuid()):
        return set()
    found: set[str] = set()
    config = read_yaml(newest_config(run))
    data = config.get("data")
    sections = [config.get("model"), data.get("class_path") if isinstance(data, dict) else None]
    while sections:
        section = sections.pop()
        if isinstance(section, dict | list):
            sections += section.values() if isinstance(section, dict) else section
        elif isinstance(section, str) and registry.is_class_path(section):
            found.add(section.rpartition(".")[0])
    return {module for module in found if not _lies_in(module.partition(".")[0], run)}


def _lies_in(module: str, folder: Path) -> bool:
    """Whether a module or package that is not imported yet would come from a folder."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or ())]
    return any(folder.resolve() in Path(place).resolve().parents for place in places if place)


@contextlib.contextmanager
def _told(path: str | Path, name: str) -> Iterator[None]:
    """What goes wrong in making a model of a checkpoint, in a line that names both."""
    try:
        yield
    except Exception as error:  # its constructor gets what a file says, and may raise anything
        why = " ".join((str(error) or type(error).__name__).split())
        raise ZooError(f"{path} can't be made into a {name}: {why[:400]}") from error


def _build(checkpoint: dict[str, Any]) -> GenerativeModule:
    """The model that the hyperparameters describe, with new weights."""
    cls = registry.find_class(checkpoint["zoo_class"])
    if not isinstance(cls, type) or not issubclass(cls, GenerativeModule):
        raise ZooError("it is no model of the zoo: those derive from zoo.models.GenerativeModule")
    given = checkpoint["hyper_parameters"]
    options = {name: value for name, value in given.items() if not name.startswith("_")}
    with _no_larger_than(checkpoint["state_dict"]):
        if "_instantiator" not in given or cls.__module__.startswith("zoo."):
            return cls(**options)
        # A class of the user's own, made by the command line, may have arguments that are more than numbers and strings.
        for section in _sections(options):
            if "class_path" in section:
                registry.find_class(section["class_path"])
        return instantiate_stored(cls, options)


def _sections(options: Any) -> Iterator[dict]:
    """Every dictionary within."""
    if isinstance(options, dict):
        yield options
    for each in options.values() if isinstance(options, dict) else options if isinstance(options, list | tuple) else ():
        yield from _sections(each)


@contextlib.contextmanager
def _no_larger_than(state: Mapping[str, Tensor]) -> Iterator[None]:
    """Stops a constructor that makes far more, or far larger, parameters, buffers and modules than there are weights for."""
    left = {"parts": 16 * len(state) + 256, "elements": 4 * sum(tensor.numel() for tensor in state.values()) + 2**20}

    def count(module: nn.Module, name: str, part: Tensor | nn.Module | None) -> None:
        left["parts"] -= part is not None
        if isinstance(part, Tensor) and not is_lazy(part):
            left["elements"] -= part.numel()
        if min(left.values()) < 0:
            raise ZooError("its hyperparameters ask for far more weights than it has")

    hooks = [
        register_module_parameter_registration_hook(count),
        register_module_buffer_registration_hook(count),
        register_module_module_registration_hook(count),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _misfits(model: GenerativeModule, state: Mapping[str, Tensor]) -> list[str]:
    """The names of the model's weights that are not in ``state``, or with another shape, and of those that only it has."""
    ours = model.state_dict()
    sizes = {name: tensor.shape for name, tensor in ours.items() if name not in model.sized_by_data}
    absent = [name for name in ours if name not in state or state[name].shape != sizes.get(name, state[name].shape)]
    return [*absent, *(name for name in state if name not in ours)]


def newest_checkpoint(root: str | Path, model: str = "*", data: str = "*", name: str | None = None) -> Path | None:
    """The newest checkpoint that training can go on from, of the newest run of a model and data that has one.

    A damaged one is skipped with a warning.

    Arguments:
        root: Where run folders are made.
        model, data: Their names in the run folders'; ``*`` for any.
        name: That of the run; of any if not given.

    Returns:
        Its path; None where there is none.
    """
    runs = [run for run in Path(root).glob(f"{model}-{data}/{name or '*'}") if (run / "checkpoints").is_dir()]
    numbered = "*" not in (model, data) and all(run.name.isdecimal() for run in runs)  # else numbers are no order
    runs.sort(key=lambda run: int(run.name) if numbered else run.stat().st_mtime, reverse=True)
    for run in runs:
        found = list((run / "checkpoints").glob("*.ckpt"))
        found.sort(key=lambda path: (path.stat().st_mtime_ns, path.stem == "last"), reverse=True)
        for path in found:
            try:
                _require_resumable(path, read(path))
            except ZooError as error:
                warnings.warn(f"{' '.join(str(error).split())} It is skipped.", stacklevel=2)
            else:
                return path
    return None


def _require_resumable(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    if missing := [name for name in _RESUMED if name not in checkpoint]:
        raise ZooError(f"{path} holds a model alone, without {missing[0]}: no training can go on from it.")


def require_same_model(path: str | Path, model: GenerativeModule) -> None:
    """ZooError unless the checkpoint at ``path`` is of ``model``'s class, for its data, with weights of its shapes."""
    checkpoint = read(path)
    ours, theirs = f"{type(model).__module__}.{type(model).__qualname__}", checkpoint["zoo_class"]
    if ours != theirs:
        raise ZooError(f"{path} is a checkpoint of {theirs}, not of {ours}: leave out --model, or name that one.")
    require_same_data(path, DataSpec.of(checkpoint["hyper_parameters"]["spec"]), model.spec)
    _require_resumable(path, checkpoint)
    began, now = checkpoint["hyper_parameters"].get("optimizer"), model.hparams.get("optimizer")
    if began != now and {began, now} <= OPTIMIZERS.keys():
        raise ZooError(
            f"optimizer {now}: {path} has the state of {began}, which is of no use to another. Leave it out, or train anew."
        )
    if misfits := _misfits(model, checkpoint["state_dict"]):
        raise ZooError(
            f"the weights of {path} don't fit the model: {misfits[0]} and {len(misfits) - 1} more. "
            "Give the --model options of its run, or none."
        )


def require_same_data(path: str | Path, trained: DataSpec, given: DataSpec) -> None:
    """ZooError unless data have the shape and levels of those that the checkpoint at ``path`` was trained on."""
    if (trained.shape, trained.levels) != (given.shape, given.levels):
        raise ZooError(
            f"{path} was trained on {trained.name} (shape {trained.shape}, levels {trained.levels}), and --data gives "
            f"{given.name} (shape {given.shape}, levels {given.levels}): leave out --data, or train anew."
        )
