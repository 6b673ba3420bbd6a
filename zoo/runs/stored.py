"""Runs as they lie on the disk, read without torch: configuration, curves, evaluations, how each ended, what is damaged."""

import csv
import hashlib
import math
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from zoo import registry
from zoo.errors import ZooError
from zoo.files import read_json, read_yaml
from zoo.runs.folder import newest_config

__all__ = ["Curve", "State", "StoredEvaluation", "StoredRun", "find_runs", "flat_config", "natural", "read_run", "thinned"]

State = Literal["finished", "unfinished", "failed", "diverged"]
_STATES: dict[str, State] = {"finished": "finished", "failed": "failed", "diverged": "diverged"}
_POINTS = 200  # of a curve that are kept
_LARGEST_CSV = 2**28  # bytes
_SCHEMA = 1  # the newest evaluation.json that is understood
# What says where and how a training ran, and not what was trained.
_OPERATION = re.compile(
    r"seed_everything|ckpt_path|wandb|resume|config|data\.(seed|root|num_workers|on_device|eval_batch_size|mirrors?)"
    r"|trainer\.(default_root_dir|logger|enable_\w+|accelerator|devices|num_nodes|strategy|profiler|detect_anomaly|barebones"
    r"|log_every_n_steps|num_sanity_val_steps|model_registry|limit_test_batches|limit_predict_batches|plugins|benchmark)"
)


@dataclass(frozen=True)
class Curve:
    """A metric over training: batches (N,) and values (N,)."""

    steps: np.ndarray
    values: np.ndarray


@dataclass
class StoredEvaluation:
    """An ``evaluation.json``, of whichever version.

    Attributes:
        path: The file; None of a W&B run.
        content: What it holds.
    """

    path: Path | None
    content: dict[str, Any]

    @property
    def metrics(self) -> dict[str, float]:
        """Every number by its name."""
        return self.content["metrics"]

    def log_p(self) -> np.ndarray | None:
        """log p(x) of each test example, (N,); None where it was not stored.

        Raises:
            ZooError: where the file beside ``evaluation.json`` is damaged or of another evaluation.
        """
        expected = self.content.get("log_p_sha256")
        if self.path is None or not isinstance(expected, str):
            return None
        path = self.path.with_suffix(".npz")
        try:
            with zipfile.ZipFile(path) as archive:
                if sum(each.file_size for each in archive.infolist()) > path.stat().st_size:
                    raise ValueError("compressed")
            with np.load(path, allow_pickle=False) as file:
                found = file["log_p"]
        except FileNotFoundError:
            raise ZooError(f"{path} is missing: evaluate again.") from None
        except Exception as error:  # a damaged archive can raise almost anything
            raise ZooError(f"{path} is damaged: evaluate again.") from error
        if found.ndim != 1 or found.dtype != np.float64 or hashlib.sha256(found.tobytes()).hexdigest() != expected:
            raise ZooError(f"{path} is not what evaluation.json beside it says: evaluate again.")
        return found


@dataclass
class StoredRun:
    """What one training has left.

    Attributes:
        name: The folder as it was named, or the name of the W&B run.
        model, data: Registered names, or dotted paths.
        seed: The seed; None where it is not known.
        state: How it ended; ``unfinished`` is what was stopped or killed, or trains still.
        error: Why it failed.
        config: The configuration, flat, ``model.lr`` and so on, without the seed and without where it ran.
        evaluations: Those of its checkpoints.
        curves: Metrics over training.
        clock: (N, 3): batches, examples, seconds.
        facts: Parameters, seconds, machine, versions, commit, command, … as ``run.json`` has them.
        folder: The run folder; None of a W&B run.
        problems: What could not be read, in a line each.
    """

    name: str
    model: str
    data: str
    seed: int | None = None
    state: State = "unfinished"
    error: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    evaluations: list[StoredEvaluation] = field(default_factory=list)
    curves: dict[str, Curve] = field(default_factory=dict)
    clock: np.ndarray = field(default_factory=lambda: np.zeros((0, 3)))
    facts: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path | None:
        """``best.ckpt`` where there is one, else ``last.ckpt``, else None."""
        folder = (self.folder or Path()) / "checkpoints"
        found = [folder / f"{name}.ckpt" for name in ("best", "last")] if self.folder else []
        return next((path for path in found if path.exists()), None)


