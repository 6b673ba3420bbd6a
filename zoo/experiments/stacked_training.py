"""Many trainings as one: models of several seeds or settings, each with a run folder like any other run's."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import Checkpoint
from torch import Generator, Tensor, nn

from callbacks import FinalValidation, GracefulStop, MetricsProgressBar, TrainingEstimate
from callbacks.non_finite_guard import DivergedError
from zoo import registry
from zoo.batches import last_batch
from zoo.data_check import CHECKED_BATCHES
from zoo.errors import ZooError
from zoo.experiments.members import Member
from zoo.experiments.stack import Stack, have_own_numbers, why_not
from zoo.experiments.stacked_data import HeldOutBatches, StackedData, parts, why_not_data
from zoo.files import write_atomically
from zoo.lightning import writes_row
from zoo.models.base import GenerativeModule
from zoo.resuming import Resumption, random_state
from zoo.runs.checkpoints import AtomicCheckpointIO
from zoo.runs.config import describe
from zoo.runs.folder import data_name, discard_run, missing_folders, new_run
from zoo.runs.run_checkpoint import read_interval
from zoo.runs.run_record import RunRecord
from zoo.runs.training import REFUSALS, Run, checked_options, impossible
from zoo.spec import Batch

__all__ = ["fit_stacked", "pays", "why_not_stacked"]

# On a CPU, of networks of matrix products, and of images that networks of convolutions see: as measured, docs/many_seeds.md.
_MOST_WEIGHTS, _MOST_PIXELS = 1_200_000, 64
_HOOKS = (
    *("setup", "teardown", "on_fit_start", "on_fit_end", "on_sanity_check_start", "on_sanity_check_end", "on_train_start"),
    *("on_train_end", "on_train_epoch_start", "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end"),
    *("on_validation_start", "on_validation_end", "on_validation_epoch_start", "on_validation_epoch_end"),
    *("on_validation_batch_start", "on_validation_batch_end", "on_exception"),
)
_OF_BATCHES = ("on_train_batch_start", "on_train_batch_end")  # which draw nothing


def fit_stacked(
    models: Sequence[GenerativeModule],
    data: Sequence[LightningDataModule] | LightningDataModule,
    seeds: Sequence[int],
    *,
    root: str | Path = "runs",
    names: Sequence[str | None] | None = None,
    checkpoint_every: str | int | None = None,
    callbacks: Sequence[Sequence[Callback]] | None = None,
    configs: Sequence[str] | None = None,
    randoms: Sequence[dict[str, Any]] | None = None,
    **trainer_options: Any,
) -> list[Run]:
    """Trains several models of one class as one, on one device: member k as ``zoo.runs.fit(models[k], ..., seed=seeds[k])``.

    Each has a run folder, ``<root>/<model>-<data>/<n>``, with ``config.yaml``, ``run.json``, ``metrics.csv`` and its
    checkpoints, in which any command finds what it finds in another run's. A member whose loss is no number any more
    stops, and its ``run.json`` says so; the others go on. There is no W&B run.

    Arguments:
        models: The models. They may differ in seeds, and in numbers that weigh something: learning rates and what else
            optimizers and schedules have, weights of the loss.
        data: A datamodule of each model, the same data with the seeds of the models; or one, of which each gets a copy.
        seeds: Of what training draws: order of the data, noise.
        root: Where run folders are made.
        names: Of the runs, in place of their numbers.
        checkpoint_every: As of :func:`zoo.runs.fit`.
        callbacks: Of each model its own: pictures, scores.
        configs: The text of each ``config.yaml``.
        randoms: The random states with which each training begins, in place of those of ``seeds``.
        trainer_options: Options of Lightning's Trainer; one device.

    Returns:
        The runs, in the order of the models.

    Raises:
        ZooError: where they can't be trained as one (:func:`why_not_stacked`), what :func:`zoo.runs.fit` raises, and where
            the last member has diverged.

    Example:
        >>> import tempfile
        >>> from datamodules import Toy
        >>> from zoo.models import VAE
        >>> data = Toy("ring", size=64)
        >>> models = [VAE(data.spec, hidden=8, latent_dim=2, lr=lr) for lr in (1e-3, 1e-2)]
        >>> runs = fit_stacked(models, data, [0, 0], root=tempfile.mkdtemp(), max_steps=2, enable_progress_bar=False)
        2 x VAE, ... parameters each, on toy_ring (2,), ...
        >>> [run.checkpoint.name for run in runs]
        ['best.ckpt', 'best.ckpt']
    """
    listed = [_with_seed(data, seed) for seed in seeds] if isinstance(data, LightningDataModule) else [*data]
    given = [list(each) for each in callbacks] if callbacks is not None else [[] for _ in models]
    options = {"devices": 1, "enable_model_summary": False, **checked_options(trainer_options)}
    options.setdefault("strategy", "auto")
    if (reason := why_not_stacked(models, listed, given, options)) is not None:
        raise ZooError(reason)
    every = read_interval(checkpoint_every)
    told = dict(options)
    clip = options.pop("gradient_clip_val", None), options.pop("gradient_clip_algorithm", None)
    state = random_state(models[0])
    randoms = [_random_of(model, seed) for model, seed in zip(models, seeds, strict=True)] if randoms is None else randoms
    torch.set_rng_state(state["torch"])
    model_name, on = registry.name_of(type(models[0]), registry.MODELS), data_name(listed[0])
    made, members = missing_folders(root, model_name, on), []
    listed[0].prepare_data()
    keeps = options.get("enable_checkpointing") is not False
    for k, (model, each, seed) in enumerate(zip(models, listed, seeds, strict=True)):
        folder = new_run(root, model_name, on, names[k] if names is not None else None)
        record = RunRecord(folder, (model_name, on), seed, len(models))
        members.append(Member(k, model, each, seed, randoms[k], folder, record, given[k], keeps, every))
        text = describe(model, each, told, seed) if configs is None else configs[k]
        with write_atomically(folder / "config.yaml", text=True) as file:
            file.write(text)
    return _train(members, clip, options, made)


def why_not_stacked(
    models: Sequence[GenerativeModule],
    data: Sequence[LightningDataModule],
    callbacks: Sequence[Sequence[Callback]],
    options: Mapping[str, Any],
) -> str | None:
    """Why trainings can't be one, in a line; None where they can. A step of copies of some is tried.

    Arguments:
        models, data, callbacks: Of each training.
        options: Of the Trainer.
    """
    foreign = [each for each in callbacks[0] if not _understood(each)]
    refused = {
        "devices": options.get("devices") not in (1, "1", "auto", None) and options.get("devices") != [0],
        "strategy": options.get("strategy") not in ("auto", None),
        "accumulate_grad_batches": options.get("accumulate_grad_batches") not in (1, None),
        "precision": str(options.get("precision")) in ("16-mixed", "16", "transformer-engine", "transformer-engine-float16"),
        "logger": options.get("logger") not in (None, True, False),
        "plugins": bool(options.get("plugins")),
        "fast_dev_run": bool(options.get("fast_dev_run")),
    }
    for name, is_refused in refused.items():
        if is_refused:
            return f"models that are trained as one have no {name} {options.get(name)}"
    if (reason := why_not(models) or why_not_data(data)) is not None:
        return reason
    if foreign:
        return f"{type(foreign[0]).__name__} is not known to work for each of several models that are trained as one"
    tried = [deepcopy(model).cpu() for model in (models if have_own_numbers(models) else [*models, *models][:2])]
    spec = tried[0].spec
    x = torch.zeros((len(tried), 4, *spec.shape), dtype=spec.dtype if spec.levels else tried[0].weight_dtype)
    try:
        with torch.random.fork_rng(devices=()):
            Stack(tried, [Generator() for _ in tried]).try_step(Batch(x))
    except ZooError as error:
        return str(error).splitlines()[0]
    return None


def pays(models: Sequence[GenerativeModule], options: Mapping[str, Any]) -> bool:
    """Whether several trainings are faster as one than one after another, by what was measured (docs/many_seeds.md).

    On a GPU, which waits for the CPU where models are small, more than two are. On a CPU they are where what is computed
    takes little more time than that it is asked for: networks of matrix products with few weights, small images.
    """
    on_gpu = options.get("accelerator") in ("gpu", "cuda") or (
        options.get("accelerator") in ("auto", None) and torch.cuda.is_available()
    )
    if len(models) < 2 or on_gpu:
        return len(models) > 2
    convolutional = any(isinstance(each, nn.Conv2d | nn.ConvTranspose2d) for each in models[0].modules())
    if convolutional:
        return models[0].spec.dims <= _MOST_PIXELS
    return sum(each.numel() for each in models[0].parameters()) <= _MOST_WEIGHTS


def _understood(callback: Callback) -> bool:
    """Whether a callback does nothing but watch: one of ours that does not average weights, or a progress bar."""
    return type(callback).__module__.split(".")[0] == "callbacks" and not hasattr(callback, "average")


def _with_seed(data: LightningDataModule, seed: int) -> LightningDataModule:
    """A copy of data that takes the seed for its order and its noise."""
    copied: Any = deepcopy(data)
    if hasattr(copied, "init_args"):
        copied.seed, copied.init_args = seed, {**copied.init_args, "seed": seed}
    return copied


def _random_of(model: GenerativeModule, seed: int) -> dict[str, Any]:
    """The random states with which a training with that seed begins."""
    seed_everything(seed, workers=True, verbose=False)
    return random_state(model)


def _train(
    members: list[Member], clip: tuple[float | None, str | None], options: dict[str, Any], made: list[Path]
) -> list[Run]:
    """Train them in their folders, and say where the results are."""
    hidden = options.get("enable_progress_bar") is False
    bars: list[Callback] = [] if hidden else [TrainingEstimate(), MetricsProgressBar()]
    callbacks = [
        _Watching(members, "watching"),
        _StopAll(members),
        _FinalValidation(members),
        *bars,
        _Writing(members, "writing"),
    ]
    options = options | {
        "callbacks": callbacks,
        "logger": False,
        "enable_checkpointing": True,
        "plugins": [AtomicCheckpointIO()],
    }
    module = _StackModule(members, clip)
    ended = False
    try:
        try:
            trainer = Trainer(default_root_dir=members[0].folder, **options)
        except REFUSALS as error:
            raise impossible(error) from error
        for member in members:
            member.attach(trainer)
        first = members[0].model
        weights, device = sum(each.numel() for each in first.parameters()), trainer.strategy.root_device
        shape = f"on {first.spec.name} {first.spec.shape}, {device}"
        print(f"{len(members)} x {type(first).__name__}, {weights:,} parameters each, {shape}")
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*configure_optimizers. returned .None.")
            trainer.fit(module, StackedData(members))
        ended = True
    except OSError as error:
        raise ZooError(f"{error.strerror or error}: {error.filename or members[0].folder}; training stopped.") from error
    finally:
        if not ended and not any(member.model.training_batches for member in members):
            for member in members:
                discard_run(member.folder, made)  # it was made for this, and nothing was trained
        else:
            for member in members:
                member.csv.finalize("")
                if member.error is None and ended:
                    member.record.finish(member.trainer)
                print(f"run: {member.folder}" + (f" ({member.error})" if member.error else ""), flush=True)
    return [Run(each.model, each.data, each.trainer, each.folder, each.error is not None) for each in members]


def _live(members: Sequence[Member]) -> Iterator[Member]:
    return (member for member in members if member.error is None)


def _stop(members: Sequence[Member], member: Member, error: DivergedError) -> None:
    """Leave one out from now on; the error where it was the last one."""
    member.stop(error)
    if not any(True for _ in _live(members)):
        raise error


class _EachMember(Callback):
    """Calls the members' callbacks with what each knows of the training; one that has diverged is left out from then on.

    Arguments:
        members: The members.
        which: The name of the attribute that holds the callbacks.

    Raises:
        DivergedError: that of the last member that was left.
    """

    def __init__(self, members: Sequence[Member], which: str):
        self.members, self.which = list(members), which
        self._overriding: dict[tuple[str, int], list[Callable]] = {}

    def relay(self, hook: str, *args: Any, **named: Any) -> None:
        """Call a hook of every member's callbacks that have it."""
        split = [parts(each, len(self.members)) for each in args]
        for member in _live(self.members):
            calls = self._calls(hook, member)
            if not calls:
                continue
            given = [each[member.number] for each in split]
            try:
                if hook in _OF_BATCHES:
                    for call in calls:
                        call(member.trainer, member.model, *given, **named)
                else:
                    with member.drawing():
                        for call in calls:
                            call(member.trainer, member.model, *given, **named)
            except DivergedError as error:
                _stop(self.members, member, error)

    def _calls(self, hook: str, member: Member) -> list[Callable]:
        key = (hook, member.number)
        if key not in self._overriding:
            callbacks = getattr(member, self.which)
            stock = getattr(Callback, hook)
            self._overriding[key] = [getattr(each, hook) for each in callbacks if getattr(type(each), hook) is not stock]
        return self._overriding[key]


