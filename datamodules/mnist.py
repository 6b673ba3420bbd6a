"""MNIST and Fashion-MNIST: 28x28 pictures in 8 bits, or binarized in a way that the spec names."""

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Generator, Tensor

from datamodules.base import DataModule
from datamodules.files import Published, download, find, reading
from datamodules.loader import Arrays
from datamodules.readers import open_regular, opened, read_end, read_exactly, read_npz
from zoo.errors import ZooError
from zoo.spec import DataSpec

__all__ = ["MNIST", "FashionMNIST"]

_STEMS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


class MNIST(DataModule):
    """70,000 handwritten digits, 28x28, with labels.

    Splits: the first 50,000 of the training file train, its last 10,000 validate, the test file's 10,000 test.
    Files are found under ``root`` as IDX, compressed or not, or as Keras' npz; else the IDX files are downloaded.

    Arguments:
        root: Folder where the files are, or will be downloaded to.
        binarize: None for 256 gray levels. ``dynamic``: each pixel is 1 with probability gray/255, drawn afresh for
            each training batch, and once for all in evaluation. ``static``: one draw for all: Larochelle's
            ``binarized_mnist_{train,valid,test}.amat`` where they are found under ``root`` (they have no labels; MNIST
            only), else a draw with seed 0. ``threshold``: 1 above 127; comparable with no published number.
            ``spec.name`` says which: ``mnist_binary``, ``mnist_binary_static[larochelle]`` or ``[seed0]``,
            ``mnist_binary_threshold``.
        batch_size, eval_batch_size, seed, on_device: See :class:`DataModule`.

    Raises:
        ZooError: where files are missing and can't be downloaded, are damaged, or hold something else.

    References:
        | Gradient-Based Learning Applied to Document Recognition (LeCun et al., 1998)
    """

    title = "mnist"
    sizes: ClassVar[Mapping[str, int]] = {"train": 50_000, "val": 10_000, "test": 10_000}
    folders: ClassVar[tuple[str, ...]] = ("MNIST/raw", "MNIST", "mnist/raw", "mnist", "raw", "")
    archives: ClassVar[tuple[str, ...]] = ("mnist.npz",)
    mirrors: ClassVar[tuple[str, ...]] = (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    published_md5: ClassVar[Mapping[str, str]] = {  # of the .gz files
        "x_train": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "y_train": "d53e105ee54ea40749a09fcbcd1e9432",
        "x_test": "9fb629c4189551a2d022fa330f9573f3",
        "y_test": "ec29112dd5afa0611ce80d1b7f02629c",
    }
    content_md5: ClassVar[Mapping[str, str]] = {  # of the same files uncompressed, whatever they come in
        "x_train": "6bbc9ace898e44ae57da46a324031adb",
        "y_train": "a25bea736e30d166cdddb491f175f624",
        "x_test": "2646ac647ad5339dbf082846283269ea",
        "y_test": "27ae3e4e09519cfbb04c329615203637",
    }

    def __init__(
        self,
        root: str = "data",
        binarize: Literal["static", "dynamic", "threshold"] | None = None,
        batch_size: int = 64,
        eval_batch_size: int | None = None,
        seed: int | None = None,
        on_device: bool = True,
    ):
        super().__init__(batch_size, eval_batch_size, seed, on_device)
        if binarize not in (None, "static", "dynamic", "threshold"):
            raise ZooError(f"binarize {binarize!r}: static, dynamic or threshold is accepted; None for gray levels.")
        self.root, self.binarize = Path(root).expanduser(), binarize
        self._amat = self._find_amat() if binarize == "static" else {}

    @property
    def spec(self) -> DataSpec:
        """28x28 pictures of 256 levels, or of 2 with the binarization in the name."""
        if self.binarize is None:
            return DataSpec(self.title, (1, 28, 28), levels=256)
        source = "larochelle" if self._amat else "seed0"
        variant = {"dynamic": "", "static": f"_static[{source}]", "threshold": "_threshold"}[self.binarize]
        return DataSpec(f"{self.title}_binary{variant}", (1, 28, 28), levels=2)

    def prepare_data(self) -> None:
        """Download what is not there."""
        if self._amat or find(self.root, self.folders, self.archives):
            return
        for key, stem in _STEMS.items():
            if self._find(stem) is None:
                name = f"{stem}.gz"
                file = Published(name, self.published_md5[key], tuple(mirror + name for mirror in self.mirrors))
                download(file, self._home, self._advice)

    def load(self) -> dict[str, Arrays]:
        """The three splits, always the same."""
        if self._amat:
            return {split: Arrays(_read_amat(path, self.sizes[split])) for split, path in self._amat.items()}
        arrays = self._read()
        draw = np.random.RandomState(0)  # NumPy promises never to change this stream
        for key in ("x_train", "x_test"):
            if self.binarize == "threshold":
                arrays[key] = (arrays[key] > 127).astype(np.uint8)
            elif self.binarize == "static":
                # A level u drawn from 0 .. 254 lies below the gray level g with probability g/255.
                arrays[key] = (draw.randint(0, 255, arrays[key].shape, np.uint8) < arrays[key]).astype(np.uint8)
        transform = _bernoulli if self.binarize == "dynamic" else None
        train, test = (
            Arrays(
                torch.from_numpy(arrays[f"x_{part}"]).unsqueeze(1),  # (N, 28, 28) -> (N, 1, 28, 28)
                label=torch.from_numpy(arrays[f"y_{part}"]),
                transform=transform,
            )
            for part in ("train", "test")
        )
        first, last = slice(None, self.sizes["train"]), slice(self.sizes["train"], None)
        return {"train": train.subset(first), "val": train.subset(last), "test": test}

    @property
    def _home(self) -> Path:
        return self.root / self.folders[0]

    @property
    def _advice(self) -> str:
        npz = self.root / self.archives[0]
        return f"Put {self.title}'s four files in {self._home}, or {', '.join(_STEMS)} as {npz}."

    def _find(self, stem: str) -> Path | None:
        stems = (stem, stem.replace("-idx", ".idx"))
        return find(self.root, self.folders, [stem + end for stem in stems for end in ("", ".gz")])

    def _find_amat(self) -> dict[str, Path]:
        """Larochelle's three files, or an empty dictionary where there are none."""
        folders = ("binarized_mnist", "BinarizedMNIST", *self.folders)
        names = {"train": "train", "val": "valid", "test": "test"}
        wanted = {split: f"binarized_mnist_{name}.amat" for split, name in names.items()}
        places = {split: find(self.root, folders, [name]) for split, name in wanted.items()}
        found = {split: path for split, path in places.items() if path is not None}
        missing = [name for split, name in wanted.items() if split not in found]
        if found and missing:
            raise ZooError(f"{' and '.join(missing)} not found under {self.root}: put all three there, or none.")
        return found

    def _read(self) -> dict[str, np.ndarray]:
        """The four arrays, each checked to be what it is taken for."""
        largest = (self.sizes["train"] + self.sizes["val"]) * 28 * 28
        if archive := find(self.root, self.folders, self.archives):
            paths = dict.fromkeys(_STEMS, archive)
            with reading(archive):
                # Labels may be of another type than images, which the check below then says.
                arrays = read_npz(archive, dict.fromkeys(_STEMS, largest))
        else:
            places = {key: self._find(stem) for key, stem in _STEMS.items()}
            paths = {key: path for key, path in places.items() if path is not None}
            if missing := [key for key in _STEMS if key not in paths]:
                file = f"{_STEMS[missing[0]]}.gz (MD5 {self.published_md5[missing[0]]})"
                raise ZooError(f"{file} was not found; prepare_data() downloads it.\n{self._advice}")
            arrays = {key: _read_idx(path, 3 if key.startswith("x") else 1, largest) for key, path in paths.items()}
        for key, array in arrays.items():
            size = self.sizes["test"] if key.endswith("test") else self.sizes["train"] + self.sizes["val"]
            shape = (size, 28, 28) if key.startswith("x") else (size,)
            if array.shape != shape or array.dtype != np.uint8:
                raise ZooError(f"{paths[key]}: {key} is {array.dtype} {array.shape}; {self.title}'s is uint8 {shape}.")
            # The names of the files are those of several data sets, so only the contents tell which this is.
            if (md5 := _idx_md5(array)) != self.content_md5[key]:
                raise ZooError(
                    f"{paths[key]}: {key} is not {self.title}'s (MD5 as uncompressed IDX {md5}, "
                    f"not {self.content_md5[key]}).\nPut good copies of {self.title}'s four files in {self._home}."
                )
        return arrays


class FashionMNIST(MNIST):
    """70,000 pictures of clothes, 28x28, with labels; splits and arguments as in :class:`MNIST`.

    Files are found under ``root``, or where Debian's package dataset-fashion-mnist puts them; else downloaded.

    References:
        | Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms (Xiao et al., 2017)
        | https://arxiv.org/abs/1708.07747
    """

    title = "fashion_mnist"
    folders = (
        *("FashionMNIST/raw", "FashionMNIST", "fashion-mnist", "fashion_mnist/raw", "fashion_mnist"),
        "/usr/share/datasets/fashion-mnist",  # an absolute path: the root before it does not count
        *("raw", ""),  # last, because MNIST's files may lie here under the same names
    )
    archives = ("fashion-mnist.npz", "fashion_mnist.npz")
    mirrors = ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",)
    published_md5: ClassVar[Mapping[str, str]] = {
        "x_train": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "y_train": "25c81989df183df01b3e8a0aad5dffbe",
        "x_test": "bef4ecab320f06d8554ea6380940ec79",
        "y_test": "bb300cfdad3c16e7a12a480ee83cd310",
    }
    content_md5: ClassVar[Mapping[str, str]] = {
        "x_train": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "y_train": "9018921c3c673c538a1fc5bad174d6f9",
        "x_test": "8181f5470baa50b63fa0f6fddb340f0a",
        "y_test": "15d484375f8d13e6eb1aabb0c3f46965",
    }

    def _find_amat(self) -> dict[str, Path]:
        return {}


def _bernoulli(x: Tensor, generator: Generator) -> Tensor:
    return torch.bernoulli(x / 255, generator=generator).to(torch.uint8)


def _idx_md5(array: np.ndarray) -> str:
    """MD5 of the array as an IDX file: two zero bytes, type 8 (uint8), dimensions, sizes as big-endian int32, data."""
    md5 = hashlib.md5(bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">i4").tobytes(), usedforsecurity=False)
    md5.update(np.ascontiguousarray(array).data)
    return md5.hexdigest()


