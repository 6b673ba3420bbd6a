"""The options of a constructor: their types, defaults and meaning; values refused that they can't take or keep."""

import inspect
import math
import numbers
import re
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any, Literal, get_args, get_origin

import numpy as np
import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.registry import suggestion

__all__ = [
    "MOST_LAYERS",
    "MOST_UNITS",
    "Option",
    "check_given",
    "check_types",
    "ineffective",
    "options_of",
    "plain",
    "require_at_least",
    "require_between",
    "require_call",
    "require_decay_rates",
    "require_seed",
]

# What no one means to ask for. A network of more fills any memory, some before anything can be said.
MOST_UNITS, MOST_LAYERS = 2**16, 2**10


@dataclass(frozen=True)
class Option:
    """One option of a constructor.

    Arguments:
        name: Its name.
        annotation: Its type; ``Any`` where none is written.
        default: Its default; ``inspect.Parameter.empty`` where there is none.
        doc: What the docstring of the class says of it.
    """

    name: str
    annotation: Any = Any
    default: Any = inspect.Parameter.empty
    doc: str = ""

    def __str__(self) -> str:
        default = "" if self.default is inspect.Parameter.empty else f" = {self.default!r}"
        return f"{self.name}: {_shown(self.annotation)}{default}"


def options_of(cls: type, given: int = 0) -> dict[str, Option]:
    """The options of a class by name: its constructor's, and those of its bases that it takes by ``**``.

    Arguments:
        cls: The class.
        given: How many arguments at the beginning are no options, as what every part of its kind is made from.

    Example:
        >>> class Noise:
        ...     '''Noise of one scale.
        ...
        ...     Arguments:
        ...         dims: D.
        ...         scale: Its standard deviation.
        ...     '''
        ...     def __init__(self, dims: int, scale: float = 1.0): ...
        >>> [(str(option), option.doc) for option in options_of(Noise, given=1).values()]
        [('scale: float = 1.0', 'Its standard deviation.')]
    """
    options: dict[str, Option] = {}
    for base in cls.__mro__:
        if (init := vars(base).get("__init__")) is None or base is object:
            continue
        parameters = list(inspect.signature(init).parameters.values())[1:]
        hints, docs = _hints(init), _documented(base)
        for parameter in parameters[given:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                name = parameter.name
                option = Option(name, hints.get(name, Any), parameter.default, docs.get(name, ""))
                options.setdefault(name, option)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    return options


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except NameError:  # of what is imported for type checkers alone
        return {}


def _documented(cls: type) -> dict[str, str]:
    """What the section ``Arguments`` of a docstring says of each name; ``a, b: text`` is said of both."""
    _, _, section = inspect.cleandoc(cls.__doc__ or "").partition("Arguments:\n")
    docs: dict[str, str] = {}
    for entry in re.findall(r"^    (\w[\w, ]*): (.*(?:\n     +\S.*)*)", section.partition("\n\n")[0], re.MULTILINE):
        docs.update(dict.fromkeys(entry[0].split(", "), " ".join(entry[1].split())))
    return docs


def check_types(values: Mapping[str, Any], options: Mapping[str, Option], owner: str) -> None:
    """ZooError for the first of ``values`` that is not of its option's type; whole numbers are floats too.

    Example:
        >>> check_types({"scale": True}, {"scale": Option("scale", float)}, "Noise")
        Traceback (most recent call last):
        zoo.errors.ZooError: scale=True of Noise: float is accepted.
    """
    for name, value in values.items():
        if name in options and not _fits(value, annotation := options[name].annotation):
            choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
            near = suggestion(value, choices) if isinstance(value, str) else ""
            raise ZooError(f"{name}={value!r} of {owner}: {_shown(annotation)} is accepted.{near}")


def check_given(values: Mapping[str, Any], options: Mapping[str, Option], owner: str) -> None:
    """:func:`check_types` of a constructor's arguments that are not their defaults, of whatever type these are.

    A word or number in the place of other ones is left to the constructor, which says best what it knows.

    Example:
        >>> options = {"scale": Option("scale", float, None)}
        >>> check_given({"scale": None}, options, "Noise")
        >>> check_given({"scale": "0.1"}, options, "Noise")
        Traceback (most recent call last):
        zoo.errors.ZooError: scale='0.1' of Noise: float is accepted.
    """
    given = {}
    for name, value in values.items():
        if name not in options or value is options[name].default:
            continue
        annotation = options[name].annotation
        parts = [part for part in (annotation, *get_args(annotation)) if get_origin(part) is Literal]
        if not any(type(value) is type(choice) for part in parts for choice in get_args(part)):
            given[name] = value
    check_types(given, options, owner)


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of a type; of types that are not simple, nothing is known and everything fits."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, each) for each in inner)
    if origin is Literal:
        return any(value == each and type(value) is type(each) for each in inner)
    if origin is tuple and isinstance(value, tuple | list):  # YAML has lists only
        each = [inner[0]] * len(value) if inner[1:] == (...,) else list(inner)
        return len(value) == len(each) and all(map(_fits, value, each))
    if origin is list and isinstance(value, list):
        return all(_fits(item, inner[0]) for item in value)
    if origin is dict and isinstance(value, Mapping):
        return all(_fits(key, inner[0]) and _fits(item, inner[1]) for key, item in value.items())
    if annotation in (int, float):
        kind = numbers.Integral if annotation is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if annotation is None:
        return value is None
    if isinstance(annotation, type) and is_dataclass(annotation) and isinstance(value, Mapping):  # as YAML has it
        return True
    expected = origin or annotation
    try:
        return expected is Any or not isinstance(expected, type) or isinstance(value, expected)
    except TypeError:  # a protocol that can't be asked for
        return True


def _shown(annotation: Any) -> str:
    """A type as a person writes it: ``int | None``, and the choices of a Literal."""
    if get_origin(annotation) is Literal:
        return f"one of {', '.join(map(str, get_args(annotation)))}"
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return " | ".join("None" if each is types.NoneType else _shown(each) for each in get_args(annotation))
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def require_at_least(minimum: float, **values: float | None) -> None:
    """ZooError unless every value is ``minimum`` or more, and finite; None stands for a default.

    Example:
        >>> require_at_least(1, steps=4, hidden=0)
        Traceback (most recent call last):
        zoo.errors.ZooError: hidden 0: 1 or more is needed
    """
    for name, value in values.items():
        if value is not None and not minimum <= value < math.inf:
            raise ZooError(f"{name} {value}: {minimum} or more is needed")


def require_call(function: Callable, shown: str, *arguments: Any) -> None:
    """ZooError where a method of somebody's can't be called as it will be, long before it is.

    Arguments:
        function: The method.
        shown: How it is called, in words.
        arguments: What it is called with.

    Example:
        >>> require_call(str.upper, "upper()", "a")
        >>> require_call(str.upper, "upper(text, language)", "a", "en")
        Traceback (most recent call last):
        zoo.errors.ZooError: str.upper(self, /) can't be called as upper(text, language): give it these arguments.
    """
    signature = inspect.signature(function)
    try:
        signature.bind(*arguments)
    except TypeError:
        raise ZooError(f"{function.__qualname__}{signature} can't be called as {shown}: give it these arguments.") from None


def require_seed(seed: int | None) -> None:
    """ZooError unless NumPy and torch can be seeded with a number; None stands for no seed.

    Example:
        >>> require_seed(-5)
        Traceback (most recent call last):
        zoo.errors.ZooError: seed -5: a whole number from 0 to 4294967295 is needed
    """
    if seed is not None and not 0 <= seed < 2**32:
        raise ZooError(f"seed {seed}: a whole number from 0 to {2**32 - 1} is needed")


def require_between(minimum: float, maximum: float, **values: float | None) -> None:
    """ZooError unless every value is from ``minimum`` to ``maximum``; None stands for a default.

    Example:
        >>> require_between(0, 1, dropout=1.5)
        Traceback (most recent call last):
        zoo.errors.ZooError: dropout 1.5: 1 at most is accepted
    """
    for name, value in values.items():
        if value is not None and value > maximum:
            raise ZooError(f"{name} {value}: {maximum} at most is accepted")
    require_at_least(minimum, **values)


def require_decay_rates(**values: Sequence[float]) -> None:
    """ZooError unless both decay rates of an Adam are from 0 to below 1.

    Example:
        >>> require_decay_rates(betas=(0.5, 1.0))
        Traceback (most recent call last):
        zoo.errors.ZooError: betas (0.5, 1.0): two numbers from 0 to below 1 are accepted
    """
    for name, rates in values.items():
        if not all(0 <= rate < 1 for rate in rates):
            raise ZooError(f"{name} {tuple(rates)}: two numbers from 0 to below 1 are accepted")


def ineffective(values: Mapping[str, Any], options: Mapping[str, Option], names: Sequence[str]) -> dict[str, Any]:
    """Those of ``names`` that were given, as another value than the default, with their values: for what nothing reads.

    Example:
        >>> ineffective({"heads": 2, "blocks": 1}, {"heads": Option("heads", int, 4)}, ["heads"])
        {'heads': 2}
    """
    known = [name for name in names if name in values and name in options]  # a subclass may not have all of them
    return {name: values[name] for name in known if values[name] != options[name].default}


def plain(name: str, value: Any) -> Any:
    """A value as a checkpoint keeps it: numbers, strings, tensors, lists and dicts; ZooError for what it can't keep.

    NumPy's scalars become numbers, and dataclasses dicts. Checkpoints are read without running code from them, so that no
    other class can be in one.

    Arguments:
        name: What the value is called in messages.
        value: The value.

    Example:
        >>> plain("lr", np.float32(0.5)), plain("width", (1, 2))
        (0.5, (1, 2))
    """
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in (types.NoneType, bool, int, float, str) or isinstance(value, Tensor | torch.dtype | torch.device):
        return value
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {key: plain(f"{name}.{key}", item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(name, item) for item in value)
    what = f"the class {value.__qualname__}" if isinstance(value, type) else f"a {type(value).__name__}"
    raise ZooError(f"{name} is {what}, which no checkpoint can hold: give numbers, strings, booleans, lists or dicts.")
