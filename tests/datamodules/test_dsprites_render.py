"""The dSprites renderer against genuine images, and its cache against damage and company."""

import hashlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from datamodules import dsprites_render as dsprites
from zoo.files import cache_folder

REPO = Path(__file__).resolve().parents[2]
# Both files hold genuine images of the dSprites data set, copyright DeepMind, Apache License 2.0.
SMALL = REPO / "tests" / "data" / "dsprites_genuine.npz"
LARGE = REPO.parent / "shared" / "golden" / "dsprites_genuine_2000.npz"

SQUARE, ELLIPSE, HEART = range(3)
# Measured on genuine images with posX = posY = 0.
AREA_BY_SCALE = {
    SQUARE: [100, 144, 196, 256, 324, 400],
    ELLIPSE: [76, 104, 144, 184, 228, 288],
    HEART: [58, 84, 108, 140, 182, 222],
}
AREA_BY_ORIENTATION = {  # at the largest scale, orientations 0 to 9
    SQUARE: [400, 368, 372, 368, 368, 364, 368, 368, 372, 368],
    ELLIPSE: [288, 288, 290, 292, 292, 288, 286, 294, 292, 286],
    HEART: [222, 225, 226, 225, 224, 225, 227, 224, 225, 225],
}
BOX = {SQUARE: (6, 25, 6, 25), ELLIPSE: (3, 28, 9, 22), HEART: (6, 25, 7, 23)}  # columns, rows; largest scale, upright
SHAPES = pytest.mark.parametrize("shape", [SQUARE, ELLIPSE, HEART])


def random_factors(n, seed=0):
    return np.random.default_rng(seed).integers(0, dsprites.FACTOR_SIZES, (n, 5))


def box(image):
    columns, rows = np.flatnonzero(image.any(0)), np.flatnonzero(image.any(1))
    return tuple(int(edge) for edge in (columns[0], columns[-1], rows[0], rows[-1]))


@pytest.mark.parametrize("path", [SMALL, LARGE], ids=["small", "large"])
def test_genuine_images_bit_for_bit(path):
    if path == LARGE and not path.exists():
        pytest.skip("the larger sample of genuine images is not here")
    with np.load(path, allow_pickle=False) as file:
        images, factors, index = file["images"], file["factors"], file["index"]
    drawn = dsprites.render(factors)
    assert drawn.dtype == np.uint8 and drawn.shape == (len(factors), 64, 64)
    np.testing.assert_array_equal(drawn, np.unpackbits(images, axis=1).reshape(-1, 64, 64))
    np.testing.assert_array_equal(dsprites.index_of(factors), index)
    np.testing.assert_array_equal(dsprites.factors_of(index), factors)


@SHAPES
def test_areas_and_boxes(shape):
    by_scale = dsprites.render([(shape, scale, 0, 0, 0) for scale in range(6)])
    by_orientation = dsprites.render([(shape, 5, orientation, 0, 0) for orientation in range(10)])
    assert by_scale.sum((1, 2)).tolist() == AREA_BY_SCALE[shape]
    assert by_orientation.sum((1, 2)).tolist() == AREA_BY_ORIENTATION[shape]
    assert box(by_scale[5]) == BOX[shape]


@SHAPES
def test_positions_go_right_and_down(shape):
    left, right, top, bottom = BOX[shape]
    moved = dsprites.render([(shape, 5, 0, 31, 0), (shape, 5, 0, 0, 31)])
    assert box(moved[0]) == (left + 32, right + 32, top, bottom)
    assert box(moved[1]) == (left, right, top + 32, bottom + 32)


def test_last_orientation_repeats_the_first():
    first = random_factors(2000)
    first[:, 2] = 0
    last = first.copy()
    last[:, 2] = 39
    np.testing.assert_array_equal(dsprites.render(first), dsprites.render(last))


