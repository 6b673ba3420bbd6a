"""What the latent space looks like: traversals of single latents, paths between two examples."""

from PIL import Image
from pytorch_lightning import Trainer

from callbacks.gallery import Gallery
from zoo.evaluation.latents import interpolations, traversals
from zoo.models.base import Autoencodes, GenerativeModule
from zoo.options import require_at_least
from zoo.plots import picture

__all__ = ["AnimatedTraversals", "Interpolations", "LatentTraversals"]


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
        require_at_least(1, columns=columns, latents=latents)
        self.columns, self.reach, self.latents = columns, reach, latents

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | None:
        """The rows; None for models without ``encode`` or data without pixels."""
        if self.held_out is None or not model.spec.is_image or not isinstance(model, Autoencodes):
            return None
        moved = traversals(model, self.held_out.x.to(model.device), 1, self.columns, self.reach, self.latents)
        return picture(moved.flatten(0, 2), model.spec, columns=self.columns)


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
        require_at_least(1, examples=examples, steps=steps, latents=latents)
        self.examples, self.steps, self.reach, self.latents = examples, steps, reach, latents

    def draw(self, trainer: Trainer, model: GenerativeModule) -> list[Image.Image] | None:
        """The frames, 2 (``steps`` - 1) of them; None for models without ``encode`` or data without pixels."""
        if self.held_out is None or not model.spec.is_image or not isinstance(model, Autoencodes):
            return None
        x = self.held_out.x.to(model.device)
        moved = traversals(model, x, self.examples, self.steps, self.reach, self.latents)  # (rows, n, steps, *shape)
        there = [picture(frame.flatten(0, 1), model.spec, columns=moved.shape[1]) for frame in moved.unbind(2)]
        return there + there[-2:0:-1]


class Interpolations(Gallery):
    """A row for each of ``n`` pairs of held-out images: what lies on the line between their latents.

    Arguments:
        n: Pairs.
        columns: Steps from one to the other, both included.
        name: The file's and the logged image's name.
    """

    def __init__(self, n: int = 8, columns: int = 11, name: str = "interpolations"):
        super().__init__(name)
        require_at_least(1, n=n, columns=columns)
        self.n, self.columns = n, columns

    def draw(self, trainer: Trainer, model: GenerativeModule) -> Image.Image | None:
        """The rows; None for models without ``encode`` or data without pixels, or of a single example."""
        if (
            self.held_out is None
            or not model.spec.is_image
            or not isinstance(model, Autoencodes)
            or len(self.held_out.x) < 2
        ):
            return None
        between = interpolations(model, self.held_out.x[: 2 * self.n].to(model.device), self.columns)
        return picture(between.flatten(0, 1), model.spec, columns=self.columns)
