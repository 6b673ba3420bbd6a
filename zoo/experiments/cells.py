"""What a comparison consists of: rows, blocks, columns and cells."""

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from zoo.experiments.published import Published
from zoo.experiments.quantities import leaf
from zoo.experiments.statistics import Difference, Summary
from zoo.runs.stored import StoredEvaluation, StoredRun

__all__ = ["Block", "Cell", "Column", "Compared", "Row", "shown"]


@dataclass
class Row:
    """Runs of one configuration minus the seed.

    Attributes:
        name: What tells it from the other rows.
        runs: The runs that finished, one for each seed.
        others: Those that did not finish, which count for nothing and are listed.
        config: What the configurations of its runs agree in.
    """

    name: str
    runs: list[StoredRun]
    others: list[StoredRun]
    config: dict[str, Any]

    def fact(self, name: str) -> float | None:
        """The mean over seeds of a number of ``run.json`` or ``evaluation.json``; None where no run has it."""
        found = [run.facts.get(name) for run in self.runs]
        found += [each.content.get(name) for run in self.runs for each in run.evaluations[:1] if name not in run.facts]
        numbers = [float(each) for each in found if isinstance(each, int | float) and not isinstance(each, bool)]
        return sum(numbers) / len(numbers) if numbers else None

    def facts(self, name: str) -> list[str]:
        """The different texts of a fact among its runs, in the order of runs."""
        return list(dict.fromkeys(str(run.facts[name]) for run in self.runs if run.facts.get(name) is not None))


@dataclass
class Cell:
    """A metric of a row, over its seeds, all measured in the same way.

    Attributes:
        values: The number of each run that has it.
        runs: These runs.
        summary: Their mean and interval; None of an empty cell.
        reason: Why it is empty.
        best: Whether it is the best of its column or not told apart from it.
        versus: The difference from the reference of the column, and the test of it; None of the reference itself.
        welch: Welch's test over seeds, where ``versus`` is another one.
        p_permutation: Of the permutation test over seeds.
        p_smallest: The smallest that it can give with so many seeds.
        p_corrected: The p of ``versus``, corrected for the number of comparisons by Holm's method.
        needed: About how many seeds of each would tell them apart; None where none would, or they are.
    """

    values: list[float] = field(default_factory=list)
    runs: list[StoredRun] = field(default_factory=list)
    evaluations: list[StoredEvaluation] = field(default_factory=list)
    summary: Summary | None = None
    reason: str = ""
    best: bool = False
    versus: Difference | None = None
    welch: Difference | None = None
    p_permutation: float = math.nan
    p_smallest: float = math.nan
    p_corrected: float = math.nan
    needed: int | None = None


@dataclass
class Column:
    """A metric measured in one way.

    Attributes:
        metric: Its name.
        protocol: How it was measured.
        cells: A cell for each row of the block, by the row's name.
        reference: The row that the others are compared with; None where nothing is ranked.
        way: What tells it from other columns of its metric in its block; empty where there are none.
    """

    metric: str
    protocol: dict[str, Any]
    cells: dict[str, Cell] = field(default_factory=dict)
    reference: str | None = None
    way: str = ""

    @property
    def title(self) -> str:
        """The metric's name without its split, and how it was measured where others of that name are beside it.

        Example:
            >>> Column("test/nll", {"kind": "exact"}, way="exact").title
            'nll (exact)'
        """
        return leaf(self.metric) + (f" ({self.way})" if self.way else "")


@dataclass
class Block:
    """Columns each of which was measured in one way, on the same data: the only numbers that are compared.

    Attributes:
        protocol: What all columns share: data, levels, split, which weights.
        rows: The rows, in order.
        columns: The columns, in order.
        references: What stands in a model's place in sample scores, real examples, the training set, half of the modes:
            means over all evaluations of the block, by metric.
        published: Numbers of the literature for these data, with what the rows say of them.
    """

    protocol: dict[str, Any]
    rows: list[Row]
    columns: list[Column]
    references: dict[str, dict[str, float]] = field(default_factory=dict)
    published: list[tuple[Published, str]] = field(default_factory=list)


@dataclass(repr=False)
class Compared:
    """Runs as rows and blocks: what tables and reports show.

    Attributes:
        runs: All runs.
        rows: The rows, in the order of their names.
        blocks: Their numbers.
        problems: What could not be read, in a line each.
    """

    runs: list[StoredRun] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def incomparable(self) -> list[str]:
        """The metrics that were not measured in one way in all runs, with how many ways there are."""
        ways = Counter(column.metric for block in self.blocks for column in block.columns)
        return [f"{metric} ({number} ways)" for metric, number in ways.items() if number > 1]

    @property
    def unfinished(self) -> list[StoredRun]:
        """The runs that count for nothing: those that did not finish."""
        return [run for row in self.rows for run in row.others]

    @property
    def not_evaluated(self) -> list[StoredRun]:
        """Finished runs without an evaluation."""
        return [run for row in self.rows for run in row.runs if not run.evaluations]

    def differences(self) -> dict[str, list[str]]:
        """The options in which rows differ, all of them, with the value of each row in the order of rows."""
        keys = sorted({key for row in self.rows for key in row.config})
        table = {key: [shown(row.config.get(key)) for row in self.rows] for key in keys}
        return {key: values for key, values in table.items() if len(set(values)) > 1}


def shown(value: Any) -> str:
    """A value of the configuration in a line, without what could move a terminal's cursor."""
    text = "-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in " ".join(text.split()))
