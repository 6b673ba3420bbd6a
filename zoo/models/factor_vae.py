"""VAE with a penalty on the total correlation of its codes, estimated by a discriminator."""

from typing import Any, ClassVar

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.nn.functional import log_softmax

from zoo.distributed import broadcast, deal, gather, noise_of, share, weighted
from zoo.distributions.posteriors import SampledPosterior
from zoo.models.vae import VAE
from zoo.nets.locatello import LatentDiscriminator
from zoo.options import MOST_UNITS, require_at_least, require_between, require_decay_rates
from zoo.precision import widen_half
from zoo.spec import Batch, DataSpec

__all__ = ["FactorVAE", "permute_dims"]


def permute_dims(z: Tensor) -> Tensor:
    """Each code's values shuffled over the batch, by a permutation of its own: (B, d) to draws of prod_l q(z_l).

    All processes give it the same codes, those of the global batch, and get the same.
    """
    return z.gather(0, broadcast(torch.rand(z.shape, device=z.device).argsort(0)))


class FactorVAE(VAE):
    """Minimizes E_q[-log p(x|z)] + KL(q(z|x) || p(z)) + gamma E_q[log D(z) - log(1 - D(z))].

    D(z) is the probability that a discriminator gives to z being a draw of q(z) and not of prod_l q(z_l); where it is
    right, the last term is the total correlation KL(q(z) || prod_l q(z_l)). Every batch is cut into halves, as the paper
    takes two batches: the VAE is trained on the first; then D, to tell the first's codes from those of the second, each
    permuted over it. Halves and permutations are those of the global batch, which processes exchange and share out anew.
    Both take one step per batch, and ``global_step`` counts batches. Logged besides:
    ``total_correlation``, the last term, and ``discriminator_loss``, the mean cross-entropy.

    Arguments:
        spec: The data's description; the command line fills it in.
        gamma: The weight of the total correlation.
        discriminator_lr, discriminator_betas: Of the discriminator's Adam.
        discriminator_width: Hidden units of each of its six layers.
        options: Those of VAE.

    References:
        | Disentangling by Factorising (Kim and Mnih, 2018), algorithm 2
        | https://arxiv.org/abs/1802.05983
    """

    # The two optimizers train different parameters, which plain "ddp" refuses.
    strategy: ClassVar[str] = "ddp_find_unused_parameters_true"
    training_losses: ClassVar[tuple[str, ...]] = ("first_half_objective", "discriminator_objective")

    def __init__(
        self,
        spec: DataSpec | dict,
        gamma: float = 30.0,
        discriminator_lr: float = 1e-4,
        discriminator_betas: tuple[float, float] = (0.5, 0.9),
        discriminator_width: int = 1000,
        **options: Any,
    ):
        super().__init__(spec, **options)
        require_at_least(0, gamma=gamma, discriminator_lr=discriminator_lr)
        require_between(1, MOST_UNITS, discriminator_width=discriminator_width)
        require_decay_rates(discriminator_betas=discriminator_betas)
        self.automatic_optimization = False
        self.gamma, self.discriminator_lr = gamma, discriminator_lr
        self.discriminator_betas = (discriminator_betas[0], discriminator_betas[1])  # a list, from YAML
        self.discriminator = LatentDiscriminator(self.latent_dim, discriminator_width)

    def discriminate(self, z: Tensor) -> Tensor:
        """log D(z) and log(1 - D(z)) of latents (B, d): (B, 2), in float32 whatever autocast says."""
        return log_softmax(widen_half(self.discriminator(z)), 1)

    def penalty(self, batch: Batch, q: SampledPosterior, z: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """gamma E[log D(z) - log(1 - D(z))], and the discriminator's loss on the same codes."""
        joint = self.discriminate(z)
        tc = (joint[:, 0] - joint[:, 1]).mean()
        metrics = {"total_correlation": tc}
        if not self.training:
            own = share(len(z))
            metrics["discriminator_loss"] = self.discriminator_loss(z, permute_dims(gather(z))[own.start : own.stop])
        return self.gamma * tc, metrics

    def discriminator_loss(self, z: Tensor, shuffled: Tensor) -> Tensor:
        """-1/2 E[log D(z)] - 1/2 E[log(1 - D(shuffled))]; log 2 where the two can't be told apart."""
        return -(self.discriminate(z)[:, 0].mean() + self.discriminate(shuffled)[:, 1].mean()) / 2

    def first_half_objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The objective on this process's share of the first half of the global batch."""
        x = gather(batch.x)
        part = deal(_half(x))
        with noise_of(part):
            return self.objective(Batch(x[part.start : part.stop]))

    def discriminator_objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The discriminator's loss on codes of the first half and permuted ones of the second: this process's share."""
        with torch.no_grad():
            z, _ = self.q(batch.x).rsample_and_log_prob()
            z = gather(z)
            half, part = _half(z), deal(_half(z))
            joint, shuffled = (codes[part.start : part.stop] for codes in (z[:half], permute_dims(z[-half:])))
        loss = self.discriminator_loss(joint, shuffled)
        return loss, {"discriminator_loss": loss}

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """A step of the VAE on the first half of the global batch, then one of the discriminator on both."""
        vae_adam, discriminator_adam = self.counted_and_uncounted()
        part = deal((share(len(batch.x)).total + 1) // 2)
        examples = part.stop - part.start
        with self.toggled_optimizer(vae_adam):
            loss, terms = self.first_half_objective(batch)
            vae_adam.zero_grad()
            self.manual_backward(weighted(loss, examples))
            vae_adam.step()

        loss_d, terms_d = self.discriminator_objective(batch)
        discriminator_adam.zero_grad()
        self.manual_backward(weighted(loss_d, examples))
        self.step_uncounted(discriminator_adam)

        self.log_terms("train", {"loss": loss, **terms, **terms_d}, examples)
        return {"loss": loss.detach()}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer for the VAE, first, and one for the discriminator."""
        own = [weight for name, weight in self.named_parameters() if not name.startswith("discriminator.")]
        return [
            self.build_optimizer(own, self.lr),
            self.build_optimizer(self.discriminator.parameters(), self.discriminator_lr, betas=self.discriminator_betas),
        ]


def _half(rows: Tensor) -> int:
    """How many of a batch are its first half, the larger one."""
    return (len(rows) + 1) // 2
