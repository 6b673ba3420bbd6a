"""A checkpoint of the model alone, for whoever uses it and does not go on with its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo.files import write_atomically
from zoo.runs.checkpoints import read

__all__ = ["export", "weights_of"]

_EXPORTED = "exported"  # what such a file calls its weights, and its key for what they were before
_KEPT = ("zoo_class", "zoo_training_batches", "hyper_parameters", "hparams_name", "pytorch-lightning_version")


def export(checkpoint: str | Path, out: str | Path) -> Path:
    """Writes the model of a checkpoint, without optimizer states, positions in the data and callbacks.

    Where the run averaged weights, these are the average, and no others are kept. :func:`zoo.load` gives the same model of
    both files; training goes on from the first one alone.

    Arguments:
        checkpoint: A file of a run's ``checkpoints`` folder.
        out: The file to write.

    Returns:
        ``out``.

    Raises:
        ZooError: where the checkpoint is none, or ``out`` can't be written.
    """
    stored = read(checkpoint)
    average: dict[str, Any] = stored.get("zoo_average", {}).get("weights", {})
    kept = {name: stored[name] for name in _KEPT if name in stored}
    kept["state_dict"] = _packed({name: average.get(name, tensor) for name, tensor in stored["state_dict"].items()})
    kept[_EXPORTED] = weights_of(checkpoint, stored)
    with write_atomically(out) as file:
        torch.save(kept, file)
    return Path(out)


def _packed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors as parts of a few long ones, of each type one: in a file every one by itself takes 200 bytes more."""
    packed: dict[str, Tensor] = {}
    for dtype in dict.fromkeys(tensor.dtype for tensor in state.values()):
        of = {name: tensor for name, tensor in state.items() if tensor.dtype == dtype}
        parts = torch.cat([tensor.flatten() for tensor in of.values()]).split([tensor.numel() for tensor in of.values()])
        packed |= {name: part.view(tensor.shape) for (name, tensor), part in zip(of.items(), parts, strict=True)}
    return {name: packed[name] for name in state}


def weights_of(checkpoint: str | Path, stored: Mapping[str, Any]) -> str:
    """Which weights a checkpoint has: the file's name without its suffix, with ``averaged`` where these are the average.

    Of an exported one it is ``exported``: whichever its author chose to give away.

    Arguments:
        checkpoint: The file.
        stored: What it holds.

    Example:
        >>> weights_of("runs/gan-digits/1/checkpoints/last.ckpt", {"zoo_average": {"weights": {"net.0.weight": None}}})
        'last, averaged'
    """
    if _EXPORTED in stored:
        return _EXPORTED
    return Path(checkpoint).stem + (", averaged" if stored.get("zoo_average", {}).get("weights") else "")
