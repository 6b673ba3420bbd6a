"""One progress bar for the whole training, with the few metrics that matter."""

from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ProgressBar
from tqdm.auto import tqdm

from zoo.batches import last_batch
from zoo.lightning import log_interval
from zoo.progress import LogLines, progress_bar, say

__all__ = ["MetricsProgressBar"]


class MetricsProgressBar(ProgressBar):
    """Batches done of all batches, the time left, the epoch, and the model's ``progress_bar_metrics``.

    On a terminal the bar moves; where output goes to a file, a line is written every ``file_interval`` seconds.

    Arguments:
        file_interval: Seconds between two lines where there is no terminal.
    """

    def __init__(self, file_interval: float = 60.0):
        super().__init__()
        self.file_interval = file_interval
        self._enabled = True
        self._bar: tqdm | LogLines | None = None
        self._epoch = 0

    def disable(self) -> None:
        """Show nothing: Lightning calls this on all processes but the first."""
        self._enabled = False

    def enable(self) -> None:
        """Show the bar again."""
        self._enabled = True

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Write a line without breaking the bar."""
        if self._enabled:
            say(sep.join(map(str, args)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar where training starts or goes on."""
        super().on_train_start(trainer, pl_module)
        self._epoch = trainer.current_epoch
        self._bar = self._begin("training", last_batch(trainer), trainer.fit_loop.total_batch_idx + 1)

    def _begin(self, what: str, total: int | None, done: int = 0) -> "tqdm | LogLines":
        return progress_bar(what=what, total=total, done=done, hidden=not self._enabled, interval=self.file_interval)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the epoch: the Trainer counts on when the last one ends."""
        self._epoch = trainer.current_epoch

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Move the bar, and show new metrics when there are some."""
        if self._bar is None:
            return
        if trainer.fit_loop.total_batch_idx % log_interval(trainer) == 0:
            self._bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
        self._bar.update()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the last metrics and leave the bar."""
        if self._bar is None:
            return
        self._bar.set_postfix(self.get_metrics(trainer, pl_module), refresh=False)
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the bar, so that the message stands on a line of its own."""
        if self._bar is not None:
            self._bar.close()

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, int | str | float | dict[str, float]]:
        """The epoch and the metrics, in four significant digits; training's without their prefix."""
        latest = getattr(pl_module, "latest_metrics", {})
        newest = [f"train/{name}" for name in getattr(pl_module, "progress_bar_metrics", ()) if f"train/{name}" in latest]
        metrics = {**{name: latest[name] for name in newest}, **super().get_metrics(trainer, pl_module)}
        metrics.pop("v_num", None)
        shown = {name.removeprefix("train/"): f"{float(value):.4g}" for name, value in metrics.items()}
        return {"epoch": str(self._epoch), **shown}