def _relayed(hook: str) -> Callable:
    def call(self: _EachMember, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any) -> None:
        self.relay(hook, *args, **kwargs)

    return call


for _hook in _HOOKS:
    setattr(_EachMember, _hook, _relayed(_hook))


class _Watching(_EachMember):
    """The members' pictures, scores and records, before their checkpoints."""


class _Writing(_EachMember, Checkpoint):
    """The members' checkpoints, which come last."""


class _StopAll(GracefulStop):
    """Writes every member's ``last.ckpt`` where training is stopped by a signal."""

    def __init__(self, members: Sequence[Member]):
        super().__init__()
        self.members = list(members)

    def save(self, trainer: Trainer) -> list[Path]:
        """See :meth:`callbacks.GracefulStop.save`."""
        paths = []
        for member in _live(self.members):
            if member.writing:
                paths.append(member.folder / "checkpoints" / "last.ckpt")
                member.trainer.save_checkpoint(paths[-1])
        return paths


class _FinalValidation(FinalValidation):
    """Puts every member's random states back after a validation that the interval did not ask for."""

    def __init__(self, members: Sequence[Member]):
        super().__init__()
        self.members, self._states = list(members), list[dict[str, Any]]()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep them."""
        super().on_validation_start(trainer, pl_module)
        self._states = [member.random for member in self.members] if self._unasked or trainer.sanity_checking else []

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put them back."""
        super().on_validation_end(trainer, pl_module)
        for member, states in zip(self.members, self._states, strict=False):
            member.random = states
        self._states = []


