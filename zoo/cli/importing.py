"""Importing torch and Lightning, in less time than it takes by itself."""

import functools
import gc
import pkgutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, ClassVar

__all__ = ["importing"]

# What torchmetrics imports, for its plots and for a patch of a program that is none of ours; a sixth of all modules.
_LATER = ("matplotlib", "matplotlib.axes", "matplotlib.pyplot", "scipy.signal")


class _Later(ModuleType):
    """Stands in the place of a module, and of what others name of it while they are imported, until it is used.

    They name it in annotations, and in ``@style.context(...)``.
    """

    waiting: ClassVar[bool] = False

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # what Python asks every module for, and not all have
        path = f"{self.__name__}.{name}"
        if _Later.waiting:
            return sys.modules.get(path) or _Later(path)
        return pkgutil.resolve_name(path)

    def __call__(self, *args: Any) -> Callable[[Callable], Callable]:
        """The decorator that the call would make, at the first call of what it decorates."""

        def decorate(function: Callable) -> Callable:
            @functools.wraps(function)
            def decorated(*given: Any, **options: Any) -> Any:
                return pkgutil.resolve_name(self.__name__)(*args)(function)(*given, **options)

            return decorated

        return decorate


@contextmanager
def importing() -> Iterator[None]:
    """Within it torch and Lightning are imported; nothing is done where one of them already was.

    No garbage is collected, and what there is at the end is left out of later collections: a million objects that live on,
    of which looking at them again and again takes a quarter of the time to the first batch. And matplotlib and a part of
    scipy, which torchmetrics imports for what a command may never ask of it, are imported when they are used.

    Example:
        >>> with importing():
        ...     import torchmetrics
    """
    if not {"torch", "torchmetrics"}.isdisjoint(sys.modules) or not gc.isenabled():
        yield
        return
    later = {name: _Later(name) for name in _LATER if name not in sys.modules}
    gc.disable()
    sys.modules.update(later)
    _Later.waiting = True
    try:
        yield
    finally:
        _Later.waiting = False
        for name, module in later.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        gc.freeze()
        gc.enable()
