"""Files are found in every usual form, downloaded whole or not at all, and never believed when they hold something else."""

import gzip
import hashlib
import io
import os
import re
import struct
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import numpy as np
import pytest
import torch

from datamodules import CIFAR10, MNIST, FashionMNIST
from zoo.errors import ZooError

STEMS = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}


def digits():
    draw = np.random.RandomState(0)
    images = {f"x_{part}": draw.randint(0, 256, (size, 28, 28), np.uint8) for part, size in (("train", 60), ("test", 10))}
    return images | {"y_train": draw.randint(0, 10, 60, np.uint8), "y_test": draw.randint(0, 10, 10, np.uint8)}


def idx(array):
    return struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


ARRAYS = digits()
PLAIN = {STEMS[key]: idx(array) for key, array in ARRAYS.items()}
GZ = {f"{name}.gz": gzip.compress(content, 1, mtime=0) for name, content in PLAIN.items()}


class Small(MNIST):
    sizes: ClassVar = {"train": 50, "val": 10, "test": 10}
    content_md5: ClassVar = {key: hashlib.md5(PLAIN[stem]).hexdigest() for key, stem in STEMS.items()}
    published_md5: ClassVar = {key: hashlib.md5(GZ[f"{stem}.gz"]).hexdigest() for key, stem in STEMS.items()}


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def check(data):
    data.prepare_data()
    splits = data.load()
    images = np.concatenate([splits[name].x.numpy() for name in ("train", "val", "test")])
    assert np.array_equal(images[:, 0], np.concatenate((ARRAYS["x_train"], ARRAYS["x_test"])))
    assert np.array_equal(splits["train"].label, ARRAYS["y_train"][:50])
    assert np.array_equal(splits["val"].label, ARRAYS["y_train"][50:])
    assert np.array_equal(splits["test"].label, ARRAYS["y_test"])


@pytest.mark.parametrize("folder", ["", "MNIST/raw", "mnist", "raw"])
@pytest.mark.parametrize(
    "files",
    [
        PLAIN,
        GZ,
        {name.replace("-idx", ".idx"): content for name, content in PLAIN.items()},
        {f"{name}.gz": content for name, content in PLAIN.items()},  # decompressed on the way, under the old name
        {"mnist.npz": npz(**ARRAYS)},
    ],
    ids=["idx", "gz", "dotted", "misnamed", "npz"],
)
def test_mnist_is_found_in_every_form(tmp_path, folder, files):
    write(tmp_path / folder, files)
    check(Small(str(tmp_path)))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (f"{STEMS['x_test']}.gz", GZ[f"{STEMS['x_test']}.gz"][:-200], "can't be read"),
        (STEMS["x_test"], PLAIN[STEMS["x_test"]][:-1], "can't be read"),
        (STEMS["x_test"], b"<html>not found</html>", "no IDX header"),
        (STEMS["x_test"], b"", "no IDX header"),
        (STEMS["x_test"], idx(ARRAYS["x_test"][:5]), r"x_test is uint8 \(5, 28, 28\); mnist's is uint8 \(10, 28, 28\)"),
        (STEMS["x_test"], idx(255 - ARRAYS["x_test"]), "x_test is not mnist's .MD5"),
        ("mnist.npz", npz(images=ARRAYS["x_train"]), "can't be read .*x_train"),
        ("mnist.npz", npz(**ARRAYS)[:-300], "can't be read"),
        ("mnist.npz", npz(**ARRAYS | {"y_test": np.array([{}], object)}), "can't be read .*pickle"),
        ("mnist.npz", npz(**ARRAYS | {"y_test": np.ones(10)}), r"y_test is float64 \(10,\)"),
    ],
)
def test_a_damaged_or_wrong_file_is_named(tmp_path, name, content, message):
    write(tmp_path, {key: value for key, value in PLAIN.items() if key not in name} | {name: content})
    with pytest.raises(ZooError, match=message) as caught:
        Small(str(tmp_path)).load()
    assert str(tmp_path / name) in str(caught.value)
    assert str(caught.value).count("\n") < 2


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    folder = tmp_path / "published"
    write(folder, GZ)
    handler = partial(type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None}), directory=folder)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


