"""Invertible maps with their log-determinants, pure torch: the parts of flow posteriors and flow priors."""

__all__ = [
    "ActNorm",
    "AffineAutoregressive",
    "AmortisedParameters",
    "Autoregressive",
    "ChannelSplit",
    "CheckerboardSplit",
    "ColumnSplit",
    "Compose",
    "Coupling",
    "Entangle",
    "GatedAutoregressive",
    "ImageFlow",
    "Inverse",
    "NotInvertibleError",
    "Permutation",
    "Planar",
    "Pointwise",
    "Radial",
    "Reverse",
    "SpaceToDepth",
    "SplineAutoregressive",
    "Sylvester",
    "Transform",
    "autoregressive_flow",
    "full_precision",
    "mixture_logit",
    "mixture_logit_inverse",
]

from zoo.transforms.actnorm import ActNorm
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
from zoo.transforms.coupling import Coupling
from zoo.transforms.entangle import Entangle
from zoo.transforms.image_flow import ImageFlow
from zoo.transforms.mixture_logistic import mixture_logit, mixture_logit_inverse
from zoo.transforms.planar import Planar
from zoo.transforms.pointwise import Pointwise
from zoo.transforms.radial import Radial
from zoo.transforms.spline import SplineAutoregressive
from zoo.transforms.splits import ChannelSplit, CheckerboardSplit, ColumnSplit, SpaceToDepth
from zoo.transforms.sylvester import Sylvester
