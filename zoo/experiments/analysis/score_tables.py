"""The tables of what was run, of the scores, of their agreement, and of what decides them."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from zoo.experiments.analysis.agreement import LECTURE, SCORES, Correlation, agreement, holm_of
from zoo.experiments.analysis.runs import ScoredRun, values_of
from zoo.experiments.analysis.table import (
    Record,
    StudyTable,
    bracketed,
    fixed,
    known,
    label,
    p_value,
    percent,
    reasons,
)
from zoo.experiments.analysis.variance import explained_variance
from zoo.experiments.statistics import holm
from zoo.runs.stored import State

__all__ = ["agreement_tables", "means_table", "runs_table", "variance_table"]

_ALPHA = 0.05
_STATES: tuple[State, ...] = ("finished", "unfinished", "failed", "diverged")
_ENDS = ("_adjusted", "_low", "_high")
_SHARES = ("method", "strength", "seed", "method_adjusted", "strength_adjusted", "seed_adjusted")


def _get(name: str) -> Callable[[Record], str]:
    return lambda record: str(record[name])


def runs_table(data: str, rows: Sequence[ScoredRun]) -> StudyTable:
    """How many runs of each method there are, and how they ended."""
    records = []
    for method in dict.fromkeys(row.method for row in rows):
        own = [row for row in rows if row.method == method]
        states = Counter(row.state for row in own)
        strengths = ", ".join(dict.fromkeys(row.strength for row in own if row.strength))
        swept = ", ".join(dict.fromkeys(row.option for row in own if row.option))
        told = f"{swept}: {strengths}" if swept and "=" not in strengths else strengths
        record: dict[str, Any] = {"method": method, "strengths": told, "seeds": len({row.seed for row in own})}
        records.append(record | {state: states[state] for state in _STATES})
    lost = Counter(row.setting for row in rows if row.state != "finished")
    of = ", ".join(f"{setting} ({count})" for setting, count in lost.items())
    notes = [f"not finished, which counts for nothing: {of}"] if lost else []
    names = ("method", "strengths", "seeds", *_STATES)
    return StudyTable("runs", f"Runs{_on(data)}", records, {name: _get(name) for name in names}, notes, data)


def means_table(by: str, data: str, rows: Sequence[ScoredRun], scores: Sequence[str], others: Sequence[str]) -> StudyTable:
    """Mean, lowest and highest of every number, by ``method`` or by ``setting``."""
    groups: dict[str, list[ScoredRun]] = defaultdict(list)
    for row in rows:
        groups[row.method if by == "method" else row.setting].append(row)
    records: list[dict[str, Any]] = []
    for group, own in groups.items():
        record: dict[str, Any] = {by: group, "models": len(own)}
        for number in (*scores, *others):
            found = values_of(own, number)
            found = found[~np.isnan(found)]
            ends = (found.mean(), found.min(), found.max()) if len(found) else (None, None, None)
            record |= dict(
                zip((f"{number}_{end}" for end in ("n", "mean", "low", "high")), (len(found), *ends), strict=True)
            )
        records.append(record)

    def shown(number: str) -> Callable[[Record], str]:
        places = 1 if max((abs(each[f"{number}_mean"] or 0.0) for each in records), default=0.0) >= 10 else 2
        return lambda record: (
            bracketed((record[f"{number}_{end}"] for end in ("mean", "low", "high")), places)
            + ("" if record[f"{number}_n"] in (0, record["models"]) else f" n={record[f'{number}_n']}")
        )

    what = "all strengths and seeds" if by == "method" else "seeds"
    columns = {by: _get(by), "models": _get("models"), **{label(number): shown(number) for number in (*scores, *others)}}
    title = f"Scores by {'method' if by == 'method' else 'method and strength'}{_on(data)}"
    return StudyTable(f"{by}s", title, records, columns, [f"mean [lowest, highest] over {what}"], data)


def agreement_tables(
    data: str, rows: Sequence[ScoredRun], scores: Sequence[str], draws: int, seed: int
) -> tuple[StudyTable, StudyTable]:
    """The correlation of each pair of scores beside the lecture's, with its interval; and both matrices."""
    found = _agreement(rows, scores, draws, seed)
    pairs = list(combinations(range(len(scores)), 2))
    records, empty = [], defaultdict(list)
    for (i, j), p in zip(pairs, holm_of([found[i][j] for i, j in pairs]), strict=True):
        each, lecture = found[i][j], known(_lecture(scores[i], scores[j]))
        gap = None if each.value is None or lecture is None else each.value - lecture
        records.append({"a": scores[i], "b": scores[j], "models": each.n, "settings": each.units, "rho": each.value,
                        "low": each.low, "high": each.high, "lecture": lecture, "difference": gap, "p": each.p, "p_holm": p,
                        "reason": each.reason})  # fmt: skip
        if each.reason:
            empty[each.reason].append(f"{label(scores[i])} and {label(scores[j])}")
    columns: dict[str, Callable[[Record], str]] = {
        "scores": lambda of: f"{label(of['a'])}, {label(of['b'])}",
        "models": _get("models"),
        "here [95 %]": lambda of: bracketed((percent(of[name]) for name in ("rho", "low", "high")), 0),
        "lecture": lambda of: fixed(percent(of["lecture"]), 0),
        "difference": lambda of: fixed(percent(of["difference"]), 0, sign=True),
        "p": lambda of: p_value(of["p"]),
        "Holm": lambda of: p_value(of["p_holm"]),
        "": lambda of: "" if of["p_holm"] is None else "differs" if of["p_holm"] <= _ALPHA else "not told apart",
    }
    notes = [f"Spearman's correlations over models, times 100; 95 % intervals of a bootstrap of settings with all their "
             f"seeds, {draws:,} draws, seed {seed}", *reasons(empty)]  # fmt: skip
    if any(record["lecture"] is not None for record in records):
        other = "" if not data or data.startswith("noisy_dsprites") else f", where these are of {data}"
        notes.insert(
            1, f"lecture: its table, of 1,800 models on Noisy-dSprites{other}, taken as exact; Holm: over all pairs"
        )
    title = f"Agreement of scores{_on(data)}"
    return StudyTable("agreement", title, records, columns, notes, data), _matrix(data, scores, found)


