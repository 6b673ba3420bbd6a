"""Optimizers and schedules of learning rates by their names, for every model."""

import inspect
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from zoo.errors import ZooError
from zoo.registry import suggestion

__all__ = ["OPTIMIZERS", "SCHEDULES", "Optimization", "OptimizerName", "ScheduleName"]

OptimizerName = Literal["adam", "adamw", "adamax", "nadam", "radam", "sgd", "rmsprop", "adagrad"]
ScheduleName = Literal["constant", "linear", "cosine", "exponential", "multistep"]

OPTIMIZERS: dict[str, type[Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "adamax": Adamax,
    "nadam": NAdam,
    "radam": RAdam,
    "sgd": SGD,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}
# The learning rate at the share p of training, as a factor that goes from 1 to ``final``.
SCHEDULES = {
    "constant": lambda p, final: 1.0,
    "linear": lambda p, final: 1 - (1 - final) * p,
    "cosine": lambda p, final: final + (1 - final) * (1 + math.cos(math.pi * p)) / 2,
    "exponential": lambda p, final: final**p,
}
_SCHEDULES = (*SCHEDULES, "multistep")
_OURS = ("lr", "fused", "foreach", "differentiable", "capturable", "maximize")  # of optimizers, and not to be given


@dataclass(frozen=True)
class Optimization:
    """How a model's parameters are trained: an optimizer, and a learning rate that depends on the batch alone.

    lr(t) = lr min(1, (t + 1) / warmup) decay^t f(p); t batches came before this one, and p = (t - warmup) / (T - warmup) is
    the share of the T batches of training that is over. f is 1 (``constant``), 1 - (1 - final) p (``linear``),
    final + (1 - final) (1 + cos(pi p)) / 2 (``cosine``), final^p (``exponential``), or gamma to the power of the number of
    milestones up to t (``multistep``).

    Arguments:
        optimizer: ``adam``, ``adamw``, ``adamax``, ``nadam``, ``radam``, ``sgd``, ``rmsprop`` or ``adagrad``.
        optimizer_options: Options of torch's class: ``{weight_decay: 0.01}``; they win over what a model prefers.
        schedule: ``constant``, ``linear``, ``cosine``, ``exponential`` or ``multistep``.
        schedule_options: ``warmup``, batches over which the rate rises (0); ``final``, the factor at the end (0; 0.01 for
            exponential); ``batches``, T (those of the training, if not given); ``decay``, above 0 and up to 1 (1); of
            multistep ``milestones``, the batches after which the rate falls, and ``gamma``, what it falls by (0.1).

    Raises:
        ZooError: for a name or an option that there is not, and a value that is refused.

    References:
        | SGDR: Stochastic Gradient Descent with Warm Restarts (Loshchilov and Hutter, 2017): cosine
        | https://arxiv.org/abs/1608.03983
        | Decoupled Weight Decay Regularization (Loshchilov and Hutter, 2019): adamw
        | https://arxiv.org/abs/1711.05101

    Example:
        >>> cosine = Optimization(schedule="cosine", schedule_options={"warmup": 10})
        >>> [round(cosine.factor(t, 110), 3) for t in (0, 9, 60, 110)]
        [0.1, 1.0, 0.5, 0.0]
    """

    optimizer: str = "adam"
    optimizer_options: Mapping[str, Any] = field(default_factory=dict)
    schedule: str = "constant"
    schedule_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for kind, name, names in (("optimizer", self.optimizer, OPTIMIZERS), ("schedule", self.schedule, _SCHEDULES)):
            if name not in names:
                near = suggestion(str(name), names)
                raise ZooError(f"{kind} {name!r} is not known; there are {', '.join(names)}.{near}")
        accepted = [option for option in self._accepted if option not in _OURS]
        _require_names("optimizer_options", self.optimizer_options, accepted, f"of {self.optimizer}")
        known = ("warmup", "final", "batches", "decay", *(("milestones", "gamma") if self.schedule == "multistep" else ()))
        _require_names("schedule_options", self.schedule_options, known, f"of schedule {self.schedule}")
        try:
            make: Callable[..., Optimizer] = OPTIMIZERS[self.optimizer]
            make([nn.Parameter(torch.zeros(1))], lr=1e-3, **self.optimizer_options)
        except (TypeError, ValueError) as error:
            raise ZooError(f"optimizer_options {dict(self.optimizer_options)} of {self.optimizer}: {error}") from error
        for option, whole, least in (("warmup", True, 0), ("final", False, 0), ("batches", True, 1)):
            value = self.schedule_options.get(option)
            kinds = (int,) if whole else (int, float)
            fits = isinstance(value, kinds) and not isinstance(value, bool) and least <= value < math.inf
            if value is not None and not fits:
                what = "a whole number" if whole else "a number"
                raise ZooError(f"schedule_options: {option} {value!r}: {what}, {least} or more, is needed")
        for option, value in (("decay", self.decay), ("gamma", self.gamma)):
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
                raise ZooError(f"schedule_options: {option} {value!r}: a number above 0 and up to 1 is needed")
        if self.schedule == "multistep":
            self._check_milestones()
        if self.schedule == "exponential" and not self.final:
            raise ZooError("schedule_options: final 0: an exponential schedule needs more than 0")

    @property
    def _accepted(self) -> list[str]:
        return list(inspect.signature(OPTIMIZERS[self.optimizer]).parameters)[1:]

    @property
    def warmup(self) -> int:
        """Batches over which the learning rate rises."""
        return self.schedule_options.get("warmup", 0)

    @property
    def final(self) -> float:
        """The factor at the end of the schedule."""
        return self.schedule_options.get("final", 0.01 if self.schedule == "exponential" else 0.0)

    @property
    def decay(self) -> float:
        """What the learning rate is multiplied with after every batch."""
        return self.schedule_options.get("decay", 1.0)

    @property
    def milestones(self) -> list[int]:
        """The batches after which a multistep schedule falls."""
        return self.schedule_options.get("milestones", [])

    @property
    def gamma(self) -> float:
        """What the learning rate is multiplied with at each milestone."""
        return self.schedule_options.get("gamma", 0.1)

    def _check_milestones(self) -> None:
        given = self.milestones
        whole = isinstance(given, list | tuple) and all(isinstance(t, int) and not isinstance(t, bool) for t in given)
        if not whole or not given or min(given) < 1 or list(given) != sorted(set(given)):
            raise ZooError(
                f"schedule_options: milestones {given!r}: a list of batches is needed, 1 or more, rising: "
                "{milestones: [100000, 175000], gamma: 0.63}"
            )

    @property
    def varies(self) -> bool:
        """Whether the learning rate changes in training."""
        return self.schedule != "constant" or self.warmup > 0 or self.decay < 1

    def build(self, parameters: Iterable[nn.Parameter], lr: float, fused: bool = True, **preferred: Any) -> Optimizer:
        """The optimizer of parameters; of what a model prefers (``betas``), it gets what it has.

        Arguments:
            parameters: What it trains.
            lr: Its learning rate, that of factor 1; each group keeps it as ``initial_lr``.
            fused: Whether it may compute in one kernel, the fastest on CPU and GPU.
            preferred: Options that ``optimizer_options`` win over.
        """
        accepted = self._accepted
        options = {name: value for name, value in preferred.items() if name in accepted} | dict(self.optimizer_options)
        if "fused" in accepted:
            options["fused"] = fused
        make: Callable[..., Optimizer] = OPTIMIZERS[self.optimizer]
        optimizer = make(parameters, lr=lr, **options)
        for group in optimizer.param_groups:
            group["initial_lr"] = lr
        return optimizer

    def factor(self, t: int, total: int | None) -> float:
        """What the learning rate is multiplied by in the batch after ``t`` others, of ``total``.

        Raises:
            ZooError: where a schedule needs the end of training, and there is none.
        """
        warm = (min(1.0, (t + 1) / self.warmup) if self.warmup else 1.0) * self.decay**t
        if self.schedule == "constant":
            return warm
        if self.schedule == "multistep":
            return warm * self.gamma ** bisect_right(self.milestones, t)
        total = self.schedule_options.get("batches", total)
        if total is None:
            raise ZooError(
                f"schedule {self.schedule}: training has no end that is known. Give --trainer.max_steps, or "
                '--model.schedule_options "{batches: 100000}".'
            )
        share = (t - self.warmup) / max(1, total - self.warmup)
        return warm * SCHEDULES[self.schedule](min(1.0, max(0.0, share)), self.final)


def _require_names(what: str, given: Mapping[str, Any], known: Iterable[str], whose: str) -> None:
    known = list(known)
    for name in given:
        if name not in known:
            near = suggestion(str(name), known)
            raise ZooError(f"{what}: no option {name!r} {whose}; there are {', '.join(known)}.{near}")
