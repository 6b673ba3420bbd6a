"""The figures of an analysis: heat maps of agreement, violins, shares of variance, scatter plots."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo.experiments.analysis.runs import ScoredRun, values_of
from zoo.experiments.analysis.table import StudyTable, fixed, label, percent
from zoo.files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Drawing", "drawings", "save"]

# Told apart by people who see no red or no green (Okabe and Ito).
_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#999999", "#f0e442")
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "svg.fonttype": "none",  # text that can be searched
    "svg.hashsalt": "zoo",  # equal figures, equal bytes
}


@dataclass(frozen=True)
class Drawing:
    """A figure that is drawn when it is asked for.

    Attributes:
        what: What it shows, in a line.
        of: The table that it stands beside, by name and data.
        draw: Draws it.
    """

    what: str
    of: tuple[str, str]
    draw: Callable[[], Figure]


def drawings(
    rows: Sequence[ScoredRun], scores: Sequence[str], unsupervised: Sequence[str], tables: Sequence[StudyTable]
) -> dict[str, Drawing]:
    """The figures of an analysis by the names of their files, of each kind of data, so far as there is something to draw."""
    found = {}
    several = len({row.data for row in rows}) > 1
    for data in dict.fromkeys(row.data for row in rows):
        done = [row for row in rows if row.data == data and row.state == "finished"]
        own = {table.name: table for table in tables if table.data == data}
        of = f"-{''.join(each if each.isalnum() else '_' for each in data)}" if several else ""
        on = f" on {data}" if data else ""
        if not done:
            continue
        if len(scores) > 1:
            what = f"Spearman's correlations of scores{on}, beside the lecture's"
            found[f"agreement{of}"] = Drawing(what, ("agreement", data), partial(_agreement, own["agreement"], scores))
        found[f"methods{of}"] = Drawing(
            f"Violins of each score by method{on}", ("methods", data), partial(_methods, done, scores)
        )
        found[f"strengths{of}"] = Drawing(
            f"Each score by method and strength{on}", ("settings", data), partial(_strengths, done, scores)
        )
        if any(record["setting"] is not None for record in own["variance"].records):
            found[f"variance{of}"] = Drawing(
                f"Shares of the variance of each score{on}", ("variance", data), partial(_variance, own["variance"])
            )
        if shown := [name for name in unsupervised if any(name in row.numbers for row in done)]:
            found[f"selection{of}"] = Drawing(
                f"Scores against numbers that need no labels{on}",
                ("selection", data),
                partial(_selection, done, scores, shown),
            )
    return found


def save(figures: Mapping[str, Drawing], folder: str | Path) -> list[Path]:
    """Write figures as SVG and PNG, and return their paths."""
    import matplotlib

    paths = []
    with matplotlib.rc_context(_STYLE):
        for name, each in figures.items():
            figure = each.draw()
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # it is laid out
            for kind, told in (("svg", {"Date": None, "Creator": None}), ("png", {"Software": None})):
                paths.append(Path(folder) / f"{name}.{kind}")
                with write_atomically(paths[-1]) as file:
                    figure.savefig(file, format=kind, dpi=120, metadata=told)
    return paths


def _panels(rows: int, columns: int, width: float, height: float, **options: Any) -> tuple[Figure, np.ndarray]:
    """A figure of panels, each so many inches wide and high."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def _colors(rows: Sequence[ScoredRun]) -> dict[str, str]:
    methods = dict.fromkeys(row.method for row in rows)
    return {method: _COLORS[i % len(_COLORS)] for i, method in enumerate(methods)}


def _agreement(table: StudyTable, scores: Sequence[str]) -> Figure:
    known = [record for record in table.records if record["lecture"] is not None]
    figure, axes = _panels(1, 2 if known else 1, 0.8 * len(scores) + 0.6, 0.7 * len(scores) + 0.9)
    for axis, name, title in zip(axes[0], ("rho", "lecture"), ("here, with 95 % intervals", "the lecture"), strict=False):
        matrix, texts = np.full((len(scores), len(scores)), math.nan), [["" for _ in scores] for _ in scores]
        for record in table.records:
            i, j = scores.index(record["a"]), scores.index(record["b"])
            matrix[i, j] = matrix[j, i] = math.nan if record[name] is None else record[name]
            text = fixed(percent(record[name]), 0)
            if name == "rho" and record["low"] is not None:
                text += f"\n{fixed(percent(record['low']), 0)} to {fixed(percent(record['high']), 0)}"
            texts[i][j] = texts[j][i] = text
        _heat_map(axis, matrix, texts, [label(score) for score in scores])
        axis.set_title(title if known else "Spearman's correlations, times 100", fontsize=10)
    return figure


