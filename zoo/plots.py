"""Pictures: grids of images, scatter plots of vectors, animations, matrices as heat maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from torch import Tensor

from zoo.spec import DataSpec

if TYPE_CHECKING:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

__all__ = ["heat_map", "picture", "save_gif"]

_SHORTEST_SIDE = 480  # small images are enlarged, in whole multiples, until a grid is at least this wide


def picture(x: Tensor, spec: DataSpec, columns: int | None = None) -> Image.Image:
    """Examples in data space (N, *shape) as one picture: a grid of images, row by row, or a plot of vectors.

    Arguments:
        x: Levels or continuous values; continuous images are shown from -1 (black) to 1 (white).
        spec: What they are.
        columns: Images per row; about the square root of N if not given.
    """
    return _grid(x, spec, columns) if spec.is_image else _plot(x.cpu().float().numpy(), spec)


def save_gif(frames: Sequence[Image.Image], path: str | Path, seconds: float = 0.1) -> None:
    """Write frames of one size as a GIF that loops for ever; each is shown for ``seconds``, a multiple of 0.01."""
    first, *others = frames
    first.save(path, save_all=True, append_images=others, duration=round(1000 * seconds), loop=0)


def heat_map(matrix: Tensor, rows: Sequence[str], columns: Sequence[str], title: str) -> Image.Image:
    """A matrix (R, C) of numbers from 0 up as a picture: the darker, the larger, each number in its cell.

    Arguments:
        matrix: The numbers.
        rows: A name for each row.
        columns: A name for each column.
        title: What the numbers are.
    """
    values = matrix.detach().cpu().numpy()
    figure, canvas = _figure(2.2 + 0.85 * len(columns), 1.2 + 0.38 * len(rows))
    axes = figure.subplots()
    top = max(values.max(), 1e-12)
    axes.imshow(values, cmap="Blues", vmin=0, vmax=top, aspect="auto")
    axes.set_title(title)
    axes.set_xticks(range(len(columns)), columns, rotation=30, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(rows)), rows)
    axes.tick_params(length=0)
    for (i, j), value in np.ndenumerate(values):
        axes.text(j, i, f"{value:.2f}", ha="center", va="center", color="white" if value > 0.6 * top else "black")
    return _drawn(canvas)


def _grid(x: Tensor, spec: DataSpec, columns: int | None, gap: int = 1) -> Image.Image:
    values = spec.to_signed(x).float().add(1).mul(127.5).round().clamp(0, 255)
    images = values.byte().cpu().permute(0, 2, 3, 1).numpy()  # (N, H, W, C)
    n, height, width, channels = images.shape
    columns = columns or math.ceil(math.sqrt(n))
    rows = math.ceil(n / columns)
    canvas = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), 64, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + gap) + gap, (i % columns) * (width + gap) + gap
        canvas[top : top + height, left : left + width] = image
    if channels not in (1, 3):  # no colors that a screen could show: the mean over channels
        canvas = canvas.mean(-1, keepdims=True).astype(np.uint8)
    grid = Image.fromarray(canvas.squeeze(-1) if canvas.shape[-1] == 1 else canvas)
    scale = max(1, math.ceil(_SHORTEST_SIDE / min(grid.size)))
    return grid.resize((grid.width * scale, grid.height * scale), Image.Resampling.NEAREST)


def _plot(x: np.ndarray, spec: DataSpec) -> Image.Image:
    figure, canvas = _figure(5, 5)
    axes = figure.subplots()
    axes.set_title(f"{len(x)} samples, {spec.name}")
    if spec.dims == 1:
        axes.hist(x[:, 0], bins=100, density=True)
        axes.set(xlabel="x", ylabel="density")
    else:
        axes.scatter(x[:, 0], x[:, 1], s=3, alpha=0.5, linewidths=0)
        axes.set(xlabel="x[0]", ylabel="x[1]", aspect="equal")
    return _drawn(canvas)


def _figure(width: float, height: float) -> "tuple[Figure, FigureCanvasAgg]":
    """An empty figure of so many inches at 100 pixels each, and its canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, FigureCanvasAgg(figure)


def _drawn(canvas: "FigureCanvasAgg") -> Image.Image:
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
