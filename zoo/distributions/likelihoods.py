"""Likelihoods p(x|z): modules that turn a decoder's output into distributions of data."""

import math
import warnings
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from zoo import registry
from zoo.distributions.component import Component, Family
from zoo.errors import ZooError
from zoo.options import MOST_UNITS, require_between
from zoo.precision import widen_half
from zoo.spec import DataSpec, require_numbers
from zoo.transforms.mixture_logistic import bounded_log_scale

__all__ = [
    "LIKELIHOODS",
    "Bernoulli",
    "Categorical",
    "DiscretizedLogistic",
    "DiscretizedLogisticMixture",
    "Gaussian",
    "Likelihood",
    "default_likelihood",
]


_WIDEST = 28.0  # of a Gaussian's log-scale: its square and that of its inverse are numbers of float32 still


class Likelihood(Component):
    """p(x|z), given a decoder's output (..., outputs, *shape) for each z.

    Arguments:
        spec: The data's description.

    Attributes:
        outputs: Numbers that the decoder gives for each value of x.
        exact: Whether log p(x|z) is that of the data themselves, so that NLL and bits/dim mean something: false for a
            Bernoulli on gray levels and for a density on discrete data.
    """

    given: ClassVar[tuple[str, ...]] = ("spec",)
    outputs: int
    exact: bool = True

    def __init__(self, spec: DataSpec):
        super().__init__()
        self.spec = spec

    def log_prob(self, x: Tensor, raw: Tensor) -> Tensor:
        """log p(x|z) in nats, summed over dimensions: x (B, *shape), raw (..., B, outputs, *shape) -> (..., B)."""
        values = self.log_prob_of_values(x, widen_half(raw).movedim(-1 - len(self.spec.shape), 0))
        return values.flatten(-len(self.spec.shape)).sum(-1)

    @abstractmethod
    def log_prob_of_values(self, x: Tensor, raw: Tensor) -> Tensor:
        """The same for each value: raw (outputs, ..., B, *shape) -> (..., B, *shape)."""

    @abstractmethod
    def mean(self, raw: Tensor) -> Tensor:
        """The mean of p(x|z) in data space, levels rounded: raw (B, outputs, *shape) -> (B, *shape)."""

    def mean_for_plots(self, raw: Tensor) -> Tensor:
        """The same for pictures: floats between levels where these are so few that rounding would hide the mean."""
        return self.mean(raw)

    @abstractmethod
    def sample(self, raw: Tensor) -> Tensor:
        """A draw of p(x|z) in data space: raw (B, outputs, *shape) -> (B, *shape)."""

    def _levels(self, unit: Tensor) -> Tensor:
        """Values in [0, 1] as the nearest levels; continuous data unchanged; ZooError for NaN."""
        require_numbers(unit)
        if self.spec.levels is None:
            return unit
        return (unit * (self.spec.levels - 1)).round().clamp(0, self.spec.levels - 1).to(self.spec.dtype)


class Bernoulli(Likelihood):
    """p(x|z) of binary data with probabilities sigmoid(raw); on gray levels in [0, 1] a loss and not a likelihood."""

    outputs = 1

    def __init__(self, spec: DataSpec):
        super().__init__(spec)
        if spec.levels is None:
            raise ZooError(f"a bernoulli likelihood takes data with levels, and {spec.name} is continuous: use gaussian")
        self.exact = spec.levels == 2
        if not self.exact:
            warnings.warn(
                f"a bernoulli likelihood is that of 2 levels, and {spec.name} has {spec.levels}: here it is a loss, and "
                f"log p(x) is not known. Data with 2 levels: --data {registry.binary_variant(spec.name)}.",
                stacklevel=2,
            )

    def log_prob_of_values(self, x: Tensor, raw: Tensor) -> Tensor:
        """x logit - softplus(logit)."""
        return self.spec.to_unit(x, raw.dtype) * raw[0] - softplus(raw[0])

    def mean(self, raw: Tensor) -> Tensor:
        """The nearest level to the probability."""
        return self._levels(widen_half(raw[:, 0]).sigmoid())

    def mean_for_plots(self, raw: Tensor) -> Tensor:
        """The probability, on the scale of the levels."""
        return widen_half(raw[:, 0]).sigmoid() * ((self.spec.levels or 2) - 1)

    def sample(self, raw: Tensor) -> Tensor:
        """0 or 1; for gray levels the mean, since the Bernoulli of a gray level is no distribution of it."""
        # Of NaN a draw stops the program, on a GPU without saying why.
        probability = require_numbers(widen_half(raw[:, 0]).sigmoid())
        return probability.bernoulli().to(self.spec.dtype) if self.exact else self.mean(raw)


