"""The noise mixture: a good model and 99 % noise, the lecture's model of a good likelihood and poor samples."""

import importlib
import math
from typing import Any, ClassVar

import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor

from zoo.errors import ZooError
from zoo.lightning import own_hyperparameters, set_hyperparameters
from zoo.metrics.bits_per_dim import bits_per_dim
from zoo.models.base import GenerativeModule
from zoo.optimizers import Optimization
from zoo.options import plain, require_at_least
from zoo.registry import MODELS, find_class, suggestion, trusts_all
from zoo.spec import Batch, DataSpec

__all__ = ["NoiseMixture"]


class NoiseMixture(GenerativeModule):
    r"""p(x) = w p_base(x) + (1 - w) p_noise(x): with w = 0.01 its log-likelihood is at most log 100 nats below the base's.

    The noise is uniform over the levels; of continuous data it is N(0, s² I), s the ``noise_scale``. The base is any model
    with a likelihood, and the mixture's is exact, or a bound, as the base's is. Training is that of the base, by its own
    objective; of a base from a checkpoint there is nothing to be trained. Logged: loss, the base's; held out also the
    mixture's nll, or elbo where the base has a bound, and bits_per_dim.

    A checkpoint holds the base whole, its class, options and weights, and no path of another file.

    Arguments:
        spec: The data's description; the command line fills it in.
        base: A registered model's name or the dotted path of a model; ``auto``: made for levels, vae for continuous data.
        base_options: Its options: ``{hidden: 1000}``.
        checkpoint: A checkpoint of a trained base, in place of these two.
        weight: w, the weight of the base.
        noise_scale: The standard deviation of the noise of continuous data.
        lr: The learning rate; the base's own if not given, or 0 for one from a checkpoint.
        training: ``optimizer``, ``schedule`` and their options: those of GenerativeModule; the base's own if not given.

    Raises:
        ZooError: if the base has no likelihood, steps its optimizers itself, or is of other data.

    References:
        | A note on the evaluation of generative models (Theis et al., 2016), section 3.2
        | https://arxiv.org/abs/1511.01844

    Example:
        >>> model = NoiseMixture(DataSpec("bits", (1, 2, 2), levels=2), base="made")
        >>> x = torch.zeros(1, 1, 2, 2, dtype=torch.uint8)
        >>> lost = model.base.log_likelihood(x) - model.log_likelihood(x)
        >>> bool(lost < math.log(100))
        True
    """

    monitor: ClassVar[str | None] = "val/loss"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("loss", "nll", "elbo", "bits_per_dim")

    def __init__(
        self,
        spec: DataSpec | dict,
        base: str = "auto",
        base_options: dict[str, Any] | None = None,
        checkpoint: str | None = None,
        weight: float = 0.01,
        noise_scale: float = 3.0,
        lr: float | None = None,
        **training: Any,
    ):
        super().__init__(spec, **training)
        if not 0 < weight < 1:
            raise ZooError(f"weight {weight}: a number between 0 and 1 is needed")
        if not 0 < noise_scale < math.inf:
            raise ZooError(f"noise_scale {noise_scale}: a positive number is needed")
        if checkpoint is not None and (base != "auto" or base_options):
            raise ZooError(f"checkpoint {checkpoint} beside a base or its options: give one of them.")
        self.weight, self.noise_scale, self.own_lr = weight, noise_scale, lr
        with own_hyperparameters():
            self.base = self._build(base, base_options or {}) if checkpoint is None else self._load(checkpoint)
        if checkpoint is not None and lr is None:
            self.own_lr = 0.0
        self._check(checkpoint or base)
        self.likelihood_kind = self.base.likelihood_kind
        self.sized_by_data = tuple(f"base.{name}" for name in self.base.sized_by_data)
        self._note_base()

    @classmethod
    def of(cls, base: GenerativeModule, **options: Any) -> "NoiseMixture":
        """The mixture with a model that is made or trained, of which it has a copy.

        Arguments:
            base: A model with a likelihood.
            options: ``weight``, ``noise_scale``, ``lr``.
        """
        given = {name: value for name, value in base.hparams.items() if name != "spec" and not name.startswith("_")}
        path = f"{type(base).__module__}.{type(base).__qualname__}"
        model = cls(base.spec, base=path, base_options=given, **{"lr": 0.0, **options})
        model.base.on_load_checkpoint({"state_dict": base.state_dict()})
        model.base.load_state_dict(base.state_dict())
        return model.to(base.device)

    def _build(self, base: str, options: dict[str, Any]) -> Any:
        """The model of a name or dotted path; of a checkpoint, only one that may be named there."""
        if base == "auto":
            base = "made" if self.spec.levels else "vae"
        path = MODELS[base].path if base in MODELS else base
        if "." not in path:
            raise ZooError(f"base {base!r} is not known; there are {', '.join(MODELS)}.{suggestion(base, MODELS)}")
        try:
            cls = find_class(path)
        except (ImportError, AttributeError) as error:
            raise ZooError(f"can't import the base {path}: {error}.") from error
        if not isinstance(cls, type) or not issubclass(cls, GenerativeModule):
            raise ZooError(f"base {path} is no model of the zoo: those derive from zoo.models.GenerativeModule.")
        try:
            return cls(self.spec, **options)
        except TypeError as error:
            raise ZooError(f"options of the base {base}: {error}.") from error

    def _load(self, checkpoint: str) -> Any:
        """The model of a checkpoint that a person named."""
        if not trusts_all():
            raise ZooError(f"checkpoint {checkpoint}: a checkpoint that names a file is none of the zoo's")
        # The library's own door, looked up by its name: whoever loads models knows them, and not the other way round.
        return importlib.import_module("zoo").load(checkpoint)

    def _check(self, named: str) -> None:
        """Raise ZooError where the base can't be one."""
        if not hasattr(self.base, "likelihood_kind"):
            raise ZooError(f"base {named}: {type(self.base).__name__} has no likelihood of {self.spec.name}.")
        if not self.base.automatic_optimization:
            raise ZooError(f"base {named}: {type(self.base).__name__} steps two optimizers; give one with a single one.")
        ours, theirs = self.spec, self.base.spec
        if (ours.shape, ours.levels) != (theirs.shape, theirs.levels):
            raise ZooError(f"base {named} is of {theirs.name}, {theirs.shape}; the data are {ours.name}, {ours.shape}.")

    def _note_base(self) -> None:
        """Store in checkpoints what makes the base again."""
        path = f"{type(self.base).__module__}.{type(self.base).__qualname__}"
        given = {key: value for key, value in self.base.hparams.items() if key != "spec" and not key.startswith("_")}
        kept = {"base": path, "base_options": plain("base_options", given), "checkpoint": None, "lr": self.own_lr}
        set_hyperparameters(self, {**self.hparams, **kept})

    def setup(self, stage: str) -> None:
        """That of the base, which may start from data."""
        super().setup(stage)
        self.base.setup(stage)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """That of the base, of the weights that are its."""
        super().on_load_checkpoint(checkpoint)
        state = checkpoint["state_dict"]
        theirs = {name.removeprefix("base."): tensor for name, tensor in state.items() if name.startswith("base.")}
        self.base.on_load_checkpoint({**checkpoint, "state_dict": theirs})

    def compile(self, **options: Any) -> None:
        """Compile the base."""
        self.base.compile(**options)

    def log_noise(self, x: Tensor) -> Tensor:
        """log p_noise(x) in nats, (B,)."""
        dims = self.spec.dims
        if self.spec.levels is not None:
            return torch.full((len(x),), -dims * math.log(self.spec.levels), device=x.device)
        squares = (x / self.noise_scale).square().flatten(1).sum(1)
        return -squares / 2 - dims * math.log(self.noise_scale * math.sqrt(2 * math.pi))

    @torch.no_grad()
    def log_likelihood(self, x: Tensor, samples: int = 1) -> Tensor:
        """log p(x) in nats, (B,), from the base's with so many samples."""
        log_base = self.base.log_likelihood(x, samples)
        return torch.logaddexp(log_base + math.log(self.weight), self.log_noise(x).to(log_base) + math.log1p(-self.weight))

    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The base's objective; held out, -log p(x) beside it."""
        self.base.training_batches = self.training_batches  # for its schedules
        self.count_batch()
        loss, _ = self.base.objective(batch)
        if self.training:
            return loss, {}
        log_p = self.log_likelihood(batch.x).mean()
        terms = {"nll": -log_p} if self.likelihood_kind == "exact" else {"elbo": log_p}
        return loss, terms if self.spec.levels is None else {**terms, "bits_per_dim": bits_per_dim(log_p, self.spec)}

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The base's, or what was given for the mixture."""
        if self.own_lr is None and self.optimization == Optimization():
            return self.base.configure_optimizers()
        return self.build_optimizer(self.base.parameters(), self.base.lr if self.own_lr is None else self.own_lr)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws of p(x): of the base with probability w, else noise."""
        require_at_least(0, n=n)
        of_base = torch.rand(n) < self.weight
        shape = (n, *self.spec.shape)
        if self.spec.levels is None:
            x = self.noise_scale * torch.randn(shape, device=self.device, dtype=next(self.base.parameters()).dtype)
        else:
            x = torch.randint(self.spec.levels, shape, dtype=self.spec.dtype, device=self.device)
        if count := int(of_base.sum()):
            x[of_base.to(x.device)] = self.base.sample(count).to(x.dtype)
        return x
