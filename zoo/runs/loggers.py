"""Where metrics go: a metrics.csv always, Weights & Biases unless it is switched off or can't be had."""

import csv
import netrc
import os
import re
import sys
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_only

from zoo.errors import ZooError
from zoo.files import write_atomically

__all__ = ["BatchSteps", "MetricsCSV", "log_evaluation", "wandb_logger", "wandb_mode"]

_MODES: dict[str, Literal["offline", "online", "shared"]] = {"offline": "offline", "online": "online", "shared": "shared"}


class MetricsCSV(Logger, Callback):
    """``metrics.csv``: a row per batch after which anything was logged, a column per metric, empty where it was not logged.

    The rows that belong to a checkpoint are on the disk before it is; a run that goes on from it has those rows, and goes on
    below them. As a logger of a model of the zoo it is called at checkpoints by itself; for another model, give it to the
    Trainer as a callback too.

    Arguments:
        folder: Where the file is.
        interval: Seconds between two writings of the file, checkpoints aside.

    Raises:
        ZooError: for a file that is there and can't be read.
    """

    name, version = "", ""  # parts of the path where Lightning's own checkpoints go: <folder>/checkpoints, as ours

    def __init__(self, folder: str | Path, interval: float = 5.0):
        super().__init__()
        self.path, self.interval = Path(folder) / "metrics.csv", interval
        self._rows: dict[int, dict[str, Any]] = {}
        self._earlier = _read(self.path) if self.path.exists() else {}
        self._written = 0.0

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: config.yaml beside the file has them."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row after ``step`` batches."""
        step = int(step or 0)
        if self._earlier:  # what a resumed run does again replaces what was there
            self._rows = {at: row for at, row in self._earlier.items() if at < step}
            self._earlier = {}
        row = self._rows.setdefault(step, {})
        row.update({name: value.item() if hasattr(value, "item") else value for name, value in metrics.items()})
        if "epoch" in row:
            row["epoch"] = int(row["epoch"])

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Write the file, and keep its last row in the checkpoint."""
        if trainer.is_global_zero:
            self._write()
            last = max(self._rows, default=-1)
            checkpoint["zoo_last_row"] = {"step": last, "metrics": dict(self._rows.get(last, {}))}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take up the rows that belong to a checkpoint that training goes on from."""
        last = checkpoint.get("zoo_last_row")
        if last is None or trainer.state.fn != TrainerFn.FITTING:
            return
        self._rows = {at: row for at, row in {**self._earlier, **self._rows}.items() if at < last["step"]}
        if last["step"] >= 0:
            self._rows[last["step"]] = dict(last["metrics"])
        self._earlier = {}

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


def _read(path: Path) -> dict[int, dict[str, Any]]:
    """The rows of a metrics.csv by their steps, with the values as they are written; ZooError where it is none."""
    advice = "Mend it, or move it away: a run that goes on writes its rows anew."
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise ZooError(f"{path} can't be read as a table: {error}.\n{advice}") from error
    if "step" not in columns and (columns or rows):
        found = " ".join(", ".join(columns[:5]).split()) or "none"
        raise ZooError(f"{path} has no column 'step', but {found[:200]}.\n{advice}")
    known: dict[int, dict[str, Any]] = {}
    for number, row in enumerate(rows, 1):
        if not re.fullmatch(r"\d{1,18}", row["step"] or "", re.ASCII) or None in row:
            what = "more values than columns" if None in row else f"the step {row['step']!r}"
            raise ZooError(f"{path}: row {number} has {what}; a step is a number, with a value a column.\n{advice}")
        known[int(row["step"])] = {name: value for name, value in row.items() if value and name != "step"}
    return known


class BatchSteps(WandbLogger):
    """W&B's logger with rows that are numbered by batches, so that the parts of a run that was resumed are one history.

    W&B counts the rows that a process logs. A run that goes on without a connection would count from 0 again, and where both
    parts are uploaded, one would stand in the place of the other. Here the number of a row is that of its batch times 1,000,
    and the next free one for what is logged at the same batch. ``trainer/global_step``, the axis of the curves, is the
    batch, counted from 1.
    """

    _row = -1

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log metrics and pictures after ``step`` batches."""
        if step is None:
            super().log_metrics(metrics)
            return
        self._row = max(self._row + 1, 1000 * step)
        self.experiment.log({**metrics, "trainer/global_step": step}, step=self._row)


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
    name: str | None = None,
) -> WandbLogger | None:
    """A started W&B run in ``folder``, the same one when the folder's run is resumed; None where none can be had.

    It never asks for a login and never stops the training: where W&B can't start, a line says so.

    Arguments:
        mode: ``offline`` or ``online``.
        folder: The run folder.
        model, data: Names, for the group ``<model>-<data>``.
        seed: For the run's name, if none is given.
        settings: The run's configuration.
        summaries: Metrics whose best value, ``min`` or ``max``, is the run's summary.
        name: The run's name.
    """
    noted = folder / "wandb" / "run_id.txt"
    try:
        noted.parent.mkdir(exist_ok=True)
        if not noted.exists():
            noted.write_text(uuid.uuid4().hex[:8])
        run = _start(
            folder,
            mode,
            name=name or f"{model}-{data}-s{seed}",
            group=f"{model}-{data}",
            job_type="fit",
            tags=[model, data],
            config=settings,
        )
        logger = BatchSteps(save_dir=str(folder), experiment=run)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        for metric, best in summaries.items():
            logger.experiment.define_metric(metric, summary=best)
        return logger
    except Exception as error:  # a logger must not cost a run, whatever goes wrong inside it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"W&B ({mode}) could not start: {reason}. Going on with metrics.csv alone.", file=sys.stderr)
        return None


def _start(folder: Path, mode: str, **options: Any) -> Any:
    """The W&B run of a run folder, which notes its id, begun or gone on with."""
    import wandb

    return wandb.init(
        project="zoo",
        id=(folder / "wandb" / "run_id.txt").read_text().strip(),
        resume="allow",
        dir=str(folder.resolve()),  # W&B's service may have been started in another folder
        mode=_MODES[mode],
        settings=wandb.Settings(silent=True, console="off", init_timeout=30),
        **options,
    )


def log_evaluation(folder: Path, asked: str, evaluation: Mapping[str, Any]) -> None:
    """Put an evaluation into the summary of the W&B run that trained the checkpoint: its metrics, and how each was measured.

    It never asks for a login and never fails: where W&B can't start, a line says so. Without a connection the evaluation is
    one more part of the run, which ``wandb sync`` uploads with the others.

    Arguments:
        folder: The run folder; nothing is done where its training was not logged to W&B.
        asked: The W&B mode that its configuration asks for.
        evaluation: The content of ``evaluation.json``.
    """
    noted, mode = folder / "wandb" / "run_id.txt", wandb_mode(asked)
    if mode == "off" or not noted.exists():
        return
    try:
        run = _start(folder, mode)
        told = ("schema", "data", "levels", "split", "weights", "checkpoint_sha256", "protocol", "samples_per_second")
        run.summary.update({**evaluation["metrics"], "evaluation": {name: evaluation.get(name) for name in told}})
        run.finish()
    except Exception as error:  # an evaluation that is on the disk must not fail for its log
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        print(f"W&B ({mode}) could not start: {reason}. The evaluation is in its file alone.", file=sys.stderr)
