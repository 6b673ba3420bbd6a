"""Pictures: grids of images, scatter plots of vectors, animations, matrices as heat maps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.distributions import Distribution

from zoo.errors import ZooError
from zoo.spec import DataSpec, require_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

__all__ = ["heat_map", "picture", "save_gif"]

_SHORTEST_SIDE = 480  # small images are enlarged, in whole multiples, until a grid is at least this wide


def picture(
    x: Tensor,
    spec: DataSpec,
    columns: int | None = None,
    title: str = "",
    density: Distribution | None = None,
) -> Image.Image:
    """Examples in data space (N, *shape) as one picture: a grid of images, row by row, or a plot of vectors.

    Arguments:
        x: Levels or continuous values; continuous images are shown from -1 (black) to 1 (white).
        spec: What they are.
        columns: Images per row; about the square root of N if not given.
        title: A line above the images that says what they are.
        density: The distribution that vectors in one or two dimensions are to have, if it is known; it is drawn beside them,
            so far as it or they reach.

    Raises:
        ZooError: if there are no examples, or a number is NaN or infinite.
    """
    if len(x) < 1 or (columns is not None and columns < 1):
        raise ZooError(f"a picture of {len(x)} examples in {columns} columns: 1 or more are needed")
    require_numbers(x)
    if spec.is_image:
        return _titled(_grid(x, spec, columns), title)
    return _plot(x.cpu().float(), spec, title, density)


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
    unit = (x.float() + 1) / 2 if spec.levels is None else x.float() / (spec.levels - 1)  # means lie between levels
    values = unit.mul(255).round().clamp(0, 255)
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


def _titled(image: Image.Image, title: str) -> Image.Image:
    """The image with a line of text above it."""
    if not title:
        return image
    line = 24
    canvas = Image.new(image.mode, (image.width, image.height + line), "white")
    canvas.paste(image, (0, line))
    ImageDraw.Draw(canvas).text((6, line // 2), title, "black", ImageFont.load_default(13), "lm")
    return canvas


def _plot(x: Tensor, spec: DataSpec, title: str, density: Distribution | None) -> Image.Image:
    """A histogram or points, over or beside the density where it is known; of more than two dimensions the first two."""
    beside = density is not None and spec.dims == 2
    figure, canvas = _figure(10 if beside else 5, 5)
    axes, *others = figure.subplots(1, 2, sharex=True, sharey=True, squeeze=False)[0] if beside else [figure.subplots()]
    axes.set_title(title or f"{len(x)} samples, {spec.name}")
    if spec.dims == 1:
        axes.hist(x[:, 0].numpy(), bins=100, density=True, label="samples")
        axes.set(xlabel="x", ylabel="density")
        if density is not None:
            _reach(axes, density)
            left, right = axes.get_xlim()
            line = torch.linspace(left, right, 500)
            axes.plot(line.numpy(), density.log_prob(line[:, None]).exp().numpy(), color="black", label="p(x)")
            axes.legend()
        return _drawn(canvas)
    axes.scatter(x[:, 0].numpy(), x[:, 1].numpy(), s=9, alpha=0.6, linewidths=0)
    axes.set(xlabel="x[0]", ylabel="x[1]", aspect="equal")
    if density is not None and others:
        _reach(axes, density)
        _draw_density(others[0], density)
    return _drawn(canvas)


def _reach(axes: "Axes", density: Distribution) -> None:
    """Let axes reach as far as the density, some standard deviations, whatever they show."""
    ends = torch.stack((density.mean - 2.2 * density.stddev, density.mean + 2.2 * density.stddev))  # (2, D)
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(min(left, ends[0, 0].item()), max(right, ends[1, 0].item()))
    if ends.shape[1] == 2:
        axes.set_ylim(min(bottom, ends[0, 1].item()), max(top, ends[1, 1].item()))


def _draw_density(axes: "Axes", density: Distribution) -> None:
    """A density on the plane, over the limits that the axes have."""
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    columns, rows = torch.linspace(left, right, 250), torch.linspace(bottom, top, 250)
    points = torch.cartesian_prod(rows, columns).flip(1)
    values = density.log_prob(points).exp().view(250, 250).numpy()
    axes.imshow(values, extent=(left, right, bottom, top), origin="lower", cmap="Blues")
    axes.set(title="p(x)", xlabel="x[0]", aspect="equal")


def _figure(width: float, height: float) -> "tuple[Figure, FigureCanvasAgg]":
    """An empty figure of so many inches at 100 pixels each, and its canvas."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="constrained")
    return figure, FigureCanvasAgg(figure)


def _drawn(canvas: "FigureCanvasAgg") -> Image.Image:
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
