"""Samples of the model as a picture."""

from PIL import Image
from pytorch_lightning import Trainer

from callbacks.gallery import Gallery
from zoo.models.base import GenerativeModule
from zoo.pictures import picture

__all__ = ["SampleGrid"]


class SampleGrid(Gallery):
    """A grid of ``n`` samples, always from the same random numbers; a scatter plot for vectors.

    Arguments:
        n: How many; vectors are plotted ``32 n`` at a time.
        name: The file's and the logged image's name.
        seed: Seed of the samples.
    """

    def __init__(self, n: int = 64, name: str = "samples", seed: int = 0):
        super().__init__(name, seed)
        self.n = n

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image:
        """The samples' picture."""
        return picture(model.sample(self.n if model.spec.is_image else 32 * self.n), model.spec)
