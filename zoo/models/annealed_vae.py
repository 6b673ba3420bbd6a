"""VAE whose KL term is held at a capacity that rises while it trains."""

from dataclasses import replace
from typing import Any

from zoo.errors import ZooError
from zoo.models.vae import VAE
from zoo.options import require_at_least
from zoo.spec import DataSpec

__all__ = ["AnnealedVAE"]


class AnnealedVAE(VAE):
    """Minimizes E_q[-log p(x|z)] + gamma |KL - C(t)|, C(t) = capacity min(1, t / capacity_steps), t in batches.

    KL is the mean of KL(q(z|x) || p(z)) over the batch, of all processes together. Logged besides: ``capacity``, C(t).

    Arguments:
        spec: The data's description; the command line fills it in.
        gamma: The weight of the distance; ``kl`` has no other.
        capacity: The final capacity in nats.
        capacity_steps: Batches over which it rises from 0.
        options: Those of VAE.

    References:
        | Understanding disentangling in beta-VAE (Burgess et al., 2018), equation 8
        | https://arxiv.org/abs/1804.03599
    """

    def __init__(
        self,
        spec: DataSpec | dict,
        gamma: float = 1000.0,
        capacity: float = 25.0,
        capacity_steps: int = 100_000,
        **options: Any,
    ):
        super().__init__(spec, **options)
        require_at_least(0, gamma=gamma, capacity=capacity, capacity_steps=capacity_steps)
        if (self.kl.beta, self.kl.capacity, self.kl.free_bits) != (1, 0, 0):
            raise ZooError(
                f"{self.kl}: give weight and capacity once, as --model.gamma, --model.capacity and --model.capacity_steps; "
                "of kl, warmup and period are accepted."
            )
        self.kl = replace(self.kl, beta=gamma, capacity=capacity, capacity_steps=capacity_steps if capacity else 0)
