"""One run on disk: its folder, its checkpoints, its loggers, the training that fills them, and what is read of it.

``fit`` and ``Run`` are imported when they are first asked for: whoever reads a thousand runs needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.runs.training import Run, fit

__all__ = ["Run", "fit"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(import_module("zoo.runs.training"), name)
    raise AttributeError(f"module 'zoo.runs' has no attribute {name!r}.")


def __dir__() -> list[str]:
    """The same names for tab completion, which imports neither."""
    return sorted([*globals(), *__all__])
