"""What every model of the zoo is: a LightningModule with an objective and samples; the steps are written once, here."""

import functools
import inspect
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import MethodType, NoneType
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.callbacks import RichProgressBar, TQDMProgressBar
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.rank_zero import rank_zero_warn
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.batches import last_batch
from zoo.data_check import CHECKED_BATCHES, check_batch
from zoo.distributed import all_sum, common_noise, processes, separate_noise, weighted
from zoo.distributions.component import Component, Family
from zoo.distributions.posteriors import SampledPosterior
from zoo.errors import ZooError
from zoo.lightning import attached_trainer, set_hyperparameters, writes_row
from zoo.metrics.epoch_mean import EpochMean
from zoo.nets.batch_norm import synchronize_batch_norm
from zoo.optimizers import Optimization, OptimizerName, ScheduleName
from zoo.options import check_given, ineffective, options_of, plain
from zoo.resuming import Resumption
from zoo.spec import Batch, DataSpec

__all__ = [
    "Autoencodes",
    "Decodes",
    "GenerativeModule",
    "HasLikelihood",
    "HasPosterior",
    "SamplesMeans",
    "examples_of",
    "with_likelihood",
]


class _WithLikelihood:
    """A method that a model without ``likelihood_kind`` does not have."""

    def __init__(self, method: Callable):
        functools.update_wrapper(cast(Callable, self), method)
        self.method = method

    def __get__(self, model: Any, owner: type | None = None) -> Callable:
        if model is None:
            return self.method
        if not hasattr(model, "likelihood_kind"):
            raise AttributeError(f"{type(model).__name__} has no likelihood of these data")
        return MethodType(self.method, model)


def with_likelihood(method: Callable) -> Any:
    """Decorates ``log_likelihood`` of a model that has a likelihood of some data only."""
    return _WithLikelihood(method)


@runtime_checkable
class HasLikelihood(Protocol):
    """Models whose log p(x) can be computed or bounded.

    A model that has a likelihood of some data only sets ``likelihood_kind`` for those, and :data:`with_likelihood` takes the
    method away from the others.
    """

    likelihood_kind: Literal["exact", "bound"]

    def log_likelihood(self, x: Tensor, samples: int = 1) -> Tensor:
        """log p(x) in nats per example, (B,), or its importance-weighted bound with ``samples`` samples."""
        ...