def left(folder):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_missing_files_are_downloaded_from_the_first_mirror_that_has_them(tmp_path, server, monkeypatch):
    monkeypatch.setattr(Small, "mirrors", (f"{server[1]}gone/", server[1]))
    check(Small(str(tmp_path / "data")))
    assert left(tmp_path / "data" / "MNIST" / "raw") == sorted(GZ)
    monkeypatch.setattr(Small, "mirrors", ())
    check(Small(str(tmp_path / "data")))


def test_only_what_is_missing_is_downloaded(tmp_path, server, monkeypatch):
    monkeypatch.setattr(Small, "mirrors", (server[1],))
    write(tmp_path / "data", {name: content for name, content in PLAIN.items() if "t10k-labels" not in name})
    check(Small(str(tmp_path / "data")))
    assert left(tmp_path / "data" / "MNIST") == ["t10k-labels-idx1-ubyte.gz"]


def test_a_download_with_another_hash_leaves_nothing(tmp_path, server, monkeypatch):
    folder, url = server
    monkeypatch.setattr(Small, "mirrors", (url, f"{url}gone/"))
    write(folder, {"train-images-idx3-ubyte.gz": b"<html>please log in</html>"})
    md5 = Small.published_md5["x_train"]
    with pytest.raises(ZooError, match=rf"train-images.*{md5}.*another MD5; 127\.0\.0\.1:\d+: status 404"):
        Small(str(tmp_path / "data")).prepare_data()
    assert left(tmp_path / "data") == []


@pytest.mark.parametrize("data", [MNIST, FashionMNIST, CIFAR10])
def test_without_network_the_error_says_what_to_put_where(tmp_path, server, monkeypatch, data):
    import pooch

    def nowhere(url, *rest, **options):
        return retrieve("http://127.0.0.1:9/", *rest, **options)

    retrieve = pooch.retrieve
    monkeypatch.setattr(pooch, "retrieve", nowhere)
    monkeypatch.setattr(FashionMNIST, "folders", FashionMNIST.folders[:1])
    for action, reason in (("prepare_data", "no connection"), ("load", "prepare_data() downloads it")):
        with pytest.raises(ZooError, match=re.escape(reason)) as caught:
            getattr(data(str(tmp_path / "data")), action)()
        text = str(caught.value)
        assert re.search(r"(train-images-idx3-ubyte|cifar-10-binary\.tar)\.gz \(MD5 [0-9a-f]{32}\)", text)
        assert f"in {tmp_path / 'data'}" in text
        assert text.count("\n") == 1


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ZooError, match=r"can't be written.*--data\.root"):
        Small(str(tmp_path / "data")).prepare_data()


def test_a_root_that_is_a_file_is_said(tmp_path):
    write(tmp_path, {"data": b""})
    with pytest.raises(ZooError, match=r"can't be written.*--data\.root"):
        Small(str(tmp_path / "data")).prepare_data()


def amat(images):
    return b"".join(b" ".join(b"%d" % pixel for pixel in row) + b"\n" for row in images.reshape(-1, 784))


def test_larochelles_files_are_the_static_binarization(tmp_path):
    images = (np.concatenate((ARRAYS["x_train"], ARRAYS["x_test"])) > 99).astype(np.uint8)
    names = [f"binarized_mnist_{name}.amat" for name in ("train", "valid", "test")]
    files = dict(zip(names, map(amat, np.split(images, (50, 60))), strict=True))
    write(tmp_path, files)
    data = Small(str(tmp_path), binarize="static")
    data.prepare_data()
    assert data.spec.name == "mnist_binary_static[larochelle]"
    splits = data.load()
    assert np.array_equal(torch.cat([splits[name].x for name in ("train", "val", "test")])[:, 0], images)
    assert splits["train"].label is None
    for damaged in (files[names[1]][:-2], files[names[1]].replace(b"1", b"2", 1)):
        write(tmp_path, {names[1]: damaged})
        with pytest.raises(ZooError, match=r"valid\.amat can't be read .10 rows of 784"):
            data.load()
    (tmp_path / names[1]).unlink()
    with pytest.raises(ZooError, match=r"binarized_mnist_valid\.amat not found"):
        Small(str(tmp_path), binarize="static")
