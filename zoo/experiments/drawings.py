"""Curves, violins and thumbnails of a report, as text that an HTML file can hold."""

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import stats

from zoo.experiments.cells import Row
from zoo.experiments.statistics import summarize

__all__ = ["Series", "averaged", "curves", "thumbnail", "violins"]

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 560, 300, 62, 34, 22
_POINTS = 60
_COLORS, _LARGEST = 10, 2**24  # pixels of a picture


@dataclass(frozen=True)
class Series:
    """A curve of a row: the mean over its seeds and the 95 % interval of the mean.

    Attributes:
        name: The row's.
        color: Which one.
        x, mean, low, high: (N,); of one seed the interval is NaN.
    """

    name: str
    color: int
    x: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray


def averaged(row: Row, color: int, metric: str, seconds: bool) -> Series | None:
    """The mean of a metric over a row's seeds, at batches or seconds that all of them have reached; None without any."""
    found = []
    for run in row.runs:
        curve = run.curves.get(metric)
        if curve is None or not np.isfinite(curve.values).any():
            continue
        x, finite = curve.steps, np.isfinite(curve.values)
        if seconds:
            if not len(run.clock):
                continue
            x = np.interp(x, np.concatenate([[0], run.clock[:, 0]]), np.concatenate([[0], run.clock[:, 2]]))
        found.append((x[finite], curve.values[finite]))
    if not found:
        return None
    first, last = max(x[0] for x, _ in found), min(x[-1] for x, _ in found)
    at = np.linspace(first, last, _POINTS) if last > first else np.array([last])
    values = np.stack([np.interp(at, x, y) for x, y in found], axis=1)  # (points, seeds)
    each = [summarize(point) for point in values]
    mean, low, high = (np.array([getattr(one, name) for one in each]) for name in ("mean", "low", "high"))
    return Series(row.name, color, at, mean, low, high)


