"""VAE with a weighted KL term."""

from dataclasses import replace
from typing import Any

from zoo.errors import ZooError
from zoo.models.vae import VAE
from zoo.options import require_at_least
from zoo.spec import DataSpec

__all__ = ["BetaVAE"]


class BetaVAE(VAE):
    """Minimizes E_q[-log p(x|z)] + beta KL(q(z|x) || p(z)).

    Arguments:
        spec: The data's description; the command line fills it in.
        beta: The weight of the KL term; ``kl`` has no other.
        options: Those of VAE.

    References:
        | beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework (Higgins et al., 2017)
        | https://openreview.net/forum?id=Sy2fzU9gl
    """

    def __init__(self, spec: DataSpec | dict, beta: float = 4.0, **options: Any):
        super().__init__(spec, **options)
        require_at_least(0, beta=beta)
        if self.kl.beta != 1:
            raise ZooError(f"kl.beta {self.kl.beta} beside beta {beta}: there is one weight. Give it as --model.beta.")
        self.kl = replace(self.kl, beta=beta)
