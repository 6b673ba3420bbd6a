"""A table of an analysis: records with every digit, and how they are shown, in a terminal and in Markdown."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.experiments.tables import aligned, escape_markdown

__all__ = ["Record", "StudyTable", "bracketed", "fixed", "known", "label", "p_value", "percent", "reasons"]

Record = Mapping[str, Any]
_LABELS = {
    "beta_vae_score": "BetaVAE",
    "factor_vae_score": "FactorVAE",
    "mig": "MIG",
    "dci_disentanglement": "DCI",
    "modularity": "Modularity",
    "sap": "SAP",
}


@dataclass(frozen=True)
class StudyTable:
    """What an analysis found, on one kind of data or over all.

    Attributes:
        name: What ``Analysis.table`` calls it.
        title: What it shows, in a line.
        records: A dictionary for each line: what the CSV file holds; None for what there is not, with ``reason``.
        columns: How a line is shown: names of columns with the text that each makes of a record, empty for what it lacks.
        notes: What the numbers are, and why cells are empty.
        data: The data that it is of; empty where it is of all.
    """

    name: str
    title: str
    records: Sequence[Record]
    columns: Mapping[str, Callable[[Record], str]]
    notes: Sequence[str] = ()
    data: str = ""

    @property
    def grid(self) -> list[list[str]]:
        """The cells as they are shown, line by line, the names of columns first; nothing where there are no records."""
        lines = [[show(record) for show in self.columns.values()] for record in self.records]
        return [[*self.columns], *lines] if lines else []

    def __str__(self) -> str:
        notes = [f"  {note}" for note in self.notes]
        return "\n".join([f"== {self.title}", "", *(aligned(self.grid, None) if self.records else []), *notes])

    def markdown(self) -> str:
        """The table in Markdown, without title and notes."""
        head, *lines = self.grid or [[]]
        rows = [head, ["---"] * len(head), *lines] if head else []
        return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in rows)


def _cell(text: str) -> str:
    return text if text == "---" else escape_markdown(text).replace("\\[", "[").replace("\\]", "]").replace("\\_", "_")


def fixed(value: float | None, places: int = 2, sign: bool = False) -> str:
    """A number with so many decimals, never NaN or a negative zero; nothing where there is none.

    Example:
        >>> fixed(0.456), fixed(-0.001), fixed(0.2, 1, sign=True), fixed(None), fixed(float("nan"))
        ('0.46', '0.00', '+0.2', '', '')
    """
    if value is None or not math.isfinite(value):
        return ""
    rounded = round(value, places) + 0.0
    return f"{rounded:{'+' if sign and rounded else ''}.{places}f}"


def bracketed(ends: Iterable[float | None], places: int = 2) -> str:
    """A number with the ends of its interval, ``0.46 [0.12, 0.71]``; without an interval the number alone.

    Example:
        >>> bracketed((46.4, 12, 71.2), 0), bracketed((0.5, None, None))
        ('46 [12, 71]', '0.50')
    """
    value, *interval = (fixed(each, places) for each in ends)
    return value + (f" [{', '.join(interval)}]" if value and all(interval) else "")


def p_value(p: float | None) -> str:
    """A p-value in two figures.

    Example:
        >>> p_value(0.0314), p_value(0.00001), p_value(None)
        ('0.031', '<.001', '')
    """
    if p is None or not math.isfinite(p):
        return ""
    return f"{p:.2g}" if p >= 0.001 else "<.001"


def percent(value: float | None) -> float | None:
    """A share times 100."""
    return None if value is None else 100 * value


def known(value: float | None) -> float | None:
    """A number, None for one that is not finite."""
    return None if value is None or not math.isfinite(value) else float(value)


def label(name: str) -> str:
    """A score as the lecture's table calls it.

    Example:
        >>> label("dci_disentanglement"), label("irs")
        ('DCI', 'irs')
    """
    return _LABELS.get(name, name)


def reasons(empty: Mapping[str, Sequence[str]]) -> list[str]:
    """Why cells are empty, a line for each reason with the lines that it is of.

    Example:
        >>> reasons({"constant in all models": ["MIG", "SAP"]})
        ['MIG; SAP: constant in all models']
    """
    return [f"{'; '.join(of) if len(of) < 5 else f'{len(of)} lines'}: {reason}" for reason, of in empty.items()]
