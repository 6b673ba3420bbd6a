"""The KL term of a VAE in two: what codes tell of examples, and how far the aggregate posterior is from the prior."""

import math

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from torchmetrics import Metric
from torchmetrics.utilities.data import dim_zero_cat

from zoo.distributed import share
from zoo.distributions.posteriors import SampledPosterior

__all__ = ["ELBOSurgery", "log_aggregate"]

_STATES = ("z", "mean", "scale", "kl")
_AT_ONCE = 2**22  # numbers of an intermediate result: 32 MB of float64


def log_aggregate(mean: Tensor, scale: Tensor, z: Tensor) -> Tensor:
    r"""Computes log q(z), :math:`q(z) = \frac{1}{N} \sum_n N(z; \mu_n, \Sigma_n)`, in nats, (M,), chunk by chunk.

    Arguments:
        mean: The means, with shape (N, d).
        scale: The standard deviations (N, d), or the Cholesky factors (N, d, d) of the covariances.
        z: Where the density is wanted, with shape (M, d).
    """
    center = mean.double().mean(0)
    mean, scale, z = mean.double() - center, scale.double(), z.double() - center
    # -1/2 |L^-1 (z - mu)|^2 = -1/2 z^T P z + z^T P mu - 1/2 mu^T P mu, P = Sigma^-1: one product of matrices for all pairs.
    if scale.dim() == 3:
        precision = torch.cholesky_inverse(scale)  # (N, d, d)
        slope, log_det = (precision @ mean.unsqueeze(-1)).squeeze(-1), scale.diagonal(dim1=1, dim2=2).log().sum(1)
    else:
        precision = scale.square().reciprocal()  # (N, d)
        slope, log_det = precision * mean, scale.log().sum(1)
    weights = torch.cat([-precision.flatten(1) / 2, slope], 1).T  # (features, N)
    constant = -(slope * mean).sum(1) / 2 - log_det - mean.shape[1] * math.log(2 * math.pi) / 2 - math.log(len(mean))
    chunks = []
    for chunk in z.split(max(1, _AT_ONCE // len(mean))):
        squares = (chunk.unsqueeze(2) * chunk.unsqueeze(1)).flatten(1) if scale.dim() == 3 else chunk.square()
        chunks.append(torch.addmm(constant, torch.cat([squares, chunk], 1), weights).logsumexp(1))
    return torch.cat(chunks)


class ELBOSurgery(Metric):
    r"""Creates a metric that cuts the KL term of a VAE in two, in nats:

    .. math:: \frac{1}{N} \sum_n KL(q(z \mid x_n) \Vert p(z)) = I_q[x, z] + KL(q(z) \Vert p(z))
        \qquad q(z) = \frac{1}{N} \sum_n q(z \mid x_n)

    Keys: ``index_code_information``, the mean of :math:`\log q(z_n|x_n) - \log q(z_n)` over one draw
    :math:`z_n \sim q(z|x_n)` for each point, and ``marginal_kl``, the mean KL of the points less that. The information
    that N points can show is at most log N.

    Of more than ``points`` examples every second is used, or every fourth, ..., so that no more than ``points`` are, spread
    evenly over all that were seen. Memory grows with ``points``, time with its square. The draws are the same at each
    pass, and come from a random stream of their own; of several processes, that of their batches together. Posteriors that
    are not Gaussian are left out, since a flow's density is known at its own draws only: there are no metrics then.

    Arguments:
        points: The largest number of points, of all processes together.

    References:
        | ELBO surgery: yet another way to carve up the variational evidence lower bound (Hoffman and Johnson, 2016)
    """

    is_differentiable = False
    full_state_update = False

    _seen: int
    _stride: int
    _numbers: list[int]  # of the examples of this process that are kept

    z: list[Tensor]
    mean: list[Tensor]
    scale: list[Tensor]
    kl: list[Tensor]

    def __init__(self, points: int = 5_000):
        super().__init__()
        self.points = points
        for name in _STATES:
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self._forget()

    @torch.no_grad()
    def update(self, q: SampledPosterior, prior: Distribution) -> None:
        """Adds those examples of a batch that are used, of which ``q`` is q(z|x)."""
        start, stop, total = share(len(q.base.mean))
        # Examples are numbered over all batches and processes; those are used whose number the stride divides.
        first, last, end = self._seen + start, self._seen + stop, self._seen + total
        used, before = self._used(last) - self._used(first), self._used(first) - self._used(self._seen)
        together, chosen = self._used(end) - self._used(self._seen), slice(-first % self._stride, None, self._stride)
        self._seen = end
        if used > 0:
            if q.gaussian is None:
                return
            mean, scale = (parameter[chosen] for parameter in q.gaussian)
            random = torch.Generator(mean.device).manual_seed(end)
            shape = (together, mean.shape[1])
            noise = torch.randn(shape, generator=random, device=mean.device, dtype=mean.dtype)[before : before + used]
            z = mean + ((scale * noise.unsqueeze(1)).sum(-1) if scale.dim() == 3 else scale * noise)
            kl = q.kl(prior)
            kl = _gaussians(mean, scale).log_prob(z) - prior.log_prob(z) if kl is None else kl[chosen]
            for name, value in zip(_STATES, (z, mean, scale, kl), strict=True):
                getattr(self, name).append(value)
            self._numbers += range(first + -first % self._stride, last, self._stride)
        while self._used(end) > self.points:
            self._stride *= 2
            kept = [place for place, number in enumerate(self._numbers) if number % self._stride == 0]
            self._numbers = [self._numbers[place] for place in kept]
            for name in _STATES if len(self.z) else ():
                setattr(self, name, [dim_zero_cat(getattr(self, name))[kept]])

    def reset(self) -> None:
        """Forget all points."""
        super().reset()
        self._forget()

    def _forget(self) -> None:
        self._seen, self._stride, self._numbers = 0, 1, []

    def _used(self, number: int) -> int:
        """How many examples below that number are used."""
        return -(-number // self._stride)

    def compute(self) -> dict[str, Tensor]:
        """Both parts; nothing where no posterior was Gaussian."""
        if not len(self.z):
            return {}
        states = (dim_zero_cat(getattr(self, name)) for name in _STATES)
        # Apple's GPUs have no double precision.
        z, mean, scale, kl = ((state.cpu() if state.device.type == "mps" else state).double() for state in states)
        information = (_gaussians(mean, scale).log_prob(z) - log_aggregate(mean, scale, z)).mean()
        return {"index_code_information": information, "marginal_kl": kl.mean() - information}


def _gaussians(mean: Tensor, scale: Tensor) -> Distribution:
    return MultivariateNormal(mean, scale_tril=scale) if scale.dim() == 3 else Independent(Normal(mean, scale), 1)
