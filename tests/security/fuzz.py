"""Mutations of valid files for every reader: whatever is in a file, reading ends with a ZooError or with what was read.

``python tests/security/fuzz.py --inputs 1000000`` reads that many, writes ``results/reliability/fuzz.csv``, and stops at
the first that ends otherwise, takes over five seconds, or needs more than a gigabyte.
"""

import argparse
import copy
import csv
import functools
import gzip
import io
import json
import os
import pickle
import random
import resource
import signal
import struct
import tempfile
import time
import traceback
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

import zoo
from datamodules import Digits, cifar10, dsprites_render, memory_map, mnist, shapes3d, smallnorb
from datamodules.files import reading
from datamodules.folder import _picture
from datamodules.readers import read_mat, read_npz, tar_files
from zoo.errors import ZooError
from zoo.experiments.analysis.runs import read_csv
from zoo.files import read_json, read_yaml, write_atomically
from zoo.models import VAE
from zoo.runs.loggers import MetricsCSV
from zoo.runs.stored import read_run

REPOSITORY = Path(__file__).resolve().parents[2]
TABLE = REPOSITORY / "results" / "reliability" / "fuzz.csv"
MEMORY, SECONDS = 2**30, 5
_PLACES = random.Random(0)
_CORRUPT = 3  # the exit status of a child that found something


@dataclass(frozen=True)
class Target:
    """A reader, valid files for it, and how they are changed.

    Attributes:
        read: Reads the file at a path.
        seeds: Valid contents.
        weight: Its share of the inputs.
        texts: Contents are text, and are changed by pieces of text too.
        make: Draws other contents than changed ones.
    """

    read: Callable[[Path], object]
    seeds: tuple[bytes, ...]
    weight: int = 1
    pieces: tuple[bytes, ...] = ()
    make: st.SearchStrategy[bytes] | None = None


def _idx(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}i", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def _saved(save: Callable[..., object], *arguments: object, **options: object) -> bytes:
    file = io.BytesIO()
    save(file, *arguments, **options)
    return file.getvalue()


def _read_cifar_tar(path: Path) -> None:
    with reading(path):
        for _, size, content in tar_files(path):
            if size <= 100_000:
                content()


def _read_mat(path: Path) -> None:
    with reading(path):
        read_mat(path.read_bytes(), "im", (4, 4, 3), "x.mat")


def _read_pickle(path: Path) -> None:
    with reading(path):
        cifar10._from_pickle(path.read_bytes())


def _read_npz(path: Path) -> None:
    with reading(path):
        read_npz(path, {"a": 300, "b": 300})


def _read_matrix(path: Path) -> None:
    smallnorb._matrix(path, "<i4", (4,), 100)


def _read_binary(path: Path) -> None:
    with reading(path):
        cifar10._from_binary(path.read_bytes())


def _read_h5(path: Path) -> None:
    class Small(shapes3d.Shapes3D):
        grid = {"floor_hue": 2, "wall_hue": 2, "object_hue": 1, "scale": 1, "shape": 1, "orientation": 1}  # noqa: RUF012

    with reading(path):
        for _ in Small.read(Small.__new__(Small), [path]):
            pass


def _read_cache(path: Path) -> None:
    os.environ["ZOO_CACHE"] = str(path.parent)
    memory_map.memory_mapped(path.name, (3, 1, 4, 4), lambda array: array.fill(1))


