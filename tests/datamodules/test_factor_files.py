"""Shapes3D, SmallNORB and Cars3D are read from small files in their published form, every image under its own factors."""

import gzip
import io
import re
import struct
import sys
import tarfile
from typing import ClassVar

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from datamodules import Cars3D, Shapes3D, SmallNORB
from zoo.errors import ZooError


class Shapes(Shapes3D):
    grid: ClassVar = {"floor_hue": 2, "wall_hue": 3, "object_hue": 2, "scale": 2, "shape": 4, "orientation": 5}


class Norb(SmallNORB):
    grid: ClassVar = {"category": 2, "elevation": 3, "azimuth": 4, "lighting": 2}
    copies = 4


class Cars(Cars3D):
    grid: ClassVar = {"elevation": 4, "azimuth": 24, "object": 5}
    side = 16


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def color(places, kind):
    """A color of their own for the class indices (..., K)."""
    number = np.ravel_multi_index(tuple(np.moveaxis(places, -1, 0)), tuple(kind.grid.values()))
    return np.stack([number % 256, number // 256, 7 * number % 256], axis=-1).astype(np.uint8)


def grid(kind):
    """Class indices (N, K) of the whole, the last fastest."""
    return np.stack(np.meshgrid(*map(np.arange, kind.grid.values()), indexing="ij"), -1).reshape(-1, len(kind.grid))


def shapes_file(path, order=slice(None), **options):
    """A picture of one color and a black corner for each combination; labels are values as the published ones."""
    places = grid(Shapes)
    images = np.broadcast_to(color(places, Shapes)[:, None, None], (len(places), 64, 64, 3)).copy()
    images[:, 0, 1] = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset("images", data=images, compression="gzip", compression_opts=1, **options)
        file.create_dataset("labels", data=(places * [0.1, 0.1, 0.1, 0.07, 1, 4.3] - [0, 0, 0, 0, 0, 30.0])[order])


def matrix(array):
    """An array in NORB's format: unused sizes up to the third are 1."""
    magic = {1: 0x1E3D4C55, 4: 0x1E3D4C54}[array.dtype.itemsize]
    sizes = (*array.shape, 1, 1)[: max(3, array.ndim)]
    return struct.pack(f"<{2 + len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()


def norb_files():
    """Both parts in an order of their own, two toys each; the left photograph has a level of its own, the right is white."""
    draw = np.random.RandomState(0)
    files = {}
    names = [file.name.removesuffix("-dat.mat.gz") for file in SmallNORB.published[::3]]
    for name, toys in zip(names, ((1, 3), (0, 2)), strict=True):
        rows = draw.permutation([(*place, toy) for place in grid(Norb) for toy in toys]).astype("<i4")  # c, e, a, l, toy
        pairs = np.full((len(rows), 2, 96, 96), 255, np.uint8)
        pairs[:, 0] = np.ravel_multi_index(tuple(rows.T), (*Norb.grid.values(), 4))[:, None, None]
        files[f"{name}-dat.mat"] = matrix(pairs)
        files[f"{name}-cat.mat"] = matrix(np.ascontiguousarray(rows[:, 0]))
        files[f"{name}-info.mat"] = matrix(np.stack([rows[:, 4], rows[:, 1], 2 * rows[:, 2], rows[:, 3]], 1).astype("<i4"))
    return files


def cars_files(names=("car_007_mesh", "car_001_mesh", "car_010_mesh", "car_002_mesh", "car_100_mesh"), **more):
    files = {}
    for name in names:
        places = np.stack(np.meshgrid(np.arange(24), np.arange(4), [sorted(names).index(name)], indexing="ij"), -1)[:, :, 0]
        colors = color(places[..., [1, 0, 2]], Cars)  # (azimuth, elevation, 3)
        content = io.BytesIO()
        savemat(content, {"im": np.tile(colors.transpose(2, 0, 1), (16, 16, 1, 1, 1)), "mask": np.zeros(3)} | more)
        files[f"{name}.mat"] = content.getvalue()
    return files


def tar(files, folder="data/cars"):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as writer:
        for name, content in {"../shapes48.mat": b"", "list.txt": b"", **files}.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            writer.addfile(member, io.BytesIO(content))
    return archive.getvalue()


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def check(data):
    """All images in three splits and rendered, each with the color of its factors, which are those of the whole grid."""
    data.prepare_data()
    splits = data.load()
    total = len(grid(type(data))) * data.copies
    assert [len(part) for part in splits.values()] == [
        round(0.8 * total),
        round(0.9 * total) - round(0.8 * total),
        total - round(0.9 * total),
    ]
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    batches = [batch for loader in loaders for batch in loader]
    x, factors = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("x", "factors"))
    assert (x.dtype, x.shape[1:], factors.dtype) == (torch.uint8, data.spec.shape, torch.int64)
    order = np.lexsort(factors.numpy().T[::-1])
    assert np.array_equal(factors[order], np.repeat(grid(type(data)), data.copies, axis=0))
    if data.copies == 1:
        assert np.array_equal(x[:, :, 9, 9], color(factors.numpy(), type(data)))
        assert torch.equal(data.render(factors), x)
    return x, factors


@pytest.mark.parametrize("place", ["3dshapes.h5", "shapes3d/3dshapes.h5"])
def test_shapes3d(tmp_path, place):
    shapes_file(tmp_path / place)
    x, _ = check(Shapes(str(tmp_path), batch_size=64))
    assert (x[:, :, 0, 1] == 0).all()
    assert (x[:, :, 1, 0] == x[:, :, 9, 9]).all(), "rows and columns are not exchanged"


def test_shapes3d_is_read_by_its_chunks(tmp_path):
    shapes_file(tmp_path / "3dshapes.h5", chunks=(7, 64, 16, 3))
    check(Shapes(str(tmp_path)))


def test_a_subset_and_another_resolution_are_decoded_alone(tmp_path):
    shapes_file(tmp_path / "3dshapes.h5")
    few = {"shape": [1, 3], "wall_hue": [2]}
    data = Shapes(str(tmp_path), resolution=16, factors=few, batch_size=8)
    data.setup()
    assert data.spec.name == "shapes3d[16px,wall_hue=2,shape=1+3]"
    assert data.spec.factor_sizes == (2, 2, 2, 2, 5)
    assert data.images.shape == (80, 3, 16, 16)
    for batch in data.train_dataloader():
        assert np.array_equal(batch.x[:, :, 9, 9], color(data.places(batch.factors), Shapes))
    kept = [path.name for path in (tmp_path / "cache").iterdir()]
    Shapes(str(tmp_path)).setup()
    assert len(list((tmp_path / "cache").iterdir())) == 2
    (tmp_path / "cache" / kept[0]).write_bytes(b"")
    with pytest.raises(ZooError, match=rf"{kept[0]} can't be read"):
        Shapes(str(tmp_path), resolution=16, factors=few).load()


@pytest.mark.parametrize("end", ["", ".gz"])
def test_smallnorb(tmp_path, end):
    pack = gzip.compress if end else bytes
    write(tmp_path / "smallnorb", {name + end: pack(content) for name, content in norb_files().items()})
    data = Norb(str(tmp_path))
    assert not data.deterministic
    x, factors = check(data)
    level = x[:, 0, 9, 9].numpy().astype(int)
    assert sorted(level) == list(range(192)), "each toy's left photograph once"
    assert np.array_equal(np.ravel_multi_index(tuple(factors.numpy().T), tuple(Norb.grid.values())), level // 4)
    some = factors[:1].expand(200, -1)
    assert {n // 4 for n in data.render(some)[:, 0, 9, 9].tolist()} == {level[0] // 4}
    assert len(data.render(some)[:, 0, 9, 9].unique()) == 4, "each toy is drawn at some time"
    torch.manual_seed(0)
    first = data.render(some)
    torch.manual_seed(0)
    assert torch.equal(first, data.render(some))


def test_photographs_are_resized_as_pillow_does(tmp_path):
    files = norb_files()
    name = next(name for name in files if name.endswith("training-dat.mat"))
    photograph = np.random.RandomState(1).randint(0, 256, (96, 96), np.uint8)
    content = bytearray(files[name])
    content[24 : 24 + 96 * 96] = photograph.tobytes()
    write(tmp_path, files | {name: bytes(content)})
    data = Norb(str(tmp_path))
    data.setup()
    expected = np.asarray(Image.fromarray(photograph).resize((64, 64), Image.Resampling.LANCZOS))
    assert (data.images.numpy()[:, 0] == expected).all((1, 2)).sum() == 1


@pytest.mark.parametrize("form", ["archive", "cars", "cars3d/data/cars"])
def test_cars3d(tmp_path, form):
    if form == "archive":
        write(tmp_path, {"nips2015-analogy-data.tar.gz": tar(cars_files())})
    else:
        write(tmp_path / form, cars_files())
    check(Cars(str(tmp_path), resolution=16))
    check(Cars(str(tmp_path), batch_size=100))


@pytest.mark.parametrize("kind", [Norb, Cars])
def test_held_out_combinations_are_the_test_split_and_all_are_rendered(tmp_path, kind):
    write(tmp_path, norb_files() if kind is Norb else cars_files())
    folder = tmp_path if kind is Norb else tmp_path / "cars"
    if kind is Cars:
        write(folder, cars_files())
    name = "lighting" if kind is Norb else "object"
    hold_out, correlate = {"elevation": [0, 2], name: [1]}, {"elevation": name, "strength": 0.3}
    data = kind(str(tmp_path), resolution=16, hold_out=hold_out, correlate=correlate)
    data.prepare_data()
    data.setup()
    column = data.factor_names.index(name)
    for split, part in data.splits.items():
        elevation = part.factors[:, data.factor_names.index("elevation")]
        held = ((elevation == 0) | (elevation == 2)) & (part.factors[:, column] == 1)
        assert held.all() if split == "test" else not held.any()
    assert len(data.splits["test"]) == data.count * 2 // (kind.grid["elevation"] * kind.grid[name])
    assert data.splits["val"].weights is None and len(data.splits["train"].weights) == len(data.splits["train"])
    every = torch.from_numpy(grid(kind))
    rendered = data.render(every)  # test images that are not held out among them
    whole = kind(str(tmp_path), resolution=16)
    whole.setup()
    assert len(data.images) == len(whole.images) == data.count
    if kind is Cars:
        assert torch.equal(rendered, whole.render(every))
        assert torch.equal(data.splits["test"].x, whole.render(data.splits["test"].factors.long()))
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 2, "they lie in another order"


def norb_without(end, change):
    def files():
        written = norb_files()
        name = next(name for name in written if name.endswith(end))
        return written | {name: change(written[name])}

    return files


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        (Shapes, lambda: {"3dshapes.h5": b"<html>not found</html>"}, r"3dshapes\.h5 can't be read"),
        (Norb, norb_without("training-dat.mat", lambda content: content[:-1]), r"training-dat\.mat .*ends too early"),
        (Norb, norb_without("training-dat.mat", lambda content: gzip.compress(content)[:-5]), r"training-dat\.mat can't"),
        (Norb, norb_without("testing-dat.mat", lambda content: b"\0" + content), r"testing-dat\.mat .*magic number"),
        (Norb, norb_without("testing-cat.mat", lambda content: content[:6]), r"testing-cat\.mat .*ends too early"),
        (Norb, norb_without("testing-info.mat", lambda content: b"html" + content[4:]), r"testing-info\.mat .*magic"),
        (Norb, norb_without("testing-info.mat", lambda c: c[:24] + b"\x09" + c[25:]), r"testing-info\.mat can't"),
        (Norb, norb_without("testing-info.mat", lambda c: c[:28] + b"\x01" + c[29:]), r"testing-info\.mat .*azimuth is odd"),
        (Cars, lambda: {"nips2015-analogy-data.tar.gz": tar(cars_files())[:-3000]}, r"data\.tar\.gz can't be read"),
        (Cars, lambda: {"nips2015-analogy-data.tar.gz": tar(cars_files(("car_1_mesh",)))}, "holds 1 files .* 5 are needed"),
        (
            Cars,
            lambda: {"nips2015-analogy-data.tar.gz": tar(cars_files(im=np.zeros((16, 16, 3, 24))))},
            r"im in car_007_mesh\.mat is float64",
        ),
    ],
)
def test_what_is_damaged_or_something_else_is_named(tmp_path, kind, files, message):
    write(tmp_path, files())
    with pytest.raises(ZooError, match=message) as caught:
        kind(str(tmp_path)).load()
    assert str(tmp_path) in str(caught.value)
    assert str(caught.value).count("\n") < 2
    assert not list((tmp_path / "cache").iterdir())


def test_toys_that_come_twice_leave_others_out(tmp_path):
    files = norb_files()
    parts = sorted(name for name in files if "dat" not in name)
    write(tmp_path, files | dict(zip(parts[:2], [files[name] for name in parts[2:]], strict=True)))
    with pytest.raises(ZooError, match=r"96 of 192 combinations of factors have no image"):
        Norb(str(tmp_path)).load()


def test_labels_in_another_order_are_refused(tmp_path):
    shapes_file(tmp_path / "3dshapes.h5", order=slice(None, None, -1))
    with pytest.raises(ZooError, match=r"3dshapes\.h5 .*labels are not in shapes3d's order"):
        Shapes(str(tmp_path)).load()
    with pytest.raises(ZooError, match=r"images are uint8 \(480, 64, 64, 3\)"):
        Shapes3D(str(tmp_path)).load()


def test_without_h5py_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ZooError, match=r"pip install 'generative-zoo\[h5\]'"):
        Shapes3D(str(tmp_path)).prepare_data()


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Shapes3D, "3dshapes.h5 (SHA-256 0a0f6ed98baff276a50f3a081a7434d788da63cb135a98189b2a5b5769be1785)"),
        (SmallNORB, "smallnorb-5x46789x9x18x6x2x96x96-training-dat.mat.gz (SHA-256 5ffd6272"),
        (Cars3D, "nips2015-analogy-data.tar.gz (MD5 4e866a7919c1beedf53964e6f7a23686)"),
    ],
)
def test_without_network_the_error_says_what_to_put_where(tmp_path, monkeypatch, kind, name):
    import pooch

    retrieve = pooch.retrieve
    monkeypatch.setattr(pooch, "retrieve", lambda url, *rest, **options: retrieve("http://127.0.0.1:9/", *rest, **options))
    for action, reason in (("prepare_data", "no connection"), ("load", "prepare_data() downloads it")):
        with pytest.raises(ZooError, match=re.escape(reason)) as caught:
            getattr(kind(str(tmp_path)), action)()
        assert str(caught.value).startswith(name)
        assert str(caught.value).endswith(f"in {tmp_path / kind.folders[0]}.")
        assert str(caught.value).count("\n") == 1


