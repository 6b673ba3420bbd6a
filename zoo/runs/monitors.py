"""Metrics that callbacks watch: that they are logged is known before training begins, and not after an epoch."""

import re
from collections.abc import Sequence
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from zoo.errors import ZooError
from zoo.models.base import GenerativeModule
from zoo.registry import suggestion

__all__ = ["MonitorCheck", "require_possible_monitors"]

_OURS = {"zoo", "callbacks", "pytorch_lightning"}


def require_possible_monitors(model: GenerativeModule, callbacks: Sequence[Callback]) -> None:
    """ZooError for a callback that watches a metric without a prefix, where all that logs is ours."""
    if not {type(each).__module__.partition(".")[0] for each in (model, *callbacks)} <= _OURS:
        return
    for callback, monitor in _watched(callbacks):
        if not monitor.startswith(("train/", "val/")):
            stage, _, rest = monitor.partition("_")
            leaf = rest if stage in ("train", "val", "valid", "validation") and rest else re.sub(r"^\w+/", "", monitor)
            raise ZooError(
                f"{type(callback).__name__} watches {monitor}, which is not logged: metrics are called train/... and "
                f"val/..., as {'train' if stage == 'train' else 'val'}/{leaf}."
            )


def _watched(callbacks: Sequence[Callback]) -> list[tuple[Callback, str]]:
    found = [(callback, getattr(callback, "monitor", None)) for callback in callbacks]
    return [(callback, monitor) for callback, monitor in found if isinstance(monitor, str)]


class MonitorCheck(Callback):
    """Raises ZooError before the first batch where a callback watches a validation metric that validation does not log.

    What Lightning's sanity check has logged is known then. What callbacks log after a validation, as scores, is not; a run
    with such callbacks is left to find out.
    """

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Look at what was logged."""
        logged = [name for name in trainer.callback_metrics if name.startswith("val/")]
        callbacks: list[Callback] = list(cast(Any, trainer).callbacks)  # public, and not declared
        foreign = any(type(each).__module__.partition(".")[0] not in _OURS for each in callbacks)
        if not logged or foreign or any(hasattr(each, "scores") for each in callbacks):
            return
        for callback, monitor in _watched(callbacks):
            if monitor.startswith("val/") and monitor not in logged:
                raise ZooError(
                    f"{type(callback).__name__} watches {monitor}, which is not logged.{suggestion(monitor, logged)} "
                    f"There are {', '.join(logged)}."
                )
