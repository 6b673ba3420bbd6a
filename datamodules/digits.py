"""Real handwritten digits that come with the package: nothing to download."""

from pathlib import Path

import numpy as np
import torch

from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.spec import DataSpec

__all__ = ["Digits"]


class Digits(DataModule):
    """1,797 handwritten digits, 8x8, gray levels 0 .. 16; 1,297 train, 250 validation, 250 test, class-balanced, fixed.

    The file is what scikit-learn's ``load_digits`` gives, cut by its ``train_test_split``: importing them takes longer than
    all else of a first training.

    The arguments are those of :class:`DataModule`.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), the test part, as in scikit-learn
    """

    spec = DataSpec("digits", (1, 8, 8), levels=17)

    def load(self) -> dict[str, Arrays]:
        """The three splits, always the same."""
        with np.load(Path(__file__).with_suffix(".npz"), allow_pickle=False) as file:
            every = Arrays(torch.from_numpy(file["x"]), label=torch.from_numpy(file["label"]).long())
            return {name: every.subset(torch.from_numpy(file[name]).long()) for name in ("train", "val", "test")}