def read_run(folder: str | Path) -> StoredRun:
    """Reads a run folder; what is damaged in it is named in ``problems``, and the rest is read.

    Arguments:
        folder: One with ``config.yaml``.

    Returns:
        The run.
    """
    path = Path(folder)
    run = StoredRun(str(folder), *_names(path), folder=path)
    with _told(run):
        config = read_yaml(newest_config(path))
        run.config = flat_config(config)
        run.model, run.data = (run.config.get(key) or name for key, name in (("model", run.model), ("data", run.data)))
        run.seed = _whole(config.get("seed_everything"))
    if (path / "run.json").exists():
        with _told(run):
            _read_facts(run, read_json(path / "run.json"))
    if (path / "metrics.csv").exists():
        with _told(run):
            run.curves, last, finite = _read_curves(path / "metrics.csv")
            if "state" not in run.facts:
                run.state = _guessed_state(run, last, finite)
    for file in sorted(path.glob("evaluation*.json")):
        with _told(run):
            run.evaluations.append(_evaluation(file))
            _require_current(run, file)
    return run


class _told:
    """What can't be read becomes a line among the problems of a run."""

    def __init__(self, run: StoredRun):
        self.run = run

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, ZooError):
            self.run.problems.append(" ".join(str(error).split()))
        return isinstance(error, ZooError)


def _names(folder: Path) -> tuple[str, str]:
    """Model and data in the name ``<model>-<data>`` of the folder's parent, for want of a configuration."""
    model, _, data = folder.absolute().parent.name.partition("-")
    return model or "?", data or "?"


def flat_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """A ``config.yaml`` as flat names and plain values, without the seed and without what says where it ran.

    Example:
        >>> flat_config({"model": {"class_path": "zoo.models.GAN", "init_args": {"lr": 0.1}}, "seed_everything": 3})
        {'model': 'gan', 'model.lr': 0.1}
    """
    flat = dict(_flattened(config, ""))
    for kind, entries in (("model", registry.MODELS), ("data", registry.DATA)):
        if isinstance(path := flat.get(kind), str):
            flat[kind] = _registered(path, entries, {key: value for key, value in flat.items() if key.startswith(kind)})
    return {key: value for key, value in flat.items() if not _OPERATION.fullmatch(key)}


def _registered(path: str, entries: Mapping[str, registry.Entry], options: Mapping[str, Any]) -> str:
    """The registered name of a class with such options; else its path."""
    named = [(name, entry.options) for name, entry in entries.items() if entry.path == path]
    fitting = [name for name, fixed in named if all(options.get(f"data.{key}") == value for key, value in fixed.items())]
    return next(iter(fitting), named[0][0] if named else path)


def _flattened(section: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(section, Mapping) and section.keys() <= {"class_path", "init_args"} and "class_path" in section and name:
        yield name, section["class_path"]
        yield from _flattened(section.get("init_args") or {}, name)
    elif isinstance(section, Mapping):
        for key, value in section.items():
            yield from _flattened(value, f"{name}.{key}" if name else str(key))
    elif isinstance(section, list):
        yield name, ", ".join(_text(each) for each in section)
    else:
        yield name, section


def _text(value: Any) -> str:
    """A value of a list in a configuration, in one line."""
    if isinstance(value, Mapping) and "class_path" in value:
        given = value.get("init_args")
        options = ", ".join(f"{key}={_text(each)}" for key, each in given.items()) if isinstance(given, dict) else ""
        return f"{str(value['class_path']).rpartition('.')[2]}({options})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_text(each)}" for key, each in value.items()) + "}"
    return "[" + ", ".join(map(_text, value)) + "]" if isinstance(value, list) else str(value)


def _read_facts(run: StoredRun, said: dict[str, Any]) -> None:
    run.facts = {key: value for key, value in said.items() if key not in ("clock", "schema")}
    run.state = _STATES.get(str(said.get("state")), "unfinished")
    run.error = said["error"] if isinstance(said.get("error"), str) else None
    run.seed = _whole(said.get("seed")) if run.seed is None else run.seed
    try:
        run.clock = np.asarray(said.get("clock") or np.zeros((0, 3)), dtype=np.float64).reshape(-1, 3)
    except (ValueError, TypeError):
        raise ZooError(f"{run.folder}/run.json: its clock is no table of batches, examples and seconds") from None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _guessed_state(run: StoredRun, last: int, finite: bool) -> State:
    """How a run without ``run.json`` ended: finished if it has the batches or epochs that were asked for."""
    most = _whole(run.config.get("trainer.max_steps"))
    if not finite:
        return "diverged"
    return "finished" if most is not None and 0 < most <= last + 1 else "unfinished"


