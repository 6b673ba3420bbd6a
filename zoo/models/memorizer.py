"""The memorizer, a narrow Gaussian around every training example: perfect samples and poor likelihood."""

import math
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from zoo.distributed import broadcast, gather
from zoo.errors import ZooError
from zoo.lightning import datamodule_of
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models.base import GenerativeModule
from zoo.options import require_at_least
from zoo.spec import Batch, DataSpec, require_numbers

__all__ = ["Memorizer"]

_PER_CALL = 2**24  # pairs of examples that are held at once
_LARGEST = 2**29  # values that are kept


class _Kernel(nn.Module):
    """The scale of the Gaussians, and what follows from it alone."""

    def __init__(self, scale: float, levels: int | None):
        super().__init__()
        self.levels = levels
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def precision(self) -> Tensor:
        """1 / ε, in float64."""
        return torch.exp(-2 * self.log_scale.double())

    def log_normalizer(self) -> Tensor:
        """log Σ_l exp(-(l - m)² / 2ε) for each level m, (levels,); of continuous data log (2πε)^½, (1,)."""
        if self.levels is None:
            return (self.log_scale.double() + math.log(2 * math.pi) / 2).unsqueeze(0)
        sums = self.sums()
        return (sums + sums.flip(0) - 1).log()  # of the levels from m on, and of those down to it; m itself once

    def sums(self) -> Tensor:
        """Σ_{j=0}^{k} exp(-j² / 2ε) for each k, (levels,)."""
        j = torch.arange(float(self.levels or 1), dtype=torch.float64, device=self.log_scale.device)
        return torch.exp(-0.5 * self.precision() * j.square()).cumsum(0)


