"""Samples of the model as a picture."""

import inspect
from collections.abc import Callable, Sequence

import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor

from callbacks.gallery import Gallery
from zoo.evaluation.samples import MEANS
from zoo.lightning import datamodule_of
from zoo.models.base import GenerativeModule, SamplesMeans
from zoo.options import require_at_least
from zoo.plots import picture

__all__ = ["SampleGrid", "TemperatureSamples"]


class SampleGrid(Gallery):
    """A grid of ``n`` samples, always from the same random numbers; a scatter plot for vectors.

    Arguments:
        n: How many; vectors are plotted ``32 n`` at a time.
        name: The file's and the logged image's name.
        seed: Seed of the samples.
        mean: Of images of models that have p(x|z), the means of it, without its noise; the picture says so.
    """

    def __init__(self, n: int = 64, name: str = "samples", seed: int = 0, mean: bool = True):
        super().__init__(name, seed)
        require_at_least(1, n=n)
        self.n, self.mean = n, mean

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image:
        """The samples' picture."""
        if not model.spec.is_image:
            density = getattr(datamodule_of(trainer), "distribution", None)  # of toy data
            return picture(model.sample(32 * self.n), model.spec, density=density)
        if self.mean and isinstance(model, SamplesMeans):
            return picture(model.sample_mean(self.n), model.spec, title=MEANS)
        return picture(model.sample(self.n), model.spec)


class TemperatureSamples(Gallery):
    """A row of samples for each temperature, the same noise in all rows; for models whose ``sample`` has a temperature.

    Of models that have p(x|z), the means of it.

    Arguments:
        temperatures: From few and typical samples to the model's own.
        n: Samples in a row.
        name: The file's and the logged image's name.
        seed: Seed of the samples.
    """

    def __init__(
        self,
        temperatures: Sequence[float] = (0.3, 0.5, 0.7, 0.85, 1.0),
        n: int = 12,
        name: str = "temperatures",
        seed: int = 0,
    ):
        super().__init__(name, seed)
        require_at_least(1, n=n, temperatures=len(temperatures))
        self.temperatures, self.n = temperatures, n

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | None:
        """The rows, in the order of the temperatures."""
        sample: Callable[..., Tensor] = model.sample_mean if isinstance(model, SamplesMeans) else model.sample
        if not model.spec.is_image or "temperature" not in inspect.signature(sample).parameters:
            return None
        rows = []
        for temperature in self.temperatures:
            torch.manual_seed(self.seed)
            rows.append(sample(self.n, temperature=temperature))
        return picture(torch.cat(rows), model.spec, columns=self.n, title=MEANS if isinstance(model, SamplesMeans) else "")
