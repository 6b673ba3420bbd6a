"""The analysis of a study as commands make it: UDR, which needs checkpoints, first."""

import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from zoo.errors import ZooError
from zoo.experiments.analysis import Analysis, analyze
from zoo.experiments.analysis.runs import settings_of
from zoo.progress import progress_bar
from zoo.runs.stored import StoredRun

__all__ = ["analysis_of", "rank_without_labels"]


def analysis_of(runs: Sequence[StoredRun], tables: Iterable[str] = (), udr: bool = False, **options: Any) -> Analysis:
    """The analysis of runs and of CSV files of runs, with the UDR of the runs' models where it is asked for."""
    return analyze([*runs, *tables], numbers=rank_without_labels(runs) if udr else None, **options)


def rank_without_labels(runs: Iterable[StoredRun], seed: int = 0) -> dict[str, dict[str, float]]:
    """The UDR of each finished run's model among those of its setting (:func:`zoo.evaluation.evaluate_udr`).

    Models without partners or without a checkpoint have none; a setting whose models can't be ranked is told on stderr.

    Arguments:
        runs: The runs.
        seed: The seed of what is random in the data.

    Returns:
        ``{"udr": ...}`` by the name of the run.
    """
    groups: dict[tuple[str, str], list[tuple[StoredRun, Path]]] = defaultdict(list)
    finished = [run for run in runs if run.state == "finished"]
    for run, place in zip(finished, settings_of(finished), strict=True):
        if (path := _tested(run)) is not None:
            groups[place].append((run, path))
    found: dict[str, dict[str, float]] = {}
    several = {place: group for place, group in groups.items() if len(group) > 1}
    for (data, setting), group in progress_bar(several.items(), "UDR", unit="settings", hidden=not several):
        try:
            scores = _udr([path for _, path in group], seed)
        except ZooError as error:
            print(f"{setting} on {data}: {error}", file=sys.stderr)
            continue
        found |= {run.name: {"udr": score} for (run, _), score in zip(group, scores, strict=True)}
    return found


def _tested(run: StoredRun) -> Path | None:
    """The checkpoint whose scores the run has, if it is still there."""
    weights = {str(each.content.get("weights")).partition(",")[0] for each in run.evaluations}
    last = run.folder / "checkpoints" / "last.ckpt" if run.folder is not None and weights == {"last"} else None
    return run.checkpoint if last is None else last if last.exists() else None


def _udr(paths: Sequence[Path], seed: int) -> list[float]:
    from pytorch_lightning import seed_everything

    from zoo.cli.options import EVALUATE
    from zoo.cli.run_data import run_data
    from zoo.evaluation import evaluate_udr
    from zoo.runs.checkpoints import load

    seed_everything(seed, verbose=False)
    data = run_data(str(paths[0]), None, [], (), EVALUATE)
    return evaluate_udr((load(str(path)) for path in paths), data, seed=seed).scores.tolist()
