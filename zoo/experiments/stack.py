"""Models of one architecture, trained as one: a step is computed for all of them at once, each as if it were alone."""

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import groupby
from typing import Any, NamedTuple, cast

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer

from zoo.errors import ZooError
from zoo.experiments.member_noise import MemberStreams, OwnNumber
from zoo.models.base import GenerativeModule
from zoo.spec import Batch

__all__ = ["Stack", "have_own_numbers", "why_not"]

# What a model may have of its own in a training, and several that are trained as one have not.
_OWN_STEPS = (
    *("training_step", "on_train_batch_start", "on_train_batch_end", "on_train_epoch_start", "on_before_optimizer_step"),
    *("on_fit_start", "on_fit_end", "on_train_end", "on_train_epoch_end", "on_before_backward", "on_after_backward"),
    *("on_before_zero_grad", "on_validation_start", "on_validation_end", "on_validation_batch_end", "backward"),
    *("optimizer_step", "optimizer_zero_grad", "lr_scheduler_step", "configure_gradient_clipping", "configure_callbacks"),
    *("configure_model", "on_before_batch_transfer", "on_after_batch_transfer", "transfer_batch_to_device"),
)
_NOT_COMPUTED_WITH = ("optimization", "lr", "training_batches", "latest_metrics")  # attributes that no loss asks for
_PLAIN = (int, float, str, bool, tuple, list, type(None))