def curves(title: str, series: Sequence[Series], label: str) -> str:
    """Series as an SVG, with bands where there are several seeds; what is outside of the middle 98 % is cut off."""
    late = [each.mean[len(each.x) // 10 :] for each in series]  # the fall at the start would hide what comes after
    late += [bound[len(each.x) // 2 :] for each in series for bound in (each.low, each.high)]
    values = np.concatenate(late)
    values = values[np.isfinite(values)]
    bottom, top = (float(x) for x in np.quantile(values, [0.01, 0.99]))
    margin = 0.06 * (top - bottom) or abs(top) / 10 or 1.0
    bottom, top = bottom - margin, top + margin
    left, right = min(float(each.x[0]) for each in series), max(float(each.x[-1]) for each in series)
    right = right if right > left else left + 1

    def place(x: np.ndarray, y: np.ndarray) -> str:
        across = _LEFT + (x - left) / (right - left) * (_WIDTH - _LEFT - 8)
        up = _HEIGHT - _BOTTOM - (np.clip(y, bottom, top) - bottom) / (top - bottom) * (_HEIGHT - _BOTTOM - _TOP)
        return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(across, up, strict=True))

    parts = [_frame(title, label, _ticks(left, right), _ticks(bottom, top), (left, right), (bottom, top))]
    for each in series:
        color, row = f"var(--c{each.color % _COLORS})", html.escape(each.name, quote=True)
        band = np.isfinite(each.low)
        area = ""
        if band.any():
            around = place(
                np.concatenate([each.x[band], each.x[band][::-1]]), np.concatenate([each.low[band], each.high[band][::-1]])
            )
            area = f'<polygon class="band" fill="{color}" points="{around}"/>'
        dash = f' stroke-dasharray="{2 + 3 * (each.color // _COLORS)} 3"' if each.color >= _COLORS else ""
        line = f'<polyline class="mean" stroke="{color}"{dash} points="{place(each.x, each.mean)}"/>'
        if len(each.x) == 1:  # validated once: a point, with its interval as a line
            across, up = place(each.x, each.mean).split(",")
            low, high = (place(each.x, bound).split(",")[1] for bound in (each.low, each.high))
            line = f'<circle cx="{across}" cy="{up}" r="3.5" fill="{color}"/>'
            area = f'<path class="mean" stroke="{color}" d="M{across} {low}V{high}"/>' if band.any() else ""
        parts.append(f'<g data-row="{row}"><title>{row}</title>{area}{line}</g>')
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img">{"".join(parts)}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round numbers within."""
    step = 10 ** math.floor(math.log10((high - low) / 4))
    step = next((step * many for many in (1, 2, 5, 10) if (high - low) / (step * many) <= 7), 10 * step)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _frame(title: str, label: str, xs: Sequence[float], ys: Sequence[float], across: tuple, up: tuple) -> str:
    right, floor = _WIDTH - 8, _HEIGHT - _BOTTOM
    parts = [f'<text x="{_LEFT}" y="14" font-weight="600">{html.escape(title)}</text>']
    parts.append(f'<path class="axis" d="M{_LEFT} {_TOP}V{floor}H{right}"/>')
    for x in xs:
        at = _LEFT + (x - across[0]) / (across[1] - across[0]) * (right - _LEFT)
        anchor = "end" if at > right - 14 else "middle"
        parts.append(f'<text x="{at:.1f}" y="{floor + 15}" text-anchor="{anchor}">{x:,.6g}</text>')
    for y in ys:
        at = floor - (y - up[0]) / (up[1] - up[0]) * (floor - _TOP)
        parts.append(f'<path class="axis" d="M{_LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:,.6g}</text>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 4}" text-anchor="end">{html.escape(label)}</text>')
    return "".join(parts)


def violins(title: str, groups: Sequence[tuple[str, int, Sequence[float]]]) -> str:
    """Groups of numbers, each with name and color, as violins with a point for each number: an SVG."""
    every = [value for _, _, values in groups for value in values]
    low, high = min(every), max(every)
    margin = 0.08 * (high - low) or abs(high) / 10 or 1.0
    low, high, left, line = low - margin, high + margin, 190, 30
    height = 46 + line * len(groups)

    def across(x: float) -> float:
        return left + (x - low) / (high - low) * (_WIDTH - left - 10)

    parts = [f'<text x="{left}" y="14" font-weight="600">{html.escape(title)}</text>']
    for x in _ticks(low, high):
        parts.append(f'<path class="axis" d="M{across(x):.1f} 22V{height - 20}"/>')
        parts.append(f'<text x="{across(x):.1f}" y="{height - 5}" text-anchor="middle">{x:.4g}</text>')
    for i, (name, color, values) in enumerate(groups):
        middle, fill, row = 22 + line * (i + 0.5), f"var(--c{color % _COLORS})", html.escape(name, quote=True)
        shape = ""
        if len(values) > 2 and max(values) > min(values):
            density = stats.gaussian_kde(values)
            at = np.linspace(max(min(values) - margin / 2, low), min(max(values) + margin / 2, high), 40)
            width = density(at) / density(at).max() * line * 0.42
            outline = [(x, middle - w) for x, w in zip(at, width, strict=True)]
            outline += [(x, middle + w) for x, w in zip(at[::-1], width[::-1], strict=True)]
            points = " ".join(f"{across(x):.1f},{y:.1f}" for x, y in outline)
            shape = f'<polygon class="band" fill="{fill}" points="{points}"/>'
        dots = "".join(f'<circle cx="{across(x):.1f}" cy="{middle:.1f}" r="2.6" fill="{fill}"/>' for x in values)
        label = html.escape(name if len(name) < 29 else f"{name[:13]}…{name[-14:]}")
        parts.append(
            f'<g data-row="{row}"><title>{row}</title>{shape}{dots}'
            f'<text x="{left - 8}" y="{middle + 4:.1f}" text-anchor="end">{label}</text></g>'
        )
    return f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img">{"".join(parts)}</svg>'


def thumbnail(path: Path, size: int) -> str | None:
    """A picture as a small one in a data: address; None where it can't be read."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > _LARGEST or file.format != "PNG":
                return None
            small = file.convert("L" if file.mode in ("L", "1", "I;16") else "RGB")
        small.thumbnail((size, size), Image.Resampling.BOX)
        content, kind = io.BytesIO(), "PNG" if small.mode == "L" else "JPEG"
        small.save(content, kind, **({"optimize": True} if kind == "PNG" else {"quality": 82}))
    except Exception:  # a file that is no picture, or a damaged one, can raise almost anything
        return None
    return f"data:image/{kind.lower()};base64,{base64.b64encode(content.getvalue()).decode()}"
