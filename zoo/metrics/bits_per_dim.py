"""Log-likelihoods in bits per dimension, the unit in which those of images are compared."""

import math

from torch import Tensor

from zoo.spec import DataSpec

__all__ = ["bits_per_dim"]


def bits_per_dim(log_p: Tensor, spec: DataSpec) -> Tensor:
    """-log p / (D ln 2), from nats per example of D dimensions."""
    return -log_p / (spec.dims * math.log(2))
