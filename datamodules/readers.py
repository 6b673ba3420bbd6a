"""Files that may hold anything: no more is read, inflated or allocated than what is looked for takes.

What is wrong with a file raises ValueError, which :func:`datamodules.files.reading` turns into a ZooError that names it.
"""

import contextlib
import gzip
import io
import math
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

__all__ = [
    "open_picture",
    "open_regular",
    "opened",
    "read_end",
    "read_exactly",
    "read_mat",
    "read_npz",
    "require_few_pixels",
    "tar_files",
]

_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")  # Pillow starts Ghostscript for another one
_PIXELS = 2**26  # of a picture, once it is decoded: 67 million, 0.3 GB in four channels

_SLACK, _RATIO = 2**26, 20  # an archive gives at most 64 MB and 20 times its size; the published ones at most 5 times
_HEADER = 4096  # what a header counts for, so that there are not too many empty files
_MAT_CLASSES = {6: "float64", 7: "float32", 8: "int8", 9: "uint8", 10: "int16", 11: "uint16", 12: "int32", 13: "uint32"}


def open_regular(path: str | os.PathLike) -> BinaryIO:
    """The file at ``path``, opened for reading; ValueError where it is no regular file, without waiting for a pipe."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        raise ValueError(f"it is {_KINDS.get(kind, 'a folder')} and no file")
    return open(handle, "rb")


def opened(path: str | os.PathLike) -> BinaryIO:
    """The file at ``path``, decompressed where it is gzip, whatever its name: what is read of it is inflated, no more."""
    file = open_regular(path)
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    return cast(BinaryIO, _GzipFile(file)) if packed else file


class _GzipFile(gzip.GzipFile):
    """Closes the file below as well."""

    def __init__(self, file: BinaryIO):
        super().__init__(fileobj=file)
        self._below = file

    def close(self) -> None:
        super().close()
        self._below.close()


def read_exactly(file: BinaryIO, size: int) -> bytes:
    """The next ``size`` bytes; ValueError where there are fewer."""
    content = file.read(size)
    if len(content) < size:
        raise ValueError("it ends too early")
    return content


def read_end(file: BinaryIO) -> None:
    """ValueError where anything follows; of what is compressed the checksum is compared."""
    if file.read(1):
        raise ValueError("it does not end where it should")


@contextlib.contextmanager
def open_picture(path: str | os.PathLike) -> Iterator[Image.Image]:
    """The picture in a regular file, as yet undecoded, in one of the formats that are photographs' and drawings'."""
    with open_regular(path) as file, Image.open(file, formats=_FORMATS) as picture:
        yield picture


def require_few_pixels(picture: Image.Image) -> None:
    """ValueError where a picture takes too much memory once it is decoded: a file of kilobytes can hold gigabytes."""
    if picture.width * picture.height > _PIXELS:
        raise ValueError(f"it has {picture.width}x{picture.height} pixels; up to {_PIXELS:,} are accepted")


def read_npz(path: str | os.PathLike, arrays: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Arrays of an npz file, without unpickling anything.

    Arguments:
        path: The file.
        arrays: The most bytes that each may have, by its name.
    """
    found = {}
    with open_regular(path) as file, zipfile.ZipFile(file) as archive:
        for name, limit in arrays.items():
            try:
                member = archive.getinfo(f"{name}.npy")
            except KeyError:
                raise ValueError(f"{name} is not in it") from None
            if member.file_size > limit + 4096:
                raise ValueError(f"{name} has {member.file_size:,} bytes, and up to {limit:,} are accepted")
            with archive.open(member) as content:
                found[name] = _npy(io.BytesIO(read_exactly(cast(BinaryIO, content), member.file_size)))
    return found


def _npy(file: io.BytesIO) -> np.ndarray:
    """The array of an npy file, whose header may promise more than there is."""
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if dtype.hasobject:
        raise ValueError("it needs pickle, which could run any program")
    if min(shape, default=0) < 0:
        raise ValueError(f"its shape is {shape}")
    # A copy, because torch wants memory that may be written.
    values = np.frombuffer(file.read(), dtype).copy()
    return values.reshape(shape, order="F" if fortran else "C")


def tar_files(path: str | os.PathLike) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    """Name, size and reader of each regular file of a tar archive, compressed or not, in their order.

    Of names that don't fit into a header the beginning is given. Contents must be read before the next one is asked for.
    """
    with opened(path) as file:
        left = _SLACK + _RATIO * os.fstat(file.fileno()).st_size
        while (header := file.read(tarfile.BLOCKSIZE)).strip(b"\0"):
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            padded = -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            left -= _HEADER + padded
            if member.size < 0 or left < 0:
                raise ValueError("it holds more than its size allows for")
            read = 0

            def content(size: int = member.size) -> bytes:
                nonlocal read
                read = size
                return read_exactly(file, size)

            if member.type in (tarfile.REGTYPE, tarfile.AREGTYPE):
                yield member.name, member.size, content
            while read < padded:
                read += len(read_exactly(file, min(padded - read, 2**20)))


def read_mat(content: bytes, name: str, shape: tuple[int, ...], where: str) -> np.ndarray:
    """The uint8 array of this name and shape in a MATLAB file of version 5, which is called ``where`` in messages."""
    order = {b"IM": "<", b"MI": ">"}.get(content[126:128])
    if order is None:
        raise ValueError(f"{where} is no MATLAB file of version 5")
    limit, place = math.prod(shape) + 4096, 128
    while place < len(content):
        kind, element, place = _mat_element(content, place, order)
        if kind == 15:  # compressed: one element inside
            kind, element, _ = _mat_element(zlib.decompressobj().decompress(element, limit), 0, order, cut=True)
        if kind != 14:
            continue
        _, flags, at = _mat_element(element, 0, order)
        _, sizes, at = _mat_element(element, at, order)
        _, label, at = _mat_element(element, at, order)
        if label == name.encode():
            found = _MAT_CLASSES.get(int(np.frombuffer(flags, f"{order}u4", 1)[0]) & 0xFF, "no array of numbers")
            dimensions = tuple(np.frombuffer(sizes, f"{order}i4").tolist())
            if (found, dimensions) != ("uint8", shape):
                raise ValueError(f"{name} in {where} is {found} {dimensions}, and uint8 {shape} is needed")
            stored, values, _ = _mat_element(element, at, order)
            if stored != 2:
                raise ValueError(f"{name} in {where} is stored as another type")
            return np.frombuffer(values, np.uint8).reshape(shape, order="F")
    raise ValueError(f"{name} is not in {where}")


def _mat_element(content: bytes, place: int, order: str, cut: bool = False) -> tuple[int, bytes, int]:
    """Type and contents of the data element at ``place``, and where the next one is; ``cut`` accepts one without its end."""
    if len(content) < place + 8:
        raise ValueError("it ends too early")
    kind, size = (int(value) for value in np.frombuffer(content, f"{order}u4", 2, place))
    start = place + 8
    if kind >> 16:  # a small element: size and type in four bytes, contents in the next four
        kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
    if start + size > len(content) and not cut:
        raise ValueError("it ends too early")
    padded = size if kind == 15 else -(-size // 8) * 8
    return kind, content[start : start + size], place + 8 if start == place + 4 else start + padded
