"""The analysis of a study: do scores agree, what decides them, can one select without labels, does it transfer."""

import fnmatch
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import ZooError
from zoo.experiments.analysis.agreement import DRAWS, SCORES
from zoo.experiments.analysis.choice_tables import best_table, selection_table, transfer_table
from zoo.experiments.analysis.figures import Drawing, drawings, save
from zoo.experiments.analysis.runs import ScoredRun, read_csv, study_runs, to_csv, write_csv
from zoo.experiments.analysis.score_tables import agreement_tables, means_table, runs_table, variance_table
from zoo.experiments.analysis.selection import UNSUPERVISED
from zoo.experiments.analysis.table import StudyTable
from zoo.experiments.comparison import find, fulfills
from zoo.experiments.tables import csv_text, escape_markdown
from zoo.files import write_atomically
from zoo.runs.stored import StoredRun

__all__ = ["Analysis", "analyze"]

_TABLES = ("runs", "methods", "settings", "agreement", "agreement_matrix", "variance", "selection", "transfer", "best")


def analyze(
    runs: Iterable[str | Path | StoredRun | ScoredRun],
    *,
    scores: Sequence[str] = (),
    unsupervised: Sequence[str] = (),
    filter: Sequence[str] = (),
    numbers: Mapping[str, Mapping[str, float]] | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> "Analysis":
    """Analyzes a study: many trainings of several methods, strengths and seeds, with the same scores of all.

    Arguments:
        runs: Run folders, folders of them, patterns and ``wandb:`` addresses, as
            :func:`zoo.experiments.comparison.find` takes them; CSV files of runs; runs that were read.
        scores: The scores, also as patterns; if not given, those of the lecture's six that runs have.
        unsupervised: Numbers that need no labels, to be held against the scores; if not given, ELBO, reconstruction, KL, UDR
            and total correlation where runs have them.
        filter: Conditions that a run must fulfill: ``model=beta_vae``, ``data=noisy_dsprites``, ``seed!=3``.
        numbers: Further numbers of runs by their names, such as UDR, which is of several runs.
        draws: Draws of bootstraps and permutations.
        seed: Their seed.

    Returns:
        The analysis.

    Raises:
        ZooError: where no run is left, or none has such a score.

    Example:
        >>> runs = [ScoredRun("beta_vae", str(beta), seed, "dsprites", "beta", numbers={"mig": 0.1 * beta + 0.01 * seed})
        ...         for beta in (1, 2, 4) for seed in range(3)]
        >>> print(analyze(runs).table("runs"))
        == Runs, dsprites
        <BLANKLINE>
        method    strengths      seeds  finished  unfinished  failed  diverged
        beta_vae  beta: 1, 2, 4  3      9         0           0       0
    """
    given = list(runs)
    named = [str(each) for each in given if isinstance(each, str | Path)]
    stored = find(name for name in named if not name.endswith(".csv"))
    rows, protocols, notes = study_runs([*stored, *(each for each in given if isinstance(each, StoredRun))], numbers)
    for name in named:
        if name.endswith(".csv"):
            more, noted = read_csv(name)
            rows, notes = [*rows, *more], [*notes, *noted]
    rows += [each for each in given if isinstance(each, ScoredRun)]
    kept = [row for row in rows if all(_fulfills(row, condition) for condition in filter)]
    if not kept:
        raise ZooError(f"no run is left of {len(rows)}" + (f" with --filter {', '.join(filter)}." if filter else "."))
    return Analysis(kept, scores=scores, unsupervised=unsupervised, notes=notes, protocols=protocols, draws=draws, seed=seed)


def _fulfills(row: ScoredRun, condition: str) -> bool:
    own = {name: getattr(row, name) for name in ("method", "strength", "seed", "data", "state")}
    return fulfills({**own, "model": row.method.partition(" ")[0]}, {row.option: row.strength}, condition)


class Analysis:
    """What :func:`analyze` found: tables, which :func:`print` shows, figures and files.

    Arguments:
        rows: The runs.
        scores, unsupervised: Names of numbers, or patterns; see :func:`analyze`.
        notes: What was left out, in a line each.
        protocols: How each number was measured, by its name.
        draws: Draws of bootstraps and permutations.
        seed: Their seed.

    Attributes:
        rows: The runs, in the order of data, method, strength and seed.
        data: The names of the data.
        scores: The names of the scores.
        unsupervised: The names of the numbers that need no labels.
        tables: All tables.
    """

    def __init__(
        self,
        rows: Iterable[ScoredRun],
        *,
        scores: Sequence[str] = (),
        unsupervised: Sequence[str] = (),
        notes: Sequence[str] = (),
        protocols: Mapping[str, Mapping[str, Any]] | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ):
        self.rows = sorted(rows, key=ScoredRun.place)
        self.notes, self.protocols = list(notes), dict(protocols or {})
        self.data = list(dict.fromkeys(row.data for row in self.rows))
        names = list(dict.fromkeys(name for row in self.rows for name in row.numbers))
        self.scores = _chosen(scores, names, "--metrics") or [name for name in SCORES if name in names]
        if not self.scores:
            raise ZooError(f"no finished run has one of the scores {', '.join(SCORES)}.\n"
                           "--evaluate evaluates runs that were not; --metrics chooses other scores.")  # fmt: skip
        self.unsupervised = _chosen(unsupervised, names, "unsupervised") or [
            name for name in UNSUPERVISED if name in names and name not in self.scores
        ]
        self.tables: list[StudyTable] = []
        for data in self.data:
            own = [row for row in self.rows if row.data == data]
            done = [row for row in own if row.state == "finished"]
            self.tables += [
                runs_table(data, own),
                *(means_table(by, data, done, self.scores, self.unsupervised) for by in ("method", "setting")),
                *agreement_tables(data, done, self.scores, draws, seed),
                variance_table(data, done, self.scores, draws, seed),
                selection_table(data, done, self.scores, self.unsupervised, draws, seed),
            ]
        finished = [row for row in self.rows if row.state == "finished"]
        self.tables += [transfer_table(finished, self.scores), best_table(finished, self.scores)]

    def table(self, name: str, data: str | None = None) -> StudyTable:
        """One table.

        Arguments:
            name: ``runs``, ``methods``, ``settings``, ``agreement``, ``agreement_matrix``, ``variance``, ``selection``,
                ``transfer`` or ``best``.
            data: On which data; if not given, on the first.

        Raises:
            ZooError: where there is no such table.
        """
        found = [each for each in self.tables if each.name == name and data in (None, each.data)]
        if found:
            return found[0]
        if name in _TABLES:
            raise ZooError(f"no table {name} on {data} in this analysis.{registry.suggestion(str(data), self.data)}")
        raise ZooError(f"no table {name}: {', '.join(_TABLES)} are known.{registry.suggestion(name, _TABLES)}")

    def __str__(self) -> str:
        return "\n\n".join([*map(str, self.tables), *(["\n".join(self.notes)] if self.notes else [])])

    def figures(self) -> dict[str, Drawing]:
        """All figures, by the names that their files have; each is drawn when it is asked for."""
        return drawings(self.rows, self.scores, self.unsupervised, self.tables)

    def csv(self) -> str:
        """The runs as the text of a CSV file, a line each, as which the result of a study is kept."""
        return to_csv(self.rows)

    def save_rows(self, path: str | Path) -> Path:
        """Write :meth:`csv` to a file that :func:`analyze` reads again, and return its path."""
        return write_csv(self.rows, path)

    def markdown(self) -> str:
        """All tables, their notes and figures as a page."""
        figures = self.figures()
        parts = [f"# Analysis of {len(self.rows)} runs"]
        for each in self.tables:
            notes = "\n".join(f"- {escape_markdown(note)}" for note in each.notes)
            shown = [f"![{of.what}]({name}.svg)" for name, of in figures.items() if of.of == (each.name, each.data)]
            parts += [f"## {escape_markdown(each.title)}", each.markdown(), notes, *shown]
        parts.append("\n".join(f"- {escape_markdown(note)}" for note in self.notes))
        return "\n\n".join(part for part in parts if part) + "\n"

    def write(self, folder: str | Path, figures: bool = True) -> list[Path]:
        """Write everything; equal runs give equal bytes.

        Arguments:
            folder: Where to; it is made.
            figures: Also the figures, as SVG and as PNG.

        Returns:
            The paths: ``analysis.md``, ``runs.csv`` with a line for each run, a CSV file for each table, ``protocols.json``,
            how each number was measured, and the figures.
        """
        folder = Path(folder)
        texts = {"analysis.md": self.markdown(), "runs.csv": self.csv()}
        for name in _TABLES[1:]:
            own = [each for each in self.tables if each.name == name]
            if records := [
                {"data": each.data, **record} if each.data else record for each in own for record in each.records
            ]:
                texts[f"{name}.csv"] = csv_text(records)
        texts["protocols.json"] = json.dumps(self.protocols, indent=1, sort_keys=True, default=str) + "\n"
        for name, text in texts.items():
            with write_atomically(folder / name, text=True) as file:
                file.write(text)
        return [*(folder / name for name in texts), *(save(self.figures(), folder) if figures else ())]


def _chosen(patterns: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    """The names that patterns fit, ``mig`` or ``test/mig`` or ``dci_*``."""
    found: dict[str, None] = {}
    for pattern in patterns:
        fitting = [name for name in names if fnmatch.fnmatchcase(name, pattern.rpartition("/")[2])]
        if not fitting:
            raise ZooError(f"{what} {pattern}: no finished run has it.{registry.suggestion(pattern, names)}")
        found |= dict.fromkeys(fitting)
    return list(found)
