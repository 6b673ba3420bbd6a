"""A comparison as one HTML file: tables that sort and filter without a network, curves, violins, pictures."""

import base64
import hashlib
import html
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zoo.experiments.cells import Block, Column, Compared, Row, shown
from zoo.experiments.drawings import averaged, curves, thumbnail, violins
from zoo.experiments.quantities import better, leaf, of_codes, order
from zoo.experiments.tables import COSTS, cost, described, digits, notes, number, value_of, verdict
from zoo.files import write_atomically

__all__ = ["write_report"]

_PICTURES = (
    ("real", ("evaluation_real.png",)),
    ("samples", ("evaluation_samples.png", "samples.png")),
    ("neighbors", ("evaluation_neighbors.png",)),
)
_CURVES = 6


def write_report(comparison: Compared, path: str | Path) -> Path:
    """Write a comparison as an HTML file that needs nothing else; the same comparison gives the same bytes.

    Arguments:
        comparison: The comparison.
        path: The file.

    Returns:
        The path.

    Raises:
        WriteError: where it can't be written.
    """
    with write_atomically(path, text=True) as file:
        file.write(page(comparison))
    return Path(path)


def page(comparison: Compared) -> str:
    """The text of the file."""
    here = Path(__file__)
    style, script = (here.with_name(f"page.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    # Whatever a name might smuggle in, a browser runs this script alone and asks no server for anything.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    runs, rows = len(comparison.runs), len(comparison.rows)
    colors = {row.name: i for i, row in enumerate(comparison.rows)}
    body = [
        f"<h1>Comparison of {rows} configurations</h1>",
        f'<p class="soft">{runs} runs; seeds of one configuration are one row. Numbers that were measured in different ways '
        "stand in different blocks.</p>",
        '<div class="controls"><label>Filter <input id="filter" type="search" placeholder="words of a row\'s name"></label>'
        '<output id="shown"></output></div>',
        *(_block(block, i) for i, block in enumerate(comparison.blocks)),
        *_curves(comparison, colors),
        *_violins(comparison, colors),
        *_pictures(comparison),
        _costs(comparison),
        _differences(comparison),
        _list("Notes", notes(comparison)),
    ]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Comparison of {rows} configurations</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + f"\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _e(text: object) -> str:
    """Text of HTML, also within quotes."""
    return html.escape(shown(text), quote=True)


def _table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], caption: str = "") -> str:
    """A table that can be sorted; cells are given as HTML, rows with their names."""
    heads = "".join(f'<th scope="col"><button type="button">{each}</button></th>' for each in head)
    lines = "\n".join(
        f'<tr data-row="{_e(name)}"><th scope="row" title="{_e(name)}">{_e(name)}</th>{"".join(cells)}</tr>'
        for name, cells in rows
    )
    told = f'<p class="soft">{caption}</p>' if caption else ""
    return f'{told}<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>\n{lines}\n</tbody></table></div>'


def _cell(text: str, value: float | None = None, kind: str = "", title: str = "") -> str:
    known = value is not None and math.isfinite(value)
    parts = [f' data-value="{value!r}"' if known else "", f' class="{kind}"' if kind else ""]
    parts.append(f' title="{_e(title)}"' if title else "")
    return f"<td{''.join(parts)}>{text}</td>"


def _block(block: Block, number_: int) -> str:
    if not block.columns:
        return "<section><h2>Nothing was measured</h2></section>"
    ways: dict[str, list[str]] = {}
    for column in block.columns:
        ways.setdefault(described(column.protocol), []).append(column.title)
    told = "; ".join(f"{_e(', '.join(names))}: {_e(way)}" for way, names in ways.items())
    arrows = {"lower": " ↓", "higher": " ↑", None: ""}
    head = ["row", "n", *(_e(each.title) + arrows[better(each.metric)] for each in block.columns)]
    rows = []
    for row in block.rows:
        count = max((of.n for each in block.columns if (of := each.cells[row.name].summary)), default=0)
        rows.append((row.name, [_cell(str(count), count), *(_value(each, row.name, count) for each in block.columns)]))
    for name, scores in block.references.items():
        values = [scores.get(each.metric) for each in block.columns]
        rows.append((f"({name})", [_cell(""), *(_cell(number(value, 4), value, "soft") for value in values)]))
    parts = [f"<h2>{_e(described(block.protocol))}</h2>", _table(head, rows, told)]
    parts += [_tests(column, block, number_) for column in block.columns if column.reference is not None]
    published = [
        f"<li>{_e(each.name)}: {_e(leaf(each.metric))} {each.value:g} ({_e(described(each.protocol))}), "
        f'<a href="{_e(each.url)}">{_e(each.source)}</a>. {_e(each.note)}. <strong>{_e(said)}</strong></li>'
        for each, said in block.published
    ]
    parts += ["<h3>Published</h3><ul>", *published, "</ul>"] if published else []
    return f"<section>{''.join(parts)}</section>"


def _value(column: Column, row: str, count: int) -> str:
    cell = column.cells[row]
    if cell.summary is None:
        return _cell(_e(cell.reason), None, "empty")
    mean, bracket, rest = value_of(cell, count).partition(" [")
    text = mean + (f' <span class="range">[{_e(rest)}</span>' if bracket else "")
    values = ", ".join(f"{value:.6g}" for value in cell.values)
    return _cell(text, cell.summary.mean, "best" if cell.best else "", f"{cell.summary.method}; {values}")


