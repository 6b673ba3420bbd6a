"""dSprites with color, with noise, and in front of pictures: drawn afresh at each access, and no factors."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Generator, Tensor

from datamodules.dsprites import DSprites
from datamodules.files import reading
from datamodules.readers import open_picture, require_few_pixels
from zoo.errors import ZooError

__all__ = ["BackgroundDSprites", "ColorDSprites", "NoisyDSprites", "ScreamDSprites"]


class _Painted(DSprites):
    """Three channels of 256 levels, random at each access."""

    channels, levels, deterministic = 3, 256, False


class ColorDSprites(_Painted):
    """dSprites, each in a color of its own: x = sprite * rgb, with rgb ~ U[0.5, 1)^3 for each image, on black.

    Colors are drawn afresh at each access, on the device, and rounded to 256 levels. In evaluation each pass sees the
    same. Everything else is as in :class:`DSprites`.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2019)
        | https://arxiv.org/abs/1811.12359
    """

    title = "color_dsprites"

    def paint(self, sprites: Tensor, generator: Generator | None = None) -> Tensor:
        """sprite * rgb, as levels."""
        rgb = torch.rand(len(sprites), 3, 1, 1, generator=generator, device=sprites.device) / 2 + 0.5
        return _levels(sprites * rgb)


class NoisyDSprites(_Painted):
    """dSprites in front of noise: x = min(sprite + u, 1), with u ~ U[0, 1) for each pixel and channel.

    The sprite is white, and what is behind it colored noise, drawn afresh at each access as in :class:`ColorDSprites`.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2019)
        | https://arxiv.org/abs/1811.12359
    """

    title = "noisy_dsprites"

    def paint(self, sprites: Tensor, generator: Generator | None = None) -> Tensor:
        """min(sprite + u, 1), as levels."""
        noise = torch.rand(len(sprites), 3, *sprites.shape[2:], generator=generator, device=sprites.device)
        return _levels((sprites + noise).clamp(max=1))


class BackgroundDSprites(_Painted):
    """dSprites in front of a picture that they invert, after :class:`ScreamDSprites` with a picture of your choice.

    The background is b = (crop + tint) / 2, with a random crop of the picture and tint ~ U[0, 1)^3 for each image; the
    sprite's pixels are 1 - b. Both are drawn afresh at each access as in :class:`ColorDSprites`. The spec's name says
    which picture: no number on one is comparable with those on another.

    Arguments:
        image: Path of the picture, made to fit into 350x274 pixels as The Scream is (at another resolution in proportion);
            scikit-learn's photograph of a temple, ``china``, if not given.
        resolution, size, original, factors, correlate, hold_out: See :class:`DSprites`.
        batch_size, eval_batch_size, seed, on_device: See :class:`DSprites`.

    Raises:
        ZooError: where there is no such picture, or one that is too small to be cropped.
    """

    title = "background_dsprites"

    def __init__(self, image: str | None = None, **options: Any):
        super().__init__(**options)
        self.image = image
        self.picture = self._picture()  # (3, H, W) in [0, 1]

    @property
    def variants(self) -> list[str]:
        """The picture's name, then as in dSprites."""
        return [Path(self.image).stem if self.image else "china", *super().variants]

    def paint(self, sprites: Tensor, generator: Generator | None = None) -> Tensor:
        """b, and 1 - b where the sprite is, as levels."""
        n, device = len(sprites), sprites.device
        self.picture = self.picture.to(device)
        (_, height, width), side = self.picture.shape, torch.arange(self.resolution, device=device)
        # as in the reference, the last possible row and column never begin a crop
        row, column = (
            torch.randint(size - self.resolution, (n, 1), generator=generator, device=device) + side
            for size in (height, width)
        )
        crop = self.picture[:, row[:, :, None], column[:, None, :]].transpose(0, 1)  # (3, B, H, W) -> (B, 3, H, W)
        background = (crop + torch.rand(n, 3, 1, 1, generator=generator, device=device)) / 2
        return _levels(torch.where(sprites > 0, 1 - background, background))

    def _picture(self) -> Tensor:
        if self.image is None:
            from sklearn.datasets import load_sample_image

            picture = Image.fromarray(load_sample_image("china.jpg"))
        else:
            path = Path(self.image).expanduser()
            if not path.is_file():
                raise ZooError(f"{path} is not there: name a picture with --data.image FILE.")
            with reading(path), open_picture(path) as opened:
                require_few_pixels(opened)
                picture = ImageOps.exif_transpose(opened).convert("RGB")
        picture.thumbnail((350 * self.resolution // 64, 274 * self.resolution // 64))
        if min(picture.size) <= self.resolution:
            size, cut = f"{picture.width}x{picture.height}", f"{self.resolution}x{self.resolution}"
            raise ZooError(f"{self.image}: of {size} pixels no {cut} can be cut at random. Give a larger picture.")
        return torch.from_numpy(np.array(picture, np.float32)).permute(2, 0, 1) / 255  # (H, W, C) -> (C, H, W)


class ScreamDSprites(BackgroundDSprites):
    """dSprites in front of The Scream by Edvard Munch; see :class:`BackgroundDSprites` for the formula.

    The painting isn't part of the zoo, and no hash tells which copy of it others used: give your own. Any picture is
    taken, but what isn't The Scream belongs into :class:`BackgroundDSprites`.

    Arguments:
        image: Path of a picture of the painting.
        resolution, size, original, factors, correlate, hold_out: See :class:`DSprites`.
        batch_size, eval_batch_size, seed, on_device: See :class:`DSprites`.

    Raises:
        ZooError: as :class:`BackgroundDSprites`, and without a picture.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.,
        | 2019)
        | https://arxiv.org/abs/1811.12359
    """

    title = "scream_dsprites"

    def __init__(self, image: str | None = None, **options: Any):
        if image is None:
            raise ZooError(
                "scream_dsprites needs a picture of The Scream: give yours with --data.image FILE.\n"
                "--data background_dsprites needs none; it is another data set, and metrics on the two don't compare."
            )
        super().__init__(image, **options)

    @property
    def variants(self) -> list[str]:
        """As in dSprites."""
        return super().variants[1:]


def _levels(x: Tensor) -> Tensor:
    """Values in [0, 1] as the nearest of 256 levels."""
    return (x * 255).round().to(torch.uint8)
