"""What may be said of the differences within a column: tests, corrections, and what the literature says."""

import math
from collections.abc import Mapping

import numpy as np

from zoo.errors import ZooError
from zoo.experiments import statistics
from zoo.experiments.cells import Block, Cell, Column
from zoo.experiments.published import Published
from zoo.experiments.quantities import better, leaf
from zoo.runs.stored import natural

__all__ = ["contrast", "judge"]

_ALPHA = 0.05


def contrast(column: Column, baseline: str | None) -> list[str]:
    """Fill in what may be said of a column's differences from its best row, or from the baseline.

    Arguments:
        column: The column.
        baseline: The row to compare with, if it has the metric.

    Returns:
        What could not be read for it, in a line each.
    """
    problems: dict[str, None] = {}
    way = better(column.metric)
    cells = {name: cell for name, cell in column.cells.items() if cell.summary is not None}
    if way is None or len(cells) < 2:
        return []
    sign = 1 if way == "lower" else -1
    best = min(cells, key=lambda name: (sign * cells[name].summary.mean, natural(name)))  # type: ignore[union-attr]
    column.reference = baseline if baseline in cells else best
    _test_all(column, cells, column.reference, None if baseline in cells else math.comb(len(cells), 2), problems)
    if column.reference == best:
        apart = {name: cell.p_corrected for name, cell in cells.items()}
    else:  # what is not told apart from the best is asked of the best, whatever the baseline
        other = Column(column.metric, column.protocol, {name: Cell(**vars(cell)) for name, cell in cells.items()})
        _test_all(other, other.cells, best, math.comb(len(cells), 2), problems)
        apart = {name: cell.p_corrected for name, cell in other.cells.items()}
    if any(not math.isnan(p) for p in apart.values()):  # else nothing was tested, and there is nothing to say
        for name, cell in cells.items():
            cell.best = name == best or not apart[name] <= _ALPHA
    return list(problems)


def _test_all(
    column: Column, cells: Mapping[str, Cell], reference: str, family: int | None, problems: dict[str, None]
) -> None:
    of, names = cells[reference], [name for name in cells if name != reference]
    log_p = _log_p(of, column.metric, problems)
    for name in names:
        cell = cells[name]
        cell.welch = cell.versus = statistics.welch(cell.values, of.values)
        theirs = _log_p(cell, column.metric, problems) if log_p is not None else None
        if log_p is not None and theirs is not None and theirs.shape[1] == log_p.shape[1]:
            cell.versus = statistics.paired(theirs, log_p)
        if min(len(cell.values), len(of.values)) > 1:
            cell.p_permutation = statistics.permutation(cell.values, of.values)
        cell.p_smallest = statistics.smallest_p(len(cell.values), len(of.values))
    corrected = statistics.holm([cells[name].versus.p for name in names], family)  # type: ignore[union-attr]
    for name, p in zip(names, corrected, strict=True):
        cell = cells[name]
        cell.p_corrected = p
        if not p <= _ALPHA and cell.versus is not None and cell.summary is not None and of.summary is not None:
            alpha = _ALPHA / max(family or len(names), 1)
            cell.needed = statistics.seeds_needed(cell.versus.effect, cell.summary.std, of.summary.std, alpha)


def _log_p(cell: Cell, metric: str, problems: dict[str, None]) -> np.ndarray | None:
    """The metric of each test example, (seeds, examples), where every run has stored it; in the metric's own unit."""
    if leaf(metric) not in ("nll", "nll_bits_per_dim") or len(cell.evaluations) != len(cell.values):
        return None
    rows = []
    for evaluation, value in zip(cell.evaluations, cell.values, strict=True):
        try:
            log_p = evaluation.log_p()
        except ZooError as error:  # the numbers are there all the same: they are compared over seeds
            problems[" ".join(str(error).split())] = None
            return None
        if log_p is None or not log_p.mean():
            return None
        rows.append(log_p * (value / log_p.mean()))
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else None


def judge(published: Published, block: Block) -> str:
    """What the rows of a block say of a number of the literature: reproduced, by how much not, not run."""
    said = []
    for column in block.columns:
        if leaf(column.metric) != published.metric:
            continue
        for row in block.rows:
            summary = column.cells[row.name].summary
            if summary is None or any(row.config.get(key) != value for key, value in published.of.items()):
                continue
            differing = [key for key, value in published.protocol.items() if column.protocol.get(key) != value]
            if differing:
                theirs, ours = (
                    ", ".join(f"{key} {each.get(key, 'none')}" for key in differing)
                    for each in (published.protocol, column.protocol)
                )
                said.append(f"{row.name}: not comparable, {theirs} there and {ours} here")
                continue
            gap = (-1 if better(published.metric) == "higher" else 1) * (summary.mean - published.value)
            if summary.low <= published.value <= summary.high or gap <= 0:
                said.append(f"{row.name}: reproduced, {abs(gap):.3g} {'worse' if gap > 0 else 'better'} in the mean")
            else:
                said.append(f"{row.name}: not reproduced, {gap:.3g} worse" + (" (one seed)" if summary.n == 1 else ""))
    return "; ".join(said) or "not run"
