"""What a process of a run does when another one has died: it ends too, within seconds and with a line that says so."""

import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.environments import LightningEnvironment
from torch.distributed import DistError

from zoo.errors import ZooError
from zoo.lightning import take_children

__all__ = ["PeerWatch", "explain_lost_peers"]

# What gloo and NCCL say of a peer that is gone, in errors that have no class of their own.
_LOST = re.compile(r"gloo|nccl|connection (?:closed|reset|refused)|broken pipe|socket", re.IGNORECASE)

_PLACES = re.compile(r"^(?:\[[^]]*\]\s*)+")
_MESSAGE = "another process of this run has ended: it was killed, or stopped by an error of its own"


@contextmanager
def explain_lost_peers(advice: Callable[[], str]) -> Iterator[None]:
    """A context in which the error of an exchange with a process that is gone is a ZooError of two lines.

    Arguments:
        advice: What to do then, a sentence.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, DistError) or _LOST.search(str(error))):
            raise
        raise ZooError(f"{_MESSAGE}{_reason(error)}.\n{advice()}") from error


def _reason(error: RuntimeError) -> str:
    """What the exchange said, in brackets, without the places in a library's source that it begins with."""
    first, *_ = str(error).strip().splitlines() or [type(error).__name__]
    sentence = _PLACES.sub("", first).partition(". ")[0]
    return f" ({sentence[:120]})"


class PeerWatch(Callback):
    """Ends a process that waits for one that is gone, where waiting has no end: on GPUs, exchanges notice it after minutes.

    It watches, of the processes that Lightning starts on a machine, the first one's children and the others' parent.

    Arguments:
        interval: Seconds between two looks.
        grace: Seconds in which a process may end by an error of its own.
    """

    def __init__(self, interval: float = 1.0, grace: float = 5.0):
        self.interval, self.grace = interval, grace
        self._over = threading.Event()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Start to watch."""
        environment = getattr(trainer.strategy, "cluster_environment", None)
        if trainer.world_size > 1 and isinstance(environment, LightningEnvironment):
            self._over = threading.Event()
            parent, children = os.getppid(), take_children(trainer)
            dead = (lambda: any(each.poll() for each in children)) if children else (lambda: os.getppid() != parent)
            threading.Thread(target=self._watch, args=(self._over, dead), name="peer-watch", daemon=True).start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Stop watching."""
        self._over.set()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Stop watching: this process ends by itself."""
        self._over.set()

    def _watch(self, over: threading.Event, dead: Callable[[], bool]) -> None:
        while not over.wait(self.interval):
            if dead() and not over.wait(self.grace):
                print(f"error: {_MESSAGE}.", file=sys.stderr, flush=True)
                os._exit(2)
