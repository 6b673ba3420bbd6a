"""Flow++: a flow on dequantized images, with a flow as dequantizer."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from math import prod
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor

from zoo.distributed import Share, broadcast, common_noise, gather, noise_of, rank
from zoo.distributions.dequantization import (
    DequantizedFlow,
    Dequantizer,
    NoDequantizer,
    UniformDequantizer,
    VariationalDequantizer,
)
from zoo.errors import ZooError
from zoo.lightning import datamodule_of
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.metrics.importance_weighting import Bound, importance_weighted_bound
from zoo.models.base import GenerativeModule, with_likelihood
from zoo.options import MOST_LAYERS, MOST_UNITS, require_at_least, require_between
from zoo.spec import Batch, DataSpec
from zoo.transforms.base import Transform
from zoo.transforms.image_flow import ImageFlow

__all__ = ["FlowPlusPlus"]

_PER_CALL = 2**18  # elements of images that are sent through the flow at once where many draws are made for one estimate
_INVERTED = 32  # examples whose inversion error is measured in an epoch of validation or test


class FlowPlusPlus(GenerativeModule):
    """Maximizes E_q[log p(x + u) - log q(u|x)] <= log P(x), in nats, summed over dimensions: p a flow, q the dequantizer.

    p and q are the two parts of :attr:`density`, a :class:`~zoo.distributions.dequantization.DequantizedFlow`; a method
    that differs in one overrides :meth:`build_flow` or :meth:`build_dequantizer`. Logged: elbo, the bound at one draw
    of u; bits_per_dim of it; log_q = E[log q(u|x)]; held out, inversion_error = max |y - f⁻¹(f(y))| over the first
    examples, y = x + u on the scale of the levels. Of continuous images, which need no u: nll.

    Actnorms start from data: from the first batch, that of all processes together, before training, or at the first
    evaluation of :meth:`objective` in training mode.

    Arguments:
        spec: The data's description; the command line fills it in.
        dequantization: ``variational``, ``uniform``, or ``none``: the only one for continuous images; of levels it gives a
            density at points, not a bound, and so neither elbo nor bits/dim.
        couplings: How many on the whole image, how many on a channel split after space-to-depth, how many after that on
            the first split again.
        coupling: ``mixture_logistic``, ``affine`` or ``spline``.
        split: ``columns``, even from odd, as published, or ``checkerboard``, the true one.
        filters: Channels of each coupling's network.
        blocks: Its gated blocks.
        components: Logistics of each mixture.
        attention: Whether each block has self-attention.
        heads: Its heads.
        dropout: In each block.
        norm: Whether actnorms have a scale and shift per ``element`` or per ``channel``.
        dequantizer_couplings: Couplings of the variational dequantizer's flow, on the whole image.
        dequantizer_blocks: Their gated blocks.
        checkpoint: Compute activations again in the backward pass rather than store them: less memory, more time.
        lr: The learning rate.
        warmup: Batches over which it rises linearly from 0.
        training: ``optimizer``, ``schedule`` and their options: those of GenerativeModule.

    References:
        | Flow++: Improving Flow-Based Generative Models (Ho et al., 2019)
        | https://arxiv.org/abs/1902.00275
    """

    monitor: ClassVar[str | None] = "val/loss"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_dim")
    compiled: ClassVar[tuple[str, ...]] = ("terms",)
    half_weights: ClassVar[bool] = False

    def __init__(
        self,
        spec: DataSpec | dict,
        dequantization: Literal["variational", "uniform", "none"] = "variational",
        couplings: tuple[int, int, int] = (4, 2, 3),
        coupling: Literal["mixture_logistic", "affine", "spline"] = "mixture_logistic",
        split: Literal["columns", "checkerboard"] = "columns",
        filters: int = 32,
        blocks: int = 2,
        components: int = 4,
        attention: bool = True,
        heads: int = 4,
        dropout: float = 0.2,
        norm: Literal["element", "channel"] = "element",
        dequantizer_couplings: int = 4,
        dequantizer_blocks: int = 2,
        checkpoint: bool = False,
        lr: float = 3e-4,
        warmup: int = 2000,
        **training: Any,
    ):
        super().__init__(spec, **training)
        if not self.spec.is_image:
            raise ZooError(f"flowpp takes images (C, H, W); {self.spec.name} has shape {self.spec.shape}: try digits.")
        if dequantization not in ("variational", "uniform", "none"):
            raise ZooError(f"dequantization {dequantization!r} is not known; there are variational, uniform, none")
        if self.spec.levels is None and dequantization != "none":
            raise ZooError(f"{self.spec.name} is continuous, without levels to add noise to: --model.dequantization none.")
        require_at_least(0, warmup=warmup)
        require_between(0, 1, dropout=dropout)
        require_between(1, MOST_UNITS, filters=filters, components=components, heads=heads)
        layers = {"blocks": blocks, "dequantizer_blocks": dequantizer_blocks, "dequantizer_couplings": dequantizer_couplings}
        require_between(0, MOST_LAYERS, **layers, couplings=max(couplings))
        if dequantization != "variational":
            reason = f"dequantization {dequantization} has no flow"
            self.warn_of_ineffective(reason, "dequantizer_couplings", "dequantizer_blocks")
        elif not dequantizer_couplings:
            self.warn_of_ineffective("dequantizer_couplings is 0", "dequantizer_blocks")
        if coupling == "affine":
            self.warn_of_ineffective("an affine coupling has none", "components")
        if not attention:
            self.warn_of_ineffective("there is no attention", "heads")
        how = self.optimization
        self.optimization = replace(how, schedule_options={"warmup": warmup, **how.schedule_options})
        self.dequantization, self.couplings, self.lr, self.warmup = dequantization, tuple(couplings), lr, warmup
        self.blocks, self.dequantizer_couplings, self.dequantizer_blocks = blocks, dequantizer_couplings, dequantizer_blocks
        self.common: dict[str, Any] = {
            "coupling": coupling,
            "split": split,
            "filters": filters,
            "components": components,
            "attention": attention,
            "heads": heads,
            "dropout": dropout,
            "norm": norm,
            "checkpoint": checkpoint,
        }
        flow = self.build_flow()
        self.latent_shape = tuple(cast(Sequence[int], flow.latent_shape))
        self.latent_dim = prod(self.latent_shape)
        self.density = DequantizedFlow(flow, self.build_dequantizer(), self.spec.levels)
        bound = self.density.dequantizer.bound
        if bound or self.spec.levels is None:  # without noise, levels have a density at points and no likelihood
            self.likelihood_kind: Literal["exact", "bound"] = "bound" if bound else "exact"
        self._ready = False  # whether the actnorms are known to be set, without asking the device

    def build_flow(self) -> Transform:
        """The flow of the images, from (B, C, H, W) to (B, *latent_shape), which has an attribute ``latent_shape``."""
        return ImageFlow(self.spec.image_shape, self.couplings, blocks=self.blocks, **self.common)

    def build_dequantizer(self) -> Dequantizer:
        """What makes continuous points of levels."""
        if self.dequantization == "none" or self.spec.levels is None:
            return NoDequantizer()
        if self.dequantization == "uniform":
            return UniformDequantizer()
        couplings, blocks = (self.dequantizer_couplings, 0, 0), self.dequantizer_blocks
        shape = self.spec.image_shape
        flow = ImageFlow(shape, couplings, blocks=blocks, context_channels=shape[0], **self.common)
        return VariationalDequantizer(flow, self.spec.levels)

    def setup(self, stage: str) -> None:
        """Before training, set what starts from data from the first batch; the batches of training stay as they are."""
        super().setup(stage)
        data = datamodule_of(self.trainer)
        if stage != "fit" or data is None or self.density.initialized:
            return
        self.to(self.trainer.strategy.root_device)  # Lightning does it later, but GPUs exchange only what they hold
        with torch.random.fork_rng(self._devices):
            batch = next(iter(data.train_dataloader()))
        self.check_batch(batch, "train")
        self.initialize(batch.x)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        """Set what starts from data, once, from the examples (B, C, H, W) of all processes, which call it together."""
        if not self.density.initialized:
            x = gather(x.to(self.device))
            if rank() == 0:
                with torch.random.fork_rng(self._devices):
                    torch.manual_seed(0)  # so that only weights and examples count, not when this happens
                    self.density.initialize(x)
            for tensor in chain(self.density.parameters(), self.density.buffers()):
                tensor.copy_(broadcast(tensor))
        self._ready = True

    @property
    def _devices(self) -> list[torch.device]:
        return [self.device] if self.device.type == "cuda" else []

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log p(x + u) and log q(u|x), scalars, means over the batch at one draw of u each."""
        log_p, log_q = self.density(x)
        return log_p.mean(), log_q.mean()

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[log p(x + u) - log q(u|x)], the mean over the batch at one draw of u each."""
        if self.training and not self._ready:
            self.initialize(batch.x)
        log_p, log_q = self.terms(batch.x)
        value = log_p - log_q
        if not self.density.dequantizer.bound:
            return -value, {"nll": -value} if self.spec.levels is None else {}
        return -value, {"elbo": value, "bits_per_dim": bits_per_dim(value, self.spec), "log_q": log_q}

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective, and the inversion error, on held-out examples."""
        super().validation_step(batch, batch_idx)
        self._record_inversion("val", batch, batch_idx)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective, and the inversion error, on test examples."""
        super().test_step(batch, batch_idx)
        self._record_inversion("test", batch, batch_idx)

    def _record_inversion(self, stage: str, batch: Batch, batch_idx: int) -> None:
        if batch_idx == 0:
            with common_noise(len(batch.x)) as share:
                part = Share(*(min(_INVERTED, place) for place in share))
                with noise_of(part):
                    x = batch.x[: part.stop - part.start]
                    error = self.density.inversion_error(x) if len(x) else torch.full((), -torch.inf, device=self.device)
            self.log(f"{stage}/inversion_error", error, on_epoch=True, reduce_fx="max", sync_dist=True, batch_size=1)

    @torch.no_grad()
    def importance_weighted(self, x: Tensor, samples: int) -> Bound:
        """The importance-weighted bound on log P(x) with exactly ``samples`` draws of u, per example, with its error.

        Of continuous images there is nothing to draw: log p(x), and error 0. ZooError for levels without dequantization.
        """
        if not hasattr(self, "likelihood_kind"):
            raise ZooError("levels without dequantization have a density at points, not a likelihood: train with noise")
        if self.likelihood_kind == "exact":
            log_p, _ = self.density(x)
            return Bound(log_p, torch.zeros_like(log_p))

        def log_weights(k: int) -> Tensor:
            log_p, log_q = self.density(x.repeat(k, 1, 1, 1))
            return (log_p - log_q).view(k, -1)

        return importance_weighted_bound(log_weights, samples, max(1, _PER_CALL // max(1, x.numel())))

    @with_likelihood
    def log_likelihood(self, x: Tensor, samples: int = 1) -> Tensor:
        """The same without the error: nats, (B,)."""
        return self.importance_weighted(x, samples).log_p

    def encode(self, x: Tensor) -> Tensor:
        """The latents (B, latent_dim) of the bin_centers of x's cells."""
        return self.density.encode(self.density.centers(x))[0].flatten(1)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_dim) to the examples (B, C, H, W) in whose cells their points are."""
        return self.density.quantize(self.density.decode(z.unflatten(1, self.latent_shape)))

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0) -> Tensor:
        """n draws of P(x), the noise z ~ N(0, I) scaled by ``temperature``."""
        require_at_least(0, n=n)
        noise = torch.randn(n, self.latent_dim, device=self.device, dtype=self.weight_dtype)
        return self.decode(temperature * noise)