def _heat_map(axis: Axes, matrix: np.ndarray, texts: Sequence[Sequence[str]], names: Sequence[str]) -> None:
    axis.set_facecolor("#eeeeee")  # of what there is not, and of the diagonal
    axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_xticks(range(len(names)), names, rotation=35, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    for i, j in np.ndindex(matrix.shape):
        value, _, rest = texts[i][j].partition("\n")
        color = "w" if abs(matrix[i, j]) > 0.55 else "k"
        axis.text(j, i - (0.12 if rest else 0), value, ha="center", va="center", color=color)
        axis.text(j, i + 0.26, rest, ha="center", va="center", color=color, fontsize=6.5)


def _violin(axis: Axes, place: float, values: np.ndarray, color: str, width: float) -> None:
    """A violin where there are enough numbers for one, a point for each number, a bar at the median."""
    if len(values) > 4 and np.ptp(values) > 0:
        body = axis.violinplot([values], [place], widths=width, showextrema=False)["bodies"][0]  # type: ignore[index]
        body.set(facecolor=color, alpha=0.35, linewidth=0)
    aside = np.linspace(-1, 1, len(values)) * width * (0.12 if len(values) > 1 else 0)
    axis.scatter(place + aside, values, s=7 if len(values) < 40 else 3, color=color, linewidth=0)
    if len(values):
        axis.hlines(np.median(values), place - width / 3, place + width / 3, color="k", linewidth=1)


def _methods(rows: Sequence[ScoredRun], scores: Sequence[str]) -> Figure:
    colors = _colors(rows)
    figure, axes = _panels(math.ceil(len(scores) / 3), min(len(scores), 3), max(0.42 * len(colors) + 0.8, 2.4), 2.6)
    for axis, score in zip(axes.flat, scores, strict=False):
        for i, (method, color) in enumerate(colors.items()):
            values = values_of([row for row in rows if row.method == method], score)
            _violin(axis, i, values[~np.isnan(values)], color, 0.85)
        axis.set_title(label(score), fontsize=10)
        axis.set_xticks(range(len(colors)), [*colors], rotation=40, ha="right", rotation_mode="anchor")
        axis.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    for axis in axes.flat[len(scores) :]:
        axis.set_visible(False)
    return figure


def _strengths(rows: Sequence[ScoredRun], scores: Sequence[str]) -> Figure:
    colors = _colors(rows)
    settings: dict[tuple[str, str], list[ScoredRun]] = {}
    for row in rows:
        settings.setdefault((row.method, row.strength), []).append(row)
    methods = [*colors]
    places = {setting: i + methods.index(setting[0]) for i, setting in enumerate(settings)}  # a gap between methods
    figure, axes = _panels(len(scores), 1, max(0.3 * (len(settings) + len(methods)) + 1, 4), 1.5, sharex=True)
    for axis, score in zip(axes[:, 0], scores, strict=True):
        for (method, strength), own in settings.items():
            values = values_of(own, score)
            _violin(axis, places[method, strength], values[~np.isnan(values)], colors[method], 0.85)
        axis.set_ylabel(label(score))
        axis.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    axes[-1, 0].set_xticks([*places.values()], [strength or "-" for _, strength in settings], rotation=60)
    for method, color in colors.items():
        wide = [place for (name, _), place in places.items() if name == method]
        option = next((row.option for row in rows if row.method == method and row.option), "")
        axes[0, 0].text(
            (wide[0] + wide[-1]) / 2, 1.03, "\n".join([method, option]).rstrip(), color=color, ha="center", va="bottom",
            fontsize=8, transform=axes[0, 0].get_xaxis_transform(),
        )  # fmt: skip
    return figure


def _variance(table: StudyTable) -> Figure:
    records = [record for record in table.records if record["setting"] is not None]
    figure, axes = _panels(1, 1, 6.4, 0.34 * len(records) + 1.1)
    axis, start = axes[0, 0], np.zeros(len(records))
    for name, color in (("method", _COLORS[0]), ("strength", _COLORS[1]), ("seed", "#cccccc")):
        share = np.array([0.0 if record[name] is None else record[name] for record in records])
        axis.barh(range(len(records)), share, left=start, color=color, label=name)
        for i, (at, of) in enumerate(zip(start, share, strict=True)):
            if of > 0.04:
                axis.text(at + of / 2, i, f"{100 * of:.0f} %", ha="center", va="center", fontsize=8)
        start = start + share
        for i, record in enumerate(records if name == "strength" else ()):
            chance = (record["settings"] - 1) / (record["models"] - 1)
            told = "method and strength by chance alone" if i == 0 else None
            axis.vlines(chance, i - 0.4, i + 0.4, color="k", linestyle=":", label=told)
    axis.set_yticks(range(len(records)), [label(record["score"]) for record in records])
    axis.invert_yaxis()
    axis.set(xlim=(0, 1), xlabel="share of the variance over models (R², not adjusted)")
    axis.legend(ncols=4, loc="lower left", bbox_to_anchor=(0, 1), frameon=False, columnspacing=1.2, handlelength=1.2)
    return figure


def _selection(rows: Sequence[ScoredRun], scores: Sequence[str], unsupervised: Sequence[str]) -> Figure:
    colors = _colors(rows)
    figure, axes = _panels(len(unsupervised), len(scores), 1.9, 1.75, sharey="col")
    for i, by in enumerate(unsupervised):
        for j, score in enumerate(scores):
            axis = axes[i, j]
            for method, color in colors.items():
                own = [row for row in rows if row.method == method]
                axis.scatter(values_of(own, by), values_of(own, score), s=6, color=color, linewidth=0, label=method)
            axis.set_xlabel(by, fontsize=7)
            axis.tick_params(labelsize=7)
            axis.locator_params(axis="x", nbins=4)
            if i == 0:
                axis.set_title(label(score), fontsize=10)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, frameon=False, markerscale=2)
    return figure
