"""`python -m zoo.study`: the file of a study, its runs, and how far they are."""

import math
from typing import Any

from zoo.cli.analysis import rank_without_labels
from zoo.cli.command import Command
from zoo.cli.options import EVALUATE
from zoo.errors import ZooError
from zoo.experiments.study import Plan, plan_study, run_study
from zoo.experiments.study_file import StudyFile, read_study

__all__ = ["study"]


def study(file: str, *, dry_run: bool, set: list[str], only: list[str], **options: Any) -> None:
    """Do what is missing of a study, or list it, as the options of the command say.

    Raises:
        ZooError: for a name that is none, in the file or typed, before anything is imported that takes long.
    """
    read = read_study(file, changes=set, only=only, **options)
    _require_known(read)
    if dry_run:
        plans, workers = plan_study(read)
        print(_table(read, plans, workers))
        return
    report = run_study(read, rank_without_labels)
    print(report)
    print(f"scores of every run: {read.out}/runs.csv")
    if report.done and report.stopped is None:
        print(f"comparison: {read.out}/comparison/report.html")
        if read.analysis and (read.out / "analysis" / "analysis.md").exists():
            print(f"analysis: {read.out}/analysis/analysis.md")
    if report.stopped not in (None, "time"):
        raise SystemExit({"SIGINT": 130}.get(str(report.stopped), 143))
    if report.failed:
        raise SystemExit(1)


def _require_known(read: StudyFile) -> None:
    """ZooError, with file and setting, for an option that ``zoo.fit`` or ``zoo.evaluate`` does not have."""
    for setting in read.settings:
        run = setting.run(setting.seeds[0], read.out / "runs")
        try:
            Command(run.fit)
            if run.evaluate is not None:
                EVALUATE.read(["--ckpt", "last.ckpt", *run.evaluate])
        except ZooError as error:
            raise ZooError(f"{read.path}: {setting.name}: {str(error).splitlines()[0]}") from None


def _table(read: StudyFile, plans: list[Plan], workers: int) -> str:
    """A line for each setting, and what all of it takes."""
    rows = [("setting", "runs", "done", "to go on", "to do", "a batch", "batches", "a training")]
    seconds, unknown = 0.0, False
    for plan in plans:
        counts, estimate = plan.counts, plan.estimate
        done, going = counts.get("done", 0), counts.get("interrupted", 0) + counts.get("trained", 0)
        total = sum(counts.values())
        missing = total - done - counts.get("trained", 0)
        each = estimate.seconds if estimate is not None else 0.0
        unknown = unknown or each is None
        seconds += missing * (each or 0.0)
        batch = _duration(estimate.batch) if estimate is not None and estimate.batch is not None else ""
        batches = f"{estimate.batches:,}" if estimate is not None and estimate.batches else ""
        time = _duration(estimate.seconds) if estimate is not None else ""
        rows.append((plan.setting.name, str(total), str(done), str(going), str(total - done - going), batch, batches, time))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        f"{row[0]:<{widths[0]}}  " + "  ".join(f"{text:>{w}}" for text, w in zip(row[1:], widths[1:], strict=True))
        for row in rows
    ]
    first = next((plan for plan in plans if plan.counts.get("done", 0) < sum(plan.counts.values())), plans[0])
    lines += ["", "The first one:", f"  python -m zoo.fit {' '.join(first.command)}"]
    takes = "Some of these trainings have no end: give max_steps."
    if not unknown:
        takes = (
            f"{_duration(seconds)} of trainings one after the other, {_duration(seconds / workers)} on {workers} workers if "
        )
        takes += "they don't slow one another down. Validations and evaluations come to that."
    return "\n".join([*lines, "", takes])


def _duration(seconds: float | None) -> str:
    """A time as a person says it."""
    if seconds is None or not math.isfinite(seconds):
        return "no end"
    for unit, size, most in (("ms", 1e-3, 1.0), ("s", 1.0, 120), ("min", 60.0, 7200), ("h", 3600.0, 172_800)):
        if seconds < most:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 86_400:.3g} days"