def reference(factors, resolution):
    """The rule as it is stated, one image and one vertex at a time, every pixel tested against every edge."""
    shape, scale, orientation, pos_x, pos_y = (int(factor) for factor in factors)
    if shape == SQUARE:
        outline = [-9.6 - 9.6j, 9.6 - 9.6j, 9.6 + 9.6j, -9.6 + 9.6j]
    elif shape == ELLIPSE:
        outline = [12.768 * np.cos(t) + 9.6 / 1.33j * -np.sin(t) for t in 2 * np.pi * np.arange(100) / 100]
    else:
        outline = []
        for t in 2 * np.pi * np.arange(150) / 150:
            height = (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 29 + 0.075
            outline.append(9.6 * np.sin(t) ** 3 - 19.2j * height)
    turn = (0.5 + 0.1 * scale) * np.exp(-2j * np.pi * orientation / 39)
    center = complex(16 + 32 * pos_x / 31, 16 + 32 * pos_y / 31)
    points = [256 * resolution / 64 * (center + turn * point) for point in outline]
    points = [(round(point.real), round(point.imag)) for point in points]
    centers = 256 * np.arange(resolution) + 128
    inside = np.zeros((resolution, resolution), bool)
    for (x0, y0), (x1, y1) in zip(points, points[1:] + points[:1], strict=True):
        crossed = (y0 < centers) != (y1 < centers)  # (rows,)
        sign = 1 if y1 > y0 else -1
        right = sign * (centers[:, None] - y0) * (x1 - x0) <= sign * (centers[None] - x0) * (y1 - y0)  # (rows, columns)
        inside ^= crossed[:, None] & right
    return inside.astype(np.uint8)


@pytest.mark.parametrize("resolution", [1, 5, 16, 64, 65, 128, 200])
def test_every_resolution_keeps_the_rule(resolution):
    factors = random_factors(60, seed=resolution)
    expected = np.stack([reference(row, resolution) for row in factors])
    np.testing.assert_array_equal(dsprites.render(factors, resolution), expected)


def test_left_and_bottom_edges_belong_to_the_shape():
    """A square whose corners are the centers of the pixels 2 and 6: every side is a tie."""
    low, high = 256 * np.array([2, 6]) + 128
    bits = dsprites._fill(np.array([[low, high, high, low]]), np.array([[low, low, high, high]]), 8)
    expected = np.zeros((8, 8), np.uint8)
    expected[3:7, 2:6] = 1
    np.testing.assert_array_equal(np.unpackbits(bits, axis=2, count=8)[0], expected)


@SHAPES
def test_finer_images_converge_to_the_area_of_the_shape(shape):
    factors = [(shape, 5, 7, 11, 20)]
    # the heart: integral of 9.6 sin^3 t d(19.2/29 (13 cos t - 5 cos 2t - 2 cos 3t - cos 4t)), with
    # sin^3 t = (3 sin t - sin 3t) / 4 only the first and third harmonics remain
    exact = {SQUARE: 19.2**2, ELLIPSE: np.pi * 9.6**2, HEART: np.pi * 9.6 * 19.2 / 29 * (3 * 13 + 3 * 2) / 4}[shape]
    assert dsprites.render(factors, 1024).sum() / 16**2 == pytest.approx(exact, rel=2e-3)


def test_images_do_not_depend_on_their_neighbors():
    factors = random_factors(dsprites._CHUNK + 50)
    images = dsprites.render(factors)
    for row in (0, 1, dsprites._CHUNK - 1, dsprites._CHUNK, len(factors) - 1):
        np.testing.assert_array_equal(images[row], dsprites.render(factors[row : row + 1])[0])
    assert dsprites.render(np.zeros((0, 5), int)).shape == (0, 64, 64)


@pytest.mark.parametrize(
    "factors, message",
    [
        ([0, 0, 0, 0, 0], r"shape \(5,\); accepted: \(N, 5\)"),
        ([[1, 0, 0, 0, 0, 0]], r"shape \(1, 6\); accepted: \(N, 5\)"),
        ([[0, 0.5, 0, 0, 0]], "float64; accepted: integers"),
        ([[0, 0, 40, 0, 0]], "orientation goes from 40 to 40; accepted: 0 to 39"),
        ([[0, 0, 0, 0, 3], [0, 0, 0, 0, -1]], "posY goes from -1 to 3; accepted: 0 to 31"),
        (np.array([[2**63, 0, 0, 0, 0]], np.uint64), "shape goes from .* accepted: 0 to 2"),
    ],
)
def test_bad_factors_are_named(factors, message):
    for function in (dsprites.render, dsprites.index_of):
        with pytest.raises(ValueError, match=message) as error:
            function(factors)
        assert len(str(error.value).splitlines()) <= 2


@pytest.mark.parametrize("resolution", [0, -64, 64.0, "64", None])
def test_bad_resolutions_are_named(resolution):
    with pytest.raises(ValueError, match="accepted: a whole number, at least 1"):
        dsprites.render(random_factors(1), resolution)


def test_packed_needs_whole_bytes(tmp_path):
    with pytest.raises(ValueError, match="resolution is 12; accepted: a positive multiple of 8"):
        dsprites.packed(tmp_path, 12)


def test_rows_and_factors_are_inverse():
    rows = np.random.default_rng(0).integers(0, dsprites.COUNT, 1000)
    np.testing.assert_array_equal(dsprites.index_of(dsprites.factors_of(rows)), rows)
    assert dsprites.factors_of([1, 33, 1024]).tolist() == [[0, 0, 0, 0, 1], [0, 0, 0, 1, 1], [0, 0, 1, 0, 0]]
    with pytest.raises(ValueError, match="from 0 to 737280; accepted: 0 to 737279"):
        dsprites.factors_of([0, 737280])
    with pytest.raises(ValueError, match=r"\(N,\) integers"):
        dsprites.factors_of([0.0])


def test_importing_it_loads_nothing_heavy():
    code = "import runpy, sys; runpy.run_path(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, dsprites.__file__], capture_output=True, text=True, check=True)
    assert "numpy" in done.stdout.split() and not {"torch", "pytorch_lightning"} & set(done.stdout.split())


class Builder:
    """Draws the same few images each time, and counts how often it was asked."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return np.packbits(dsprites.render(random_factors(40)).reshape(40, -1), axis=1)


@pytest.fixture
def build():
    return Builder()


def test_cache_draws_once(tmp_path, build):
    path = tmp_path / "new" / "folder" / "few.npz"
    first, second = dsprites._cached(path, build), dsprites._cached(path, build)
    np.testing.assert_array_equal(first, second)
    assert build.calls == 1 and first.dtype == second.dtype == np.uint8
    assert os.listdir(path.parent) == ["few.npz"]


def replace(path, array, **others):
    np.savez_compressed(path, array=array, **others)


def replace_by_plain_array(path, data):
    with open(path, "wb") as file:
        np.save(file, np.ones(3))


ONES = np.ones((40, 512), np.uint8)
FEW = Builder()()
DAMAGE = {
    "empty": lambda path, data: path.write_bytes(b""),
    "truncated": lambda path, data: path.write_bytes(data[: len(data) // 2]),
    "without its end": lambda path, data: path.write_bytes(data[:-1]),
    "without its start": lambda path, data: path.write_bytes(data[100:]),
    "zeros at the end": lambda path, data: path.write_bytes(data[:-200] + bytes(200)),
    "text": lambda path, data: path.write_text("<html>not found</html>"),
    "another checksum": lambda path, data: replace(path, ONES, sha256="0" * 64),
    "another shape": lambda path, data: replace(path, FEW.reshape(80, 256), sha256=dsprites._digest(FEW)),
    "no checksum": lambda path, data: replace(path, ONES),
    "a pickle": lambda path, data: replace(path, np.array([{}], dtype=object), sha256="0" * 64),
    "a plain array": replace_by_plain_array,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_cache_is_noticed_and_replaced(tmp_path, build, damage):
    path = tmp_path / "few.npz"
    expected = dsprites._cached(path, build)
    DAMAGE[damage](path, path.read_bytes())
    with pytest.warns(UserWarning, match="few.npz is damaged") as caught:
        np.testing.assert_array_equal(dsprites._cached(path, build), expected)
    assert len(caught) == 1 and build.calls == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(dsprites._cached(path, build), expected)
    assert build.calls == 2 and os.listdir(tmp_path) == ["few.npz"]


def test_no_flipped_bit_passes(tmp_path, build):
    path = tmp_path / "few.npz"
    expected = dsprites._cached(path, build)
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for position in rng.choice(len(data), min(len(data), 400), replace=False):
            flipped = bytearray(data)
            flipped[position] ^= 1 << rng.integers(8)
            path.write_bytes(flipped)
            found = dsprites._cached(path, build)
            assert found.dtype == expected.dtype and np.array_equal(found, expected), position
    assert build.calls > 200


def test_a_killed_writer_leaves_the_cache_alone(tmp_path, build):
    """A process that dies half-way leaves a temporary file, which no reader takes for the cache."""
    path = tmp_path / "few.npz"
    code = f"""
import os, pathlib
import numpy as np
from datamodules import dsprites_render as dsprites
from zoo.files import cache_folder
def die(file, **arrays):
    file.write(b"half")
    file.flush()
    os._exit(3)
np.savez_compressed = die
dsprites._cached(pathlib.Path({str(path)!r}), lambda: np.zeros(3))
"""
    assert subprocess.run([sys.executable, "-c", code], cwd=REPO).returncode == 3
    assert len(os.listdir(tmp_path)) == 1 and not path.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            np.testing.assert_array_equal(dsprites._cached(path, build), Builder()())
    assert build.calls == 1


def test_a_failed_draw_leaves_nothing(tmp_path):
    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dsprites._cached(tmp_path / "few.npz", fail)
    assert os.listdir(tmp_path) == []


def test_two_processes_at_once(tmp_path):
    """Each waits in its builder until the other is there too, so both find no cache, draw and write."""
    code = """
import hashlib, pathlib, sys, time
from datamodules import dsprites_render as dsprites
from zoo.files import cache_folder
folder, own, other = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
def build():
    (folder / own).touch()
    deadline = time.monotonic() + 60
    while not (folder / other).exists() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert (folder / other).exists()
    return dsprites.render(dsprites.factors_of(range(0, 700000, 2000)))
print(hashlib.sha256(dsprites._cached(folder / "cache" / "few.npz", build)).hexdigest())
"""
    command = [sys.executable, "-W", "error::UserWarning", "-c", code, str(tmp_path)]
    pair = [subprocess.Popen([*command, *names], cwd=REPO, stdout=subprocess.PIPE, text=True) for names in ("ab", "ba")]
    outputs = [process.communicate(timeout=120)[0].strip() for process in pair]
    expected = dsprites.render(dsprites.factors_of(range(0, 700000, 2000)))
    assert [process.returncode for process in pair] == [0, 0]
    assert outputs == [hashlib.sha256(expected).hexdigest()] * 2
    assert os.listdir(tmp_path / "cache") == ["few.npz"]
    unused = Builder()
    np.testing.assert_array_equal(dsprites._cached(tmp_path / "cache" / "few.npz", unused), expected)
    assert unused.calls == 0


def closed_folder(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o555)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write everywhere")
    return folder


def file_for_folder(tmp_path):
    (tmp_path / "file").write_text("")
    return tmp_path / "file" / "zoo"


@pytest.mark.parametrize("folder", [closed_folder, file_for_folder])
def test_a_folder_that_cannot_be_written(tmp_path, build, folder):
    with pytest.warns(UserWarning, match="Cannot write the cache .* going on without") as caught:
        array = dsprites._cached(folder(tmp_path) / "few.npz", build)
    assert len(caught) == 1 and len(str(caught[0].message).splitlines()) == 1
    np.testing.assert_array_equal(array, Builder()())


def test_a_full_disk(tmp_path, build, monkeypatch):
    def full(file, **arrays):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        np.testing.assert_array_equal(dsprites._cached(tmp_path / "few.npz", build), Builder()())
    assert os.listdir(tmp_path) == []


def test_where_the_cache_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("ZOO_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path("/home/someone/.cache/zoo")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_folder() == Path("/xdg/zoo")
    monkeypatch.setenv("ZOO_CACHE", "~/own")
    assert cache_folder() == Path("/home/someone/own")


def test_packed_at_a_low_resolution(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path))
    images = dsprites.packed(resolution=8, progress=False)
    assert capfd.readouterr().err == ""
    rows = np.arange(0, dsprites.COUNT, 1999)
    drawn = dsprites.render(dsprites.factors_of(rows), 8)
    assert images.shape == (dsprites.COUNT, 8) and images.dtype == np.uint8
    np.testing.assert_array_equal(np.unpackbits(images[rows], axis=1).reshape(-1, 8, 8), drawn)
    assert os.listdir(tmp_path) == ["dsprites-8.npz"]


@pytest.mark.slow
def test_the_whole_set(tmp_path, capfd):
    drawn = dsprites.packed(tmp_path)
    assert "drawing dSprites" in capfd.readouterr().err
    assert hashlib.sha256(drawn).hexdigest() == dsprites.PACKED_SHA256
    np.testing.assert_array_equal(dsprites.packed(tmp_path), drawn)
    assert capfd.readouterr().err == ""
    assert len(np.unique(drawn.view("V512"))) == 715_706
