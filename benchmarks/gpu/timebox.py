"""Time: a run's minutes, a part's share of them, and a limit on anything that Python does."""

import contextlib
import signal
import time
from collections.abc import Iterator

__all__ = ["Clock", "OutOfTime", "time_limit"]


class OutOfTime(BaseException):
    """A limit has passed. Like KeyboardInterrupt no Exception: a library that handles those must not handle this."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise :class:`OutOfTime` inside the block after so many seconds; main thread only, between two steps of Python.

    Limits may stand in one another; an outer one that passes inside an inner one is raised where the inner one ends.
    """

    def ring(*_) -> None:
        raise OutOfTime

    start, before = time.monotonic(), signal.signal(signal.SIGALRM, ring)
    # Again every 10 seconds: code that C++ called may drop the first one.
    outer, interval = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 10)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - start), 0.01), interval)


class Clock:
    """Divides a run's time among its parts: each gets its share of what is then left.

    Arguments:
        seconds: Of the run.
        shares: Part -> its share, in the order in which they run.
        longest: Part -> seconds that it never exceeds.
    """

    def __init__(self, seconds: float, shares: dict[str, float], longest: dict[str, float]):
        self.end = self.part_end = time.monotonic() + seconds
        self.shares, self.longest = dict(shares), longest

    def start(self, part: str) -> None:
        """``part`` begins: :meth:`left` counts down its share."""
        now = time.monotonic()
        share = (self.end - now) * self.shares[part] / sum(self.shares.values())
        self.part_end = now + min(share, self.longest.get(part, share))
        del self.shares[part]

    def left(self) -> float:
        """Seconds left to the part."""
        return self.part_end - time.monotonic()
