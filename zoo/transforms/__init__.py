"""Invertible maps with their log-determinants, pure torch: the parts of flow posteriors and flow priors."""

from zoo.transforms.actnorm import ActNorm
from zoo.transforms.amortized import AmortizedParameters
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
)
from zoo.transforms.coupling import Coupling
from zoo.transforms.entangle import Entangle
from zoo.transforms.image_flow import ImageFlow
from zoo.transforms.invertible_conv import Invertible1x1Conv
from zoo.transforms.mixture_logistic import mixture_logit, mixture_logit_inverse
from zoo.transforms.planar import Planar
from zoo.transforms.radial import Radial
from zoo.transforms.spline import SplineAutoregressive
from zoo.transforms.splits import ChannelSplit, CheckerboardSplit, ColumnSplit, SpaceToDepth
from zoo.transforms.sylvester import Sylvester

__all__ = [
    "ActNorm",
    "AffineAutoregressive",
    "AmortizedParameters",
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
    "Invertible1x1Conv",
    "NotInvertibleError",
    "Permutation",
    "Planar",
    "Radial",
    "Reverse",
    "SpaceToDepth",
    "SplineAutoregressive",
    "Sylvester",
    "Transform",
    "autoregressive_flow",
    "mixture_logit",
    "mixture_logit_inverse",
]
