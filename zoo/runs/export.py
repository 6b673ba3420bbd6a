"""A checkpoint of the model alone, for whoever uses it and does not go on with its training."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

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
    # A clone, since a tensor that is a part of a larger one is stored with all of it.
    kept["state_dict"] = {name: average.get(name, tensor).clone() for name, tensor in stored["state_dict"].items()}
    kept[_EXPORTED] = weights_of(checkpoint, stored)
    with write_atomically(out) as file:
        torch.save(kept, file)
    return Path(out)


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
