"""Checkpoints: read safely, explained when they are not what they should be, and turned back into models."""

import pickle
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from zoo import registry
from zoo.errors import ZooError
from zoo.files import write_atomically
from zoo.spec import DataSpec

__all__ = ["AtomicCheckpointIO", "load", "read", "require_same_data", "require_same_model"]


class AtomicCheckpointIO(TorchCheckpointIO):
    """Checkpoints that are whole on the disk or not there at all; a plugin for the Trainer, which every run of the zoo has.

    Lightning's own writes into the folder for temporary files and then moves: where that is another file system, a move is
    a copy, and a kill or a full disk leaves half a file in the place of the last good one.

    Raises: WriteError where a checkpoint can't be written; it says with which one to go on.

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


def _advice(path: Path) -> str:
    """What to do where ``path`` can't be written."""
    kept = max(path.parent.glob("*.ckpt"), key=lambda each: each.stat().st_mtime, default=None)
    if kept is None:
        return "There is no earlier checkpoint: make room, or name another folder, and start again."
    return f"When that is mended, go on with --ckpt_path {kept}"


def read(path: str | Path) -> dict:
    """The contents of a checkpoint of this zoo, on the CPU; ZooError where the file is none or is damaged."""
    path = Path(path)
    if not path.is_file():
        raise ZooError(f"no checkpoint {path}. A run keeps them in <run folder>/checkpoints/.")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = "is truncated or damaged" if path.read_bytes()[:2] == b"PK" else "is not a checkpoint"
        raise ZooError(f"{path} {reason} ({path.stat().st_size:,} bytes).") from error
    if not isinstance(checkpoint, dict) or not {"zoo_class", "state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise ZooError(f"{path} is a PyTorch file, but not a checkpoint of a zoo model.")
    return checkpoint


def load(path: str | Path, map_location: str | torch.device = "cpu"):
    """The model of a checkpoint, of the class that was trained, in evaluation mode.

    Where the run averaged weights (:class:`callbacks.ExponentialMovingAverage`), the model has the average.

    Arguments:
        path: A file of a run's ``checkpoints`` folder, or one that a Trainer of your own saved.
        map_location: Device of the model.
    """
    checkpoint = read(path)
    name = checkpoint["zoo_class"]
    try:
        cls = registry.find_class(name)
    except (ImportError, AttributeError) as error:
        raise ZooError(f"{path} is a model of class {name}, which can't be imported: {error}.") from error
    model = cls.load_from_checkpoint(path, map_location=map_location, weights_only=True)
    if "zoo_average" in checkpoint:
        model.load_state_dict({**checkpoint["state_dict"], **checkpoint["zoo_average"]["weights"]})
    return model.eval()


def require_same_model(path: str | Path, model) -> None:
    """ZooError unless the checkpoint at ``path`` is of ``model``'s class, for its data, with weights of its shapes."""
    checkpoint = read(path)
    ours, theirs = f"{type(model).__module__}.{type(model).__qualname__}", checkpoint["zoo_class"]
    if ours != theirs:
        raise ZooError(f"{path} is a checkpoint of {theirs}, not of {ours}: leave out --model, or name that one.")
    require_same_data(path, DataSpec.of(checkpoint["hyper_parameters"]["spec"]), model.spec)
    misfits = [
        name
        for name, tensor in model.state_dict().items()
        if name not in checkpoint["state_dict"] or checkpoint["state_dict"][name].shape != tensor.shape
    ]
    if misfits:
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