def _agreement(rows: Sequence[ScoredRun], scores: Sequence[str], draws: int, seed: int) -> list[list[Correlation]]:
    if len(rows) < 3:
        return [[Correlation(None, n=len(rows), reason="fewer than three models finished")] * len(scores)] * len(scores)
    theirs = [[_lecture(a, b) for b in scores] for a in scores]
    table = np.stack([values_of(rows, name) for name in scores], -1)
    return agreement(table, [row.setting for row in rows], theirs, draws, seed)


def _matrix(data: str, scores: Sequence[str], found: Sequence[Sequence[Correlation]]) -> StudyTable:
    """The matrix of the correlations, the lecture's in brackets."""
    records = [
        {"score": a, **{b: 1.0 if i == j else found[i][j].value for j, b in enumerate(scores)}} for i, a in enumerate(scores)
    ]

    def shown(b: str) -> Callable[[Record], str]:
        def cell(record: Record) -> str:
            theirs = known(_lecture(record["score"], b))
            return (fixed(percent(record[b]), 0) + ("" if theirs is None else f" ({100 * theirs:.0f})")).strip()

        return cell

    columns = {"": lambda record: label(record["score"]), **{label(b): shown(b) for b in scores}}
    title = f"Agreement of scores, times 100; in brackets the lecture's{_on(data)}"
    return StudyTable("agreement_matrix", title, records, columns, (), data)


def _lecture(a: str, b: str) -> float:
    """The lecture's correlation of two scores; NaN where it has none."""
    return float(LECTURE[SCORES.index(a), SCORES.index(b)]) / 100 if a in SCORES and b in SCORES else math.nan


def variance_table(data: str, rows: Sequence[ScoredRun], scores: Sequence[str], draws: int, seed: int) -> StudyTable:
    """The shares of the variance of each score: of the method, of its strength, of the seed."""
    methods, strengths = [row.method for row in rows], [row.strength for row in rows]
    found = [explained_variance(values_of(rows, name), methods, strengths, draws, seed) for name in scores]
    corrected = {
        name: holm([math.nan if (p := getattr(each, name)) is None else p for each in found])
        for name in ("p_method", "p_strength")
    }
    records, empty = [], defaultdict(list)
    for i, (name, each) in enumerate(zip(scores, found, strict=True)):
        records.append({"score": name, "models": each.n, "methods": each.methods, "settings": each.settings,
                        **{share: getattr(each, share) for share in _SHARES},
                        **{f"setting{end}": getattr(each, f"setting{end}") for end in ("", *_ENDS)},
                        **{of: getattr(each, of) for of in corrected},
                        **{f"{of}_holm": known(p[i]) for of, p in corrected.items()}, "reason": each.reason})  # fmt: skip
        if each.reason:
            empty[each.reason].append(label(name))
    columns: dict[str, Callable[[Record], str]] = {
        "score": lambda of: label(of["score"]),
        "models": _get("models"),
        **{share.replace("_adjusted", " adj."): _share(share) for share in _SHARES},
        "method and strength adj. [95 %]": lambda of: bracketed(of[f"setting{end}"] for end in _ENDS),
        "p method": lambda of: p_value(of["p_method_holm"]),
        "p strength": lambda of: p_value(of["p_strength_holm"]),
    }
    notes = [
        "method: R^2 of the method; strength: what R^2 of method and strength has beyond it; seed: the rest",
        "adj.: corrected for the number of groups, 0 in the mean where nothing matters",
        f"p: permutations ({draws:,}, seed {seed}) of whole settings over methods, and of models over the strengths of one "
        "method; after Holm over scores",
        *reasons(empty),
    ]
    title = f"What decides a score: shares of its variance{_on(data)}"
    return StudyTable("variance", title, records, columns, notes, data)


def _share(name: str) -> Callable[[Record], str]:
    return lambda record: fixed(record[name])


def _on(data: str) -> str:
    return f", {data}" if data else ""
