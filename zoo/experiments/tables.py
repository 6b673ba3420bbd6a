"""A comparison as text: for a terminal, Markdown, LaTeX, CSV in long and wide form, JSON."""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zoo.experiments.cells import Block, Cell, Column, Compared, Row
from zoo.experiments.quantities import better, leaf
from zoo.files import write_atomically

__all__ = [
    "COSTS",
    "aligned",
    "cost",
    "csv_text",
    "described",
    "digits",
    "escape_markdown",
    "latex",
    "long_csv",
    "markdown",
    "notes",
    "number",
    "records",
    "save",
    "terminal",
    "value_of",
    "verdict",
    "wide_csv",
]

COSTS = {
    "parameters": "parameters",
    "seconds": "training time",
    "examples": "images seen",
    "samples_per_second": "samples/s",
    "peak_memory_bytes": "peak memory",
    "machine": "machine",
    "commit": "commit",
    "command": "command",
}
_LATEX = {
    "\\": r"\textbackslash{}",
    **{each: "\\" + each for each in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "·": r"$\cdot$",
}


def digits(cell: Cell) -> int:
    """Decimals that show two figures of what is uncertain; of one seed, five figures in all.

    Example:
        >>> from zoo.experiments.cells import Cell
        >>> from zoo.experiments.statistics import summarize
        >>> digits(Cell(summary=summarize([92.1, 92.7, 92.4])))
        2
    """
    if cell.summary is None:
        return 0
    half = (cell.summary.high - cell.summary.low) / 2
    scale, figures = (half, 2) if half > 0 else (abs(cell.summary.mean), 5)
    return min(max(figures - 1 - math.floor(math.log10(scale)), 0), 6) if scale > 0 else 2


def value_of(cell: Cell, seeds: int | None = None) -> str:
    """``92.40 [91.65, 93.15]``, mean and interval; the number of seeds too where it is not the row's."""
    if cell.summary is None:
        return ""
    places, of = digits(cell), cell.summary
    text = f"{of.mean:.{places}f}"
    if of.n > 1:
        text += f" [{of.low:.{places}f}, {of.high:.{places}f}]"
    return text + (f" n={of.n}" if seeds is not None and of.n != seeds else "")


def number(value: float | None, places: int = 3) -> str:
    """A number in so many figures; nothing where there is none."""
    return "" if value is None or math.isnan(value) else f"{value:.{places}g}"


def _duration(value: float) -> str:
    """A time as a person says it.

    Example:
        >>> _duration(42), _duration(250), _duration(9000)
        ('42 s', '4.2 min', '2.5 h')
    """
    return f"{value:.0f} s" if value < 100 else f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def cost(row: Row, name: str) -> str:
    """A fact of a row in words: a mean over seeds, or the different texts."""
    if name in ("machine", "commit", "command"):
        found = row.facts(name)
        found = [text[:12] + text[40:] for text in found] if name == "commit" else found
        return (found[0] if len(found) == 1 else f"{found[0]} and {len(found) - 1} more") if found else ""
    if (value := row.fact(name)) is None:
        return ""
    if name == "seconds":
        return _duration(value)
    return f"{value / 2**20:,.0f} MB" if name == "peak_memory_bytes" else f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def described(protocol: Mapping[str, Any]) -> str:
    """A protocol in a line, hashes shortened.

    Example:
        >>> described({"data": "digits", "levels": 17, "weights": None, "examples_sha256": 40 * "01"})
        'data digits, levels 17, examples_sha256 01010101'
    """
    parts = []
    for name, value in protocol.items():
        if value is None:
            continue
        if isinstance(value, dict):
            parts.append(f"{name} ({described(value)})")
        else:
            text = f"{value:,}" if isinstance(value, int) else str(value)
            parts.append(f"{name} {text[:8] if re.fullmatch(r'[0-9a-f]{40,}', text) else text}")
    return ", ".join("".join(each if each.isprintable() else "�" for each in part) for part in parts)


def verdict(cell: Cell) -> str:
    """What the tests say of a difference."""
    if cell.versus is None:
        return "the reference"
    if math.isnan(cell.p_corrected):
        return "not tested: " + cell.versus.method
    if cell.p_corrected <= 0.05:
        return "told apart"
    return "not told apart" + (f"; about {cell.needed:,} seeds of each would" if cell.needed else "")


def terminal(comparison: Compared, width: int | None, everything: bool) -> str:
    """The comparison for a terminal: what does not fit is named."""
    lines: list[str] = []
    for block in comparison.blocks:
        lines += [_cut(f"== {described(block.protocol) or 'nothing was measured'}", width), ""]
        lines += _block(block, width, everything)
        lines.append("")
        for column in block.columns if everything else _ranked(block)[:1]:
            lines += _tests(column, block, width)
        for each, said in block.published:
            lines.append(f"{each.name}: {each.metric} {each.value:g} ({described(each.protocol)}). {said}.")
            lines.append(f"  {each.source}, {each.url}")
        if block.published:
            lines.append("")
    if everything:
        shown = [name for name in COSTS if any(cost(row, name) for row in comparison.rows)]
        if shown:
            rows = [[row.name, *(cost(row, name) for name in shown)] for row in comparison.rows]
            lines += ["== costs, means over seeds", "", *aligned([["", *(COSTS[name] for name in shown)], *rows], None), ""]
        if found := comparison.differences():
            table = [["", *(row.name for row in comparison.rows)], *([key, *values] for key, values in found.items())]
            lines += ["== differences of configuration", "", *aligned(table, None), ""]
    lines += list(notes(comparison))
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _block(block: Block, width: int | None, everything: bool) -> Iterator[str]:
    columns, hidden = list(block.columns), []
    name_width = None if width is None or everything else max(width * 2 // 5, 12)
    while True:
        table = [["", "n", *(each.title for each in columns)]]
        for row in block.rows:
            cells = [each.cells[row.name] for each in columns]
            count = max((cell.summary.n for cell in cells if cell.summary), default=0)
            marked = [value_of(cell, count) + (" *" if cell.best else "") for cell in cells]
            table.append([_cut(row.name, name_width), str(count), *marked])
        for name, scores in block.references.items():
            table.append([f"({name})", "", *(number(scores.get(each.metric), 4) for each in columns)])
        lines = aligned(table, None)
        if everything or width is None or max(map(len, lines)) <= width or len(columns) <= 1:
            break
        hidden.append(columns.pop().title)
    yield from (line[:width] if width and not everything else line for line in lines)
    if hidden:
        yield _cut(f"and {len(hidden)} more columns: {', '.join(reversed(hidden))} (--all)", width)
    ways: dict[str, list[str]] = {}
    for column in columns:
        ways.setdefault(described(column.protocol), []).append(column.title)
    yield from (_cut(f"  {', '.join(names)}: {way}", None if everything else width) for way, names in ways.items())
    empty: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        for row in block.rows:
            if reason := column.cells[row.name].reason:
                empty.setdefault((row.name, reason), []).append(column.title)
    for (name, reason), metrics in empty.items():
        yield _cut(f"  empty: {name}, {', '.join(metrics)}: {reason}", width if not everything else None)


def _tests(column: Column, block: Block, width: int | None) -> Iterator[str]:
    if column.reference is None:
        return
    way = better(column.metric)
    yield _cut(f"{column.title} ({way} is better), differences from {column.reference}:", width)
    table = [["", "difference, 95 % interval", "p", "Holm", "permutation", "least", ""]]
    for row in block.rows:
        cell = column.cells[row.name]
        if cell.versus is None:
            continue
        of, places = cell.versus, digits(cell)
        interval = "" if math.isnan(of.low) else f" [{of.low:+.{places}f}, {of.high:+.{places}f}]"
        p = [number(each, 2) for each in (of.p, cell.p_corrected, cell.p_permutation, cell.p_smallest)]
        table.append([_cut(row.name, width and width // 4), f"{of.effect:+.{places}f}{interval}", *p, verdict(cell)])
    yield from (_cut(line, width) for line in aligned(table, None))
    methods = dict.fromkeys(cell.versus.method for cell in column.cells.values() if cell.versus)
    yield _cut(f"  tests: {'; '.join(methods)}", width)
    yield ""


def notes(comparison: Compared) -> Iterator[str]:
    """What marks mean, and what is not in the tables: runs that did not finish, were not evaluated, or are damaged."""
    methods = {
        cell.summary.method.partition(" over")[0]
        for block in comparison.blocks
        for column in block.columns
        for cell in column.cells.values()
        if cell.summary and cell.summary.n > 1
    }
    yield from (f"[ ]: {method} over seeds" for method in sorted(methods))
    if any(cell.best for block in comparison.blocks for column in block.columns for cell in column.cells.values()):
        yield "*: the best, and all that is not told apart from it (p > .05 after Holm's correction over all pairs)"
    for run in comparison.unfinished:
        yield f"{run.state}: {run.name}" + (f": {run.error}" if run.error else "") + ", which counts for nothing above"
    for run in comparison.not_evaluated:
        if run.checkpoint is not None:
            yield f"not evaluated: python -m zoo.evaluate --ckpt {run.checkpoint}"
        else:
            yield f"not evaluated: {run.name}, which has no checkpoint"
    for problem in comparison.problems:
        kinds = {"training has gone on": "outdated", "the latter counts": "twice"}
        yield f"{next((kind for words, kind in kinds.items() if words in problem), 'damaged')}: {problem}"


def _ranked(block: Block) -> list[Column]:
    return [column for column in block.columns if column.reference is not None]


def _cut(text: str, width: int | None) -> str:
    """The text in so many characters, its middle left out."""
    if width is None or len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{text[: width - 1 - half]}…{text[len(text) - half :]}"


def aligned(table: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """The lines of a table, its columns below each other, cut to a width."""
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return ["  ".join(f"{text:<{size}}" for text, size in zip(row, widths, strict=True)).rstrip()[:width] for row in table]


def records(comparison: Compared) -> list[dict[str, Any]]:
    """A flat dictionary for each cell, empty ones with their reason."""
    found = []
    for number_, block in enumerate(comparison.blocks, 1):
        for column in block.columns:
            for row in block.rows:
                cell = column.cells[row.name]
                of, versus = cell.summary, cell.versus
                found.append(
                    {
                        "block": number_,
                        **{name: block.protocol.get(name) for name in ("data", "levels", "split", "weights")},
                        "row": row.name,
                        "metric": column.metric,
                        "protocol": json.dumps(column.protocol, sort_keys=True),
                        "n": of.n if of else 0,
                        "mean": of.mean if of else None,
                        "std": _finite(of.std) if of else None,
                        "low": _finite(of.low) if of else None,
                        "high": _finite(of.high) if of else None,
                        "interval": of.method if of else cell.reason,
                        "best": cell.best,
                        "reference": column.reference,
                        "difference": versus.effect if versus else None,
                        "difference_low": _finite(versus.low) if versus else None,
                        "difference_high": _finite(versus.high) if versus else None,
                        "test": versus.method if versus else None,
                        "p": _finite(versus.p) if versus else None,
                        "p_holm": _finite(cell.p_corrected),
                        "p_welch": _finite(cell.welch.p) if cell.welch else None,
                        "p_permutation": _finite(cell.p_permutation),
                        "p_smallest": _finite(cell.p_smallest),
                        "seeds_needed": cell.needed,
                        "values": json.dumps(cell.values),
                        "seeds": json.dumps([run.seed for run in cell.runs]),
                    }
                )
    return found


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def long_csv(comparison: Compared) -> str:
    """A line for each cell."""
    return csv_text(records(comparison))


def wide_csv(comparison: Compared) -> str:
    """A line for each row of a block, with mean, interval and number of seeds of each metric, then what it cost."""
    lines: list[dict[str, Any]] = []
    for number_, block in enumerate(comparison.blocks, 1):
        for row in block.rows:
            line: dict[str, Any] = {"block": number_, **block.protocol, "row": row.name}
            for column in block.columns:
                of = column.cells[row.name].summary
                for name in ("n", "mean", "low", "high"):
                    value = getattr(of, name) if of else None
                    line[f"{column.title}_{name}"] = _finite(value) if value is not None else None
            for name in COSTS:
                line[name] = row.fact(name) if not row.facts(name) or row.fact(name) is not None else cost(row, name)
            lines.append(line)
    return csv_text(lines)


def csv_text(lines: Sequence[Mapping[str, Any]]) -> str:
    """Dictionaries as the text of a CSV file, a column for each key."""
    names = list(dict.fromkeys(name for line in lines for name in line))
    file = io.StringIO()
    writer = csv.DictWriter(file, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return file.getvalue()


def markdown(comparison: Compared) -> str:
    """The blocks as tables of Markdown, then their tests and notes."""
    parts = []
    for block in comparison.blocks:
        head = ["", "n", *(f"{each.title} {_arrow(each.metric)}".strip() for each in block.columns)]
        rows = [
            [escape_markdown(row.name), str(_count(block, row)), *_cells(block, row, "**{}**", escape_markdown)]
            for row in block.rows
        ]
        rows += [
            [f"*{escape_markdown(name)}*", "", *(number(scores.get(each.metric), 4) for each in block.columns)]
            for name, scores in block.references.items()
        ]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))
        tests = [line for column in _ranked(block) for line in _sentences(column, block)]
        published = [
            f"{each.name}: {leaf(each.metric)} {each.value:g} ([{each.source}]({each.url})); {said}."
            for each, said in block.published
        ]
        listed = "\n".join(
            f"- {escape_markdown(line)}" if line not in published else f"- {line}" for line in (*tests, *published)
        )
        parts.append(f"{escape_markdown(described(block.protocol))}\n\n{table}\n\n{listed}".rstrip())
    noted = "\n".join(f"- {escape_markdown(note)}" for note in notes(comparison))
    return "\n\n".join([*parts, noted]).rstrip() + "\n"


def latex(comparison: Compared) -> str:
    """The blocks as tables of LaTeX with rules of booktabs; what is in bold is not told apart from the best."""
    parts = []
    for block in comparison.blocks:
        arrows = {"↓": r"$\downarrow$", "↑": r"$\uparrow$", "": ""}
        names = [f"{_tex(each.title)} {arrows[_arrow(each.metric)]}".strip() for each in block.columns]
        head = " & ".join(["", "$n$", *names])
        rows = [
            " & ".join([_tex(row.name), str(_count(block, row)), *_cells(block, row, r"\textbf{{{}}}", _tex)])
            for row in block.rows
        ]
        lines = [
            f"% {_tex(described(block.protocol))}",
            rf"\begin{{tabular}}{{lr{'l' * len(block.columns)}}}",
            r"\toprule",
            rf"{head} \\",
            r"\midrule",
            *(rf"{row} \\" for row in rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        parts.append("\n".join(lines))
    return "% needs \\usepackage{booktabs}\n" + "\n\n".join(parts) + "\n"


def _count(block: Block, row: Row) -> int:
    return max((of.n for each in block.columns if (of := each.cells[row.name].summary)), default=0)


def _cells(block: Block, row: Row, bold: str, escape: Any) -> Iterable[str]:
    for column in block.columns:
        cell = column.cells[row.name]
        text = escape(value_of(cell, _count(block, row)))
        yield bold.format(text) if cell.best and text else text


def _sentences(column: Column, block: Block) -> Iterator[str]:
    """A sentence for each difference, with its test."""
    for row in block.rows:
        cell = column.cells[row.name]
        if cell.versus is None or math.isnan(cell.p_corrected):
            continue
        of, places = cell.versus, digits(cell)
        yield (
            f"{column.title}, {row.name} − {column.reference}: {of.effect:+.{places}f} "
            f"[{of.low:+.{places}f}, {of.high:+.{places}f}], {of.method}: p = {number(of.p, 2)}, "
            f"Holm {number(cell.p_corrected, 2)}, permutation {number(cell.p_permutation, 2) or 'none'}: {verdict(cell)}"
        )


def _arrow(metric: str) -> str:
    return {"lower": "↓", "higher": "↑", None: ""}[better(metric)]


def escape_markdown(text: str) -> str:
    """A text that Markdown shows as it is."""
    return re.sub(r"([\\|`*_\[\]<>#])", r"\\\1", text)


def _tex(text: str) -> str:
    return "".join(_LATEX.get(each, each) for each in text)


def save(comparison: Compared, folder: str | Path) -> list[Path]:
    """Write table.md, table.tex, long.csv, wide.csv and comparison.json, and return their paths."""
    stored = {
        "schema": 1,
        "cells": records(comparison),
        "differences": comparison.differences(),
        "rows": [
            {"name": row.name, "config": row.config, **{name: cost(row, name) for name in COSTS}} for row in comparison.rows
        ],
        "unfinished": [{"run": run.name, "state": run.state, "error": run.error} for run in comparison.unfinished],
        "problems": comparison.problems,
    }
    texts = {
        "table.md": markdown(comparison),
        "table.tex": latex(comparison),
        "long.csv": long_csv(comparison),
        "wide.csv": wide_csv(comparison),
        "comparison.json": json.dumps(stored, indent=1, default=str) + "\n",
    }
    for name, text in texts.items():
        with write_atomically(Path(folder) / name, text=True) as file:
            file.write(text)
    return [Path(folder) / name for name in texts]
