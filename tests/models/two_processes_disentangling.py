"""Losses and gradients of the disentanglement objectives on two CPU processes with half of a batch each; run by a test."""

from pathlib import Path

import torch
import torch.distributed as dist
from launch import main
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from zoo.distributed import gather
from zoo.distributions.posteriors import SampledPosterior
from zoo.metrics.elbo_surgery import ELBOSurgery
from zoo.models.annealed_vae import AnnealedVAE
from zoo.models.beta_tcvae import BetaTCVAE
from zoo.models.dip_vae import DIPVAE
from zoo.models.vae import VAE
from zoo.spec import Batch, DataSpec

CASES = {
    # One half's KL is above these, the other's below: the distance of the mean is not the mean of the distances.
    "annealed": (AnnealedVAE, {"capacity": 0.6, "capacity_steps": 0}),
    "free bits": (VAE, {"kl": {"free_bits": 0.5}}),
    "beta-TC": (BetaTCVAE, {}),
    "DIP-I": (DIPVAE, {}),
    "DIP-II": (DIPVAE, {"variant": "II"}),
    "DIP-II, compiled": (DIPVAE, {"variant": "II"}),
    "DIP-II, full": (DIPVAE, {"variant": "II", "posterior": "full"}),
}


class Fixed(SampledPosterior):
    """A Gaussian whose noise is a function of its mean, so that it does not matter which process draws it."""

    def rsample_and_log_prob(self, sample_shape: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
        noise = (1e3 * self.base.mean.detach()).sin()
        z = self.base.mean + self.base.stddev * noise
        return z, self.base.log_prob(z)


class Loss(nn.Module):
    """The objective as a forward pass, which DDP wraps."""

    def __init__(self, name: str):
        super().__init__()
        torch.manual_seed(0)
        cls, options = CASES[name]
        self.model = cls(DataSpec("vectors", (3,)), network="mlp", latent_dim=4, hidden=16, **options)
        self.model.q = lambda x: Fixed(self.model.posterior(self.model.encoder(x)).base)
        if name.endswith("compiled"):
            self.model.compile(backend="eager")

    def forward(self, x: Tensor) -> Tensor:
        return self.model.objective(Batch(x))[0]


def examples() -> Tensor:
    """A batch whose halves differ in scale."""
    x = torch.randn(12, 3, generator=torch.Generator().manual_seed(5))
    x[6:] *= 4
    return x


def gradients(folder: Path) -> dict:
    """By case: the loss and the gradients. And what is gathered of rows, and the parts of the KL term."""
    torch.set_default_dtype(torch.float64)
    rank, found = dist.get_rank(), {}
    x = examples().tensor_split(2)[rank]
    for name in CASES:
        wrapped = DistributedDataParallel(Loss(name))
        loss = wrapped(x)
        loss.backward()
        found[name] = (loss.detach(), {key: weight.grad for key, weight in wrapped.module.named_parameters()})

    rows = examples()[: 5 if rank == 0 else 3].clone().requires_grad_()  # as many as each process happens to have
    together = gather(rows)
    ((rank + 1) * together * torch.arange(1.0, 9.0)[:, None]).sum().backward()
    found["rows"] = (together.detach(), rows.grad)

    surgery, model = ELBOSurgery(), Loss("beta-TC").model
    surgery.update(model.q(examples()[: 7 if rank == 0 else 5]), model.prior())
    found["surgery"] = surgery.compute()
    return found


if __name__ == "__main__":
    main(gradients)