@runtime_checkable
class Decodes(Protocol):
    """Models with a latent space from which examples are made."""

    latent_dim: int

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent_dim) to examples in data space."""
        ...


@runtime_checkable
class SamplesMeans(Protocol):
    """Models of the form p(x|z) p(z), whose samples can do without the noise of p(x|z)."""

    def sample_mean(self, n: int, temperature: float = 1.0) -> Tensor:
        """Means of p(x|z) for ``n`` draws of p(z), as pictures show them."""
        ...


@runtime_checkable
class Autoencodes(Decodes, Protocol):
    """Models that also find the latents of given examples."""

    def encode(self, x: Tensor) -> Tensor:
        """Examples (B, ...) to latents (B, latent_dim)."""
        ...


@runtime_checkable
class HasPosterior(Protocol):
    """Models with a distribution of latents for each example."""

    def q(self, x: Tensor) -> SampledPosterior:
        """q(z|x): ``rsample_and_log_prob()`` gives latents (B, latent_dim) and their log-densities (B,)."""
        ...


def examples_of(batch: Any) -> Tensor:
    """x of a :class:`~zoo.spec.Batch`, of a tuple or list that begins with it, or the batch itself, if it is a tensor.

    Raises:
        ZooError: for anything else.
    """
    first = batch[0] if isinstance(batch, tuple | list) and batch else getattr(batch, "x", batch)
    if not isinstance(first, Tensor):
        raise ZooError(f"a batch of type {type(batch).__name__}: a zoo.spec.Batch, a tensor or a tuple of them is needed")
    return first


class _Compiled:
    """A method of a model, compiled where the model is in training mode."""

    def __init__(self, model: "GenerativeModule", plain: Callable, compiled: Callable):
        self.model, self.plain, self.compiled = model, plain, compiled

    def __call__(self, *args: Any) -> Any:
        return (self.compiled if self.model.training else self.plain)(*args)


class GenerativeModule(LightningModule, ABC):
    """A model of data x that can be trained (:meth:`objective`) and sampled from (:meth:`sample`).

    A subclass's constructor takes ``spec`` and options of plain types, calls ``super().__init__(spec)`` and builds its
    networks; its arguments are stored in the checkpoint by themselves, so that a checkpoint alone rebuilds the model.

    Arguments:
        spec: The data's description, a :class:`~zoo.spec.DataSpec` or its dict. The command line fills it in.
        optimizer: ``adam``, ``adamw``, ``adamax``, ``nadam``, ``radam``, ``sgd``, ``rmsprop`` or ``adagrad``.
        optimizer_options: Options of torch's class: ``{weight_decay: 0.01}``.
        schedule: Of the learning rate: ``constant``, ``linear``, ``cosine``, ``exponential`` or ``multistep``.
        schedule_options: ``{warmup: 1000, final: 0.1, batches: 50000}``; see :class:`~zoo.optimizers.Optimization`.

    Attributes:
        optimization: These four.
        latest_metrics: The newest training metrics by their full names, tensors on the device.
        training_batches: The batches that training has begun, of all runs that went on from one another.

    Raises:
        ZooError: if an argument of the subclass's constructor is not of the type it is annotated with, or nothing that a
            checkpoint can hold.
    """

    strategy: ClassVar[str] = "ddp"  # how Lightning runs this model on several processes
    monitor: ClassVar[str | None] = None  # the metric that says which checkpoint is best; None where nothing does
    monitor_mode: ClassVar[Literal["min", "max"]] = "min"
    progress_bar_metrics: ClassVar[tuple[str, ...]] = ("loss",)
    compiled: ClassVar[tuple[str, ...]] = ("objective",)  # the methods that ``compile`` compiles
    # What a training step minimizes, in this order, each by an optimizer of its own: methods of the batch that give a loss
    # and terms, as ``objective`` does. Whoever overrides ``training_step`` says it anew, if the step is no more than that.
    training_losses: ClassVar[tuple[str, ...]] = ("objective",)
    components: ClassVar[Mapping[str, Family]] = {}  # the arguments that name a component: ``X``, beside ``X_options``
    half_weights: ClassVar[bool] = True  # whether its weights may be of 16 bits, as in the precision bf16-true
    sized_by_data: tuple[str, ...] = ()  # weights whose first dimension data decide; ``on_load_checkpoint`` makes room
    lr: float = 1e-3

    def __init__(
        self,
        spec: DataSpec | dict,
        optimizer: OptimizerName = "adam",
        optimizer_options: dict[str, Any] | None = None,
        schedule: ScheduleName = "constant",
        schedule_options: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.spec = DataSpec.of(spec)
        taken = options_of(type(self))  # a constructor that takes a spec alone is not to get more from a checkpoint
        apart = [f"{kind}{end}" for kind in self.components for end in ("", "_options")]
        ours = inspect.signature(GenerativeModule.__init__).parameters
        self.save_hyperparameters(ignore=["spec", *apart, *(name for name in ours if name not in taken)])
        kept = {name: plain(name, value) for name, value in self.hparams.items()}
        set_hyperparameters(self, {"spec": self.spec.to_dict(), **kept})
        check_given(kept, options_of(type(self), given=1), type(self).__name__)
        self.optimization = Optimization(optimizer, optimizer_options or {}, schedule, schedule_options or {})
        self.latest_metrics: dict[str, Tensor] = {}
        self._clipping: tuple[float, str | None] | None = None  # of the Trainer: value and algorithm
        self._latest_sizes: dict[str, int] = {}  # the examples that each is a mean over; those of a checkpoint are of all
        self._epoch_means: dict[str, EpochMean] = {}  # no submodules: they move to no other device or precision
        self._checked: Counter[tuple[str, int]] = Counter()  # batches that were looked at, by stage and loader
        self.training_batches = 0

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute: at once where it is a plain one already, as Lightning does for each hook of every batch."""
        if value.__class__ in (str, NoneType, bool, int) and name in self.__dict__:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def build_component(self, kind: str, component: Any, given: tuple, options: Mapping[str, Any] | None) -> Any:
        """Make the component of an argument ``kind`` and its options, and store in the checkpoint what makes it again.

        Arguments:
            kind: Its name in ``components``.
            component: A name, a dotted path, a class, or an instance.
            given: What its place gives it.
            options: Those of the argument ``<kind>_options``.
        """
        family = self.components[kind]
        built: Component = family.build(component, given, options)
        name, kept = family.reference(built)
        set_hyperparameters(self, {kind: name, f"{kind}_options": kept})
        return built

    def warn_of_ineffective(self, reason: str, *names: str) -> None:
        """Say in a line which of these arguments were given, as another value than the default, and are read by nothing.

        Arguments:
            reason: Why they are not.
            names: The arguments.
        """
        if given := ineffective(self.hparams, options_of(type(self), given=1), names):
            listing = ", ".join(f"{name} {value}" for name, value in given.items())
            rank_zero_warn(f"{type(self).__name__}: {listing} without effect: {reason}.", stacklevel=4)

    @abstractmethod
    def objective(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to be minimized, a scalar, and the named terms to be logged beside it (detached or not)."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """``n`` examples in data space: like ``Batch.x`` in shape, type and range."""

    def forward(self, x: Tensor) -> Tensor:
        """``model(x)``: what the model makes of a tensor, by what it has.

        - Latents of examples x (B, *shape), :meth:`encode`, where it has both ways: VAEs, flows.
        - Examples of latents x (B, latent_dim), :meth:`decode`, where it has a decoder alone: GANs.
        - log p(x) in nats of examples x, (B,), where it has no latents but a likelihood.

        Training does not go this way: it asks for :meth:`objective`.

        Raises:
            ZooError: where it has none of these.
        """
        if isinstance(self, Autoencodes):
            return self.encode(x)
        if isinstance(self, Decodes):
            return self.decode(x)
        if isinstance(self, HasLikelihood):
            return self.log_likelihood(x)
        raise ZooError(f"{type(self).__name__} has no encode, decode or log_likelihood to be called for: use sample(n)")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        """What ``Trainer.predict`` gathers of a batch: its latents (B, latent_dim), else as many samples (B, *shape).

        Latents are those of :meth:`encode`, where the model has both ways (VAEs, flows): of a VAE the posterior's means. A
        model without an encoder, as a GAN, draws an example of its own for each of the batch, whatever that looks like.

        Arguments:
            batch: A :class:`~zoo.spec.Batch`; or x alone, or the first of a tuple, as loaders of other data sets give it.
            batch_idx: Its number.
            dataloader_idx: The number of its loader.
        """
        x = examples_of(batch)
        return self.encode(x) if isinstance(self, Autoencodes) else self.sample(len(x))

    @property
    def weight_dtype(self) -> torch.dtype:
        """The type of the weights, in which the model computes; torch's default where it has none.

        What Lightning keeps as ``dtype`` does not follow ``bfloat16()``, or a module that the model is a part of.
        """
        floats = (weight.dtype for weight in self.parameters() if weight.is_floating_point())
        return next(floats, torch.get_default_dtype())

    def check_batch(self, batch: Any, stage: Literal["train", "val", "test", "predict"], loader: int = 0) -> None:
        """Raise ZooError where one of the first batches of a loader is not what the spec says; later ones are not looked at.

        A Trainer's batches pass here, as the model gets them, whatever data module, loader or transform they come from.

        Arguments:
            batch: The batch.
            stage: What it is for.
            loader: The number of its loader.
        """
        if self._checked[stage, loader] < CHECKED_BATCHES:
            self._checked[stage, loader] += 1
            check_batch(batch, self.spec, f"a {stage} batch")

    def count_batch(self) -> int | None:
        """The number t of this training batch, from 0 on, for schedules; None held out, where they are at their end.

        An objective with a schedule calls it once. It is that which counts batches in a loop by hand, where every objective
        that is computed in training mode and with gradients is that of a batch; a Trainer's batches count as it begins
        them, however often their objective is computed and whether or not the optimizer takes a step for each.
        """
        if not self.training:
            return None
        if getattr(attached_trainer(self), "training", False):  # Fabric's stand-in for a Trainer has no such state
            return max(0, self.training_batches - 1)
        t = self.training_batches
        self.training_batches += torch.is_grad_enabled()
        return t

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Count the batch, and set its learning rate; look at it if it is one of the first."""
        self.check_batch(batch, "train")
        self.training_batches += 1
        self._set_learning_rates()

    def _set_learning_rates(self) -> None:
        if self.optimization.varies and not self.trainer.lr_scheduler_configs:
            factor = self.optimization.factor(self.trainer.global_step, last_batch(self.trainer))
            for optimizer in self.trainer.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * factor

    def on_validation_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Look at it if it is one of the first."""
        self.check_batch(batch, "val", dataloader_idx)

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same."""
        self.check_batch(batch, "test", dataloader_idx)

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """The same."""
        self.check_batch(Batch(examples_of(batch)), "predict", dataloader_idx)

    def compile(self, **options: Any) -> None:
        """Compile what a training batch computes, by ``torch.compile`` with these options; all else stays as it is.

        That is the methods named in ``compiled``, in training mode. Their first calls take as long as compilation does. A
        method named there asks nothing that changes at every batch, such as :meth:`count_batch`: it would be compiled in.
        For the ninth model of a process torch warns and compiles no more, until ``torch.compiler.reset()``. A copy of a
        compiled model, or one that was pickled, is not compiled.

        Example:
            >>> from zoo.models import VAE
            >>> model = VAE(DataSpec("pixels", (1, 8, 8), levels=2))
            >>> model.compile(backend="eager")  # the default backend, inductor, needs a C++ compiler, or Triton on a GPU
            >>> model.objective(Batch(torch.zeros(4, 1, 8, 8, dtype=torch.uint8)))[0].shape
            torch.Size([])
        """
        for name in self.compiled:
            method = getattr(self, name)
            setattr(self, name, _Compiled(self, method, torch.compile(method, **options)))

    def __getstate__(self) -> dict:
        """What a copy has: not the compiled methods, which compute with the weights of this very model."""
        return {name: value for name, value in super().__getstate__().items() if not isinstance(value, _Compiled)}

    def setup(self, stage: str) -> None:
        """Let batches be normalized by the examples of all processes, and the first ones be looked at; override: call it."""
        self._checked.clear()
        if processes() > 1:
            synchronize_batch_norm(self)
        if (trainer := attached_trainer(self)) is not None:
            self.require_precision(str(trainer.precision))
            if stage == "fit":
                self._lay_out(trainer.strategy.root_device)

    def _lay_out(self, device: torch.device) -> None:
        """Weights of networks that say where ``channels_last`` pays, which was measured, lie so in memory there."""
        for module in self.modules():
            if device.type in getattr(module, "channels_last", ()):
                cast(Any, module).to(memory_format=torch.channels_last)  # which its annotations leave out

    def fast_in_bf16(self, device: torch.device) -> bool:
        """Whether it was measured that bf16-mixed is faster for this model there, and keeps its numbers."""
        return False

    def require_precision(self, precision: str) -> None:
        """Raise ZooError for a Trainer's precision in which this model can't be computed."""
        if precision in ("bf16-true", "16-true") and not self.half_weights:
            raise ZooError(
                f"precision {precision}: weights of 16 bits are too coarse for {type(self).__name__}.\n"
                "Give bf16-mixed, in which networks alone are computed in 16 bits, or 32-true."
            )

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor | dict[str, Tensor]:
        """One optimizer step's loss, weighted by this process's share of the batch."""
        loss, terms = self.objective(batch)
        self.log_terms("train", {"loss": loss, **terms}, len(batch.x))
        return weighted(loss, len(batch.x))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective on held-out examples."""
        with common_noise(len(batch.x)):
            loss, terms = self.objective(batch)
        self.log_terms("val", {"loss": loss, **terms}, len(batch.x))

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """The objective on test examples."""
        with common_noise(len(batch.x)):
            loss, terms = self.objective(batch)
        self.log_terms("test", {"loss": loss, **terms}, len(batch.x))

    def log_terms(self, stage: Literal["train", "val", "test"], terms: dict[str, Tensor], batch_size: int) -> None:
        """Log ``terms`` as ``<stage>/<name>``: a training batch's as they are, else means over an epoch's examples.

        Of several processes all examples count, as often as one another (:class:`~zoo.metrics.epoch_mean.EpochMean`).

        Lightning's ``log`` costs as much as the training of a small network, and its bars read a number from the device
        at every batch. So a training batch's terms are kept in :attr:`latest_metrics`, and logged where they are written.

        Arguments:
            stage: The prefix.
            terms: Means over this process's part of a batch, scalars.
            batch_size: The number of examples in that part.
        """
        metrics = {f"{stage}/{name}": value.detach() for name, value in terms.items()}
        if stage == "train":
            self.latest_metrics.update(metrics)
            self._latest_sizes.update(dict.fromkeys(metrics, batch_size))
            return
        for name, value in metrics.items():
            mean = self._epoch_means.setdefault(name, EpochMean())
            mean.update(value, batch_size)
            self.log(name, mean, prog_bar=self._on_bar(name), on_epoch=True, metric_attribute=name)

    def on_fit_start(self) -> None:
        """Let no two processes draw the same numbers."""
        separate_noise()

    def on_train_start(self) -> None:
        """Look at the first batches anew: those before were of a sanity check. Set the learning rate of the first one."""
        self._checked.clear()
        self._set_learning_rates()  # which may be impossible: before it is counted
        for optimizer in self.trainer.optimizers:
            _lay_out_as_weights(optimizer)

    def on_predict_start(self) -> None:
        """Let no two processes draw the same numbers."""
        separate_noise()

    def on_train_epoch_start(self) -> None:
        """Forget the last epoch's metrics."""
        self.latest_metrics.clear()

    def on_validation_epoch_start(self) -> None:
        """Forget what an epoch that was interrupted has left."""
        self._epoch_means.clear()

    def on_test_epoch_start(self) -> None:
        """The same."""
        self._epoch_means.clear()

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Log what is due of the batch, and set the learning rate of the next one."""
        self._set_learning_rates()
        stock = isinstance(self.trainer.progress_bar_callback, TQDMProgressBar | RichProgressBar)
        for name, value in self.due_metrics().items():
            self.log(name, value, prog_bar=stock and self._on_bar(name), on_step=True, on_epoch=False)

    def due_metrics(self) -> dict[str, Tensor]:
        """The latest metrics where loggers write a row, and at the end of an epoch or of training; else none."""
        trainer = self.trainer
        due = writes_row(trainer) or trainer.is_last_batch or trainer.global_step == trainer.max_steps
        return self.latest_of_all() if due else {}

    def latest_of_all(self) -> dict[str, Tensor]:
        """The latest metrics, means over the parts of the batch that all processes have; all of them call it together."""
        if processes() == 1 or not self.latest_metrics:
            return self.latest_metrics
        sums = [
            torch.stack([value.double(), torch.ones_like(value, dtype=torch.float64)]) * self._latest_sizes.get(name, 1)
            for name, value in self.latest_metrics.items()
        ]
        total, count = all_sum(torch.stack(sums, 1))  # (metrics,) each
        means = zip(self.latest_metrics.items(), total / count, strict=True)
        return {name: mean.to(value) for (name, value), mean in means}

    def _on_bar(self, name: str) -> bool:
        return name.partition("/")[2] in self.progress_bar_metrics

    def build_optimizer(self, parameters: Iterable[nn.Parameter], lr: float, **preferred: Any) -> Optimizer:
        """The optimizer that was asked for, Adam if none was, in its fused form; not where the Trainer clips gradients.

        A fused optimizer unscales gradients itself, so that under autocast Lightning refuses to clip them before it does.
        Its learning rate follows the schedule in a Trainer, where the model has no scheduler of its own.

        Arguments:
            parameters: What it trains.
            lr: Its learning rate, at the height of the schedule.
            preferred: Options for optimizers that have them: ``betas=(0.5, 0.999)``. What a person asks for wins.
        """
        clips = bool(getattr(attached_trainer(self), "gradient_clip_val", None)) or self._clipping is not None
        return self.optimization.build(parameters, lr, fused=not clips, **preferred)

    def expect_clipping(self, value: float | None, algorithm: str | None) -> None:
        """Tell a model that no Trainer trains what its gradients will be clipped to, before its optimizers are made."""
        self._clipping = (value, algorithm) if value else None

    def counted_and_uncounted(self) -> tuple[LightningOptimizer, Optimizer]:
        """In manual optimization of two: the first as Lightning wraps it, the second for :meth:`step_uncounted`.

        Raises:
            ZooError: if there are not two.
        """
        wrapped, plain_ones = self.optimizers(), self.optimizers(use_pl_optimizer=False)
        if not isinstance(wrapped, list) or not isinstance(plain_ones, list) or len(wrapped) != 2:
            raise ZooError(f"{type(self).__name__}.configure_optimizers must give two optimizers")
        if not isinstance(first := wrapped[0], LightningOptimizer):
            raise ZooError(f"{type(self).__name__}: Lightning did not wrap the optimizers, so that nothing counts batches")
        return first, plain_ones[1]

    def step_uncounted(self, optimizer: Optimizer) -> None:
        """In manual optimization, a step that ``global_step`` doesn't count: of the second optimizer of a batch, or third.

        Lightning counts the steps of the optimizers it wraps. Take ``optimizer`` from :meth:`counted_and_uncounted`, or of
        more than two from ``self.optimizers(use_pl_optimizer=False)``: through the strategy its step is the same, and
        ``global_step`` is the number of batches.
        """
        self.trainer.strategy.optimizer_step(optimizer, lambda: None)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """One optimizer with the learning rate ``self.lr`` for all parameters."""
        return self.build_optimizer(self.parameters(), self.lr)

    def configure_callbacks(self) -> list[Callback]:
        """What every training of a model needs to go on from its checkpoints; a subclass adds to ``super()``'s.

        Of a model that steps its optimizers itself, the Trainer's clipping is taken over here: Lightning refuses it.
        """
        trainer = self.trainer
        Resumption.attach(trainer)
        if trainer.training and not self.automatic_optimization:
            self.require_own_steps(trainer.accumulate_grad_batches)
            if trainer.gradient_clip_val:
                self._clipping = (trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
                trainer.gradient_clip_val = None
        return []

    def require_own_steps(self, accumulate_grad_batches: int) -> None:
        """Raise ZooError where a Trainer is to accumulate gradients of a model that steps its optimizers itself."""
        if not self.automatic_optimization and accumulate_grad_batches != 1:
            raise ZooError(
                f"accumulate_grad_batches {accumulate_grad_batches}: {type(self).__name__} steps two optimizers in turn, "
                "each on what the other has done: batches don't add up to a larger one.\nGive a larger --data.batch_size."
            )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients of a model that steps its optimizers itself, of each optimizer by itself."""
        if self._clipping is not None:
            value, algorithm = self._clipping
            self.clip_gradients(optimizer, value, algorithm or "norm")

    def teardown(self, stage: str) -> None:
        """Give the Trainer its option back."""
        if self._clipping is not None and (trainer := attached_trainer(self)) is not None:
            trainer.gradient_clip_val, self._clipping = self._clipping[0], None

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        """Add the class, by which the file alone rebuilds the model, and the count of batches that a run takes up."""
        checkpoint["zoo_class"] = f"{type(self).__module__}.{type(self).__qualname__}"
        begun = checkpoint.get("zoo_progress", {}).get("begun", False)  # a batch that is to be done again
        checkpoint["zoo_training_batches"] = self.training_batches - begun

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take up the count of batches, and double precision, unless a Trainer has another."""
        self.training_batches = checkpoint.get("zoo_training_batches", 0)
        trainer = attached_trainer(self)
        if (trainer is None or trainer.precision == "64-true") and _in_double(checkpoint.get("state_dict", {})):
            self.double()

    def require_images(self, network: str) -> None:
        """Raise ZooError where ``network`` is made for images and the data are vectors."""
        if not self.spec.is_image:
            raise ZooError(
                f"network {network} takes images (C, H, W); {self.spec.name} has shape {self.spec.shape}. "
                "Use --model.network mlp."
            )


def _lay_out_as_weights(optimizer: Optimizer) -> None:
    """What an optimizer keeps of a weight lies in memory as the weight does, whatever a checkpoint had: fused ones ask."""
    for weight, kept in optimizer.state.items():
        for name, value in kept.items():
            if isinstance(value, Tensor) and value.shape == weight.shape and value.stride() != weight.stride():
                kept[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def _in_double(state: Mapping[str, Tensor]) -> bool:
    floats = [tensor.dtype for tensor in state.values() if tensor.is_floating_point()]
    return bool(floats) and all(dtype == torch.float64 for dtype in floats)
