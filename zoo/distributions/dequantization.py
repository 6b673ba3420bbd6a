"""Discrete images under a continuous density: uniform and variational dequantization, and the bound that they give."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from zoo.distributed import rand, randn
from zoo.errors import ZooError
from zoo.precision import widen_half
from zoo.spec import level_dtype, require_levels, require_numbers
from zoo.transforms.base import Transform

__all__ = [
    "DequantizedFlow",
    "Dequantizer",
    "LogitTransform",
    "NoDequantizer",
    "UniformDequantizer",
    "VariationalDequantizer",
    "bin_centers",
    "standard_normal",
]


def standard_normal(z: Tensor) -> Tensor:
    """log N(z; 0, I) in nats, summed over all dimensions but the first: (B, ...) -> (B,)."""
    return -0.5 * (z.square() + math.log(2 * math.pi)).flatten(1).sum(1)


class LogitTransform(Transform):
    r"""Creates the map from [0, levels] to logits, v = logit(0.05 + 0.9 y / levels), of all elements.

    log|det ∂v/∂y| = Σ log(0.9 / levels) - log p - log(1 - p) with p = 0.05 + 0.9 y / levels, so densities of v become
    densities of y, on the scale of the levels themselves. The inverse takes any v; beyond logit(0.05) and logit(0.95) lie
    values outside [0, levels].

    Shapes: y and v are (B, ...), log_det is (B,).

    Arguments:
        levels: The number of levels of the data.

    References:
        | Density estimation using Real NVP (Dinh et al., 2017), section 4.1
        | https://arxiv.org/abs/1605.08803
    """

    margin = 0.05

    def __init__(self, levels: int):
        super().__init__()
        self.slope = (1 - 2 * self.margin) / levels

    def forward(self, y: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        p = widen_half(y) * self.slope + self.margin
        below, above = p.log(), (-p).log1p()
        return below - above, (math.log(self.slope) - below - above).flatten(1).sum(1)

    def inverse(self, v: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        v = widen_half(v)
        log_det = (logsigmoid(v) + logsigmoid(-v) - math.log(self.slope)).flatten(1).sum(1)
        return (v.sigmoid() - self.margin) / self.slope, log_det


def bin_centers(x: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """The points x + 1/2 of levels x; continuous data unchanged but for their type, if ``dtype`` is given.

    Arguments:
        x: Levels, of an integer type, or continuous data.
        dtype: The type of the points; of levels torch's default if not given.
    """
    if x.is_floating_point():
        return x if dtype is None else x.to(dtype)
    return x.to(dtype or torch.get_default_dtype()) + 0.5


def _noised(levels: Tensor, u: Tensor) -> Tensor:
    """x + u, kept inside x's cell [x, x + 1) where the sum would be rounded up to x + 1."""
    return torch.minimum(levels + u, torch.nextafter(levels + 1, levels))


class Dequantizer(nn.Module, ABC):
    """Creates y = x + u, u ~ q(u|x), from levels x, together with log q(u|x).

    For every density p of y, log P(x) >= E_q[log p(x + u) - log q(u|x)], where P(x) is p's integral over x's cell
    [x, x + 1)^D: the model of the discrete data.

    Attributes:
        bound: Whether log p(y) - log q(u|x) is such a bound.
        zero: A buffer whose type is that of y, single precision or, of a model in double precision, double.

    References:
        | Flow++: Improving Flow-Based Generative Models with Variational Dequantization and Architecture Design
        | (Ho et al., 2019), section 3.1
        | https://arxiv.org/abs/1902.00275
    """

    bound = True
    zero: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Levels (B, C, H, W) -> y (B, C, H, W), float, and log q(u|x) in nats, (B,)."""

    def initialize(self, x: Tensor) -> None:
        """Set from one batch of levels what starts from data; nothing here."""


class UniformDequantizer(Dequantizer):
    """Creates u ~ U[0, 1)^D, for which log q(u|x) = 0.

    References:
        | A note on the evaluation of generative models (Theis et al., 2016), section 3.1
        | https://arxiv.org/abs/1511.01844
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        levels = x.to(self.zero.dtype)
        return _noised(levels, rand(*levels.shape, device=x.device, dtype=levels.dtype)), levels.new_zeros(len(levels))


class NoDequantizer(Dequantizer):
    """Creates y without noise: continuous data as they are, levels at the centers of their cells, x + 1/2.

    Of continuous data log p(y) is the log-likelihood. Of levels it is a density at points and no bound on log P(x): it
    grows without limit as the density gathers at the points, so it says nothing in bits/dim.
    """

    bound = False

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = bin_centers(x, self.zero.dtype)
        return y, y.new_zeros(len(y))


