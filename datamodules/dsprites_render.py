"""dSprites drawn from its five factors: exact polygons in numpy, bit-packed, cached."""

import hashlib
import math
import operator
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from numpy.typing import ArrayLike

from datamodules.readers import read_npz
from zoo.files import cache_folder, write_atomically
from zoo.progress import progress_bar

__all__ = ["COUNT", "FACTOR_NAMES", "FACTOR_SIZES", "PACKED_SHA256", "factors_of", "index_of", "packed", "render"]

FACTOR_NAMES = ("shape", "scale", "orientation", "posX", "posY")
FACTOR_SIZES = (3, 6, 40, 32, 32)
COUNT = math.prod(FACTOR_SIZES)  # 737,280 images
PACKED_SHA256 = "3a228f4037ef3d42a42588e0e01f1078aa2df13cfa17584e88c95ed9fb5672da"  # of packed() at 64 pixels

_CANVAS = 64  # the outlines and positions below are in pixels of this canvas
_SUBPIXELS = 256  # the original was drawn by a GPU, which rounds every vertex to 1/256 pixel
_CHUNK = 4096  # images drawn at a time: 40 MB of working memory at 64 pixels

_SCALES = np.linspace(0.5, 1, 6)
_ANGLES = np.linspace(0, 2 * np.pi, 40)  # both ends, as in the original: orientation 39 repeats orientation 0
_CENTERS = 16 + 32 * np.linspace(0, 1, 32)


def render(factors: ArrayLike, resolution: int = 64) -> np.ndarray:
    """Draw one sprite per row of ``factors``.

    A sprite is a polygon with vertices (u, v), scaled by s, turned by a and moved to (cx, cy), with y pointing down::

        x = cx + s (u cos a + v sin a),   y = cy + s (v cos a - u sin a)

    Vertices are rounded to 1/256 pixel; a pixel is 1 when its center lies inside by the even-odd rule, left and bottom
    edges included. The constants were fitted to the published images: at 64 pixels this gives 19,997 of 20,000 of them
    bit for bit, the other three to one pixel each. Another resolution scales the canvas by resolution / 64 and keeps
    the rule, sub-pixel grid included.

    Arguments:
        factors: (N, 5) integers, class indices in the order of ``FACTOR_NAMES``, each below its entry in
            ``FACTOR_SIZES``.
        resolution: Height and width in pixels, at least 1.

    Returns:
        (N, resolution, resolution) uint8 of 0 and 1.

    Raises:
        ValueError: for factors of another shape, not integers or out of range, and for a resolution below 1.

    References:
        | dSprites: Disentanglement testing Sprites dataset (Matthey et al., 2017)
        | https://github.com/google-deepmind/dsprites-dataset
    """
    resolution = _check_resolution(resolution, multiple=1)
    return np.unpackbits(_row_bits(_check_factors(factors), resolution), axis=2, count=resolution)


def packed(cache: str | os.PathLike | None = None, resolution: int = 64, progress: bool = True) -> np.ndarray:
    """All images, one bit per pixel, drawn once and then read from a compressed file.

    ``np.unpackbits(packed()[rows], axis=1).reshape(-1, 64, 64)`` are the images of some rows; ``index_of`` and
    ``factors_of`` go between rows and factors. Processes that start together may each draw the images, and each gets
    them whole: that takes seconds, so they do not wait for one another.

    Arguments:
        cache: Folder of the file; by default the environment's ZOO_CACHE, else "zoo" in XDG_CACHE_HOME or ~/.cache.
        resolution: Height and width in pixels, a multiple of 8.
        progress: Show a bar while drawing.

    Returns:
        (737280, resolution * resolution // 8) uint8, ``np.packbits`` of each image, posY varying fastest.

    Raises:
        ValueError: for a resolution that is not a positive multiple of 8.

    Warns:
        UserWarning: in one line, when the file is damaged (it is replaced) or cannot be written (the array is returned
            anyway).
    """
    resolution = _check_resolution(resolution, multiple=8)
    folder = Path(cache).expanduser() if cache else cache_folder()
    path, size = folder / f"dsprites-{resolution}.npz", COUNT * resolution**2 // 8
    return _cached(path, lambda: _draw_all(resolution, progress), size)


