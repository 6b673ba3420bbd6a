"""What the latent space looks like: traversals of single latents, paths between two examples."""

import torch
from PIL import Image
from pytorch_lightning import Trainer

from callbacks.gallery import Gallery
from zoo.models.base import Autoencodes, GenerativeModule
from zoo.pictures import picture

__all__ = ["Interpolations", "LatentTraversals"]


class LatentTraversals(Gallery):
    """A row for each latent: one held-out image, that latent alone moved from -``reach`` to ``reach``.

    Arguments:
        columns: Steps of each traversal.
        reach: How far from 0, in standard deviations of a standard normal prior.
        latents: At most so many rows, those whose means vary most over the held-out examples, most first.
        name: The file's and the logged image's name.
    """

    def __init__(self, columns: int = 11, reach: float = 2.5, latents: int = 16, name: str = "traversals"):
        super().__init__(name)
        self.columns, self.reach, self.latents = columns, reach, latents

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | None:
        """The rows; None for models without ``encode`` or data without pixels."""
        if self.held_out is None or not model.spec.is_image or not isinstance(model, Autoencodes):
            return None
        z = model.encode(self.held_out.x.to(model.device))  # (B, d)
        rows = z.var(0).argsort(descending=True)[: self.latents]
        moved = z[0].repeat(len(rows), self.columns, 1)  # (rows, columns, d)
        steps = torch.linspace(-self.reach, self.reach, self.columns, device=z.device, dtype=z.dtype)
        moved[torch.arange(len(rows)), :, rows] = steps
        return picture(model.decode(moved.flatten(0, 1)), model.spec, columns=self.columns)


class Interpolations(Gallery):
    """A row for each of ``n`` pairs of held-out images: what lies on the line between their latents.

    Arguments:
        n: Pairs.
        columns: Steps from one to the other, both included.
        name: The file's and the logged image's name.
    """

    def __init__(self, n: int = 8, columns: int = 11, name: str = "interpolations"):
        super().__init__(name)
        self.n, self.columns = n, columns

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | None:
        """The rows; None for models without ``encode`` or data without pixels."""
        if self.held_out is None or not model.spec.is_image or not isinstance(model, Autoencodes):
            return None
        z = model.encode(self.held_out.x[: 2 * self.n].to(model.device))
        pairs = len(z) // 2
        start, end = z[:pairs, None], z[pairs : 2 * pairs, None]  # (pairs, 1, d)
        weight = torch.linspace(0, 1, self.columns, device=z.device, dtype=z.dtype)[:, None]
        return picture(model.decode(torch.lerp(start, end, weight).flatten(0, 1)), model.spec, columns=self.columns)
