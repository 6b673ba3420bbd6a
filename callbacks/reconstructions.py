"""Held-out images and what the model makes of them."""

import torch
from PIL import Image
from pytorch_lightning import Trainer

from callbacks.gallery import Gallery
from zoo.evaluation.latents import reconstructions
from zoo.models.base import Autoencodes, GenerativeModule
from zoo.options import require_at_least
from zoo.plots import picture

__all__ = ["Reconstructions"]


class Reconstructions(Gallery):
    """Pairs of rows: validation images above, their reconstructions decode(encode(x)) below; for models that have both.

    Arguments:
        n: How many images.
        columns: Images per row.
        name: The file's and the logged image's name.
        seed: Seed of the reconstructions, where they are random.
    """

    def __init__(self, n: int = 32, columns: int = 16, name: str = "reconstructions", seed: int = 0):
        super().__init__(name, seed)
        require_at_least(1, n=n, columns=columns)
        self.n, self.columns = n, columns

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | None:
        """Originals and reconstructions, row by row; None for models without ``encode`` or data without pixels."""
        if self.held_out is None or not model.spec.is_image or not isinstance(model, Autoencodes):
            return None
        pairs = reconstructions(model, self.held_out.x[: self.n].to(model.device))  # (N, 2, *shape)
        rows = [row for some in pairs.split(self.columns) for row in some.unbind(1)]
        return picture(torch.cat(rows), model.spec, columns=min(self.columns, len(pairs)))
