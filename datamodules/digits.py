"""Real handwritten digits that come inside scikit-learn: nothing to download."""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from datamodules.base import DataModule
from datamodules.loader import Arrays
from zoo.spec import DataSpec

__all__ = ["Digits"]


class Digits(DataModule):
    """1,797 handwritten digits, 8x8, gray levels 0 .. 16; 1,297 train, 250 validation, 250 test, class-balanced, fixed.

    The arguments are those of :class:`DataModule`.

    References:
        | Optical Recognition of Handwritten Digits (Alpaydin and Kaynak, 1998), the test part, as in scikit-learn
    """

    spec = DataSpec("digits", (1, 8, 8), levels=17)

    def load(self) -> dict[str, Arrays]:
        """The three splits, always the same."""
        images, labels = load_digits(return_X_y=True)
        rest, test = train_test_split(range(len(labels)), test_size=250, stratify=labels, random_state=0)
        train, val = train_test_split(rest, test_size=250, stratify=labels[rest], random_state=0)
        x = torch.as_tensor(images, dtype=torch.uint8).view(-1, *self.spec.shape)
        every = Arrays(x, label=torch.as_tensor(labels))
        return {name: every.subset(torch.tensor(part)) for name, part in (("train", train), ("val", val), ("test", test))}
