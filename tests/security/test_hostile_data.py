"""Data files that were made to harm: small ones that hold gigabytes, ones that never end, and ones that lie."""

import gzip
import io
import os
import pickle
import socket
import struct
import tarfile
import zipfile
import zlib
from typing import ClassVar

import h5py
import numpy as np
import pytest
from limits import refusal
from PIL import Image

from datamodules import CIFAR10, MNIST, BackgroundDSprites, Cars3D, DSprites, ImageFolder, Shapes3D, SmallNORB
from datamodules.memory_map import memory_mapped
from datamodules.readers import read_mat, read_npz, tar_files
from zoo.errors import ZooError
from zoo.pickles import read_pickle


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))


def zeros(size: int, start: bytes = b"") -> bytes:
    """``start`` and as many zero bytes, as gzip: 1 MB for each GB."""
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1) as file:
        file.write(start)
        for _ in range(size // 2**24):
            file.write(bytes(2**24))
    return out.getvalue()


@pytest.fixture(scope="module")
def gigabyte():
    return zeros(2**30)


def idx(*shape: int) -> bytes:
    return struct.pack(f">4B{len(shape)}i", 0, 0, 8, len(shape), *shape)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (idx(60_000, 28, 28), "does not end where it should"),
        (idx(2**31 - 1, 28, 28), "promises 2147483647 x 28 x 28 bytes; up to 47,040,000"),
        (idx(-1, -1, -1), "promises"),
        (b"", "no IDX header"),
    ],
)
def test_an_idx_file_is_inflated_as_far_as_its_data_set_goes(tmp_path, gigabyte, header, message):
    members = gzip.compress(header) + gigabyte  # two members are one file
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(members)
    for name in ("train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"):
        (tmp_path / name).write_bytes(idx(0))
    assert message in refusal(MNIST(str(tmp_path)).load)


def test_an_npz_is_inflated_as_far_as_its_arrays_go(tmp_path):
    with zipfile.ZipFile(tmp_path / "mnist.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in ("x_train", "y_train", "x_test", "y_test"):
            archive.writestr(f"{name}.npy", bytes(2**26))
    assert "x_train has 67,108,864 bytes, and up to 47,040,000" in refusal(MNIST(str(tmp_path)).load)


@pytest.mark.parametrize("shape", [(2**40,), (-1,), (2**20, 2**20, 2**20, 0)])
def test_an_npy_header_is_not_believed(tmp_path, shape):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("array.npy", file.getvalue() + b"abc")
    with pytest.raises(ValueError, match=r"reshape|shape|buffer"):
        read_npz(tmp_path / "a.npz", {"array": 100})


def test_an_npz_that_lies_about_its_size_is_refused(tmp_path):
    file = io.BytesIO()
    np.save(file, np.zeros(100_000, np.uint8))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("array.npy", file.getvalue())
    content = (tmp_path / "a.npz").read_bytes()
    size = struct.pack("<I", len(file.getvalue()))
    assert content.count(size) == 2
    (tmp_path / "a.npz").write_bytes(content.replace(size, struct.pack("<I", 300)))
    with pytest.raises((ValueError, zipfile.BadZipFile)):
        read_npz(tmp_path / "a.npz", {"array": 100_000})


def archive(tmp_path, name: str, members: dict[str, int], kind: bytes = tarfile.REGTYPE) -> str:
    """A compressed archive of files of zeros."""
    with gzip.open(tmp_path / name, "wb", compresslevel=1) as out:
        for member, size in members.items():
            info = tarfile.TarInfo(member)
            info.size, info.type = size, kind
            out.write(info.tobuf(tarfile.GNU_FORMAT))
            for _ in range(size // 2**24):
                out.write(bytes(2**24))
    return str(tmp_path)


@pytest.mark.parametrize(
    ("member", "kind", "message"),
    [
        ("data_batch_1.bin", tarfile.REGTYPE, "holds more than its size allows for"),
        ("readme.html", tarfile.REGTYPE, "holds more than its size allows for"),
        ("long", tarfile.GNUTYPE_LONGNAME, "holds more than its size allows for"),
        ("pax", tarfile.XHDTYPE, "holds more than its size allows for"),
    ],
)
def test_an_archive_is_inflated_within_bounds(tmp_path, member, kind, message):
    root = archive(tmp_path, "cifar-10-binary.tar.gz", {member: 2**28}, kind)
    assert message in refusal(CIFAR10(root).load)


def test_a_member_of_an_archive_that_is_too_large_is_not_read(tmp_path):
    root = archive(tmp_path, "cifar-10-binary.tar.gz", {"data_batch_1.bin": 3 * 2**24})
    assert "data_batch_1.bin has 50,331,648 bytes" in refusal(CIFAR10(root).load)
    root = archive(tmp_path, "nips2015-analogy-data.tar.gz", {f"cars/car_{n:03}_mesh.mat": 2**24 for n in range(1)})
    few = type("Few", (Cars3D,), {"grid": {"elevation": 4, "azimuth": 24, "object": 1}})
    assert "car_000_mesh.mat has 16,777,216 bytes" in refusal(few(root).load)


def test_an_archive_of_many_empty_files_ends(tmp_path):
    header = tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT)
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(header * 100_000, 1))
    assert "holds more than" in refusal(CIFAR10(str(tmp_path)).load)