class Memorizer(GenerativeModule):
    r"""p(x) = 1/n Σᵢ N(x | x_i, ε I) over the n training examples: samples are copies of them, with noise of variance ε.

    Of data with levels, N is the probability of a level and not a density at a point: each value of x_i becomes level l with
    a probability proportional to exp(-(l - x_i)² / 2ε), normalized over the levels. Log p(x) is exact, in nats.

    There is nothing to be learned but ε, and that only where a learning rate is given: by the likelihood of each training
    example under all the others, since under itself too it would only fall. Logged: nll, in training that one; and
    bits_per_dim.

    Examples are taken from the data before training, or from the first batch in a loop by hand; until then there is one, of
    zeros.

    Arguments:
        spec: The data's description; the command line fills it in.
        scale: ε^½, in levels, or of continuous data in their unit; 0.5 and 0.01 if not given.
        examples: How many training examples are kept, in the order in which training shows them; all if not given.
        lr: The learning rate of log ε^½.
        training: ``optimizer``, ``schedule`` and their options: those of GenerativeModule.

    Raises:
        ZooError: if there are more values to be kept than memory is reasonable for.

    References:
        | A note on the evaluation of generative models (Theis et al., 2016)
        | https://arxiv.org/abs/1511.01844

    Example:
        >>> model = Memorizer(DataSpec("bits", (1, 1, 2), levels=2), scale=0.25)
        >>> model.initialize(torch.tensor([[[[0, 1]]], [[[1, 1]]]], dtype=torch.uint8))
        >>> every = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]]).view(4, 1, 1, 2)
        >>> [f"{p:.3f}" for p in model.log_likelihood(every).exp()]
        ['0.000', '0.500', '0.000', '0.500']
    """

    likelihood_kind: Literal["exact", "bound"] = "exact"
    monitor: ClassVar[str | None] = "val/nll"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("nll", "bits_per_dim")
    compiled: ClassVar[tuple[str, ...]] = ("log_prob",)
    sized_by_data: tuple[str, ...] = ("memory",)
    memory: Tensor

    def __init__(
        self,
        spec: DataSpec | dict,
        scale: float | None = None,
        examples: int | None = None,
        lr: float = 0.0,
        **training: Any,
    ):
        super().__init__(spec, **training)
        require_at_least(1, examples=examples)
        require_at_least(0, lr=lr)
        if scale is None:
            scale = 0.01 if self.spec.levels is None else 0.5
        if not 0 < scale < math.inf:
            raise ZooError(f"scale {scale}: a positive number is needed")
        self._require_room(examples or 1)
        self.lr, self.examples = lr, examples
        self.kernel = _Kernel(scale, self.spec.levels)
        dtype = torch.get_default_dtype() if self.spec.levels is None else self.spec.dtype
        self.register_buffer("memory", torch.zeros(1, *self.spec.shape, dtype=dtype))
        self._ready = False  # whether there are examples
        self.register_load_state_dict_post_hook(_note_examples)

    def _require_room(self, examples: int) -> None:
        if examples * self.spec.dims > _LARGEST:
            most = _LARGEST // self.spec.dims
            raise ZooError(f"{examples:,} examples of {self.spec.name} are too many to keep: --model.examples {most}.")

    def setup(self, stage: str) -> None:
        """Before training, take the examples; a checkpoint from which training goes on has its own."""
        super().setup(stage)
        data = datamodule_of(self.trainer)
        if stage != "fit" or data is None:
            return
        self.to(self.trainer.strategy.root_device)  # Lightning does it later, but GPUs exchange only what they hold
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            parts, found = [], 0
            for batch in data.train_dataloader():
                parts.append(batch.x.to(self.device))
                found += len(batch.x)
                self._require_room(min(found, self.examples or found))
                if self.examples is not None and found >= self.examples:
                    break
        self.initialize(torch.cat(parts))

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Keep the examples (N, *shape) of all processes, which call it together, or the first of them."""
        x = broadcast(gather(x.to(self.device)).contiguous())[: self.examples]
        self.memory, self._ready = x.to(self.memory.dtype), True

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Make room for as many examples as a checkpoint has."""
        super().on_load_checkpoint(checkpoint)
        count, *shape = checkpoint["state_dict"]["memory"].shape
        if tuple(shape) != self.spec.shape or count < 1:
            raise ZooError(f"its examples are of shape {tuple(shape)}, and not {self.spec.shape}")
        self.memory = self.memory.new_zeros(count, *shape)

    def log_prob(self, x: Tensor, leave_out: bool = False) -> Tensor:
        """log p(x) in nats, (B,); with ``leave_out`` that under the examples but for one that x is equal to."""
        memory = self.memory.flatten(1).double()  # (n, D)
        precision, normalizer = self.kernel.precision(), self.kernel.log_normalizer()
        if self.spec.levels is None:
            volume = normalizer * memory.shape[1]  # (1,)
        else:
            volume = normalizer[self.memory.flatten(1).long()].sum(1)  # (n,)
        found = []
        for part in x.flatten(1).double().split(max(1, _PER_CALL // len(memory))):
            squares = part.square().sum(1, keepdim=True) - 2 * part @ memory.T + memory.square().sum(1)
            log_p = -0.5 * precision * squares.clamp_min(0) - volume  # (b, n)
            among = float(len(memory))
            if leave_out and len(memory) > 1:
                nearest = squares.argmin(1, keepdim=True)
                itself = (part == memory[nearest[:, 0]]).all(1, keepdim=True)  # (b, 1)
                log_p = log_p.scatter(1, nearest, log_p.gather(1, nearest).masked_fill(itself, -math.inf))
                found.append(log_p.logsumexp(1) - (among - itself[:, 0].double()).log())
            else:
                found.append(log_p.logsumexp(1) - math.log(among))
        return torch.cat(found).to(self.kernel.log_scale.dtype)

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-log p(x), the mean over the batch; in training p without the example itself."""
        if self.training and not self._ready:
            self.initialize(batch.x)
        nll = -self.log_prob(batch.x, self.training).mean()
        terms = {"nll": nll}
        return nll, terms if self.spec.levels is None else {**terms, "bits_per_dim": bits_per_dim(-nll, self.spec)}

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, samples: int = 1) -> Tensor:
        """log p(x) in nats, (B,). It is exact, and ``samples`` changes nothing."""
        return self.log_prob(x)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws of p(x): examples, with noise."""
        require_at_least(0, n=n)
        chosen = self.memory[torch.randint(len(self.memory), (n,), device=self.device)]
        if self.spec.levels is None:
            return require_numbers(chosen + self.kernel.log_scale.exp() * torch.randn_like(chosen))
        sums, m = self.kernel.sums(), chosen.long()
        above = sums[self.spec.levels - 1 - m]  # the mass from m up, and below that from m - 1 down, both relative to m's
        u = torch.rand(m.shape, dtype=torch.float64, device=self.device) * (above + sums[m] - 1)
        require_numbers(u + self.kernel.log_scale)  # of a scale that is none, no level is a draw
        up = u < above
        steps = torch.searchsorted(sums, torch.where(up, u, u - above + 1), right=True)
        return (m + torch.where(up, steps, -steps)).clamp(0, self.spec.levels - 1).to(self.memory.dtype)


def _note_examples(model: Memorizer, incompatible: Any) -> None:
    """After a state is loaded: its examples are there."""
    model._ready = True
