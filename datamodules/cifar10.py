"""CIFAR-10: 32x32 color photographs, from the binary version or, as data that can call nothing, the Python version."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import torch

from datamodules.base import DataModule
from datamodules.files import Published, download, find, reading
from datamodules.loader import Arrays
from datamodules.readers import open_regular, read_exactly, tar_files
from zoo.errors import ZooError
from zoo.pickles import read_pickle
from zoo.spec import DataSpec

__all__ = ["CIFAR10"]

_BINARY = Published(
    "cifar-10-binary.tar.gz",
    "c32a1d4ab5d03f1284b67883e8d87530",  # recalled, not verified on a copy
    ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
)
_PYTHON = Published(
    "cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",  # recalled, not verified on a copy
    ("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",),
)
_BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch")
_PIXELS = 3 * 32 * 32


class CIFAR10(DataModule):
    """60,000 photographs of ten kinds of things, 3x32x32, 256 levels, with labels.

    Splits: the first 45,000 of the training batches train, their last 5,000 validate, the test batch's 10,000 test.
    The binary version is preferred, as archive or extracted, since it needs no unpickling; the Python version is read
    where only it is found under ``root``. Where neither is, the binary archive is downloaded.

    Arguments:
        root: Folder where the files are, or will be downloaded to.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: where files are missing and can't be downloaded, or are damaged.

    References:
        | Learning Multiple Layers of Features from Tiny Images (Krizhevsky, 2009)
    """

    spec = DataSpec("cifar10", (3, 32, 32), levels=256)
    per_batch = 10_000  # images of each of the six files
    validation = 5_000
    folders = ("", "cifar10", "CIFAR10", "cifar-10-batches-py-target")

    def __init__(
        self,
        root: str = "data",
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        super().__init__(batch_size, eval_batch_size, seed, on_device)
        self.root = Path(root).expanduser()

    def prepare_data(self) -> None:
        """Download the binary archive where no version is there."""
        if self._find() is None:
            download(_BINARY, self.root, self._advice)

    def load(self) -> dict[str, Arrays]:
        """The three splits, always the same."""
        if (found := self._find()) is None:
            raise ZooError(f"{_BINARY} was not found; prepare_data() downloads it.\n{self._advice}")
        path, end, decode = found
        names = [name + end for name in _BATCHES]
        images, labels = [], []
        for name, content in zip(names, _contents(path, names, self.per_batch), strict=True):
            with reading(path / name if path.is_dir() else f"{path}: {name}"):
                pixels, classes = decode(content)
                rows = (len(pixels), len(classes)) == (self.per_batch, self.per_batch)
                if not rows or pixels.shape[1] != _PIXELS or classes.min() < 0 or classes.max() > 9:
                    raise ValueError(f"{self.per_batch} images of {_PIXELS} bytes with labels 0 to 9 are needed")
            images.append(pixels.reshape(-1, *self.spec.shape))
            labels.append(classes)
        every = Arrays(torch.from_numpy(np.concatenate(images)), label=torch.from_numpy(np.concatenate(labels)))
        test = len(every) - self.per_batch
        val = test - self.validation
        ends = {"train": slice(0, val), "val": slice(val, test), "test": slice(test, None)}
        return {split: every.subset(part) for split, part in ends.items()}

    @property
    def _advice(self) -> str:
        return f"Put it, or {_PYTHON}, in {self.root}."

    def _find(self) -> tuple[Path, str, Callable[[bytes], tuple[np.ndarray, np.ndarray]]] | None:
        """Archive or folder of a version, how its batches' names end, and what reads them."""
        versions = (
            ("cifar-10-batches-bin", ".bin", _BINARY.name, _from_binary),
            ("cifar-10-batches-py", "", _PYTHON.name, _from_pickle),
        )
        for extracted, end, archive, decode in versions:
            inside = [Path(folder, extracted) for folder in self.folders]
            if batch := find(self.root, [*inside, *self.folders], [_BATCHES[0] + end]):
                return batch.parent, end, decode
            if path := find(self.root, self.folders, [archive, archive.removesuffix(".gz"), f"{extracted}.tar.gz"]):
                return path, end, decode
        return None


def _contents(path: Path, names: list[str], images: int) -> list[bytes]:
    """The named files of a folder or of a tar archive, each of so many images."""
    most = images * (_PIXELS + 200) + 2**16  # names of files and labels are stored beside the pixels
    with reading(path):
        contents = {}
        files = tar_files(path) if not path.is_dir() else _files(path, names)
        for member, size, content in files:
            if (name := Path(member).name) in names:
                if size > most:
                    raise ValueError(f"{name} has {size:,} bytes, and up to {most:,} are accepted")
                contents[name] = content()
        if missing := [name for name in names if name not in contents]:
            raise ValueError(f"{missing[0]} is not in it")
        return [contents[name] for name in names]


def _files(folder: Path, names: list[str]) -> Iterator[tuple[str, int, Callable[[], bytes]]]:
    for name in names:
        with open_regular(folder / name) as file:
            size = os.fstat(file.fileno()).st_size
            yield name, size, partial(read_exactly, file, size)


def _from_binary(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (N, 3072) and classes (N,): each row is a class and then the red, green and blue planes."""
    rows = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return rows[:, 1:], rows[:, 0]


def _from_pickle(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The same of a pickled dictionary with ``data`` and ``labels``, as Python 2 wrote it or Python 3 does."""
    batch = read_pickle(content, _CALLS)
    pixels = batch[b"data"].pixels if isinstance(batch[b"data"], _Array) else None
    if pixels is None:
        raise ValueError("data is not a uint8 array")
    return pixels, np.array(batch[b"labels"])


class _Array:
    """What a pickled array becomes: its state is set after it was made."""

    pixels: np.ndarray | None = None

    def __init__(self, *_: object):
        pass

    def build(self, state: tuple[int, tuple[int, ...], object, bool, bytes]) -> None:
        """Take the state that NumPy writes: version, shape, type, order and contents."""
        _, shape, dtype, fortran, content = state
        if not isinstance(dtype, _Type) or dtype.name not in (b"u1", "u1") or fortran not in (False, 0):
            raise ValueError("data is not a uint8 array")
        self.pixels = np.frombuffer(content, np.uint8).reshape(shape)


class _Type:
    """A pickled element type, of which the name is all that matters."""

    def __init__(self, name: bytes | str, *_: object):
        self.name = name

    def build(self, state: object) -> None:
        """Nothing: bytes have no order."""


_CALLS: dict[str, Callable[..., object]] = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.ndarray": _Array,
    "numpy.dtype": _Type,
    "_codecs.encode": lambda text, encoding: text.encode("latin1"),
}