def _tests(column: Column, block: Block, number_: int) -> str:
    rows = []
    for row in block.rows:
        cell = column.cells[row.name]
        if cell.versus is None:
            continue
        of, places = cell.versus, digits(cell)
        interval = "" if math.isnan(of.low) else f" [{of.low:+.{places}f}, {of.high:+.{places}f}]"
        values = (of.p, cell.p_corrected, cell.welch.p if cell.welch else math.nan, cell.p_permutation, cell.p_smallest)
        rows.append(
            (
                row.name,
                [
                    _cell(f"{of.effect:+.{places}f}{interval}", of.effect),
                    *(_cell(number(value, 2), value) for value in values),
                    _cell(_e(verdict(cell)), None, "wide"),
                    _cell(_e(of.method), None, "wide"),
                ],
            )
        )
    head = ["row", "difference [95 %]", "p", "p, Holm", "p, Welch", "p, permutation", "least p", "verdict", "test"]
    name = _e(column.title)
    opened = " open" if number_ == 0 and column is next(each for each in block.columns if each.reference) else ""
    return (
        f"<details{opened}><summary>{name}: differences from {_e(column.reference)}</summary>{_table(head, rows)}</details>"
        if rows
        else ""
    )


def _curves(comparison: Compared, colors: dict[str, int]) -> Iterator[str]:
    logged = {metric for row in comparison.rows for run in row.runs for metric in run.curves if metric.startswith("val/")}
    chosen = sorted({metric for metric in logged if better(metric)} or logged, key=order)[:_CURVES]
    figures = []
    for metric in chosen:
        for seconds, label in ((False, "batches"), (True, "seconds of training")):
            found = [averaged(row, colors[row.name], metric, seconds) for row in comparison.rows]
            series = [each for each in found if each is not None]
            if any(len(each.x) > 1 for each in series):
                figures.append(f"<figure>{curves(metric, series, label)}</figure>")
    if figures:
        swatch = '<span class="swatch" style="background:var(--c{})"></span>'
        legend = " ".join(
            f'<span data-row="{_e(name)}">{swatch.format(i % 10)}{_e(name)}&emsp;</span>' for name, i in colors.items()
        )
        yield '<section><h2>Curves</h2><p class="soft">Means over seeds; bands: 95 % t-intervals of the mean.</p>'
        yield f'<p>{legend}</p><div class="figures">{"".join(figures)}</div></section>'


def _violins(comparison: Compared, colors: dict[str, int]) -> Iterator[str]:
    figures = []
    for block in comparison.blocks:
        for column in block.columns:
            groups = [(row.name, colors[row.name], column.cells[row.name].values) for row in block.rows]
            groups = [group for group in groups if group[2]]
            if of_codes(column.metric) and max(map(len, (group[2] for group in groups)), default=0) > 2:
                figures.append(f"<figure>{violins(leaf(column.metric), groups)}</figure>")
    if figures:
        yield f'<section><h2>Scores over seeds</h2><div class="figures">{"".join(figures)}</div></section>'


def _pictures(comparison: Compared) -> Iterator[str]:
    size = 240 if len(comparison.rows) <= 12 else 144
    figures, real = [], {}
    for row in comparison.rows:
        for run in row.runs[:1]:
            for kind, names in _PICTURES:
                if run.folder is None or (kind == "real" and run.data in real):
                    continue
                files = [run.folder / "pictures" / name for name in names]
                address = next((found for file in files if file.exists() and (found := thumbnail(file, size))), None)
                if address is None:
                    continue
                seed = "" if run.seed is None else f", seed {run.seed}"
                if kind == "real":
                    caption = f"{run.data}: real"
                    real[run.data] = f'<figure><img src="{address}" alt=""><figcaption>{_e(caption)}</figcaption></figure>'
                    continue
                caption = row.name + seed + (": training examples next to them" if kind == "neighbors" else "")
                figures.append(
                    f'<figure data-row="{_e(row.name)}"><img src="{address}" alt="{kind}">'
                    f"<figcaption>{_e(caption)}</figcaption></figure>"
                )
    if figures:
        yield f'<section><h2>Samples</h2><div class="figures">{"".join([*real.values(), *figures])}</div></section>'


def _costs(comparison: Compared) -> str:
    known = [name for name in COSTS if any(cost(row, name) for row in comparison.rows)]
    if not known:
        return ""

    def cells(row: Row) -> list[str]:
        wide = ("machine", "commit", "command")
        return [_cell(_e(cost(row, name)), row.fact(name), "wide" if name in wide else "") for name in known]

    table = _table(["row", *(COSTS[name] for name in known)], [(row.name, cells(row)) for row in comparison.rows])
    return f"<section><h2>Costs, means over seeds</h2>{table}</section>"


def _differences(comparison: Compared) -> str:
    found = comparison.differences()
    if not found:
        return ""
    rows = [
        (row.name, [_cell(_e(values[i]), _float(values[i])) for values in found.values()])
        for i, row in enumerate(comparison.rows)
    ]
    return f"<section><h2>Differences of configuration</h2>{_table(['row', *map(_e, found)], rows)}</section>"


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _list(title: str, lines: Iterable[str]) -> str:
    items = "".join(f"<li>{_e(line)}</li>" for line in lines)
    return f"<section><h2>{title}</h2><ul>{items}</ul></section>" if items else ""
