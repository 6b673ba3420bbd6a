"""The weight of the KL term over the course of training."""

import math
import warnings
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass
from typing import Any

from torch import Tensor

from zoo.distributed import gather
from zoo.errors import ZooError
from zoo.options import check_types, options_of
from zoo.registry import suggestion

__all__ = ["KLSchedule"]


@dataclass(frozen=True)
class KLSchedule:
    """beta(t) KL, constant, warmed up linearly, or cyclic; beta(t) sum_j max(free_bits, KL_j); or beta(t) |KL - C(t)|.

    beta(t) = beta min(1, (t mod period) / warmup), t in batches. Without ``warmup`` it is constant; without ``period``
    it is warmed up once; with both it is warmed up again at every period. C(t) = capacity min(1, t / capacity_steps).
    KL and KL_j are means over the batch, that of all processes together where it matters: with free bits or a capacity.
    KL_j is that of a group of latents; which groups there are is said where the KL is computed
    (:meth:`zoo.models.VAE.kl_terms`). Without free bits KL stays as it is, also where it is an estimate and below 0.

    Arguments:
        beta: The final weight.
        warmup: Batches over which the weight rises from 0.
        period: Batches after which it starts again; 0 for never.
        free_bits: Nats of KL, of each group's mean over the batch, below which nothing is gained.
        capacity: Nats of KL that are aimed at in the end; 0 for as few as possible.
        capacity_steps: Batches over which they rise from 0.

    Raises:
        ZooError: for what is negative or no number, and for options that nothing reads without others.

    References:
        | Generating Sentences from a Continuous Space (Bowman et al., 2016): warm-up
        | https://arxiv.org/abs/1511.06349
        | Cyclical Annealing Schedule: A Simple Approach to Mitigating KL Vanishing (Fu et al., 2019): cyclic
        | https://arxiv.org/abs/1903.10145
        | Improved Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016): free bits
        | https://arxiv.org/abs/1606.04934
        | Understanding disentangling in beta-VAE (Burgess et al., 2018): capacity
        | https://arxiv.org/abs/1804.03599
    """

    beta: float = 1.0
    warmup: int = 0
    period: int = 0
    free_bits: float = 0.0
    capacity: float = 0.0
    capacity_steps: int = 0

    def __post_init__(self) -> None:
        check_types(asdict(self), options_of(KLSchedule), "kl")
        for name in ("beta", "free_bits", "capacity"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if not all(0 <= value < math.inf for value in astuple(self)) or 0 < self.period < self.warmup:
            raise ZooError(f"{self}: none may be negative or infinite, and a period is not shorter than its warm-up")
        if self.period and not self.warmup:
            raise ZooError(f"{self}: a period without a warm-up repeats nothing; give warmup too")
        if self.capacity_steps and not self.capacity:
            raise ZooError(f"{self}: capacity steps without a capacity lead nowhere; give capacity too")
        if not self.beta and (self.warmup or self.free_bits or self.capacity):
            warnings.warn(f"{self}: with beta 0 the KL term has no weight, and the rest no effect", stacklevel=3)
        if self.free_bits and self.capacity:
            raise ZooError(f"{self}: free bits and a capacity exclude each other")

    @classmethod
    def of(cls, options: "KLSchedule | Mapping[str, Any]") -> "KLSchedule":
        """The schedule itself, or that of a plain dict, as a checkpoint has it; ZooError for options that it has not."""
        if isinstance(options, KLSchedule):
            return options
        known = options_of(cls)
        if unknown := [name for name in options if name not in known]:
            accepted = f"Accepted: {', '.join(known)}.{suggestion(str(unknown[0]), known)}"
            raise ZooError(f"kl has no option {unknown[0]!r}. {accepted}")
        return cls(**options)

    def weight(self, step: int | None) -> float:
        """beta(t) at batch ``step``; the final weight for None."""
        if step is None:
            return self.beta
        at = step % self.period if self.period else step
        return self.beta * min(1.0, at / self.warmup) if self.warmup else self.beta

    def target(self, step: int | None) -> float:
        """C(t) in nats at batch ``step``; the final one for None."""
        if step is None or step >= self.capacity_steps:
            return self.capacity
        return self.capacity * step / self.capacity_steps

    def __call__(self, kl: Tensor, step: int | None) -> Tensor:
        """The term of the loss, a scalar.

        Arguments:
            kl: The KL in nats of each example (B,) or of each example's groups (B, groups); or a scalar, the batch's mean.
            step: The number of the batch; None for the final weight and capacity.
        """
        kl = kl.reshape(len(kl) if kl.dim() else 1, -1)  # (B, groups)
        if self.free_bits or self.capacity:
            kl = gather(kl)
        mean = kl.mean(0)
        if self.capacity:
            return self.weight(step) * (mean.sum() - self.target(step)).abs()
        return self.weight(step) * (mean.clamp_min(self.free_bits) if self.free_bits else mean).sum()
