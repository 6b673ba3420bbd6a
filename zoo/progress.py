"""Progress bars: one that moves on a terminal or in a notebook; in a log file a line a minute, without carriage returns."""

import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from tqdm.auto import tqdm

__all__ = ["LogLines", "moves", "progress_bar", "say"]

T = TypeVar("T")

_WIDE = 100  # columns, below which the bar itself makes room for the numbers behind it
_NARROW = "{desc} {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def moves() -> bool:
    """Whether standard error shows a bar that moves: a terminal, or a notebook."""
    return sys.stderr.isatty() or tqdm.__module__ == "tqdm.notebook"


def say(line: str) -> None:
    """Print a line above the bars that there are."""
    if moves():
        tqdm.write(line)
    else:
        print(line, flush=True)


def progress_bar(
    iterable: Iterable[T] | None = None,
    what: str = "",
    total: int | None = None,
    unit: str = "batches",
    *,
    done: int = 0,
    scale: int = 1,
    hidden: bool = False,
    leave: bool = True,
    interval: float = 60.0,
) -> "tqdm[T] | LogLines[T]":
    """A bar of what is iterated over, or of what ``update(n)`` is told.

    Arguments:
        iterable: What is iterated over; none for a bar that is told.
        what: Words before it.
        total: How many there are, if that is known and not ``len(iterable)``.
        unit: What is counted.
        done: How many are done already.
        scale: What one of them counts for.
        hidden: Show nothing.
        leave: Whether it stays when it is full.
        interval: Seconds between two lines, where it doesn't move.

    Example:
        >>> list(progress_bar([1, 2], "adding", hidden=True))
        [1, 2]
    """
    if moves():
        return tqdm(
            iterable,
            desc=what,
            total=total,
            unit=f" {unit}",
            initial=done,
            unit_scale=scale if scale != 1 else False,
            disable=hidden,
            leave=leave,
            dynamic_ncols=True,
            bar_format=_NARROW if shutil.get_terminal_size().columns < _WIDE else None,
            mininterval=0.2,
            maxinterval=1,
            miniters=1,
        )
    return LogLines(iterable, what, total, unit, done=done, scale=scale, hidden=hidden or not leave, interval=interval)


class LogLines(Generic[T]):
    """What a log file has in a bar's place: a line every ``interval`` seconds, and one at the end; see :func:`progress_bar`.

    Attributes:
        n, total: How many are done, and of how many; None where nobody knows.
    """

    def __init__(
        self,
        iterable: Iterable[T] | None,
        what: str,
        total: int | None,
        unit: str,
        *,
        done: int = 0,
        scale: int = 1,
        hidden: bool = False,
        interval: float = 60.0,
    ):
        self.iterable, self.what, self.unit, self.scale = iterable, what, unit, scale
        self.total = len(iterable) if total is None and hasattr(iterable, "__len__") else total  # type: ignore[arg-type]
        self.n, self.done, self.hidden, self.interval = done, done, hidden, interval
        self._postfix = ""
        self._start = self._shown = time.monotonic()
        self._closed = False

    def __iter__(self) -> Iterator[T]:
        assert self.iterable is not None
        for each in self.iterable:
            yield each
            self.update()
        self.close()

    def __enter__(self) -> "LogLines[T]":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """Count ``n`` more."""
        self.n += n
        if time.monotonic() - self._shown >= self.interval:
            self._show()

    def set_description(self, what: str) -> None:
        """Change the words before it."""
        self.what = what

    def set_postfix(self, values: Mapping[str, Any], refresh: bool = True) -> None:
        """Change what is shown behind it; ``refresh`` is there for bars that move."""
        self._postfix = ", ".join(f"{name}={value}" for name, value in values.items())

    def close(self) -> None:
        """Show how far it came, once."""
        if not self._closed:
            self._closed = True
            self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        if self.hidden:
            return
        seconds, now = self._shown - self._start, self.n - self.done
        of = f"/{self.total * self.scale}" if self.total is not None else ""
        left = f"<{_clock(seconds / now * (self.total - self.n))}" if self.total is not None and now > 0 else ""
        behind = f" [{_clock(seconds)}{left}{', ' if self._postfix else ''}{self._postfix}]"
        print(f"{self.what} {self.n * self.scale}{of} {self.unit}{behind}", file=sys.stderr, flush=True)


def _clock(seconds: float) -> str:
    return tqdm.format_interval(max(0.0, seconds))
