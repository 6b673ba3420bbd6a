"""Samples of a model, and files of them: a picture or an array."""

import inspect
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.inference import first_test_examples, inference
from zoo.models.base import GenerativeModule, SamplesMeans
from zoo.options import require_at_least
from zoo.plots import picture
from zoo.spec import DataSpec, require_numbers

__all__ = ["MEANS", "sample", "save_samples"]

MEANS = "means of p(x|z), z drawn from the prior"  # the line above a picture that shows them


def sample(
    model: GenerativeModule,
    n: int = 64,
    *,
    seed: int = 0,
    batch_size: int = 256,
    mean: bool = False,
    temperature: float | None = None,
) -> Tensor:
    """Draws n examples from a model in evaluation mode, on the model's device and with random numbers of their own.

    Arguments:
        model: The model.
        n: How many.
        seed: The seed; the same one gives the same samples.
        batch_size: How many are made at once, so that memory does not grow with ``n``.
        mean: Of a model that has p(x|z), means of it in place of draws, as pictures show them.
        temperature: What scales the noise that samples are made of: below 1 they are more alike and more typical.

    Returns:
        The samples in data space, (n, *shape), on the CPU; means of few levels are floats between them.

    Raises:
        ZooError: if ``n`` or ``batch_size`` is below 1, a temperature not above 0, the model has no mean or temperature,
            or what it makes is NaN or infinite.

    Example:
        >>> from zoo.models import GAN
        >>> sample(GAN(DataSpec("ring", (2,))), 5).shape
        torch.Size([5, 2])
    """
    require_at_least(1, n=n, batch_size=batch_size)
    if mean and not isinstance(model, SamplesMeans):
        raise ZooError(f"mean: {type(model).__name__} has no p(x|z) with a mean, its samples are all that there is")
    draw: Callable[..., Tensor] = model.sample_mean if mean and isinstance(model, SamplesMeans) else model.sample
    options = {}
    if temperature is not None:
        if not 0 < temperature < math.inf:
            raise ZooError(f"temperature {temperature}: a number above 0 is needed")
        if "temperature" not in inspect.signature(draw).parameters:
            raise ZooError(f"temperature: the samples of {type(model).__name__} have none")
        options["temperature"] = temperature
    with inference(model, seed):
        return torch.cat([require_numbers(draw(min(batch_size, n - i), **options)).cpu() for i in range(0, n, batch_size)])


def save_samples(x: Tensor, spec: DataSpec, path: str | Path, *, title: str = "", columns: int | None = None) -> Path:
    """Writes samples as what the name of the file asks for; folders that are missing are made.

    Arguments:
        x: The samples, (n, *shape).
        spec: What they are.
        path: ``.png`` for a grid of images or a plot of vectors, ``.npz`` for the array ``x``.
        title: A line above the picture that says what it shows.
        columns: Images in a row; about the square root of n if not given.

    Returns:
        The path.

    Raises:
        ZooError: if the name ends in something else, or a sample is NaN or infinite.

    Example:
        >>> import tempfile
        >>> path = save_samples(torch.zeros(5, 2), DataSpec("ring", (2,)), Path(tempfile.mkdtemp()) / "x.npz")
        >>> np.load(path)["x"].shape
        (5, 2)
    """
    path = Path(path)
    if path.suffix not in (".png", ".npz"):
        raise ZooError(f"{path}: the name must end in .png or .npz")
    require_numbers(x)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        picture(x, spec, columns, title).save(path)
    else:
        np.savez_compressed(path, x=x.cpu().numpy())
    return path


def draw_samples(
    model: GenerativeModule, data: LightningDataModule, folder: str | Path, n: int = 64, *, seed: int = 0
) -> list[Path]:
    """Draws n samples and, beside them, the first n test examples, as pictures.

    Arguments:
        model: The model.
        data: Data of its kind.
        folder: Where ``evaluation_samples.png`` and ``evaluation_real.png`` are written.
        n: How many.
        seed: The seed of the samples.

    Returns:
        The files.

    Example:
        >>> import tempfile
        >>> from datamodules import Digits
        >>> from zoo.models import GAN
        >>> data = Digits()
        >>> [path.name for path in draw_samples(GAN(data.spec), data, tempfile.mkdtemp(), 4)]
        ['evaluation_samples.png', 'evaluation_real.png']
    """
    real = first_test_examples(data, n)
    drawn = {"samples": sample(model, min(n, len(real)), seed=seed), "real": real}
    return [save_samples(x, model.spec, Path(folder) / f"evaluation_{name}.png") for name, x in drawn.items()]