class Gaussian(Likelihood):
    """p(x|z) = N(x; raw, sigma^2), with one learned sigma for all dimensions; images on the scale [-1, 1].

    Arguments:
        spec: The data's description.
        scale: A fixed sigma; learned if not given.
    """

    outputs = 1

    def __init__(self, spec: DataSpec, scale: float | None = None):
        if scale is not None and not 1e-12 <= scale <= 1e12:
            raise ZooError(f"scale {scale} of a Gaussian: 1e-12 to 1e12 is accepted, or none, to learn it")
        super().__init__(spec)
        self.exact = spec.levels is None
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale or 1.0)), requires_grad=scale is None)

    def log_prob_of_values(self, x: Tensor, raw: Tensor) -> Tensor:
        """-(x - mean)^2 / (2 sigma^2) - log sigma - log(2 pi)/2."""
        log_scale = self.log_scale.clamp(-_WIDEST, _WIDEST)
        z = (self.spec.to_signed(x, raw.dtype) - raw[0]) * torch.exp(-log_scale)
        return -z.square() / 2 - log_scale - math.log(2 * math.pi) / 2

    def mean(self, raw: Tensor) -> Tensor:
        """The mean, as the nearest level where there are levels."""
        return self.spec.from_signed(raw[:, 0])

    def sample(self, raw: Tensor) -> Tensor:
        """The mean with noise of standard deviation sigma."""
        return self.spec.from_signed(raw[:, 0] + self.log_scale.clamp(-_WIDEST, _WIDEST).exp() * torch.randn_like(raw[:, 0]))


