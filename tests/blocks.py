"""The smallest data with ground-truth factors: a square somewhere in an 8x8 image, solid or hollow."""

import torch

from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.spec import DataSpec

NAMES, SIZES = ("row", "column", "filling"), (3, 4, 2)


def draw(factors: torch.Tensor) -> torch.Tensor:
    """Images (N, 1, 8, 8) of factors (N, 3)."""
    row, column, filling = (value[:, None, None] for value in factors.unbind(1))
    y, x = torch.arange(8)[:, None] - 2 * row, torch.arange(8) - column
    inside = ((y >= 0) & (y < 4) & (x >= 0) & (x < 4)) & ~((filling == 0) & (y > 0) & (y < 3) & (x > 0) & (x < 3))
    return inside.to(torch.uint8)[:, None]


class Blocks(DataModule):
    """Random examples of the 24 images; they come sorted, as dSprites' do."""

    spec = DataSpec("blocks", (1, 8, 8), 2, NAMES, SIZES)

    def load(self):
        generator = torch.Generator().manual_seed(0)
        splits = {}
        for split, n in (("train", 256), ("val", 240), ("test", 300)):
            number = torch.randint(24, (n,), generator=generator).sort().values
            factors = torch.stack([number // 8, number // 2 % 4, number % 2], dim=1)
            splits[split] = Arrays(draw(factors), factors=factors)
        return splits


class RenderedBlocks(Blocks):
    """The same, drawn for any factors, and counted."""

    factor_sizes, deterministic = SIZES, True
    rendered = 0

    def render(self, factors):
        self.rendered += len(factors)
        return draw(factors)
