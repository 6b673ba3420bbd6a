"""Runs that are in Weights & Biases, on its server or in folders of offline runs, read as run folders are."""

import json
import math
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.errors import ZooError
from zoo.runs.stored import State, StoredEvaluation, StoredRun, flat_config, thinned

__all__ = ["read_offline", "read_wandb"]

_SECTIONS = ("model", "data", "trainer", "compile")  # of the configuration that the command line stores
_AXIS = "trainer/global_step"
_STATES: dict[str, State] = {"finished": "finished", "failed": "failed", "crashed": "failed"}


def read_offline(files: Iterable[str | Path]) -> list[StoredRun]:
    """Reads runs that were not uploaded, by W&B's own tool; the parts of a run that was resumed are one.

    Arguments:
        files: ``run-<id>.wandb`` files of offline runs.

    Returns:
        The runs, in the order of their first files.
    """
    parts: dict[str, list[list[dict[str, Any]]]] = defaultdict(list)
    problems: dict[str, list[str]] = defaultdict(list)
    for file in map(Path, files):
        records, problem = _records(file)
        named = [record["run"].get("run_id") for record in records if isinstance(record.get("run"), dict)]
        number = str(next(iter(named), None) or file.stem.removeprefix("run-"))
        parts[number].append(records)
        problems[number] += [problem] if problem else []
    return [_offline(number, found, problems[number]) for number, found in parts.items()]


def read_wandb(address: str) -> list[StoredRun]:
    """Reads the runs of a project on W&B's server.

    Arguments:
        address: ``entity/project`` or ``entity/project/group``.

    Returns:
        The runs.

    Raises:
        ZooError: where the address is none, W&B can't be reached, or no run is there.
    """
    entity, _, rest = address.partition("/")
    project, _, group = rest.partition("/")
    if not entity or not project:
        raise ZooError(f"wandb:{address}: wandb:ENTITY/PROJECT or wandb:ENTITY/PROJECT/GROUP is needed")
    try:
        import wandb

        found = list(wandb.Api().runs(f"{entity}/{project}", filters={"group": group} if group else None))
        runs = [
            _stored(
                f"wandb:{entity}/{project}/{each.name}",
                dict(each.config),
                _plain(each.summary),
                list(each.scan_history()),
                _STATES.get(str(each.state), "unfinished"),
            )
            for each in found
        ]
    except Exception as error:  # of the network, of the login, of the server's answer
        why = " ".join((str(error) or type(error).__name__).split())
        raise ZooError(f"wandb:{address} can't be read: {why[:300]}\nOffline runs are read from their folders.") from error
    if not runs:
        raise ZooError(f"wandb:{address}: no run there")
    return runs


def _records(file: Path) -> tuple[list[dict[str, Any]], str]:
    """What a file of W&B holds, and what is wrong with it."""
    tool = Path(sys.executable).with_name("wandb")
    try:
        done = subprocess.run([tool, "leet", "inspect", "--json", file], capture_output=True, text=True, timeout=120)
        found = [json.loads(line) for line in done.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return [], f"{file} can't be read: {' '.join(str(error).split())[:200]}"
    if done.returncode or not found:
        why = " ".join(done.stderr.split())[-200:]
        return [each for each in found if isinstance(each, dict)], f"{file} is damaged: {why or 'it is empty'}"
    return [each for each in found if isinstance(each, dict)], ""


def _offline(number: str, parts: Sequence[Sequence[Mapping[str, Any]]], problems: list[str]) -> StoredRun:
    config: dict[str, Any] = {}
    summary: dict[str, Any] = {}
    history: list[Mapping[str, Any]] = []
    name, ended = number, False
    for records in parts:
        ended = False
        for record in records:
            match record.get("type"):
                case "run":
                    name = str(record["run"].get("display_name") or name)
                    config |= _update(record["run"].get("config"))
                case "config":
                    config |= _update(record["config"])
                case "history":
                    history.append(record["history"].get("item") or {})
                case "summary":
                    summary |= _update(record["summary"])
                case "exit":
                    ended = not record["exit"].get("exit_code")
    run = _stored(f"{name} ({number})", config, summary, history, "finished" if ended else "unfinished")
    run.problems += problems
    return run


def _update(section: Any) -> dict[str, Any]:
    found = section.get("update") if isinstance(section, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def _stored(
    name: str,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    history: Sequence[Mapping[str, Any]],
    state: State,
) -> StoredRun:
    known = {key: value for key, value in config.items() if key in _SECTIONS}
    flat = flat_config(known or {key: value for key, value in config.items() if not key.startswith("_")})
    seed = config.get("seed_everything")
    run = StoredRun(name, str(flat.get("model", "?")), str(flat.get("data", "?")), config=flat, state=state)
    run.seed = seed if isinstance(seed, int) and not isinstance(seed, bool) else None
    points: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for i, row in enumerate(history):
        step = row.get(_AXIS, row.get("_step", i))
        for metric, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and "/" in metric and metric != _AXIS:
                points[metric][0].append(float(step))
                points[metric][1].append(float(value))
    run.curves = {metric: thinned(np.array(steps), np.array(values)) for metric, (steps, values) in points.items()}
    tested = {
        metric: float(value)
        for metric, value in summary.items()
        if metric.startswith("test/") and isinstance(value, int | float) and not isinstance(value, bool)
    }
    if tested:
        told = summary.get("evaluation")
        content = {**(told if isinstance(told, Mapping) else {}), "metrics": tested}
        protocol = content.get("protocol")
        content["protocol"] = {
            key: dict(value) for key, value in (protocol if isinstance(protocol, Mapping) else {}).items()
            if isinstance(value, Mapping)
        }  # fmt: skip
        run.evaluations.append(StoredEvaluation(None, content))
    if any(not math.isfinite(curve.values[-1]) for curve in run.curves.values()):
        run.state = "diverged"
    return run


def _plain(summary: Any) -> dict[str, Any]:
    """A summary of W&B's server as plain dictionaries."""
    return json.loads(json.dumps(dict(summary), default=dict))
