"""`python -m zoo.compare`: runs, a table of them, and files."""

import contextlib
import hashlib
import io
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.cli.analysis import analysis_of
from zoo.cli.options import COMPARE
from zoo.errors import ZooError
from zoo.experiments.comparison import Comparison, find
from zoo.experiments.conditions import met
from zoo.progress import progress_bar
from zoo.runs.stored import StoredRun

__all__ = ["compare"]


def compare(
    runs: Sequence[str],
    *,
    out: Path | None,
    all: bool,
    strict: bool,
    fail_if: str | None,
    neighbors: bool,
    analysis: bool,
    udr: bool,
    evaluate: bool,
    evaluation: dict[str, Any],
    **options: Any,
) -> None:
    """Print the comparison of runs and write its files, as the options of the command say."""
    if neighbors and out is None and not analysis:
        raise ZooError("--neighbors: they are pictures of the report. Give --out DIR.")
    if evaluate:
        evaluate_missing(find([run for run in runs if not (analysis and run.endswith(".csv"))]), evaluation)
    if udr and not analysis:
        raise ZooError("--udr: it is part of --analysis, which is missing.")
    if analysis:
        _analyze(runs, out, udr, {"all": all, "strict": strict, "fail_if": fail_if, "neighbors": neighbors, **options})
        return
    comparison = Comparison(runs, **options)
    if neighbors:
        draw_missing_neighbors([row.runs[0] for row in comparison.rows if row.runs])
    print(comparison.table(shutil.get_terminal_size((120, 24)).columns, everything=all))
    if out is not None:
        print("files:", *comparison.save(out))
    if strict and (mixed := comparison.incomparable):
        raise ZooError(f"--strict: not measured in one way: {', '.join(mixed)}. The blocks above say how each was.")
    if fail_if is not None and (lines := met(comparison, fail_if)):
        print(f"--fail-if {fail_if}:", *lines, sep="\n  ", file=sys.stderr)
        raise SystemExit(1)


def _analyze(runs: Sequence[str], out: Path | None, udr: bool, options: dict[str, Any]) -> None:
    scores, filter = options.pop("metrics"), options.pop("filter")
    typed = {name.replace("_", "-"): value for name, value in options.items()}
    unread = [name for name, value in typed.items() if value not in (None, [], COMPARE.defaults[name])]
    if unread:
        raise ZooError(f"--{unread[0]} is of a comparison; --analysis takes --metrics, --filter, --udr, --out, --evaluate.")
    tables = [run for run in runs if run.endswith(".csv")]
    found = analysis_of(find([run for run in runs if run not in tables]), tables, udr, scores=scores, filter=filter)
    print(found)
    if out is not None:
        print("files:", *found.write(out))


def evaluate_missing(runs: Sequence[StoredRun], options: dict[str, Any]) -> None:
    """Evaluate the checkpoints of finished runs that were not evaluated, or not with so many samples and examples."""
    from zoo.cli.evaluate import evaluate

    missing = [run for run in runs if run.state == "finished" and run.checkpoint is not None and not _done(run, options)]
    for run in progress_bar(missing, "evaluating", unit="runs", hidden=not missing):
        asked = {**options, "ckpt": str(run.checkpoint)}
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                try:
                    evaluate(**asked)
                except ZooError as error:
                    if "has no likelihood" not in str(error):
                        raise
                    evaluate(**{**asked, "samples": 0})
        except ZooError as error:
            print(f"{run.name}: {error}", file=sys.stderr)


def draw_missing_neighbors(runs: Sequence[StoredRun]) -> None:
    """Draw the training examples next to the samples of runs that were evaluated, where that was not done."""
    from zoo.cli.options import EVALUATE
    from zoo.cli.run_data import run_data
    from zoo.evaluation import draw_neighbors
    from zoo.evaluation.neighbors import NEIGHBORS
    from zoo.runs.checkpoints import load

    missing = [run for run in runs if run.folder and run.evaluations and not (run.folder / "pictures" / NEIGHBORS).exists()]
    for run in progress_bar(missing, "neighbors of samples", unit="runs", hidden=not missing):
        told = run.evaluations[-1].content
        checkpoint = Path(run.folder or "") / "checkpoints" / Path(str(told.get("checkpoint"))).name
        try:
            data = run_data(str(checkpoint), None, [], (), EVALUATE)
            draw_neighbors(load(checkpoint), data, checkpoint.parents[1] / "pictures", seed=told.get("seed", 0))
        except ZooError as error:
            print(f"{run.name}: {error}", file=sys.stderr)


def _done(run: StoredRun, options: dict[str, Any]) -> bool:
    """Whether the checkpoint, by its hash, was evaluated with at least what is asked for."""
    if run.checkpoint is None:
        return True
    with open(run.checkpoint, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    for evaluation in run.evaluations:
        if evaluation.content.get("checkpoint_sha256") != digest:
            continue
        asked = {"draws": options.get("samples"), "n": options.get("examples")}
        had = evaluation.content["protocol"].get("test/nll", {})
        if not asked["draws"] or all(value in (None, had.get(name)) for name, value in asked.items() if name in had):
            return not asked["draws"] or bool(had) or "test/nll" in (evaluation.content.get("missing") or {})
    return False
