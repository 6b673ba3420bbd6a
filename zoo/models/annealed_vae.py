"""VAE whose KL term is held at a capacity that rises while it trains."""

from dataclasses import replace

from zoo.models.vae import VAE
from zoo.spec import DataSpec

__all__ = ["AnnealedVAE"]


class AnnealedVAE(VAE):
    """Minimizes E_q[-log p(x|z)] + gamma |KL - C(t)|, C(t) = capacity min(1, t / capacity_steps), t in batches.

    KL is the mean of KL(q(z|x) || p(z)) over the batch, of all processes together. Logged besides: ``capacity``, C(t).

    References:
        Burgess et al., Understanding disentangling in beta-VAE, 2018, arXiv:1804.03599, equation 8.

    Arguments:
        spec: The data's description; the command line fills it in.
        gamma: The weight of the distance, a factor of what ``kl`` gives it.
        capacity: The final capacity in nats.
        capacity_steps: Batches over which it rises from 0.
        options: Those of VAE.
    """

    def __init__(
        self,
        spec: DataSpec | dict,
        gamma: float = 1000.0,
        capacity: float = 25.0,
        capacity_steps: int = 100_000,
        **options,
    ):
        super().__init__(spec, **options)
        self.kl = replace(self.kl, beta=gamma * self.kl.beta, capacity=capacity, capacity_steps=capacity_steps)
