"""The modes of data: centers that are known, or the classes that a classifier of the data tells apart."""

from abc import ABC, abstractmethod

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.features import Features, RawFeatures
from zoo.metrics.two_sample import class_coverage, mode_coverage

__all__ = ["Centers", "Classes", "Modes", "modes_of"]


class Modes(ABC):
    """Modes that data are known to have, and what of them features of samples show.

    Attributes:
        probabilities: The share of each mode in the data, (K,).
    """

    probabilities: Tensor

    @abstractmethod
    def __call__(self, y: Tensor) -> dict[str, float]:
        """``modes``, how many of them features (M, D) hit, and ``kl_modes``, KL(samples || data) of their shares, nats."""

    def describe(self, n: int) -> dict[str, float]:
        """How many modes there are, and how many of them n samples of the data themselves would hit in the mean."""
        return {"modes": len(self.probabilities), "reachable": (1 - (1 - self.probabilities.double()) ** n).sum().item()}


class Centers(Modes):
    """Equally likely Gaussians; ``near_modes`` is the share of samples within 3 standard deviations of a center.

    Arguments:
        means: The centers, (K, D).
        std: Their standard deviation.
    """

    def __init__(self, means: Tensor, std: float):
        self.means, self.std = means, std
        self.probabilities = torch.full((len(means),), 1 / len(means), dtype=torch.float64)

    def __call__(self, y: Tensor) -> dict[str, float]:
        found = mode_coverage(y, self.means.to(y.device), self.std)
        kl = {"kl_modes": found.kl} if found.modes else {}
        return {"modes": found.modes, "near_modes": found.share, **kl}


class Classes(Modes):
    """The classes of the data, as the classifier behind the features tells them.

    Arguments:
        features: The features.
        probabilities: The shares of the classes in the data, (K,).
    """

    def __init__(self, features: Features, probabilities: Tensor):
        self.features, self.probabilities = features, probabilities

    def __call__(self, y: Tensor) -> dict[str, float]:
        found = class_coverage(self.features.classes_of(y), len(self.probabilities), probabilities=self.probabilities)
        return {"modes": found.modes, "kl_modes": found.kl}


def modes_of(data: LightningDataModule, features: Features, train: Tensor) -> Modes:
    """The modes of the data: those around their own ``means``, of standard deviation ``std``, or the classifier's classes.

    Arguments:
        data: The data.
        features: The features of samples that will be given.
        train: Those of training examples, (N, dim), by which classes are weighed.

    Raises:
        ZooError: where modes are not known, or can't be told of such features.
    """
    means, std = getattr(data, "means", None), getattr(data, "std", None)
    if isinstance(means, Tensor) and isinstance(std, float):
        if not isinstance(features, RawFeatures):
            raise ZooError(f"modes of {features.spec.name} are points: choose raw features, in place of {features.name}")
        return Centers(means, std)
    if features.classes_of(train[:1]) is None:
        raise ZooError(f"{features.spec.name} has no known modes, and {features.name} features tell no classes: cnn does")
    return Classes(features, features.class_shares(train))
