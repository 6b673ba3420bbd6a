"""CIFAR-10 is read in every published form, and a pickle in it can make arrays and nothing else."""

import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch

from datamodules import CIFAR10
from zoo.errors import ZooError


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


class Tiny(CIFAR10):
    per_batch = 20
    validation = 15


PHOTOS = np.random.RandomState(1).randint(0, 256, (120, 3, 32, 32), np.uint8)
KINDS = np.random.RandomState(2).randint(0, 10, 120, np.uint8)
BATCHES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
PARTS = [(name, PHOTOS[20 * n : 20 * n + 20], KINDS[20 * n : 20 * n + 20]) for n, name in enumerate(BATCHES)]
BINARY = {f"{name}.bin": np.column_stack((y, x.reshape(20, -1))).tobytes() for name, x, y in PARTS}


def python2(x, y):
    """A batch in the opcodes of Python 2: byte strings, and arrays by their module's name of that time."""
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x14M\x00\x0ct"
        b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tbI00\nT"
        + struct.pack("<i", x.size)
        + x.tobytes()
        + b"tb"
    )
    labels = b"](" + b"".join(b"K" + bytes([label]) for label in y) + b"e"
    return b"\x80\x02}(U\x0bbatch_labelU\x01xU\x06labels" + labels + b"U\x04data" + array + b"u."


PYTHON2 = {name: python2(x, y) for name, x, y in PARTS}
PYTHON3 = {name: pickle.dumps({b"labels": y.tolist(), b"data": x.reshape(20, -1)}, 2) for name, x, y in PARTS}


def tar(folder, files):
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz", compresslevel=1) as writer:
        for name, content in sorted(files.items(), reverse=True):
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            writer.addfile(member, io.BytesIO(content))
    return archive.getvalue()


@pytest.mark.parametrize(
    ("folder", "files"),
    [
        ("", {"cifar-10-binary.tar.gz": tar("cifar-10-batches-bin", BINARY)}),
        ("cifar10", {"cifar-10-binary.tar.gz": tar("cifar-10-batches-bin", BINARY)}),
        ("cifar-10-batches-bin", BINARY),
        ("", BINARY),
        ("", {"cifar-10-python.tar.gz": tar("cifar-10-batches-py", PYTHON2)}),
        ("cifar-10-batches-py", PYTHON2),
        ("cifar10/cifar-10-batches-py", PYTHON3),
    ],
)
def test_cifar_is_found_in_every_form(tmp_path, folder, files):
    write(tmp_path / folder, files)
    data = Tiny(str(tmp_path))
    data.prepare_data()
    splits = data.load()
    assert [len(part) for part in splits.values()] == [85, 15, 20]
    assert np.array_equal(torch.cat([part.x for part in splits.values()]), PHOTOS)
    assert np.array_equal(torch.cat([part.label for part in splits.values()]), KINDS)


class Malice:
    def __reduce__(self):
        return os.mkdir, ("made by the pickle",)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"data_batch_2.bin": BINARY["data_batch_2.bin"][:-1]}, r"data_batch_2\.bin can't be read"),
        ({"data_batch_2.bin": BINARY["data_batch_2.bin"][:3073]}, r"data_batch_2\.bin .*20 images of 3072 bytes"),
        ({"test_batch.bin": b"\x0a" + BINARY["test_batch.bin"][1:]}, r"test_batch\.bin .*labels 0 to 9"),
        ({"cifar-10-binary.tar.gz": tar("x", BINARY)[:-5000]}, r"binary\.tar\.gz can't be read"),
        ({"cifar-10-binary.tar.gz": tar("x", {"readme.html": b""})}, r"binary\.tar\.gz .*data_batch_1\.bin is not in it"),
        ({"data_batch_1": pickle.dumps({b"data": Malice()})}, r"data_batch_1 .*wants to call .*mkdir"),
        ({"data_batch_1": pickle.dumps({b"data": [1], b"labels": [1]})}, "data_batch_1 .*not a uint8 array"),
        ({"data_batch_1": PYTHON2["data_batch_1"][:-9]}, "data_batch_1 can't be read"),
        ({"data_batch_1": b"cbuiltins\neval\n(S'1'\ntR."}, r"data_batch_1 .*wants to call builtins\.eval"),
    ],
)
def test_a_damaged_or_malicious_cifar_is_refused(tmp_path, monkeypatch, files, message):
    monkeypatch.chdir(tmp_path)
    name = next(iter(files))
    rest = BINARY if name.endswith(".bin") else {} if name.endswith(".gz") else PYTHON2
    write(tmp_path, rest | files)
    with pytest.raises(ZooError, match=message):
        Tiny(str(tmp_path)).load()
    assert not (tmp_path / "made by the pickle").exists()
