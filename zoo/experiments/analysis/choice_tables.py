"""The tables of what one would choose: without labels, and on other data."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from zoo.experiments.analysis.agreement import Correlation, agreement, holm_of
from zoo.experiments.analysis.runs import ScoredRun, values_of
from zoo.experiments.analysis.selection import UNSUPERVISED, selected, within_groups
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
from zoo.experiments.analysis.transfer import Grid, best_strengths, costs, grid, transfer
from zoo.experiments.quantities import better
from zoo.experiments.statistics import holm

__all__ = ["best_table", "selection_table", "transfer_table"]


def selection_table(
    data: str, rows: Sequence[ScoredRun], scores: Sequence[str], unsupervised: Sequence[str], draws: int, seed: int
) -> StudyTable:
    """Each number that needs no labels against each score: correlations, and how good the model is that it selects."""
    names = [*unsupervised, *scores]
    correlations = [[Correlation(None, n=len(rows), reason="fewer than three models finished")] * len(names)] * len(names)
    if len(rows) > 2:
        table = np.stack([values_of(rows, name) for name in names], -1)
        correlations = agreement(table, [row.setting for row in rows], np.zeros((len(names),) * 2), draws, seed)
    pairs = [(by, score) for by in unsupervised for score in scores]
    over = [correlations[names.index(by)][names.index(score)] for by, score in pairs]
    records = [_selection(rows, *pair, correlation, draws, seed) for pair, correlation in zip(pairs, over, strict=True)]
    empty: dict[str, list[str]] = defaultdict(list)
    for record in records:
        if record["reason"]:
            empty[record["reason"]].append(f"{record['by']} and {label(record['score'])}")
    settings = holm([math.nan if record["p_within_settings"] is None else record["p_within_settings"] for record in records])
    for record, p, p_settings in zip(records, holm_of(over), settings, strict=True):
        record |= {"p_holm": p, "p_within_settings_holm": known(p_settings)}
    columns: dict[str, Callable[[Record], str]] = {
        "by": lambda of: of["by"],
        "score": lambda of: label(of["score"]),
        "rho [95 %]": lambda of: bracketed((of["rho"], of["low"], of["high"])),
        "p": lambda of: p_value(of["p_holm"]),
        "within methods": lambda of: bracketed(of[f"within_methods{end}"] for end in ("", "_low", "_high")),
        "within settings": lambda of: fixed(of["within_settings"]),
        "p ": lambda of: p_value(of["p_within_settings_holm"]),
        "beats, % [95 %]": lambda of: bracketed((percent(of[f"beats{end}"]) for end in ("", "_low", "_high")), 0),
    }
    notes = [
        "rho: over all models, 95 % interval of a bootstrap of settings; p after Holm over the table",
        "within methods: of ranks within each method [lowest, highest of one method]",
        "within settings: over seeds alone; p of permutations, after Holm over the table",
        "beats: of each seed's models the best by this number; how many of them it beats in the score, 50 by chance; 95 % "
        "t-interval over seeds",
        *reasons(empty),
    ]
    title = f"Selection without labels{f', {data}' if data else ''}"
    return StudyTable("selection", title, records, columns, notes if records else _none(), data)


def _none() -> list[str]:
    return [f"no run has one of {', '.join(UNSUPERVISED)}"]


def _selection(rows: Sequence[ScoredRun], by: str, score: str, over: Correlation, draws: int, seed: int) -> dict[str, Any]:
    a, b, settings = values_of(rows, by), values_of(rows, score), [row.setting for row in rows]
    methods = within_groups(a, b, [row.method for row in rows], draws, seed)
    seeds = within_groups(a, b, settings, draws, seed, fewest=2)
    way, seeded = UNSUPERVISED.get(by, better(by)), [i for i, row in enumerate(rows) if row.seed is not None]
    picked = selected(a[seeded], b[seeded], [rows[i].seed for i in seeded], way) if way and seeded else None
    reasons = dict.fromkeys(each.reason for each in (over, methods, seeds) if each.reason)
    return {
        "by": by,
        "score": score,
        "models": over.n,
        "rho": over.value,
        "low": over.low,
        "high": over.high,
        "p": over.p,
        "p_holm": None,
        "within_methods": methods.value,
        "within_methods_low": methods.lowest,
        "within_methods_high": methods.highest,
        "methods": methods.groups,
        "within_settings": seeds.value,
        "settings": seeds.groups,
        "p_within_settings": seeds.p,
        "p_within_settings_holm": None,
        "beats": None if picked is None else picked.mean,
        "beats_low": None if picked is None or known(picked.low) is None else max(picked.low, 0.0),
        "beats_high": None if picked is None or known(picked.high) is None else min(picked.high, 1.0),
        "seeds": picked.n if picked else 0,
        "reason": "; ".join(reasons),
    }


def _grids(rows: Sequence[ScoredRun], scores: Sequence[str]) -> dict[tuple[str, str], Grid]:
    found: dict[tuple[str, str], dict[tuple[str, int], float]] = defaultdict(dict)
    for row in rows:
        for score in scores:
            if row.seed is not None and score in row.numbers:
                found[row.data, score][row.setting, row.seed] = row.numbers[score]
    return {key: grid(values) for key, values in found.items()}


def transfer_table(rows: Sequence[ScoredRun], scores: Sequence[str]) -> StudyTable:
    """How often the best setting beats a random one with another seed, by another score, on other data."""
    records = [
        {"tried on": each.kind, "beats": each.value, "low": each.low, "high": each.high, "pairs": each.pairs,
         "reason": each.reason}
        for each in transfer(_grids(rows, scores))
    ]  # fmt: skip
    columns: dict[str, Callable[[Record], str]] = {
        "tried on": lambda of: of["tried on"],
        "beats, % [95 %]": lambda of: bracketed((percent(of[name]) for name in ("beats", "low", "high")), 0),
        "": lambda of: of["reason"],
    }
    notes = [
        "the best setting by one score, of one seed; how many settings it beats with another seed, 50 by chance",
        "95 % intervals of a jackknife over seeds: for other seeds of the settings that were run",
    ]
    return StudyTable("transfer", "How good the best setting is elsewhere", records, columns, notes)


def best_table(rows: Sequence[ScoredRun], scores: Sequence[str]) -> StudyTable:
    """The best strength of each method by each score, and what is lost with the best one of other data."""
    grids, data = _grids(rows, scores), list(dict.fromkeys(row.data for row in rows))
    records, same = [], []
    for method in dict.fromkeys(row.method for row in rows):
        strengths = {row.setting: row.strength for row in rows if row.method == method}
        if len(strengths) < 2:
            continue
        found = {}
        for score in scores:
            own = {name: grids[name, score].of(strengths) for name in data if (name, score) in grids}
            found[score] = best_strengths(own), costs(own, best_strengths(own))
            if len(found[score][0]) > 1:
                same.append(len({setting for setting, _ in found[score][0].values()}) == 1)
        for name in data:
            record: dict[str, object] = {"method": method, "data": name}
            for score, (best, lost) in found.items():
                setting, mean = best.get(name, ("", None))
                record |= {score: strengths.get(setting), f"{score}_mean": mean, f"{score}_lost": lost.get(name)}
            records.append(record)
    columns: dict[str, Callable[[Record], str]] = {"method": lambda of: of["method"]}
    columns |= {"data": lambda of: of["data"]} if len(data) > 1 else {}
    columns |= {label(score): partial(_strength, score) for score in scores}
    notes = ["the strength with the best mean over seeds (that mean)"] if records else ["no method has two strengths"]
    if same:
        notes[0] += (
            "; lost: with the best strength of other data, as a share of what the best one gains over a random one: 0 "
            "nothing, 1 all"
        )
        notes.append(f"the same strength on all data: in {sum(same)} of {len(same)} pairs of method and score")
    return StudyTable("best", "The best strength of each method", records, columns, notes)


def _strength(score: str, record: Record) -> str:
    if record[score] is None:
        return ""
    lost = record[f"{score}_lost"]
    return f"{record[score]} ({fixed(record[f'{score}_mean'])}{'' if lost is None else f'; lost {fixed(lost)}'})"
