"""Invertible maps with their log-determinants, pure torch: the parts of flow posteriors and flow priors."""

__all__ = [
    "AffineAutoregressive",
    "AmortisedParameters",
    "Autoregressive",
    "Compose",
    "Entangle",
    "GatedAutoregressive",
    "Inverse",
    "NotInvertibleError",
    "Permutation",
    "Planar",
    "Radial",
    "Reverse",
    "SplineAutoregressive",
    "Sylvester",
    "Transform",
    "autoregressive_flow",
    "full_precision",
]

from zoo.transforms.amortised import AmortisedParameters
from zoo.transforms.autoregressive import (
    AffineAutoregressive,
    Autoregressive,
    GatedAutoregressive,
    autoregressive_flow,
)
from zoo.transforms.base import (
    Compose,
    Inverse,
    NotInvertibleError,
    Permutation,
    Reverse,
    Transform,
    full_precision,
)
from zoo.transforms.entangle import Entangle
from zoo.transforms.planar import Planar
from zoo.transforms.radial import Radial
from zoo.transforms.spline import SplineAutoregressive
from zoo.transforms.sylvester import Sylvester
