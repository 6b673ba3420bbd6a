"""Samples of a model, and files of them: a picture or an array."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.inference import inference
from zoo.models.base import GenerativeModule
from zoo.plots import picture
from zoo.spec import DataSpec

__all__ = ["sample", "save_samples"]


def sample(model: GenerativeModule, n: int = 64, *, seed: int = 0, batch_size: int = 256) -> Tensor:
    """Draws n examples from a model in evaluation mode, on the model's device and with random numbers of their own.

    Arguments:
        model: The model.
        n: How many.
        seed: The seed; the same one gives the same samples.
        batch_size: How many are made at once, so that memory does not grow with ``n``.

    Returns:
        The samples in data space, (n, *shape), on the CPU.

    Raises:
        ZooError: if ``n`` or ``batch_size`` is below 1.

    Example:
        >>> from zoo.models import GAN
        >>> sample(GAN(DataSpec("ring", (2,))), 5).shape
        torch.Size([5, 2])
    """
    for name, value in (("n", n), ("batch_size", batch_size)):
        if value < 1:
            raise ZooError(f"{name} {value}: 1 or more is needed")
    with inference(model, seed):
        return torch.cat([model.sample(min(batch_size, n - i)).cpu() for i in range(0, n, batch_size)])


def save_samples(x: Tensor, spec: DataSpec, path: str | Path) -> Path:
    """Writes samples as what the name of the file asks for; folders that are missing are made.

    Arguments:
        x: The samples, (n, *shape).
        spec: What they are.
        path: ``.png`` for a grid of images or a plot of vectors, ``.npz`` for the array ``x``.

    Returns:
        The path.

    Raises:
        ZooError: if the name ends in something else.

    Example:
        >>> import tempfile
        >>> path = save_samples(torch.zeros(5, 2), DataSpec("ring", (2,)), Path(tempfile.mkdtemp()) / "x.npz")
        >>> np.load(path)["x"].shape
        (5, 2)
    """
    path = Path(path)
    if path.suffix not in (".png", ".npz"):
        raise ZooError(f"{path}: the name must end in .png or .npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        picture(x, spec).save(path)
    else:
        np.savez_compressed(path, x=x.cpu().numpy())
    return path