def test_a_negative_size_in_an_archive_is_refused(tmp_path):
    info = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    info[124:136] = b"\xff" * 12  # base 256: minus one
    info[148:156] = b"%06o\0 " % (256 + sum(info[:148]) + sum(info[156:512]))
    (tmp_path / "a.tar").write_bytes(info)
    with pytest.raises(ValueError, match="holds more than"):
        list(tar_files(tmp_path / "a.tar"))


def doubled(levels: int, make: str) -> bytes:
    """A pickle of tuples, each of which holds the last one twice, with the innermost as a key where ``make`` says so."""
    content = b"\x80\x02)"
    for _ in range(levels):
        content += b"2\x86"  # DUP, TUPLE2
    return content + {"alone": b".", "key": b"}q\x000h\x00."}[make]


def shared(levels: int, container: bytes = b"\x86") -> bytes:
    """The same by the memo, as the key of a dictionary: hashing it takes 2^levels steps."""
    content = b"\x80\x02})"
    for number in range(levels):
        content += b"q" + bytes([number]) + b"h" + bytes([number]) + container
    return content + b"K\x01s."


BOMBS = {
    "tuples as a key": shared(60),
    "tuples": shared(60)[:-3].replace(b"}", b"", 1) + b".",
    "duplicates": doubled(60, "alone"),
    "lists": b"\x80\x02]" + b"".join(b"q%c]h%ch%c\x86e".replace(b"e", b"a") % (n, n, n) for n in range(5)) + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a million of one level": b"\x80\x02" + b")" + b"\x85" * 1_000_000 + b".",
    "an array of the size of its header": b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\n"
    b"cnumpy\nndarray\n\x8a\x08\0\0\0\0\0\x01\0\0\x85U\x01b\x87RsU\x06labels]s.",
    "a large number": b"\x80\x02\x8b\0\0\x10\0" + b"\x7f" * 2**20 + b".",
    "numbers of one hash": b"\x80\x02}("
    + b"".join(b"\x8a\x0a" + (n * (2**61 - 1)).to_bytes(10, "little") + b"N" for n in range(60_000))
    + b"u.",
    "nothing": b"",
    "no stack": b"\x80\x02.",
    "ends": b"\x80\x02}U",
    "a string of gigabytes": b"\x80\x02T\xff\xff\xff\x7fabc.",
    "a frame of gigabytes": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a sparse memo": b"\x80\x02Nr\xff\xff\xff\x7f.",
    "an instance": b"(ios\nsystem\n.",
    "an extension": b"\x80\x02\x82\x01.",
    "a pickle that builds": b"\x80\x02}}b.",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_pickle_for_cifar_takes_no_longer_than_it_is_long(tmp_path, bomb):
    for name in ("data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "data_batch_1").write_bytes(BOMBS[bomb])
    assert "data_batch_1 can't be read" in refusal(CIFAR10(str(tmp_path)).load)


def test_a_pickle_calls_nothing_that_it_is_not_given():
    class Malice:
        def __reduce__(self):
            return os.system, ("touch /tmp/made",)

    for protocol in range(1, 6):
        for value in (Malice(), [os.getcwd], {"a": zipfile.ZipFile}, np.zeros(3)):
            with pytest.raises(ValueError, match=r"wants to call|opcode"):
                read_pickle(pickle.dumps(value, protocol), {})


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_of_data_is_what_it_was(protocol):
    value = {"a": [1, -2, 2.5, 2**70, True, None, "é" * 300, ""], 3: ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), b"k": {}}
    value["shared"] = value["a"]
    calls = {"_codecs.encode": lambda text, encoding: text.encode("latin1"), "builtins.bytes": bytes}
    found = read_pickle(pickle.dumps(value, protocol), calls)
    assert found == value
    assert found["shared"] is found["a"]


def pictures(folder, count: int = 40):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / f"{number:03}.png")
    return folder


def pipe(path):
    os.mkfifo(path)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))


def device(path):
    path.symlink_to("/dev/zero")