class Deep(Norb):
    """Images of a type and levels of one's own."""

    levels, made, side = 1024, np.arange(192, dtype=np.uint16) * 5, 64

    def read(self, paths):
        yield np.arange(192), np.broadcast_to(self.made[:, None, None], (192, self.side, self.side))


def deep(tmp_path, **attributes):
    write(tmp_path, norb_files())
    return type("Deep", (Deep,), attributes)(str(tmp_path), eval_batch_size=1000)


def test_images_of_more_than_8_bits_keep_their_levels(tmp_path):
    for _ in range(2):  # decoded, and then found
        data = deep(tmp_path)
        data.setup()
        found = torch.cat([part.x for part in data.splits.values()])
        assert found.dtype == torch.int16
        assert torch.equal(found[:, 0, 0, 0].sort().values, torch.arange(192, dtype=torch.int16) * 5)
        assert data.render(data.sample_factors(3)).dtype == torch.int16


def test_images_of_more_than_the_levels_are_refused(tmp_path):
    """And not written into bytes, where they would be other levels."""
    with pytest.raises(ZooError, match="an image is uint16, 260 to 260, and 0 to 255 are needed"):
        deep(tmp_path, levels=256).load()
    with pytest.raises(ZooError, match="uint16 images have 32 pixels: only 8 bits are resized"):
        deep(tmp_path, side=32).load()
