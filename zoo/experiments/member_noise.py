"""Models that are computed as one: each draws from a random stream of its own, and has numbers of its own."""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode

from zoo.errors import ZooError

__all__ = ["MemberStreams", "OwnNumber"]

# What draws without being told from which generator; the second of each takes its shape from a tensor.
_DRAWS: dict[Callable, Callable] = {
    torch.randn: torch.randn,
    torch.rand: torch.rand,
    torch.randint: torch.randint,
    torch.randperm: torch.randperm,
    torch.randn_like: torch.randn,
    torch.rand_like: torch.rand,
}
_OF_SHAPES = (torch.randn_like, torch.rand_like)


class _PerMember(torch.autograd.Function):
    """What ``make`` gives, (K, ...), as one tensor (...) of each of the K members of a ``torch.vmap``."""

    @staticmethod
    def forward(member: Tensor, make: Callable[[], Tensor]) -> Tensor:
        raise ZooError("members' own numbers are asked for outside of the computation of all members")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        return None, None

    @staticmethod
    def vmap(info: Any, in_dims: Any, member: Tensor, make: Callable[[], Tensor]) -> tuple[Tensor, int]:
        return make(), 0


class MemberStreams(TorchFunctionMode):
    """Inside it and a ``torch.vmap`` over K members, what draws random numbers draws each member's from its own generator.

    So code that knows nothing of members, ``torch.randn(shape)``, gives member k of all K the numbers that it would get
    alone. ``randn``, ``rand``, ``randint``, ``randperm`` and the two that take a tensor's shape are understood; give
    ``torch.vmap`` ``randomness="error"``, and anything else that draws is an error.

    Arguments:
        generators: Of the K members, on the device that they are computed on.
        device: That device.

    Attributes:
        member: Set inside the function that is mapped: the number of the member, an argument of it.

    Example:
        >>> streams = MemberStreams([Generator().manual_seed(seed) for seed in (3, 5)], torch.device("cpu"))
        >>> def noise(member):
        ...     streams.member = member
        ...     return torch.randn(2)
        >>> with streams:
        ...     both = torch.vmap(noise, randomness="error")(streams.members)
        >>> both[1].equal(torch.randn(2, generator=Generator().manual_seed(5)))
        True
    """

    def __init__(self, generators: Sequence[Generator], device: torch.device):
        super().__init__()
        self.generators = list(generators)
        self.members = torch.arange(len(self.generators), device=device)
        self.member: Tensor | None = None
        self._constants: dict[tuple, Tensor] = {}

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func not in _DRAWS or self.member is None or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        if func in _OF_SHAPES:
            like = args[0]
            args, kwargs = (like.shape,), {"dtype": like.dtype, "device": like.device, **kwargs}
        draw = _DRAWS[func]
        return self.each(lambda: torch.stack([draw(*args, **{**kwargs, "generator": each}) for each in self.generators]))

    def each(self, make: Callable[[], Tensor]) -> Tensor:
        """``make()``, (K, ...), as each member's own tensor (...), inside the function that is mapped."""
        return _PerMember.apply(self.member, make)

    def constants(self, values: tuple[float, ...], dtype: torch.dtype) -> Tensor:
        """A number of each member as a tensor of its own, ()."""
        if (values, dtype) not in self._constants:
            if len(self._constants) >= 1000:  # of schedules, which have another at every batch
                self._constants.clear()
            self._constants[values, dtype] = torch.tensor(values, dtype=dtype, device=self.members.device)
        return self.each(lambda: self._constants[values, dtype])


