"""Where metrics go: a metrics.csv always, Weights & Biases unless it is switched off or can't be had."""

import csv
import netrc
import os
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from zoo.files import write_atomically

__all__ = ["MetricsCSV", "wandb_logger", "wandb_mode"]

_MODES: dict[str, Literal["offline", "online", "shared"]] = {"offline": "offline", "online": "online", "shared": "shared"}


class MetricsCSV(Logger):
    """``metrics.csv``: a row per step at which anything was logged, a column per metric, empty where it was not logged.

    A resumed run keeps the rows up to its checkpoint and goes on below them.

    Arguments:
        folder: Where the file is.
        interval: Seconds between two writings of the file.
    """

    name, version = "csv", ""

    def __init__(self, folder: str | Path, interval: float = 5.0):
        super().__init__()
        self.path, self.interval = Path(folder) / "metrics.csv", interval
        self._rows: dict[int, dict[str, Any]] = {}
        self._earlier = self._read()
        self._written = 0.0

    def _read(self) -> dict[int, dict[str, Any]]:
        if not self.path.exists():
            return {}
        with self.path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {int(row["step"]): {k: v for k, v in row.items() if v and k != "step"} for row in rows}

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml beside the file has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row of ``step`` (batches)."""
        step = int(step or 0)
        if self._earlier:  # what a resumed run does again replaces what was there
            self._rows = {at: row for at, row in self._earlier.items() if at < step}
            self._earlier = {}
        row = self._rows.setdefault(step, {})
        row.update(metrics)
        if "epoch" in row:
            row["epoch"] = int(row["epoch"])

    @rank_zero_only
    def save(self) -> None:
        """Write the file, unless that was just done."""
        if time.monotonic() - self._written > self.interval:
            self._write()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Write the file."""
        self._write()

    def _write(self) -> None:
        if not self._rows:
            return
        columns = ["step", *sorted({name for row in self._rows.values() for name in row})]
        with write_atomically(self.path, text=True) as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows({"step": step, **row} for step, row in sorted(self._rows.items()))
        self._written = time.monotonic()


def wandb_mode(asked: str) -> str:
    """``off``, ``offline`` or ``online`` from what was asked: ``auto`` is online where the user is logged in.

    An environment variable WANDB_MODE decides where nothing was asked.
    """
    if asked != "auto":
        return asked
    if mode := os.environ.get("WANDB_MODE"):
        return {"disabled": "off"}.get(mode, mode)
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    try:
        known = netrc.netrc().hosts
    except (OSError, netrc.NetrcParseError):
        return "offline"
    return "online" if any("wandb" in host for host in known) else "offline"


def wandb_logger(
    mode: str,
    folder: Path,
    model: str,
    data: str,
    seed: int,
    settings: dict[str, Any],
    summaries: Mapping[str, str],
) -> WandbLogger | None:
    """A started W&B run in ``folder``, the same one when the folder's run is resumed; None where none can be had.

    It never asks for a login and never stops the training: where W&B can't start, a line says so.

    Arguments:
        mode: ``offline`` or ``online``.
        folder: The run folder.
        model, data: Names, for the group ``<model>-<data>``.
        seed: For the run's name.
        settings: The run's configuration.
        summaries: Metrics whose best value, ``min`` or ``max``, is the run's summary.
    """
    noted = folder / "wandb" / "run_id.txt"
    try:
        import wandb

        noted.parent.mkdir(exist_ok=True)
        if not noted.exists():
            noted.write_text(uuid.uuid4().hex[:8])
        run = wandb.init(
            project="zoo",
            name=f"{model}-{data}-s{seed}",
            group=f"{model}-{data}",
            job_type="fit",
            tags=[model, data],
            config=settings,
            id=noted.read_text().strip(),
            resume="allow",
            dir=str(folder),
            mode=_MODES[mode],
            settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        )
        logger = WandbLogger(save_dir=str(folder), experiment=run)
        for metric, best in summaries.items():
            logger.experiment.define_metric(metric, summary=best)
        return logger
    except Exception as error:  # a logger must not cost a run, whatever goes wrong inside it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"W&B ({mode}) could not start: {reason}. Going on with metrics.csv alone.", file=sys.stderr)
        return None