def link_to_itself(path):
    path.symlink_to(path)


@pytest.mark.parametrize("make", [pipe, a_socket, device, link_to_itself, lambda path: path.mkdir() or path.touch()])
def test_what_is_no_file_among_pictures_is_named(tmp_path, monkeypatch, make):
    monkeypatch.chdir(tmp_path)
    folder = pictures(tmp_path / "pets")
    make(folder / "a.png")
    if (folder / "a.png").is_dir():
        ImageFolder(str(folder), size=4).load()  # a folder called like a picture is a folder
    else:
        assert "a.png can't be read" in refusal(ImageFolder(str(folder), size=4).load)


def png(width: int, height: int) -> bytes:
    """A picture of zeros in three channels: a kilobyte for each million pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    packer, rows = zlib.compressobj(1), []
    for _ in range(height):
        rows.append(packer.compress(bytes(1 + 3 * width)))
    rows.append(packer.flush())
    header = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"".join(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9_000, 9_000), (20_000, 20_000), (2**31 - 1, 1)])
def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, size):
    folder = pictures(tmp_path / "pets")
    (folder / "a.png").write_bytes(png(*size) if size[1] < 20_000 and size[0] < 20_000 else png(1, 1)[:16] + struct.pack(
        ">2I5B", *size, 8, 2, 0, 0, 0) + png(1, 1)[29:])
    assert "a.png can't be read as a picture" in refusal(ImageFolder(str(folder), size=4).load)
    assert "a.png can't be read" in refusal(lambda: BackgroundDSprites(str(folder / "a.png")))


def test_a_large_photograph_is_decoded_at_a_fraction_of_its_size(tmp_path):
    folder = pictures(tmp_path / "pets")
    Image.new("RGB", (9_000, 9_000)).save(folder / "large.jpg", quality=10)
    assert sum(map(len, ImageFolder(str(folder), size=4).load().values())) == 41


def test_what_only_looks_like_a_picture_starts_no_program(tmp_path, monkeypatch):
    """Pillow hands Encapsulated PostScript to Ghostscript, whatever the file is called."""
    folder = pictures(tmp_path / "pets")
    (folder / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    monkeypatch.setattr("subprocess.check_call", lambda *_, **__: pytest.fail("a program was started"))
    with pytest.raises(ZooError, match=r"a\.png can't be read as a picture"):
        ImageFolder(str(folder), size=4).load()


@pytest.mark.parametrize("position", [0, 20, 90, 130, 1000, -1, -2])
def test_a_flipped_bit_in_a_cache_is_noticed(tmp_path, position):
    folder = pictures(tmp_path / "pets")
    ImageFolder(str(folder), size=4).load()
    (kept,) = (tmp_path / "cache").iterdir()
    content = bytearray(kept.read_bytes())
    content[position] ^= 4
    kept.write_bytes(content)
    with pytest.raises(ZooError, match=r"folder-.*\.npy can't be read .*remove it"):
        ImageFolder(str(folder), size=4).load()


@pytest.mark.parametrize(
    "array", [np.zeros((40, 3, 4, 4), np.float32), np.zeros((40, 3, 4, 5), np.uint8), np.zeros((3, 4), np.uint8), None]
)
def test_a_cache_of_another_type_or_shape_is_refused(tmp_path, array):
    folder = pictures(tmp_path / "pets")
    ImageFolder(str(folder), size=4).load()
    (kept,) = (tmp_path / "cache").iterdir()
    kept.unlink()
    if array is None:
        os.mkfifo(kept)
    else:
        np.save(kept, array)
    assert "can't be read" in refusal(ImageFolder(str(folder), size=4).load)


def test_a_cache_of_several_blocks_is_checked_in_each(tmp_path):
    shape = (40, 1, 1000, 1000)
    images = memory_mapped("blocks.npy", shape, lambda array: array.fill(7))
    assert (images == 7).all() and images.shape == shape
    place = tmp_path / "cache" / "blocks.npy"
    for position in (2**24 + 200, place.stat().st_size - 20):
        with open(place, "r+b") as file:
            file.seek(position)
            file.write(b"\x06")
        with pytest.raises(ZooError, match="checksum differs"):
            memory_mapped("blocks.npy", shape, None)
        with open(place, "r+b") as file:
            file.seek(position)
            file.write(b"\x07")
    assert np.array_equal(np.load(place), np.full(shape, 7, np.uint8)), "an npy file that others can read"


class Norb(SmallNORB):
    grid: ClassVar = {"category": 2, "elevation": 3, "azimuth": 4, "lighting": 2}
    copies = 4


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<5i", 0x1E3D4C54, 1, 2**31 - 1, 1, 1),
        struct.pack("<5i", 0x1E3D4C54, 1, -1, 1, 1),
        struct.pack("<5i", 0x1E3D4C54, 1, 96, 1, 1),
    ],
)
def test_a_matrix_is_inflated_as_far_as_its_data_set_goes(tmp_path, gigabyte, header):
    for file in SmallNORB.published:
        (tmp_path / file.name).write_bytes(gzip.compress(header) + gigabyte[:100_000])
    assert "-cat.mat.gz can't be read" in refusal(Norb(str(tmp_path)).load)


def mat(*elements: bytes) -> bytes:
    return bytes(124) + b"\x00\x01IM" + b"".join(elements)


def element(kind: int, content: bytes, size: int | None = None) -> bytes:
    padding = b"" if kind == 15 else bytes(-len(content) % 8)
    return struct.pack("<2I", kind, len(content) if size is None else size) + content + padding


def matrix(shape: tuple[int, ...], values: bytes, name: bytes = b"im", **sizes: int) -> bytes:
    flags = element(6, struct.pack("<2I", 9, 0))
    dimensions = element(5, struct.pack(f"<{len(shape)}i", *shape))
    return element(14, flags + dimensions + element(1, name) + element(2, values, **sizes))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        bytes(127),
        mat(),
        mat(matrix((2, 3), b"123456", size=2**32 - 1)),
        mat(matrix((2**31 - 1, 2**31 - 1), b"123456")),
        mat(matrix((-1, -6), b"123456")),
        mat(matrix((2, 3), b"12345")),
        mat(element(15, zlib.compress(matrix((2, 3), b"12345")))),
        mat(element(15, zlib.compress(bytes(2**28), 1))),
        mat(element(15, zlib.compress(matrix((2, 3), bytes(2**28)), 1)), element(15, b"no zlib")),
        mat(element(14, b"")),
        mat(element(14, element(6, b"\x09"))),
        mat(*[element(15, zlib.compress(bytes(2**20), 1))] * 100),
    ],
)
def test_a_mat_file_is_inflated_as_far_as_its_array_goes(content):
    def read():
        try:
            read_mat(content, "im", (2, 3), "car.mat")
        except (ValueError, zlib.error) as error:
            raise ZooError(str(error)) from None

    refusal(read)


def test_a_mat_file_with_other_variables(tmp_path):
    values = bytes(range(6))
    for pack in (bytes, lambda inner: element(15, zlib.compress(inner))):
        content = mat(pack(matrix((50, 1), bytes(50), b"mask")), pack(matrix((2, 3), values)))
        assert np.array_equal(read_mat(content, "im", (2, 3), "car.mat"), [[0, 2, 4], [1, 3, 5]])


class Shapes(Shapes3D):
    grid: ClassVar = {"floor_hue": 2, "wall_hue": 3, "object_hue": 2, "scale": 2, "shape": 4, "orientation": 5}


def outside(file):
    file["images"] = h5py.ExternalLink("other.h5", "/images")


def virtual(file):
    layout = h5py.VirtualLayout((480, 64, 64, 3), np.uint8)
    layout[:] = h5py.VirtualSource("other.h5", "images", (480, 64, 64, 3))
    file.create_virtual_dataset("images", layout)


def external(file):
    file.create_dataset("images", (480, 64, 64, 3), np.uint8, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])


def large_pieces(file):
    file.create_dataset("images", (480, 64, 64, 3), np.uint8, maxshape=(None, 64, 64, 3), chunks=(10**5, 64, 64, 3))


def group(file):
    file.create_group("images")


def large_labels(file):
    file.create_dataset("images", (480, 64, 64, 3), np.uint8)
    del file["labels"]
    file.create_dataset("labels", (2**40, 6), np.float64, chunks=(100, 6))


@pytest.mark.parametrize("make", [outside, virtual, external, large_pieces, group, large_labels])
def test_an_hdf5_file_keeps_its_arrays_in_itself_and_in_small_pieces(tmp_path, make):
    with h5py.File(tmp_path / "3dshapes.h5", "w") as file:
        file.create_dataset("labels", (480, 6), np.float64)
        make(file)
    assert "3dshapes.h5 can't be read" in refusal(Shapes(str(tmp_path)).load)


def test_only_a_small_file_is_compared_with_the_published_sprites(tmp_path):
    with open(tmp_path / "large.npz", "wb") as file:
        file.truncate(2**34)
    assert "it has 17,179,869,184 bytes" in refusal(DSprites(original=str(tmp_path / "large.npz")).load)
    os.mkfifo(tmp_path / "pipe.npz")
    assert "it is a pipe and no file" in refusal(DSprites(original=str(tmp_path / "pipe.npz")).load)
