"""Lists of modules whose elements a type checker knows."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar, cast

from torch import nn

__all__ = ["ModuleListOf", "module_list"]

M = TypeVar("M", bound=nn.Module)
M_co = TypeVar("M_co", bound=nn.Module, covariant=True)


class ModuleListOf(Protocol[M_co]):
    """What is used of a :class:`torch.nn.ModuleList` of modules of one type."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[M_co]: ...
    def __getitem__(self, index: int, /) -> M_co: ...


def module_list(modules: Iterable[M]) -> ModuleListOf[M]:
    """A :class:`torch.nn.ModuleList` of these; torch's own type says of its elements that they are modules, and no more."""
    return cast(ModuleListOf[M], nn.ModuleList(modules))