class DiscretizedLogistic(Likelihood):
    """P(x|z) of levels: the mass of a logistic distribution in each level's interval, the outermost ones open.

    On the scale [-1, 1] levels lie 2 / (levels - 1) apart. Log-scales count as no less than -7, as published for 256 levels,
    or for more of them as much less as they lie closer; and as no more than 7, where the levels are as likely as one another
    to three digits.

    References:
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016), appendix
        | https://arxiv.org/abs/1606.04934
        | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans
        | et al., 2017)
        | https://arxiv.org/abs/1701.05517
    """

    outputs = 2

    def __init__(self, spec: DataSpec):
        super().__init__(spec)
        if spec.levels is None:
            raise ZooError(f"a discretized_logistic likelihood takes levels, and {spec.name} is continuous: use gaussian")
        self.levels = spec.levels
        self.least_log_scale = -7 - max(0.0, math.log((spec.levels - 1) / 255))

    def log_prob_of_values(self, x: Tensor, raw: Tensor) -> Tensor:
        """log(sigmoid(upper) - sigmoid(lower)), from log-sigmoids, so that it does not underflow far from the mean."""
        return self._log_mass(x, raw[0], raw[1])

    def _log_mass(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """The same of logistics whose means and log-scales may have more leading dimensions than x."""
        log_scale = bounded_log_scale(log_scale, self.least_log_scale)
        half, inverse = 1 / (self.levels - 1), torch.exp(-log_scale)
        # Half a level is not added to signed, which float32 would round by some percent of it where there are 65,536.
        center = (self.spec.to_signed(x, mean.dtype) - mean) * inverse
        upper, lower = center + half * inverse, center - half * inverse
        # sigmoid(u) - sigmoid(l) = sigmoid(u) sigmoid(-l) (1 - exp(l - u))
        inside = logsigmoid(upper) + logsigmoid(-lower) + torch.log(-torch.expm1(-2 * half * inverse))
        open_above = torch.where(x == self.levels - 1, logsigmoid(-lower), inside)
        return torch.where(x == 0, logsigmoid(upper), open_above)

    def mean(self, raw: Tensor) -> Tensor:
        """The level nearest to the logistic's mean."""
        return self.spec.from_signed(raw[:, 0])

    def sample(self, raw: Tensor) -> Tensor:
        """A logistic draw, rounded to the nearest level."""
        u = torch.rand_like(widen_half(raw[:, 0])).clamp(1e-6, 1 - 1e-6)
        return self.spec.from_signed(raw[:, 0] + bounded_log_scale(raw[:, 1], self.least_log_scale).exp() * u.logit())


class DiscretizedLogisticMixture(DiscretizedLogistic):
    """P(x|z) of levels: a mixture of logistics, Σ_m π_m P_m(x), each P_m as in :class:`DiscretizedLogistic`.

    Arguments:
        spec: The data's description.
        components: The number of logistics of each dimension.

    References:
        | PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood and Other Modifications (Salimans
        | et al., 2017)
        | https://arxiv.org/abs/1701.05517
    """

    def __init__(self, spec: DataSpec, components: int = 5):
        super().__init__(spec)
        require_between(1, MOST_UNITS, components=components)
        self.outputs = 3 * components

    def log_prob_of_values(self, x: Tensor, raw: Tensor) -> Tensor:
        """log Σ_m exp(log π_m + log P_m(x))."""
        weight, mean, log_scale = raw.chunk(3)  # (components, ..., B, *shape) each
        return (weight.log_softmax(0) + self._log_mass(x, mean, log_scale)).logsumexp(0)

    def mean(self, raw: Tensor) -> Tensor:
        """The level nearest to the mean of the logistics' means, each within the levels."""
        weight, mean, _ = widen_half(raw).chunk(3, 1)
        return self.spec.from_signed((weight.softmax(1) * mean.clamp(-1, 1)).sum(1))

    def sample(self, raw: Tensor) -> Tensor:
        """A draw of one of the logistics, rounded to the nearest level."""
        weight, mean, log_scale = widen_half(raw).chunk(3, 1)
        probability = require_numbers(weight.softmax(1)).movedim(1, -1)
        chosen = torch.distributions.Categorical(probability, validate_args=False).sample().unsqueeze(1)  # (B, 1, *shape)
        return super().sample(torch.cat((mean.gather(1, chosen), log_scale.gather(1, chosen)), 1))


class Categorical(Likelihood):
    """P(x|z) of levels: a softmax over all of them, for each dimension."""

    def __init__(self, spec: DataSpec):
        super().__init__(spec)
        if spec.levels is None:
            raise ZooError(f"a categorical likelihood takes data with levels, and {spec.name} is continuous: use gaussian")
        self.outputs = spec.levels

    def log_prob_of_values(self, x: Tensor, raw: Tensor) -> Tensor:
        """raw[x] - logsumexp(raw), in one pass over raw as the decoder has laid it out."""
        axis = -1 - len(self.spec.shape)
        index = x.long().expand(raw.shape[1:]).unsqueeze(axis)
        return raw.movedim(0, axis).log_softmax(axis).gather(axis, index).squeeze(axis)

    def mean(self, raw: Tensor) -> Tensor:
        """The expected level, rounded."""
        probability = widen_half(raw).softmax(1)  # (B, levels, *shape)
        levels = torch.arange(self.outputs, device=raw.device, dtype=probability.dtype)
        return self._levels(torch.tensordot(probability, levels, ([1], [0])) / (self.outputs - 1))

    def sample(self, raw: Tensor) -> Tensor:
        """A level for each dimension."""
        probability = require_numbers(widen_half(raw).softmax(1)).movedim(1, -1)
        return torch.distributions.Categorical(probability, validate_args=False).sample().to(self.spec.dtype)


def default_likelihood(spec: DataSpec) -> str:
    """The likelihood that suits the data: by their levels."""
    if spec.levels is None:
        return "gaussian"
    if spec.levels == 2:
        return "bernoulli"
    return "categorical" if spec.levels <= 32 else "discretized_logistic"


LIKELIHOODS = Family[Likelihood](
    "likelihood",
    Likelihood,
    {
        "bernoulli": Bernoulli,
        "gaussian": Gaussian,
        "discretized_logistic": DiscretizedLogistic,
        "discretized_logistic_mixture": DiscretizedLogisticMixture,
        "categorical": Categorical,
    },
)