class Stack:
    """K models of one class, whose training step is one: the same numbers as K steps of the models alone.

    Weights of all members lie in one tensor (K, ...) each, of which the members' own are views: a member is a model like
    any other at every moment. A step is ``torch.vmap`` of the members' own loss, over weights, examples and random numbers,
    and a step of the members' own optimizer. What becomes NaN in one member stays there.

    Arguments:
        members: The models, on the device that they train on. Their weights may differ, and numbers among their options:
            learning rates, betas, weights of the loss.
        generators: Each member's random stream, on that device.
        clip: What gradients are clipped to, ``gradient_clip_val`` of a Trainer, each member's by its own norm.
        clip_algorithm: ``norm`` or ``value``.

    Attributes:
        members: The models; not to be moved to another device any more.
        weights: The stacked parameters by name.

    Raises:
        ZooError: in a line that says why, where they can't be trained as one.

    Example:
        >>> from zoo.models import VAE
        >>> from zoo.spec import DataSpec
        >>> models = [VAE(DataSpec("points", (2,)), hidden=8, latent_dim=2, lr=lr) for lr in (1e-3, 1e-2)]
        >>> stack = Stack(models, [Generator().manual_seed(seed) for seed in (0, 1)])
        >>> sorted(stack.step(Batch(torch.rand(2, 16, 2))))
        ['elbo', 'kl', 'loss', 'reconstruction']
    """

    def __init__(
        self,
        members: Sequence[GenerativeModule],
        generators: Sequence[Generator],
        clip: float | None = None,
        clip_algorithm: str | None = None,
    ):
        if (reason := why_not(members)) is not None:
            raise ZooError(reason)
        self.members, self.clip, self.clip_algorithm = list(members), clip, clip_algorithm or "norm"
        device = next(members[0].parameters()).device
        self._streams = MemberStreams(generators, device)
        self._model = copy.deepcopy(members[0]).train()  # stands for every member while they are computed
        _set_own_numbers(self._model, members, self._streams)
        self._places = _Places(self._model)
        for member in members:
            member.expect_clipping(clip, clip_algorithm)
        alone = [_optimizers(member) for member in members]
        self.weights, self._buffers = _stacked(members, "named_parameters"), _stacked(members, "named_buffers")
        self._stacked = [*self.weights.values(), *self._buffers.values()]
        by_id = [{id(weight): name for name, weight in member.named_parameters()} for member in members]
        self._optimizers = [
            _StackedOptimizer([each[number] for each in alone], self.weights, by_id, members)
            for number in range(len(alone[0]))
        ]

    def __len__(self) -> int:
        return len(self.members)

    @property
    def generators(self) -> list[Generator]:
        """The members' random streams."""
        return self._streams.generators

    def losses(self, method: str, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """A method's loss (K,) and terms (K,), detached, of the members' batches (K, B, ...)."""
        compute, names = getattr(self._model, method), list[str]()

        def member(number: Tensor, *tensors: Tensor) -> tuple[Tensor, ...]:
            self._streams.member = number
            own = iter(tensors)
            given = Batch(*(cast(Tensor, None if each is None else next(own)) for each in batch))
            self._places.fill(own)
            loss, terms = compute(given)
            names[:] = terms
            return loss, *(value.detach() for value in terms.values())

        examples = (each for each in batch if each is not None)
        mapped = torch.vmap(member, randomness="error")
        try:
            with self._streams:
                loss, *terms = mapped(self._streams.members, *examples, *self._stacked)
        finally:
            self._streams.member = None
            self._places.restore()
        return loss, dict(zip(names, terms, strict=True))

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """Train every member on its batch of (K, B, ...): each term by its name, (K,); no wait for the device."""
        metrics: dict[str, Tensor] = {}
        model = self._model
        batches = model.training_batches + 1
        for method, optimizer in zip(model.training_losses, self._optimizers, strict=True):
            loss, terms = self.losses(method, batch)
            gradients = torch.autograd.grad(loss.sum(), optimizer.leaves, allow_unused=True)
            optimizer.step(_clipped(gradients, self.clip, self.clip_algorithm))
            metrics = {"loss": loss.detach(), **metrics, **terms}
        for each in (model, *self.members):
            each.training_batches = batches
        return metrics

    def try_step(self, batch: Batch) -> None:
        """Compute losses and gradients, and change nothing.

        Raises:
            ZooError: where the members' code can't be computed for all of them at once, and why.
        """
        states = [generator.get_state() for generator in self.generators]
        buffers, counted = {name: each.clone() for name, each in self._buffers.items()}, self._model.training_batches
        try:
            for method, optimizer in zip(self._model.training_losses, self._optimizers, strict=True):
                loss, _ = self.losses(method, batch)
                torch.autograd.grad(loss.sum(), optimizer.leaves, allow_unused=True)
        except (RuntimeError, TypeError, ValueError, NotImplementedError) as error:
            why = " ".join(str(error).split())[:200] or type(error).__name__
            raise ZooError(
                f"{type(self.members[0]).__name__} can't be computed for several models at once: {why}"
            ) from error
        finally:
            for generator, state in zip(self.generators, states, strict=True):
                generator.set_state(state)
            for name, value in buffers.items():
                self._buffers[name].copy_(value)
            self._model.training_batches = counted

    def finite(self) -> Tensor:
        """Whether each member's weights are all finite, (K,)."""
        return torch.stack([each.detach().reshape(len(self), -1).isfinite().all(1) for each in self.weights.values()]).all(0)

    def set_learning_rates(self, t: int, total: int | None) -> None:
        """The members' own learning rates at the batch after ``t`` others, of ``total``."""
        for optimizer in self._optimizers:
            optimizer.set_learning_rates(t, total)

    def optimizer_states(self, number: int) -> list[dict[str, Any]]:
        """The state dictionaries of a member's optimizers, as they would be alone."""
        return [optimizer.state_of(number) for optimizer in self._optimizers]


def why_not(members: Sequence[GenerativeModule]) -> str | None:
    """Why models can't be trained as one, in a line; None where nothing of what they are made of says so.

    What they compute is not looked at: :meth:`Stack.try_step` does that.
    """
    first = members[0]
    kind = type(first)
    if others := {type(member).__name__ for member in members if type(member) is not kind}:
        return f"one class is needed to train models as one, and there are {kind.__name__} and {', '.join(sorted(others))}"
    declaring = next(base for base in kind.__mro__ if "training_losses" in vars(base))
    own = [name for name in _OWN_STEPS if getattr(kind, name) is not getattr(declaring, name)]
    if own:
        return f"{kind.__name__} has a {own[0]} of its own, which would not be that of each of several models as one"
    shapes = [{name: tuple(each.shape) for name, each in member.state_dict().items()} for member in members]
    for other in shapes[1:]:
        for name in {**shapes[0], **other}:
            if (one := shapes[0].get(name)) != (another := other.get(name)):
                return f"weights of one shape are needed to train models as one, and {name} is {one} and {another}"
    for difference in _differences(members):
        if not difference.weighs:
            shown = ", ".join(dict.fromkeys(map(str, difference.values)))
            return f"{difference.what} is {shown}: models that are trained as one may differ in what weighs, and not in this"
    return None


def have_own_numbers(members: Sequence[GenerativeModule]) -> bool:
    """Whether members differ in what they compute with, and not in weights and learning rates alone."""
    return next(iter(_differences(members)), None) is not None


class _Places:
    """Where a model's parameters and buffers are, so that others can stand there while it computes.

    ``torch.func.functional_call`` does the same, and looks through all modules at every call, which takes longer than what
    small networks compute.

    Arguments:
        model: The model.
    """

    def __init__(self, model: nn.Module):
        tables = [table for module in model.modules() for table in (module._parameters, module._buffers)]
        places = [(table, name, each) for table in tables for name, each in table.items() if each is not None]
        order = {id(each): number for number, each in enumerate((*model.parameters(), *model.buffers()))}
        self._places = [(table, name, each, order[id(each)]) for table, name, each in places]  # shared weights: two places

    def fill(self, tensors: Iterable[Tensor]) -> None:
        """Put others in their place: parameters, then buffers, in the model's order."""
        given: list[Any] = list(tensors)
        for table, name, _, number in self._places:
            table[name] = given[number]

    def restore(self) -> None:
        """Put the model's own back."""
        for table, name, own, _ in self._places:
            cast(dict, table)[name] = own


def _stacked(members: Sequence[nn.Module], which: str) -> dict[str, Tensor]:
    """The members' tensors as one of (K, ...) each, by their names; theirs become views of it."""
    named = [dict(getattr(member, which)()) for member in members]
    stacked: dict[str, Tensor] = {}
    for name, first in named[0].items():
        whole = torch.stack([each[name].detach().contiguous() for each in named])  # however one lies alone
        for number, each in enumerate(named):
            each[name].data = whole[number]
        stacked[name] = whole.requires_grad_(first.requires_grad)
    return stacked


class _Difference(NamedTuple):
    """An attribute, or a field of one that is a dataclass, in which members differ.

    Attributes:
        module: The number of the module among the model's.
        name, field: Of the attribute.
        values: The members'.
        what: What it is called.
    """

    module: int
    name: str
    field: str | None
    values: list[Any]
    what: str

    @property
    def weighs(self) -> bool:
        """Whether these are numbers that weigh what is computed; whole numbers of a schedule count batches."""
        numbers = all(isinstance(each, int | float) and not isinstance(each, bool) for each in self.values)
        return numbers and (self.field is None or not all(isinstance(each, int) for each in self.values))


def _differences(members: Sequence[nn.Module]) -> Iterator[_Difference]:
    for number, modules in enumerate(zip(*(member.modules() for member in members), strict=True)):
        for name, value in vars(modules[0]).items():
            if name.startswith("_") or name in _NOT_COMPUTED_WITH:
                continue
            values = [vars(module).get(name) for module in modules]
            nested = is_dataclass(value) and not isinstance(value, type)
            if not nested and not isinstance(value, _PLAIN):
                continue
            for field in [each.name for each in fields(value)] if nested else [None]:
                own = values if field is None else [getattr(each, field, None) for each in values]
                if any(each != own[0] for each in own[1:]):
                    what = ".".join(filter(None, (type(modules[0]).__name__, name, field)))
                    yield _Difference(number, name, field, own, what)


def _set_own_numbers(model: nn.Module, members: Sequence[nn.Module], streams: MemberStreams) -> None:
    """Let ``model`` have each member's numbers where they differ."""
    modules = list(model.modules())
    for difference in _differences(members):
        module, own = modules[difference.module], OwnNumber(difference.values, streams, difference.what)
        if difference.field is None:
            setattr(module, difference.name, own)
        else:
            replaced = copy.copy(getattr(module, difference.name))
            object.__setattr__(replaced, difference.field, own)  # a frozen one, whose own checks take floats
            setattr(module, difference.name, replaced)


def _optimizers(member: GenerativeModule) -> list[Optimizer]:
    configured: Any = member.configure_optimizers()
    listed = configured if isinstance(configured, list | tuple) else [configured]
    if not all(isinstance(each, Optimizer) for each in listed) or len(listed) != len(member.training_losses):
        raise ZooError(
            f"{type(member).__name__} configures more than an optimizer for each loss, so that it trains alone only"
        )
    return list(listed)


class _Run(NamedTuple):
    """Members in a row whose optimizers have the same options: a group of the optimizer of all.

    Attributes:
        start, stop: The members' numbers.
        group: The number of the group of parameters in each member's own optimizer.
        names: Of the stacked parameters.
        views: The parts of these that are the members'.
    """

    start: int
    stop: int
    group: int
    names: list[str]
    views: list[nn.Parameter]


class _StackedOptimizer:
    """The optimizer of all members: one group of parameters for each row of members whose options are the same.

    Optimizers of torch compute each number by itself, so that a step of a part of a stacked parameter is the members' own.

    Arguments:
        alone: Each member's own, of its own parameters.
        weights: The stacked parameters.
        by_id: Of each member, the names of its parameters.
        members: The models, whose learning rates follow their own schedules.
    """

    def __init__(
        self,
        alone: list[Optimizer],
        weights: Mapping[str, Tensor],
        by_id: list[dict[int, str]],
        members: Sequence[GenerativeModule],
    ):
        self._alone, self._members = alone, list(members)
        self._runs: list[_Run] = []
        groups: list[dict[str, Any]] = []
        for number, group in enumerate(alone[0].param_groups):
            names = [by_id[0][id(weight)] for weight in group["params"]]
            for start, stop in _rows(
                [self._told(each, number, member) for each, member in zip(alone, members, strict=True)]
            ):
                views = [nn.Parameter(weights[name].detach()[start:stop]) for name in names]
                self._runs.append(_Run(start, stop, number, names, views))
                groups.append({**_options(alone[start].param_groups[number]), "params": views})
        self.names = [name for run in self._runs if run.start == 0 for name in run.names]
        self.leaves = [weights[name] for name in self.names]
        make: Callable[..., Optimizer] = type(alone[0])
        self._optimizer = make(groups)
        for made, asked in zip(self._optimizer.param_groups, groups, strict=True):
            made.update(_options(asked))

    @staticmethod
    def _told(optimizer: Optimizer, group: int, member: GenerativeModule) -> tuple:
        schedule = (member.optimization.schedule, dict(member.optimization.schedule_options))
        return type(optimizer), _options(optimizer.param_groups[group]), schedule

    def step(self, gradients: Sequence[Tensor | None]) -> None:
        """A step with the gradients of :attr:`leaves`."""
        by_name = dict(zip(self.names, gradients, strict=True)) if len(self._runs) > 1 else {}
        for run in self._runs:
            own = [by_name[name] for name in run.names] if by_name else gradients
            whole = run.stop - run.start == len(self._members)
            for gradient, view in zip(own, run.views, strict=True):
                part = gradient if whole or gradient is None else gradient[run.start : run.stop]
                # Fused optimizers take numbers as they lie: of a transposed gradient in the wrong order.
                view.grad = None if part is None else part.contiguous()
        self._optimizer.step()

    def set_learning_rates(self, t: int, total: int | None) -> None:
        """See :meth:`Stack.set_learning_rates`."""
        for run, group in zip(self._runs, self._optimizer.param_groups, strict=True):
            optimization = self._members[run.start].optimization
            if optimization.varies:
                group["lr"] = group["initial_lr"] * optimization.factor(t, total)

    def state_of(self, number: int) -> dict[str, Any]:
        """The state dictionary of a member's own optimizer."""
        alone = self._alone[number]
        for run, group in zip(self._runs, self._optimizer.param_groups, strict=True):
            if not run.start <= number < run.stop:
                continue
            own = alone.param_groups[run.group]
            own.update(_options(group))
            for view, weight in zip(run.views, own["params"], strict=True):
                if view in self._optimizer.state:
                    alone.state[weight] = {
                        name: _part(value, number - run.start) for name, value in self._optimizer.state[view].items()
                    }
        return alone.state_dict()


def _part(value: Any, number: int) -> Any:
    """A member's part of what an optimizer keeps of a stacked parameter; what it keeps once, such as a count, as it is."""
    return value if not isinstance(value, Tensor) else (value[number] if value.dim() else value).clone()


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name != "params"}


def _rows(told: Sequence[Any]) -> list[tuple[int, int]]:
    """Where rows of equal things in a sequence start and stop."""
    rows, start = [], 0
    for _, row in groupby(range(len(told)), lambda number: next(n for n in range(number + 1) if told[n] == told[number])):
        stop = start + len(list(row))
        rows.append((start, stop))
        start = stop
    return rows


def _clipped(gradients: Sequence[Tensor | None], most: float | None, algorithm: str) -> Sequence[Tensor | None]:
    """Each member's part of gradients (K, ...), clipped as Lightning clips those of one model."""
    if not most:
        return gradients
    given = [each for each in gradients if each is not None]
    if algorithm == "value":
        for each in given:
            each.clamp_(-most, most)
        return gradients
    norms = torch.stack([torch.linalg.vector_norm(each.reshape(len(each), -1), dim=1) for each in given])  # (parameters, K)
    factor = (most / (torch.linalg.vector_norm(norms, dim=0) + 1e-6)).clamp_max(1)
    for each in given:
        each.mul_(factor.view(-1, *[1] * (each.dim() - 1)))
    return gradients