def _read_sprites(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dsprites_render._cached(path, lambda: np.zeros((3, 8), np.uint8), 100)


def _cache() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        _read_cache(Path(folder, "a.npy"))
        return Path(folder, "a.npy").read_bytes()


def _tar() -> bytes:
    import tarfile

    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as archive:
        for name in ("data_batch_1.bin", "readme.html"):
            member = tarfile.TarInfo(f"cifar/{name}")
            member.size = 700
            archive.addfile(member, io.BytesIO(bytes(range(250)) * 2 + bytes(200)))
    return file.getvalue()


def _h5() -> bytes:
    import h5py

    file = io.BytesIO()
    with h5py.File(file, "w") as archive:
        places = np.array([(f, w, 0, 0, 0, 0) for f in range(2) for w in range(2)], float)
        archive.create_dataset("images", data=np.zeros((4, 64, 64, 3), np.uint8), compression="gzip", chunks=(1, 64, 64, 3))
        archive.create_dataset("labels", data=places)
    return file.getvalue()


def _pictures() -> tuple[bytes, ...]:
    image = Image.fromarray(np.arange(12 * 9 * 3, dtype=np.uint8).reshape(12, 9, 3))
    kinds = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM", "JPEG2000")
    return tuple(_saved(functools.partial(image.save), kind) for kind in kinds)


@functools.cache
def _model() -> VAE:
    torch.manual_seed(0)
    return VAE(Digits().spec, network="mlp", hidden=4, latent_dim=2)


def _contents() -> dict[str, Any]:
    """What a small checkpoint holds."""
    model = _model()
    return {
        "zoo_class": "zoo.models.vae.VAE",
        "state_dict": dict(model.state_dict()),
        "hyper_parameters": dict(model.hparams),
        "epoch": 1,
        "global_step": 3,
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"x": {"score": torch.tensor(1.0)}},
        "optimizer_states": [{"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}],
        "lr_schedulers": [],
        "zoo_average": {"updates": 1, "weights": {}},
    }


# What takes the place of a value in a checkpoint.
_values = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([0, -1, 10**6, 10**9, 2**31, 2**63, 10**18]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["normal", "maf", "vamp", "conv", "zoo.models.GAN", "zoo.models.vae.VAE", "os.system", "zoo.load"]),
    st.binary(max_size=8),
    st.builds(lambda n: torch.zeros(n), st.integers(0, 5)),
    st.builds(lambda n: torch.zeros(1).expand(n), st.integers(0, 10**6)),
    st.recursive(
        st.integers(-3, 10**9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ),
)


@st.composite
def _checkpoints(draw: st.DrawFn) -> bytes:
    """Checkpoints in which one or two values, anywhere in the structure, are others."""
    contents = copy.deepcopy(_contents())
    for _ in range(draw(st.integers(1, 2))):
        place: Any = contents
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            inner = place[key]
            if isinstance(inner, dict | list) and inner and draw(st.booleans()):
                place = inner
                continue
            action = draw(st.sampled_from(("exchange", "exchange", "remove", "add")))
            if action == "exchange":
                place[key] = draw(_values)
            elif isinstance(place, dict):
                if action == "remove":
                    del place[key]
                else:
                    place[draw(st.text(max_size=6) | st.integers(0, 9))] = draw(_values)
            break
    return _saved(lambda file: torch.save(contents, file))


_OPCODES = (
    *b"} ] ) ( t \x85 \x86 \x87 a e s u N \x88 \x89 R b Q \x93 \x94 \x81 0 2 1".split(b" "),
    *(b"q\0", b"q\x01", b"h\0", b"h\x01", b"K\x05", b"M\0\x01", b"J\xff\xff\xff\xff", b"G" + bytes(8), b"I01\n"),
    *(b"U\x03abc", b"T\x03\0\0\0abc", b"X\x01\0\0\0a", b"\x8a\x02\0\x01", b"\x8c\x01a", b"\x95" + bytes(8)),
    *(b"ccollections\nOrderedDict\n", b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n"),
    *(b"ctorch._utils\n_rebuild_tensor_v2\n", b"ctorch\nFloatStorage\n", b"cos\nsystem\n", b"c_codecs\nencode\n"),
)
_programs = st.lists(st.sampled_from(_OPCODES), max_size=40).map(lambda parts: b"\x80\x02" + b"".join(parts) + b".")


def _changed(seeds: tuple[bytes, ...], pieces: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Valid contents with one to four changes.

    Hypothesis draws which; where, :data:`_PLACES` says, because Hypothesis prefers beginnings and ends.
    """
    piece = st.binary(min_size=1, max_size=8)
    if pieces:
        piece |= st.sampled_from(pieces)
    piece |= st.sampled_from([b"\0" * 8, b"\xff" * 8, b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff", b"\0\0\0\x80", b"\x1f\x8b"])
    kinds = ["flip", "flip", "flip", "set", "set", "insert", "delete", "copy", "cut"]
    change = st.tuples(st.sampled_from(kinds), piece)

    def apply(seed: bytes, changes: list[tuple[str, bytes]]) -> bytes:
        content = bytearray(seed)
        for kind, new in changes:
            place, length = _PLACES.randint(0, len(content)), _PLACES.randint(1, 64)
            if kind == "flip" and place < len(content):
                content[place] ^= 1 << (length & 7)
            elif kind == "set":
                content[place : place + len(new)] = new
            elif kind == "insert":
                content[place:place] = new
            elif kind == "delete":
                del content[place : place + length]
            elif kind == "cut":
                del content[place:]
            elif kind == "copy":
                content[place:place] = content[max(0, place - length) : place]
        return bytes(content)

    return st.builds(apply, st.sampled_from(seeds), st.lists(change, min_size=1, max_size=4))


def _members(checkpoint: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(checkpoint)) as archive:
        return {name.rpartition("archive/")[2]: archive.read(name) for name in archive.namelist()}


def _rezipped(program: bytes, members: Mapping[str, bytes] | None = None) -> bytes:
    """A checkpoint with this pickle, and checksums that are right."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (members or {"byteorder": b"little", "data/0": bytes(40), "version": b"3\n"}).items():
            if name != "data.pkl":
                archive.writestr(f"archive/{name}", content)
        archive.writestr("archive/data.pkl", program)
    return file.getvalue()


_YAML = (
    *b"model: data: trainer: class_path: init_args: - &a *a << : [ ] { } ! !! | > ' \" # % @ ` , ? ~ 1e9 \t".split(b" "),
    *(b"!!python/object:os.system ", b"\n  ", b"\n", b"---\n", b"1:1:1", b"2020-13-41", b"0x", b"!!binary ", b"!!set "),
)
_JSON = b'{ } [ ] " : , null true NaN 1e999 -0 \\u0000 \\ud800 "metrics": [[[[ '.split(b" ")
_RUNS = b"method,strength,seed,data,state,mig,elbo\nbeta_vae,4.0,0,dsprites,finished,0.25,-30\nvae,,1,dsprites,failed,,\n"
_CSV = b'step , " \n \r\n 1e9 nan -1 train/loss 3.5 \x00'.split(b" ")


def _run_folders(files: dict[str, bytes]) -> dict[str, Target]:
    """What compares runs reads a folder of these, one of them changed; it names damage and raises nothing."""

    def reader(name: str) -> Callable[[Path], None]:
        def read(path: Path) -> None:
            with tempfile.TemporaryDirectory(dir=path.parent) as folder:
                for each, content in {**files, name: path.read_bytes()}.items():
                    Path(folder, each).write_bytes(content)
                for evaluation in read_run(folder).evaluations:
                    evaluation.log_p  # noqa: B018 (it is read when it is asked for)

        return read

    pieces = {"json": tuple(_JSON), "yaml": _YAML, "csv": tuple(_CSV), "npz": ()}
    return {f"run {name}": Target(reader(name), (files[name],), 1, pieces[name.rpartition(".")[2]]) for name in files}


@functools.cache
def targets() -> dict[str, Target]:
    """Every reader of a file that may come from anywhere."""
    images, labels = np.arange(784, dtype=np.uint8).reshape(1, 28, 28), np.arange(9, dtype=np.uint8)
    array, other = np.arange(12.0).reshape(3, 4), np.arange(9, dtype=np.uint8)
    settings_ = {
        "seed_everything": 0,
        "model": {"class_path": "zoo.models.VAE", "init_args": {"lr": 1e-3, "prior": "maf"}},
        "data": {"class_path": "datamodules.Digits", "init_args": {"batch_size": 64}},
        "trainer": {"max_steps": 3, "callbacks": [{"class_path": "callbacks.SampleGrid", "init_args": {"n": 4}}]},
    }
    results = {"model": "VAE", "metrics": {"test/nll": 1.5}, "disentanglement": [{"name": "mig", "values": [1, 2]}]}
    python = {b"data": np.arange(3072 * 2, dtype=np.uint8).reshape(2, 3072), b"labels": [1, 2]}
    matrix = struct.pack("<5i", 0x1E3D4C54, 2, 3, 4, 1) + np.arange(12, dtype="<i4").tobytes()
    mat = [_saved(savemat, {"im": np.zeros((4, 4, 3), np.uint8), "x": array}, do_compression=flag) for flag in (False, True)]
    checkpoint = _saved(lambda file: torch.save(_contents(), file))
    members = _members(checkpoint)
    sprites = _saved(np.savez_compressed, array=np.zeros((3, 8), np.uint8), sha256="0" * 64)
    return {
        "idx": Target(lambda path: mnist._read_idx(path, 3, 784), (_idx(images), gzip.compress(_idx(images), 1)), 14),
        "labels": Target(lambda path: mnist._read_idx(path, 1, 100), (_idx(labels), gzip.compress(_idx(labels), 1)), 10),
        "amat": Target(lambda path: mnist._read_amat(path, 1), (b"0 1 " * 392 + b"\n",), 8, (b" 1", b"2", b"\0")),
        "npz": Target(_read_npz, (_saved(np.savez, a=array, b=other), _saved(np.savez_compressed, a=array, b=other)), 8),
        "cifar-binary": Target(_read_binary, (bytes(3073 * 2),), 4),
        "cifar-pickle": Target(_read_pickle, tuple(pickle.dumps(python, p) for p in (2, 3, 4)), 10, _OPCODES),
        "cifar-opcodes": Target(_read_pickle, (), 8, (), _programs),
        "cifar-archive": Target(_read_cifar_tar, (_tar(), gzip.decompress(_tar())), 6),
        "smallnorb": Target(_read_matrix, (matrix, gzip.compress(matrix, 1)), 10),
        "cars3d": Target(_read_mat, tuple(mat), 10),
        "shapes3d": Target(_read_h5, (_h5(),), 1),
        "picture": Target(lambda path: _picture(path, 8, 3), _pictures(), 8),
        "decoded pictures": Target(_read_cache, (_cache(),), 4),
        "drawn sprites": Target(_read_sprites, (sprites,), 3),
        "checkpoint": Target(zoo.load, (checkpoint,), 2),
        "checkpoint-pickle": Target(
            zoo.load, (), 3, (), _changed((members["data.pkl"],), _OPCODES).map(lambda changed: _rezipped(changed, members))
        ),
        "checkpoint-values": Target(zoo.load, (), 1, (), _checkpoints()),
        "checkpoint-opcodes": Target(zoo.load, (), 3, (), _programs.map(_rezipped)),
        "configuration": Target(read_yaml, (yaml.safe_dump(settings_).encode(), b"a: &x [1, 2]\nb: *x\n"), 2, _YAML),
        "evaluation": Target(read_json, (json.dumps(results, indent=2).encode(),), 14, tuple(_JSON)),
        "metrics": Target(lambda path: MetricsCSV(path.parent), (b"step,epoch,loss\n1,0,3.5\n2,0,\n",), 8, tuple(_CSV)),
        "table of runs": Target(read_csv, (_RUNS,), 4, tuple(_CSV)),
        **_run_folders(
            {
                "config.yaml": yaml.safe_dump(settings_).encode(),
                "metrics.csv": b"step,epoch,train/loss,val/elbo\n1,0,3.5,\n2,0,,-90.5\n",
                "run.json": b'{"schema": 1, "model": "vae", "data": "digits", "seed": 0, "state": "finished"}',
                "evaluation.json": json.dumps(results, indent=2).encode(),
                "evaluation.npz": _saved(np.savez, log_p=np.arange(5.0)),
            }
        ),
    }


@dataclass
class Outcome:
    """What became of the inputs of a reader."""

    target: str
    inputs: int = 0
    refused: int = 0
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0


class FoundError(Exception):
    """An input that ended otherwise than with a ZooError or with what was read."""


def fuzz(name: str, inputs: int, start: int = 0) -> Outcome:
    """Read ``inputs`` inputs in a child that may have a gigabyte and, for each, five seconds of the processor.

    Arguments:
        name: The reader.
        inputs: How many.
        start: The seed of what is drawn.

    Raises:
        FoundError: with the input, hexadecimal, for the first that ends otherwise.
    """
    target = targets()[name]
    contents = target.make if target.make is not None else _changed(target.seeds, target.pieces)
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        path, report = Path(folder, "metrics.csv" if name == "metrics" else "input"), Path(folder, "report")
        if (child := os.fork()) == 0:
            try:
                warnings.simplefilter("ignore")
                _PLACES.seed(start)
                status = _child(target, name, contents, inputs, start, path, report)
            except BaseException:
                report.write_text(traceback.format_exc())
                status = _CORRUPT
            os._exit(status)
        _, status = os.waitpid(child, 0)
        if status:
            why = report.read_text() if report.exists() else f"ended by signal {status & 127}"
            size = path.stat().st_size if path.exists() else 0
            Path(tempfile.gettempdir(), f"fuzz-{name}").write_bytes(path.read_bytes() if path.exists() else b"")
            raise FoundError(f"{name}: {why}\n{size} bytes, kept as {tempfile.gettempdir()}/fuzz-{name}")
        return Outcome(**json.loads(report.read_text()))


def _child(
    target: Target, name: str, contents: st.SearchStrategy[bytes], inputs: int, start: int, path: Path, report: Path
) -> int:
    outcome = Outcome(name)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def read(content: bytes) -> None:
        path.write_bytes(content)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        began = time.process_time()
        try:
            target.read(path)
        except ZooError as error:
            outcome.refused += 1
            assert str(error).count("\n") <= 1, str(error)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        took = time.process_time() - began
        outcome.inputs += 1
        outcome.seconds += took
        outcome.slowest = max(outcome.slowest, took)

    # Nothing is looked for twice, and nothing made smaller: what is found is kept as it is.
    options = {"database": None, "deadline": None, "phases": [Phase.generate], "suppress_health_check": list(HealthCheck)}
    done = 0
    while outcome.inputs < inputs:  # in parts, because a long series of draws becomes slower and slower
        part = min(2_000, inputs - outcome.inputs)
        seed(start * 1_000_003 + done)(settings(max_examples=part, **options)(given(contents)(read)))()
        done += 1
    outcome.memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    report.write_text(json.dumps(vars(outcome)))
    return 0


def shares(inputs: int) -> Iterator[tuple[str, int]]:
    """How many of ``inputs`` each reader gets."""
    total = sum(target.weight for target in targets().values())
    for name, target in targets().items():
        yield name, -(-inputs * target.weight // total)


def table(rows: list[dict[str, str]]) -> str:
    """Rows of the file as the page has them."""
    lines = ["| reader | inputs | refused | longest, s | memory, MB |", "| --- | --- | --- | --- | --- |"]
    for row in rows:
        counts = f"{int(row['inputs']):,} | {int(row['refused']):,}"
        lines.append(f"| {row['reader']} | {counts} | {row['slowest_seconds']} | {row['memory_mb']} |")
    return "\n".join(lines)


def main() -> None:
    """Read and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="one reader")
    parser.add_argument("--out", type=Path, default=TABLE)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name, count in shares(options.inputs):
        if options.only not in (None, name):
            continue
        outcome = fuzz(name, count, options.seed)
        rows.append(outcome)
        figures = f"{outcome.inputs:>8,} {outcome.refused:>8,} refused {outcome.seconds:8.1f} s"
        print(f"{name:<20} {figures} {outcome.slowest:6.3f} s {outcome.memory / 1e6:6.0f} MB", flush=True)
        with write_atomically(options.out, text=True) as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["reader", "inputs", "refused", "processor_seconds", "slowest_seconds", "memory_mb"])
            for row in rows:
                numbers = [f"{row.seconds:.1f}", f"{row.slowest:.3f}", round(row.memory / 1e6)]
                writer.writerow([row.target, row.inputs, row.refused, *numbers])


if __name__ == "__main__":
    main()