def index_of(factors: ArrayLike) -> np.ndarray:
    """Rows of (N, 5) factors in the full set, (N,) int64: (((shape*6 + scale)*40 + orientation)*32 + posX)*32 + posY.

    Raises:
        ValueError: as :func:`render` does.
    """
    return np.ravel_multi_index(tuple(_check_factors(factors).T), FACTOR_SIZES)


def factors_of(index: ArrayLike) -> np.ndarray:
    """Factors (N, 5) int64 of the rows ``index`` (N,) of the full set: the inverse of :func:`index_of`.

    Raises:
        ValueError: for rows that are not a vector of integers from 0 to 737,279.
    """
    rows = np.asarray(index)
    if rows.ndim != 1 or rows.dtype.kind not in "iu":
        raise ValueError(f"index has shape {rows.shape} and type {rows.dtype}; accepted: (N,) integers.")
    if rows.size and (rows.min() < 0 or rows.max() >= COUNT):
        raise ValueError(f"index goes from {rows.min()} to {rows.max()}; accepted: 0 to {COUNT - 1}.")
    return np.stack(np.unravel_index(rows.astype(np.int64), FACTOR_SIZES), axis=1)


def _outlines() -> tuple[np.ndarray, ...]:
    """Polygons of square, ellipse and heart at scale 1, upright and centered: (V, 2) of u to the right, v down."""
    side = 0.3 * _CANVAS
    t = 2 * np.pi * np.arange(100) / 100
    w = 2 * np.pi * np.arange(150) / 150
    heart = (13 * np.cos(w) - 5 * np.cos(2 * w) - 2 * np.cos(3 * w) - np.cos(4 * w)) / 29 + 0.075
    return (
        side / 2 * np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]),
        side / 2 * np.stack([1.33 * np.cos(t), np.sin(t) / 1.33], axis=1),
        side * np.stack([np.sin(w) ** 3 / 2, -heart], axis=1),
    )


_OUTLINES = _outlines()


