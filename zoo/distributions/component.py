"""What priors, posteriors and likelihoods have in common: options that they remember, and names by which they are known."""

import functools
import inspect
from abc import ABC
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

from torch import nn

from zoo.errors import ZooError
from zoo.options import Option, check_types, options_of, plain
from zoo.registry import find_class, suggestion

__all__ = ["Component", "Family"]


class Component(nn.Module, ABC):
    """Creates a part of a model, exchangeable for others of its family.

    Its constructor takes first what its place in the model gives it (``given``), then options of its own. It refuses values
    of other types than are annotated, and remembers those that it was given, so that a checkpoint can name them.

    Attributes:
        given: The names of what its place gives it, which it keeps under these names.
        constructor_options: The options it was made with, defaults left out.

    Raises:
        ZooError: if an option is not of its type.
    """

    given: ClassVar[tuple[str, ...]] = ()
    constructor_options: dict[str, Any]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            setattr(cls, "__init__", _remembering(vars(cls)["__init__"]))  # noqa: B010 (no assignment that type checkers take)


def _remembering(init: Callable[..., None]) -> Callable[..., None]:
    """The constructor, which notes the options it is called with, if it is that of the object's own class."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def remembering(self: Component, *args: Any, **kwargs: Any) -> None:
        cls = type(self)
        if cls.__init__ is remembering:  # else a subclass's constructor, which was called with the options, calls this one
            bound = signature.bind(self, *args, **kwargs).arguments
            named = {name: value for name, value in bound.items() if name in _names(signature, len(cls.given))}
            options = named | bound.get(_extra(signature) or "", {})
            check_types(options, options_of(cls, len(cls.given)), cls.__name__)
            self.__dict__["constructor_options"] = options
        init(self, *args, **kwargs)

    return remembering


def _names(signature: inspect.Signature, given: int) -> list[str]:
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [each.name for each in list(signature.parameters.values())[1 + given :] if each.kind not in variadic]


def _extra(signature: inspect.Signature) -> str | None:
    """The name of ``**options``."""
    kind = inspect.Parameter.VAR_KEYWORD
    return next((each.name for each in signature.parameters.values() if each.kind is kind), None)


C = TypeVar("C", bound=Component)


class Family(dict[str, type[C]], Generic[C]):
    """Components of one kind, those that have a name by their names.

    Arguments:
        kind: What they are called: ``posterior``.
        base: The class that all of them derive from.
        named: Those that have a name.

    Example:
        >>> from zoo.distributions.priors import PRIORS, MAFPrior
        >>> PRIORS.build("maf", (2,), {"steps": 3}).constructor_options
        {'steps': 3}
        >>> PRIORS.build(MAFPrior, (2,)).constructor_options, PRIORS.build(MAFPrior(2, hidden=8), (2,)).constructor_options
        ({}, {'hidden': 8})
        >>> [str(option) for option in PRIORS.options("maf").values()]
        ['steps: int = 4', 'hidden: int = 320']
    """

    def __init__(self, kind: str, base: type, named: Mapping[str, type[C]]):
        super().__init__(named)
        self.kind, self.base = kind, base

    def find(self, component: str | type[C]) -> type[C]:
        """The class that a name, a dotted path or a class stands for; ZooError where it is none of this family."""
        cls: Any = component
        if isinstance(component, str) and component in self:
            return self[component]
        if isinstance(component, str) and "." in component:
            try:
                cls = find_class(component)
            except (ImportError, AttributeError) as error:
                raise ZooError(f"can't import the {self.kind} {component}: {error}.") from error
        elif isinstance(component, str):
            near = suggestion(component.lower(), self)
            raise ZooError(f"no {self.kind} {component!r} among {', '.join(self)}, and no dotted path.{near}")
        ours = isinstance(cls, type) and issubclass(cls, self.base)
        if not ours:
            name = getattr(cls, "__qualname__", repr(cls))
            raise ZooError(f"{name} is no {self.kind}: derive it from {self.base.__module__}.{self.base.__name__}.")
        if missing := sorted(getattr(cls, "__abstractmethods__", ())):
            raise ZooError(f"the {self.kind} {cls.__name__} is abstract: it must define {', '.join(missing)}.")
        return cls

    def options(self, component: str | type[C]) -> dict[str, Option]:
        """The options of a component, with their types, defaults and meaning."""
        cls = self.find(component)
        return options_of(cls, len(cls.given))

    def build(self, component: str | type[C] | C, given: tuple, options: Mapping[str, Any] | None = None) -> C:
        """Make a component, or check that one which is made fits its place.

        Arguments:
            component: A name, a dotted path, a class, or an instance.
            given: What its place gives it, in the order of ``Component.given``.
            options: Its options; none beside an instance.

        Raises:
            ZooError: if there is no such component, or it has no such option, or a value is refused.
        """
        if options is not None and not isinstance(options, Mapping):
            raise ZooError(f"{self.kind}_options {options!r}: a dictionary of options is accepted")
        options = dict(options or {})
        if isinstance(component, Component):
            self.find(type(component))
            name = type(component).__name__
            if options:
                raise ZooError(f"{self.kind}_options {options} beside a {name} that is made: give them to its constructor.")
            for attribute, wanted in zip(component.given, given, strict=True):
                if (found := getattr(component, attribute)) != wanted:
                    raise ZooError(f"the {self.kind} {name} has {attribute} {found}, and the model needs {wanted}.")
            return component
        cls, name = self.find(component), component if isinstance(component, str) else component.__name__
        known = self.options(cls)
        required = [option.name for option in known.values() if option.default is inspect.Parameter.empty]
        if unknown := [option for option in options if option not in known]:
            accepted = f"Accepted: {', '.join(known) or 'none'}.{suggestion(unknown[0], known)}"
            raise ZooError(f"options of the {self.kind} {name}: no option {unknown[0]!r}. {accepted}")
        if missing := [option for option in required if option not in options]:
            raise ZooError(f"options of the {self.kind} {name}: {', '.join(missing)} must be given.")
        return cls(*given, **options)

    def reference(self, component: C) -> tuple[str, dict[str, Any] | None]:
        """The name and the options from which a component is made again, as a checkpoint keeps them.

        Raises:
            ZooError: if its class can't be imported, or an option is not plain data.
        """
        cls = type(component)
        named = next((name for name, each in self.items() if each is cls), None)
        path = f"{cls.__module__}.{cls.__qualname__}"
        if named is None and not _importable(path, cls):
            raise ZooError(f"no checkpoint can name the {self.kind} {path}: define it at the top of a file.")
        options = {name: plain(f"{self.kind} option {name}", value) for name, value in component.constructor_options.items()}
        return named or path, options or None


def _importable(path: str, cls: type) -> bool:
    try:
        return find_class(path) is cls
    except (ImportError, AttributeError):
        return False
