"""The weight of the KL term over the course of training."""

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from zoo.distributed import gather
from zoo.errors import ZooError

__all__ = ["KLSchedule"]


@dataclass(frozen=True)
class KLSchedule:
    """beta(t) max(KL, free_bits), constant, warmed up linearly, or cyclic; with a capacity, beta(t) |KL - C(t)|.

    beta(t) = beta min(1, (t mod period) / warmup), t in batches. Without ``warmup`` it is constant; without ``period``
    it is warmed up once; with both it is warmed up again at every period. C(t) = capacity min(1, t / capacity_steps).
    KL is the mean over the batch, that of all processes together where it matters: with free bits or a capacity.

    References: Bowman et al. 2016 (warm-up), arXiv:1511.06349; Fu et al. 2019 (cyclic), arXiv:1903.10145; Kingma et al.
    2016 (free bits), arXiv:1606.04934; Burgess et al. 2018 (capacity), arXiv:1804.03599.

    Arguments:
        beta: The final weight.
        warmup: Batches over which the weight rises from 0.
        period: Batches after which it starts again; 0 for never.
        free_bits: Nats of KL, of the batch's mean, below which nothing is gained.
        capacity: Nats of KL that are aimed at in the end; 0 for as few as possible.
        capacity_steps: Batches over which they rise from 0.
    """

    beta: float = 1.0
    warmup: int = 0
    period: int = 0
    free_bits: float = 0.0
    capacity: float = 0.0
    capacity_steps: int = 0

    def __post_init__(self):
        if min(astuple(self)) < 0 or 0 < self.period < self.warmup:
            raise ZooError(f"{self}: none may be negative, and a period is not shorter than its warm-up")
        if self.free_bits and self.capacity:
            raise ZooError(f"{self}: free bits and a capacity exclude each other")

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
        """The term of the loss, from the batch's mean KL in nats."""
        if self.free_bits or self.capacity:
            kl = gather(kl.unsqueeze(0)).mean()
        if self.capacity:
            return self.weight(step) * (kl - self.target(step)).abs()
        return self.weight(step) * torch.clamp_min(kl, self.free_bits)