class OwnNumber:
    """A number in which members differ, where their code has a float: it computes with it as with one.

    With floats it gives another such number, with tensors each member's own result. Where code asks which of two is
    larger, or whether it is 0, all members must agree: what is computed may not depend on the member.

    Arguments:
        values: The members' numbers.
        streams: The mode in which members are computed.
        what: What it is, for the error.

    Raises:
        ZooError: on a comparison in which members do not agree.
    """

    def __init__(self, values: Sequence[float], streams: MemberStreams, what: str):
        self.values, self.streams, self.what = tuple(values), streams, what

    def __repr__(self) -> str:
        return f"{self.what} {', '.join(f'{value:g}' for value in self.values)}"

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        tensors = [each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)]
        dtype = next((each.dtype for each in tensors if each.is_floating_point()), torch.get_default_dtype())
        if func is Tensor.new_full:
            like, shape, value = args
            return value.streams.constants(value.values, like.dtype).expand(shape)
        args = tuple(_with_tensors(each, dtype) for each in args)
        kwargs = {name: _with_tensors(each, dtype) for name, each in kwargs.items()}
        return func(*args, **kwargs)

    def _with(self, other: Any, operation: Callable, swapped: bool = False) -> Any:
        if isinstance(other, Tensor):
            own = self.streams.constants(
                self.values, other.dtype if other.is_floating_point() else torch.get_default_dtype()
            )
            return operation(other, own) if swapped else operation(own, other)
        if not isinstance(other, OwnNumber | int | float):
            return NotImplemented
        others = other.values if isinstance(other, OwnNumber) else (other,) * len(self.values)
        pairs = zip(others, self.values, strict=True) if swapped else zip(self.values, others, strict=True)
        return OwnNumber([operation(*pair) for pair in pairs], self.streams, self.what)

    def _agreed(self, other: Any, operation: Callable) -> bool:
        others = other.values if isinstance(other, OwnNumber) else (other,) * len(self.values)
        answers = {bool(operation(*pair)) for pair in zip(self.values, others, strict=True)}
        if len(answers) > 1:
            raise ZooError(f"{self!r}: what is computed depends on it, so that these can't be computed as one")
        return answers.pop()

    def __add__(self, other: Any) -> Any:
        return self._with(other, operator.add)

    def __radd__(self, other: Any) -> Any:
        return self._with(other, operator.add, swapped=True)

    def __sub__(self, other: Any) -> Any:
        return self._with(other, operator.sub)

    def __rsub__(self, other: Any) -> Any:
        return self._with(other, operator.sub, swapped=True)

    def __mul__(self, other: Any) -> Any:
        return self._with(other, operator.mul)

    def __rmul__(self, other: Any) -> Any:
        return self._with(other, operator.mul, swapped=True)

    def __truediv__(self, other: Any) -> Any:
        return self._with(other, operator.truediv)

    def __rtruediv__(self, other: Any) -> Any:
        return self._with(other, operator.truediv, swapped=True)

    def __pow__(self, other: Any) -> Any:
        return self._with(other, operator.pow)

    def __rpow__(self, other: Any) -> Any:
        return self._with(other, operator.pow, swapped=True)

    def __neg__(self) -> "OwnNumber":
        return OwnNumber([-value for value in self.values], self.streams, self.what)

    def __abs__(self) -> "OwnNumber":
        return OwnNumber([abs(value) for value in self.values], self.streams, self.what)

    def __bool__(self) -> bool:
        return self._agreed(0, operator.ne)

    def __eq__(self, other: object) -> bool:
        return self._agreed(other, operator.eq)

    def __lt__(self, other: Any) -> bool:
        return self._agreed(other, operator.lt)

    def __le__(self, other: Any) -> bool:
        return self._agreed(other, operator.le)

    def __gt__(self, other: Any) -> bool:
        return self._agreed(other, operator.gt)

    def __ge__(self, other: Any) -> bool:
        return self._agreed(other, operator.ge)

    def __float__(self) -> float:
        first = self.values[0]
        if any(value != first and not (math.isnan(value) and math.isnan(first)) for value in self.values):
            raise ZooError(f"{self!r}: one number is asked for, so that these can't be computed as one")
        return float(first)

    __hash__ = None  # type: ignore[assignment]


def _with_tensors(value: Any, dtype: torch.dtype) -> Any:
    """An argument, with a tensor of each member in the place of an own number, also in a list."""
    if isinstance(value, OwnNumber):
        return value.streams.constants(value.values, dtype)
    return type(value)(_with_tensors(each, dtype) for each in value) if type(value) in (list, tuple) else value