def _read_curves(path: Path) -> tuple[dict[str, Curve], int, bool]:
    """The metrics of a ``metrics.csv``, the last batch, and whether all that was logged last is finite."""
    try:
        if path.stat().st_size > _LARGEST_CSV:
            raise ZooError(f"{path} has more than {_LARGEST_CSV:,} bytes, far more than metrics take.")
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.reader(file)
            names = next(reader, [])
            rows = list(reader)
        if not rows:
            return {}, -1, True
        wrong = next((i for i, row in enumerate(rows, 2) if len(row) != len(names)), None)
        if wrong is not None:
            raise ZooError(f"{path}: line {wrong} has {len(rows[wrong - 2])} values, the first line {len(names)} names.")
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        steps = np.array(columns.pop("step"), dtype=np.float64)
    except (UnicodeDecodeError, csv.Error, KeyError, ValueError, OSError) as error:
        if isinstance(error, ZooError):
            raise
        raise ZooError(f"{path} is no table of metrics over steps: {error}") from error
    curves, finite = {}, True
    for name, column in columns.items():
        if name == "epoch":
            continue
        at = [i for i, text in enumerate(column) if text]
        try:
            values = np.array([float(column[i]) for i in at])
        except ValueError as error:
            raise ZooError(f"{path}: column {name[:80]}: {error}") from error
        if len(at):
            finite = finite and bool(np.isfinite(values[-1]))
            curves[name] = thinned(steps[at], values)
    return curves, int(steps[-1]), finite


def thinned(steps: np.ndarray, values: np.ndarray, most: int = _POINTS) -> Curve:
    """A curve of at most so many points, evenly chosen, the last one among them.

    Example:
        >>> thinned(np.arange(10), np.arange(10), most=3).steps
        array([0., 4., 9.])
    """
    if len(steps) > most:
        chosen = np.linspace(0, len(steps) - 1, most).astype(int)
        steps, values = steps[chosen], values[chosen]
    return Curve(steps.astype(np.float64), values.astype(np.float64))


def _evaluation(path: Path) -> StoredEvaluation:
    content = read_json(path)
    metrics = content.get("metrics")
    if not isinstance(metrics, dict) or not all(_is_number(value) for value in metrics.values()):
        raise ZooError(f"{path} holds no metrics, names with numbers: evaluate again.")
    schema = content.get("schema", 0)
    if not isinstance(schema, int) or schema > _SCHEMA:
        raise ZooError(f"{path} has the schema {str(schema)[:20]}, of a newer zoo; this one knows {_SCHEMA}.")
    protocol = content.setdefault("protocol", {})
    if not isinstance(protocol, dict) or not all(isinstance(value, dict) for value in protocol.values()):
        raise ZooError(f"{path}: its protocol does not say how each metric was measured: evaluate again.")
    content["metrics"] = {name: float(value) if value is not None else math.nan for name, value in metrics.items()}
    return StoredEvaluation(path, content)


def _require_current(run: StoredRun, path: Path) -> None:
    """ZooError where the last weights were tested and training has gone on since."""
    content, batches = run.evaluations[-1].content, run.facts.get("batches")
    at = content.get("trained_batches")
    if str(content.get("weights")).startswith("last") and isinstance(at, int) and isinstance(batches, int) and at < batches:
        raise ZooError(f"{path} is of batch {at:,}, and training has gone on to {batches:,}: evaluate again.")


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def find_runs(folder: str | Path) -> list[Path]:
    """The run folders in a folder, itself or at any depth, in the order of their names and numbers."""
    found = []
    for place, folders, files in os.walk(folder):
        if "config.yaml" in files:
            found.append(Path(place))
            folders.clear()
    return sorted(found, key=natural)


def natural(path: Path | str) -> list[tuple[int, int, str]]:
    """A key to sort names by in which 10 comes after 9."""
    parts = re.split(r"(\d+)", str(path))
    return [(0, int(part[:18]), part) if part.isdecimal() else (1, 0, part) for part in parts]