class VariationalDequantizer(Dequantizer):
    """Creates u = sigmoid(h(ε; x)), ε ~ N(0, I), log q(u|x) = log N(ε) - log|det ∂u/∂ε|.

    Arguments:
        flow: h, a flow from ε (B, C, H, W) to v (B, C, H, W), whose context is x / levels - 1/2, (B, C, H, W).
        levels: The number of levels of the data.
    """

    def __init__(self, flow: Transform, levels: int):
        super().__init__()
        self.flow, self.levels = flow, levels

    def _context(self, levels: Tensor) -> Tensor:
        return levels / self.levels - 0.5

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        levels = x.to(self.zero.dtype)
        epsilon = randn(*levels.shape, device=x.device, dtype=levels.dtype)
        v, log_det = self.flow(epsilon, self._context(levels))
        v = widen_half(v)
        # The sigmoid rounds to 1 from 17 on in float32; u stays below it.
        u = v.sigmoid().clamp(torch.finfo(v.dtype).tiny, 1 - torch.finfo(v.dtype).eps / 2)
        log_q = standard_normal(epsilon) - log_det - (logsigmoid(v) + logsigmoid(-v)).flatten(1).sum(1)
        return _noised(levels, u), log_q

    def log_prob(self, u: Tensor, x: Tensor) -> Tensor:
        """log q(u|x) in nats, (B,), of any u in (0, 1)^D, by the flow's inverse."""
        v = u.logit()
        epsilon, log_det = self.flow.inverse(v, self._context(x.to(v.dtype)))
        return standard_normal(epsilon) + log_det - (logsigmoid(v) + logsigmoid(-v)).flatten(1).sum(1)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        levels = x.to(self.zero.dtype)
        _initialize(self.flow, torch.randn_like(levels), self._context(levels))


class DequantizedFlow(nn.Module):
    """Creates a model of discrete images from a continuous flow f, a dequantizer q, and N(0, I) at the end.

    log p(y) = log N(f(v)) + log|det ∂f/∂v| + log|det ∂v/∂y|, v the :class:`LogitTransform` of y = x + u. Of
    continuous data v = y = x.

    Arguments:
        flow: f, from images (B, C, H, W) to latents (B, ...), with its inverse.
        dequantizer: q; of continuous data a :class:`NoDequantizer`.
        levels: The number of levels of the data; None for continuous data.
    """

    def __init__(self, flow: Transform, dequantizer: Dequantizer, levels: int | None):
        super().__init__()
        if levels is None and not isinstance(dequantizer, NoDequantizer):
            raise ZooError(f"{type(dequantizer).__name__} of continuous data: there are no levels to add noise to")
        self.flow, self.dequantizer, self.levels = flow, dequantizer, levels
        self.logits = None if levels is None else LogitTransform(levels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(log p(x + u), log q(u|x)) at one draw of u for each example, in nats, (B,) both. Levels are integers."""
        if self.levels is not None:
            require_levels(x, self.levels)
        y, log_q = self.dequantizer(x)
        return self.log_density(y), log_q

    def log_density(self, y: Tensor) -> Tensor:
        """log p(y) in nats, (B,), of points (B, C, H, W) on the scale of the levels."""
        z, log_det = self.encode(y)
        return standard_normal(z) + log_det

    def encode(self, y: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, C, H, W) to latents (B, ...) and log|det ∂z/∂y|, (B,)."""
        if self.logits is None:
            return self.flow(y)
        v, to_logits = self.logits(y)
        z, log_det = self.flow(v)
        return z, log_det + to_logits

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, ...) to points (B, C, H, W), the inverse of :meth:`encode`."""
        v, _ = self.flow.inverse(z)
        return v if self.logits is None else self.logits.inverse(v)[0]

    def centers(self, x: Tensor) -> Tensor:
        """The points x + 1/2 of levels x, in the type that the dequantizer gives; continuous data are points."""
        if self.levels is not None:
            require_levels(x, self.levels)
        return bin_centers(x, self.dequantizer.zero.dtype)

    def quantize(self, y: Tensor) -> Tensor:
        """Points to the levels of their cells, the outermost for those outside [0, levels]; else unchanged.

        Raises:
            ZooError: if a number is NaN or infinite.
        """
        require_numbers(y)
        return y if self.levels is None else y.floor().clamp(0, self.levels - 1).to(level_dtype(self.levels))

    @torch.no_grad()
    def inversion_error(self, x: Tensor) -> Tensor:
        """max |y - f⁻¹(f(y))| over the points of a batch, on the scale of the levels; a scalar."""
        y, _ = self.dequantizer(x)
        return (self.decode(self.encode(y)[0]) - y).abs().max()

    @property
    def initialized(self) -> bool:
        """Whether every part that starts from data has been set; waits for the device."""
        return all(bool(flag.all()) for name, flag in self.named_buffers() if name.rpartition(".")[2] == "initialized")

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set from one batch of examples what starts from data: the dequantizer first, then the flow on its points."""
        self.dequantizer.initialize(x)
        y, _ = self.dequantizer(x)
        _initialize(self.flow, y if self.logits is None else self.logits(y)[0])


def _initialize(flow: Transform, *inputs: Tensor) -> None:
    initialize: Callable[..., None] | None = getattr(flow, "initialize", None)
    if initialize is not None:
        initialize(*inputs)