def _read_idx(path: Path, ndim: int, largest: int) -> np.ndarray:
    """The uint8 array of an IDX file, compressed or not whatever its name; of up to ``largest`` bytes."""
    with reading(path), opened(path) as file:
        header = file.read(4)
        if header != bytes((0, 0, 8, ndim)):
            raise ValueError("no IDX header")
        shape = tuple(np.frombuffer(read_exactly(file, 4 * ndim), ">i4").tolist())
        if min(shape) < 0 or math.prod(shape) > largest:
            raise ValueError(f"its header promises {' x '.join(map(str, shape))} bytes; up to {largest:,} are accepted")
        # A copy, because torch wants memory that may be written.
        array = np.frombuffer(read_exactly(file, math.prod(shape)), np.uint8).reshape(shape).copy()
        read_end(file)
    return array


def _read_amat(path: Path, size: int) -> Tensor:
    """Larochelle's text: ``size`` rows of 784 numbers 0 or 1, as (size, 1, 28, 28) uint8."""
    with reading(path):
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > 4 * size * 784:
                raise ValueError("it is too long")
            text = np.frombuffer(file.read(), np.uint8)
        digits = text[text > ord(" ")] - ord("0")  # spaces and line ends go
        if digits.size != size * 784 or digits.max() > 1:
            raise ValueError(f"{size} rows of 784 numbers, 0 or 1, are needed")
    return torch.from_numpy(digits.reshape(size, 1, 28, 28))