class _StackModule(LightningModule):
    """The members, as the one model that a Trainer trains.

    Arguments:
        members: The members.
        clip: What gradients are clipped to, and how.
    """

    def __init__(self, members: Sequence[Member], clip: tuple[float | None, str | None]):
        super().__init__()
        self.automatic_optimization = False
        self.members, self.clip = list(members), clip
        self.stack: Stack
        self._metrics: dict[str, Tensor] = {}  # of the last batch, (K,) each
        self._begun = 0  # batches that were looked at

    @property
    def progress_bar_metrics(self) -> tuple[str, ...]:
        """Those of the models."""
        return self.members[0].model.progress_bar_metrics

    @property
    def latest_metrics(self) -> dict[str, Tensor]:
        """Means over the members that are trained, for the progress bar."""
        places = [member.number for member in _live(self.members)]
        return {f"train/{name}": value[places].mean() for name, value in self._metrics.items()}

    def configure_callbacks(self) -> list[Callback]:
        """What every training needs, as for one model."""
        Resumption.attach(self.trainer)
        return []

    def configure_optimizers(self) -> None:
        """Make the stack, on the training device; the optimizers are its own."""
        device = self.trainer.strategy.root_device
        for member in self.members:
            self.trainer.precision_plugin.convert_module(member.model)
        streams = [member.begin(device) for member in self.members]
        self.stack = Stack([member.model for member in self.members], streams, *self.clip)

    def setup(self, stage: str) -> None:
        """That of every model."""
        for member in self.members:
            member.model.setup(stage)

    def on_train_start(self) -> None:
        """The same."""
        for member in self.members:
            member.model.train()
            member.model.on_train_start()
        self._set_learning_rates()

    def on_train_epoch_start(self) -> None:
        """The same."""
        for member in self.members:
            member.model.on_train_epoch_start()

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Look at the first batches, and set the learning rates."""
        if self._begun < CHECKED_BATCHES:
            self._begun += 1
            for member, each in zip(self.members, parts(batch, len(self.members)), strict=True):
                member.model.check_batch(each, "train")
        self._set_learning_rates()

    def _set_learning_rates(self) -> None:
        self.stack.set_learning_rates(self.trainer.global_step, last_batch(self.trainer))

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """A step of every member."""
        self._metrics = self.stack.step(batch)
        return {"loss": self._metrics["loss"]}

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Set the learning rates of the next batch, and write rows that are due."""
        self._set_learning_rates()
        trainer = self.trainer
        row = writes_row(trainer)
        if row or trainer.is_last_batch or trainer.global_step == trainer.max_steps:
            host = {name: value.cpu() for name, value in self._on_host().items()}
            for member in _live(self.members):
                member.note({f"train/{name}": value[member.number] for name, value in host.items()}, row)

    def _on_host(self) -> dict[str, Tensor]:
        """The metrics of the last batch, copied in one piece."""
        together = torch.stack([*self._metrics.values()]).cpu() if self._metrics else torch.empty(0)
        return dict(zip(self._metrics, together, strict=True))

    def take_up_metrics(self) -> None:
        """Give every model the metrics of the last batch, as it has them alone."""
        host = self._on_host()
        for member in _live(self.members):
            member.model.latest_metrics.update({f"train/{name}": value[member.number] for name, value in host.items()})

    def on_validation_start(self) -> None:
        """Leave out who has diverged: of what is no number not every metric can be computed."""
        for member, finite in zip(self.members, self.stack.finite().tolist(), strict=True):
            if member.error is None and not finite:
                what = f"the weights are not finite at batch {self.trainer.global_step}; training stopped."
                _stop(self.members, member, DivergedError(f"{what}\nLower the learning rate (--model.lr)."))

    def on_validation_epoch_start(self) -> None:
        """Every model's own validation begins."""
        self.take_up_metrics()
        for member in _live(self.members):
            member.begin_validation()
            member.model.on_validation_epoch_start()

    def validation_step(self, batch: HeldOutBatches, batch_idx: int) -> None:
        """That of every model, one after another."""
        for member in _live(self.members):
            held_out = batch.batches[member.number]
            member.model.on_validation_batch_start(held_out, batch_idx)
            with member.drawing():
                member.model.validation_step(held_out, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Every model's metrics, and their rows."""
        for member in _live(self.members):
            with member.drawing():
                member.model.on_validation_epoch_end()
            if not self.trainer.sanity_checking:
                member.note(member.logged(), row=True)

    def on_validation_end(self) -> None:
        """Every model is trained again."""
        for member in self.members:
            member.end_validation()

    def teardown(self, stage: str) -> None:
        """Every model is one of its own again, with weights of its own."""
        for member in self.members:
            member.end_validation()
            member.model.expect_clipping(None, None)
            for tensor in (*member.model.parameters(), *member.model.buffers()):
                tensor.data = tensor.data.clone()  # of a view all of the stack would be stored