def _draw_all(resolution: int, progress: bool) -> np.ndarray:
    images = np.empty((COUNT, resolution * resolution // 8), np.uint8)
    bar = progress_bar(range(0, COUNT, _CHUNK), "drawing dSprites", unit="images", scale=_CHUNK, hidden=not progress)
    for start in bar:
        index = np.arange(start, min(start + _CHUNK, COUNT))
        bits = _row_bits(factors_of(index), resolution)
        images[index] = bits[:, :, : resolution // 8].reshape(len(index), -1)  # (n, R, 8W) -> (n, R*R/8)
    return images


def _row_bits(factors: np.ndarray, resolution: int) -> np.ndarray:
    """Images with each row packed into W = ceil(resolution / 64) big-endian words: (N, resolution, 8W) uint8."""
    bits = np.empty((len(factors), resolution, 8 * math.ceil(resolution / 64)), np.uint8)
    for shape, outline in enumerate(_OUTLINES):
        members = np.flatnonzero(factors[:, 0] == shape)
        for start in range(0, len(members), _CHUNK):
            rows = members[start : start + _CHUNK]
            bits[rows] = _fill(*_vertices(outline, factors[rows], resolution), resolution)
    return bits


def _vertices(outline: np.ndarray, factors: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Vertices x and y of each image, (N, V) int64 in sub-pixels."""
    _, scale, orientation, pos_x, pos_y = factors.T[..., None]  # each (N, 1)
    u, v = outline.T
    s, cos, sin = _SCALES[scale], np.cos(_ANGLES[orientation]), np.sin(_ANGLES[orientation])
    x = _CENTERS[pos_x] + s * (u * cos + v * sin)
    y = _CENTERS[pos_y] + s * (v * cos - u * sin)
    zoom = _SUBPIXELS * resolution / _CANVAS
    return np.rint(x * zoom).astype(np.int64), np.rint(y * zoom).astype(np.int64)


def _fill(x: np.ndarray, y: np.ndarray, resolution: int) -> np.ndarray:
    """Even-odd fill of N polygons, in integers throughout: every crossing of an edge and a row flips the row's tail."""
    half = _SUBPIXELS // 2
    below = (y + half) // _SUBPIXELS  # first row whose center lies strictly below the vertex
    rise = np.roll(below, -1, axis=1) - below
    image, edge = np.nonzero(rise)  # most edges of the curved shapes lie between two row centers and cross neither
    after = (edge + 1) % x.shape[1]
    x0, y0 = x[image, edge], y[image, edge]
    dx, dy = x[image, after] - x0, y[image, after] - y0
    first = np.minimum(below[image, edge], below[image, after])

    count = np.abs(rise[image, edge])
    which = np.repeat(np.arange(len(count)), count)  # (edges,) -> (crossings,)
    row = np.arange(len(which)) - (np.cumsum(count) - count - first)[which]
    x0, y0, dx, dy = x0[which], y0[which], dx[which], dy[which]
    # the first column whose center is at or right of x0 + (center of row - y0) dx / dy; -(-a // b) rounds up
    column = -(-((x0 - half) * dy + (_SUBPIXELS * row + half - y0) * dx) // (_SUBPIXELS * dy))

    words = math.ceil(resolution / 64)
    bits = np.zeros(len(x) * resolution * words, np.uint64)
    start = (image[which] * resolution + row) * words
    for word in range(words):
        shift = np.clip(column - 64 * word, 0, 64).astype(np.uint64)  # a shift by 64 leaves no bit
        np.bitwise_xor.at(bits, start + word, np.uint64(2**64 - 1) >> shift)
    # big-endian, so that bytes and bits both run from left to right: (N*R*W,) -> (N, R, 8W)
    return bits.astype(">u8").view(np.uint8).reshape(len(x), resolution, 8 * words)


def _check_factors(factors: ArrayLike) -> np.ndarray:
    rows = np.asarray(factors)
    if rows.ndim != 2 or rows.shape[1] != len(FACTOR_SIZES):
        raise ValueError(f"factors have shape {rows.shape}; accepted: (N, 5), columns {', '.join(FACTOR_NAMES)}.")
    if rows.dtype.kind not in "iu":
        raise ValueError(f"factors are {rows.dtype}; accepted: integers, the class indices and not the values.")
    for name, size, column in zip(FACTOR_NAMES, FACTOR_SIZES, rows.T, strict=True):
        if column.size and (column.min() < 0 or column.max() >= size):
            raise ValueError(f"{name} goes from {column.min()} to {column.max()}; accepted: 0 to {size - 1}.")
    return rows.astype(np.int64)


def _check_resolution(resolution: SupportsIndex, multiple: int) -> int:
    try:
        pixels = operator.index(resolution)
    except TypeError:
        pixels = 0
    if pixels < 1 or pixels % multiple:
        accepted = "a whole number, at least 1" if multiple == 1 else f"a positive multiple of {multiple}"
        raise ValueError(f"resolution is {resolution!r}; accepted: {accepted}.")
    return pixels


def _cached(path: Path, build: Callable[[], np.ndarray], largest: int = 2**30) -> np.ndarray:
    """The array, of up to ``largest`` bytes, in ``path`` if it is sound, else ``build()``, left there for the next time."""
    try:
        found = read_npz(path, {"array": largest, "sha256": 4 * 64})
        if str(found["sha256"]) != _digest(found["array"]):
            raise ValueError("checksum differs")
        return found["array"]
    except (FileNotFoundError, NotADirectoryError):
        pass
    except Exception as error:  # damage can surface as almost any error of zip, zlib or the header's parser
        warnings.warn(f"{path} is damaged ({type(error).__name__}: {error}); making it again.", stacklevel=3)

    array = build()
    try:
        with write_atomically(path) as file:
            np.savez_compressed(file, array=array, sha256=_digest(array))
    except OSError as error:
        why = str(error).splitlines()[0]
        warnings.warn(f"Cannot write the cache ({why}); going on without. Set ZOO_CACHE to move it.", stacklevel=3)
    return array


def _digest(array: np.ndarray) -> str:
    """sha256 of type, shape and contents: damage to the shape would otherwise pass unseen."""
    digest = hashlib.sha256(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
