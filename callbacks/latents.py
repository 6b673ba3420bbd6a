"""What the latent space looks like: traversals of single latents, paths between two examples."""

import torch
from PIL import Image
from pytorch_lightning import Trainer
from torch import Tensor

from callbacks.gallery import Gallery, decoded
from zoo.models.base import Autoencodes, GenerativeModule
from zoo.plots import picture

__all__ = ["AnimatedTraversals", "Interpolations", "LatentTraversals", "traversals"]


class LatentTraversals(Gallery):
    """A row for each latent: one held-out image, that latent alone moved from -``reach`` to ``reach``.

    Arguments:
        columns: Steps of each traversal.
        reach: How far from 0, in standard deviations of a standard normal prior.
        latents: At most so many rows, those whose means vary most over the held-out examples, in their order: where all are
            shown, row d moves latent d, as in the heat maps of the scores.
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
        moved = traversals(z, 1, self.columns, self.reach, self.latents).flatten(0, 2)
        return picture(decoded(model, moved), model.spec, columns=self.columns)


class AnimatedTraversals(Gallery):
    """An animation that loops: a row for each latent, a column for each held-out image, each row moved by its latent.

    A latent goes from -``reach`` to ``reach`` and back. File: ``<name>.gif``.

    Arguments:
        examples: Held-out images, the columns.
        steps: Steps from one end to the other.
        reach: How far from 0, in standard deviations of a standard normal prior.
        latents: At most so many rows, those whose means vary most over the held-out examples, in their order: where all are
            shown, row d moves latent d, as in the heat maps of the scores.
        name: The file's and the logged animation's name.
    """

    def __init__(
        self, examples: int = 8, steps: int = 16, reach: float = 2.5, latents: int = 16, name: str = "traversals_animated"
    ):
        super().__init__(name)
        self.examples, self.steps, self.reach, self.latents = examples, steps, reach, latents

    def draw(self, trainer: Trainer, model: GenerativeModule) -> list[Image.Image] | None:
        """The frames, 2 (``steps`` - 1) of them; None for models without ``encode`` or data without pixels."""
        if self.held_out is None or not model.spec.is_image or not isinstance(model, Autoencodes):
            return None
        z = model.encode(self.held_out.x.to(model.device))
        moved = traversals(z, self.examples, self.steps, self.reach, self.latents)  # (rows, n, steps, d)
        there = [
            picture(decoded(model, frame.flatten(0, 1)), model.spec, columns=moved.shape[1]) for frame in moved.unbind(2)
        ]
        return there + there[-2:0:-1]


def traversals(z: Tensor, examples: int, steps: int, reach: float, latents: int) -> Tensor:
    """The first latents of z (B, d), each with one entry moved from -reach to reach: (rows, examples, steps, d).

    A row is the entry that it moves: those that vary most over B, at most ``latents`` of them, in their order.
    """
    rows = z.var(0).argsort(descending=True)[:latents].sort().values
    moved = z[:examples, None].repeat(len(rows), 1, steps, 1)
    moved[torch.arange(len(rows)), :, :, rows] = torch.linspace(-reach, reach, steps, device=z.device, dtype=z.dtype)
    return moved


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
        return picture(decoded(model, torch.lerp(start, end, weight).flatten(0, 1)), model.spec, columns=self.columns)
