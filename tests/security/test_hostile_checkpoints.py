"""Checkpoints that are damaged, foreign, or made to harm: a line each, and neither time nor memory."""

import enum
import io
import pickle
import zipfile
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from limits import refusal

import zoo
from zoo.errors import ZooError
from zoo.models import GAN, VAE
from zoo.runs.checkpoints import AtomicCheckpointIO, read, require_same_model
from zoo.spec import DataSpec


class Level(enum.Enum):
    LOW = 1


def expanded(contents):
    contents["state_dict"]["encoder.0.weight"] = torch.zeros(1).expand(10**5, 10**5)


def with_options(**options):
    return lambda contents: contents["hyper_parameters"].update(options)


def with_spec(**fields):
    return lambda contents: contents["hyper_parameters"]["spec"].update(fields)


def put(name, value):
    return lambda contents: contents.update({name: value})


def without(name):
    return lambda contents: contents.pop(name)


CHANGES = {
    "no state": (without("state_dict"), "not a checkpoint of a zoo model"),
    "no class": (without("zoo_class"), "not a checkpoint of a zoo model"),
    "no hyperparameters": (without("hyper_parameters"), "not a checkpoint of a zoo model"),
    "class is a number": (put("zoo_class", 3), "its zoo_class is of type int, not str"),
    "class is a list": (put("zoo_class", ["zoo.models.VAE"]), "its zoo_class is of type list"),
    "state is a list": (put("state_dict", [torch.zeros(3)]), "its state_dict holds no tensors by their names"),
    "state is a tensor": (put("state_dict", torch.zeros(3)), "its state_dict holds no tensors"),
    "state of numbers": (put("state_dict", {"a": 1.5}), "a in its state_dict is of type float, not a tensor"),
    "state of other names": (put("state_dict", {1: torch.zeros(3)}), "its state_dict holds no tensors by their names"),
    "empty state": (put("state_dict", {}), "far more weights than it has|its weights don't fit"),
    "one weight less": (lambda c: c["state_dict"].pop("decoder.0.weight"), "its weights don't fit .*: decoder"),
    "one weight more": (lambda c: c["state_dict"].update(more=torch.zeros(3)), "its weights don't fit .*: more"),
    "another shape": (lambda c: c["state_dict"].update({"decoder.0.weight": torch.zeros(3)}), "its weights don't fit"),
    "an expanded weight": (expanded, "is truncated or damaged"),
    "complex weights": (lambda c: c["state_dict"].update({"decoder.0.weight": torch.zeros(3, dtype=torch.cfloat)}), "fit"),
    "no spec": (lambda c: c["hyper_parameters"].pop("spec"), "hold no spec of the data"),
    "spec is a string": (with_options(spec="digits"), "hold no spec of the data"),
    "spec without a shape": (lambda c: c["hyper_parameters"]["spec"].pop("shape"), "its spec of the data is malformed"),
    "spec of more": (with_spec(more=1), "its spec of the data is malformed"),
    "shape of strings": (with_spec(shape=["a", "b", "c"]), "its spec of the data is malformed"),
    "shape is a number": (with_spec(shape=3), "can't|damaged|malformed"),
    "shape of nothing": (with_spec(shape=[]), "its spec of the data is malformed"),
    "negative shape": (with_spec(shape=[-1, 8, 8]), "its spec of the data is malformed"),
    "shape of 1e9": (with_spec(shape=[1, 10**9, 10**9]), "its spec of the data is malformed"),
    "shape of 1e8": (with_spec(shape=[10**8]), "far more weights than it has|can't be made"),
    "levels of 1e9": (with_spec(levels=10**9), "its spec of the data is malformed"),
    "levels is a string": (with_spec(levels="many"), "its spec of the data is malformed"),
    "factors are numbers": (with_spec(factor_names=[1]), "its spec of the data is malformed"),
    "hidden of 1e9": (with_options(hidden=10**9), "far more weights than it has|can't be made"),
    "hidden of 6e4": (with_options(hidden=60_000), "far more weights than it has"),
    "hidden of 1e5": (with_options(hidden=10**5), "can't be made .*: 65536 at most is accepted"),
    "latents of 1e9": (with_options(latent_dim=10**9), "far more weights than it has|can't be made"),
    "steps of 1e3": (with_options(prior="maf", prior_options={"steps": 1000}), "far more weights than it has"),
    "steps of 1e9": (with_options(prior="maf", prior_options={"steps": 10**9}), "can't be made .*: 1024 at most"),
    "components of 1e9": (with_options(prior="mixture", prior_options={"components": 10**9}), "can't be made"),
    "posterior of 1e9": (with_options(posterior="planar", posterior_options={"steps": 10**9}), "can't be made"),
    "hidden is a string": (with_options(hidden="many"), "can't be made into a zoo.models.vae.VAE"),
    "hidden is negative": (with_options(hidden=-3), "can't be made into a zoo.models.vae.VAE"),
    "hidden is none": (with_options(hidden=None), "can't be made into a zoo.models.vae.VAE"),
    "an unknown option": (with_options(depth=3), "can't be made into a zoo.models.vae.VAE.*depth"),
    "an option without a name": (lambda c: c["hyper_parameters"].update({3: 3}), "a name in hyper_parameters is 3"),
    "another network": (with_options(network="conv"), "fit|more weights"),
    "an instantiator": (with_options(_instantiator="os.system", hidden=-1), "can't be made"),
    "average is a list": (put("zoo_average", [1]), "its zoo_average is of type list"),
    "average without weights": (put("zoo_average", {"updates": 3}), "its zoo_average holds no tensors"),
    "average without count": (put("zoo_average", {"weights": {}}), "its updates is of type NoneType"),
    "average of other weights": (
        put("zoo_average", {"updates": 1, "weights": {"a": torch.zeros(3)}}),
        "a of its average is of another shape",
    ),
    "average of another shape": (
        put("zoo_average", {"updates": 1, "weights": {"decoder.0.weight": torch.zeros(3)}}),
        "decoder.0.weight of its average is of another shape",
    ),
    "loops is a list": (put("loops", [1]), "its loops is of type list, not dict"),
    "optimizers is a dictionary": (put("optimizer_states", {}), "its optimizer_states is of type dict, not list"),
    "epoch is a string": (put("epoch", "3"), "its epoch is of type str, not int"),
    "a path": (put("more", Path("x")), r"holds pathlib\.\w+, which is not read from a file"),
    "a class": (put("more", io.BytesIO), r"holds _io\.BytesIO, which is not read"),
    "an enumeration": (put("more", Level.LOW), r"holds .*\.Level, which is not read"),
    "an array": (put("more", np.zeros(3)), r"holds numpy\.\S+, which is not read"),
    "a scalar": (put("more", np.float32(3)), r"holds numpy\.\S+, which is not read"),
    "a spec": (with_options(spec=DataSpec("x", (3,))), r"holds copyreg?\.\S+|holds copy_reg\.\S+|holds zoo\.spec\.DataSpec"),
    "a function": (put("more", print), r"holds (__builtin__|builtins)\.print, which is not read"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_no_checkpoint_is_said_in_a_line(tmp_path, checkpoint, change):
    make, message = CHANGES[change]
    contents = torch.load(checkpoint, weights_only=True)
    make(contents)
    torch.save(contents, tmp_path / "x.ckpt")
    said = refusal(lambda: zoo.load(tmp_path / "x.ckpt"))
    assert str(tmp_path / "x.ckpt") in said
    with pytest.raises(ZooError, match=message):
        raise ZooError(said)


@pytest.mark.parametrize(
    "contents",
    [[], {}, 3, None, torch.zeros(3), {"state_dict": {"a": torch.zeros(3)}}, OrderedDict(a=torch.zeros(3)), "zoo_class"],
    ids=str,
)
def test_other_files_of_pytorch(tmp_path, contents):
    torch.save(contents, tmp_path / "x.ckpt")
    with pytest.raises(ZooError, match=r"x\.ckpt is a PyTorch file, but not a checkpoint of a zoo model\."):
        zoo.load(tmp_path / "x.ckpt")


def rezipped(checkpoint: Path, path: Path, compression: int = zipfile.ZIP_STORED, **changes) -> Path:
    """The same archive, with some members changed: name's last part -> contents -> contents."""
    with zipfile.ZipFile(checkpoint) as old, zipfile.ZipFile(path, "w", compression) as new:
        for name in old.namelist():
            change = changes.get(name.rpartition("/")[2].replace(".", "_"), bytes)
            new.writestr(name, change(old.read(name)))
    return path


def shared(levels: int) -> bytes:
    """A pickle whose one dictionary has a key that is hashed for years."""
    steps = b"".join(b"q" + bytes([number]) + b"h" + bytes([number]) + b"\x86" for number in range(levels))
    return b"\x80\x02})" + steps + b"K\x01s."


PICKLES = {
    "a key that is hashed for ever": shared(60),
    "a byte array of gigabytes": b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\0\0\0\0\x04\x85R.",
    "a tensor of gigabytes": b"\x80\x02ctorch\nFloatTensor\n\x8a\x05\0\0\0\0\x04\x85R.",
    "a storage that is called": b"\x80\x02ctorch\nFloatStorage\n\x8a\x05\0\0\0\0\x04\x85R.",
    "a program": b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "nesting": b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
    "a stored size of gigabytes": pickle.dumps({"zoo_class": ("storage",) * 5}, 2),
}


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_in_a_checkpoint_takes_no_longer_than_it_is_long(tmp_path, checkpoint, kind):
    path = rezipped(checkpoint, tmp_path / "x.ckpt", data_pkl=lambda _: PICKLES[kind])
    refusal(lambda: zoo.load(path))


def test_a_compressed_checkpoint_is_not_inflated(tmp_path, checkpoint):
    path = rezipped(checkpoint, tmp_path / "x.ckpt", zipfile.ZIP_DEFLATED, **{"0": lambda content: bytes(2**27)})
    assert "truncated or damaged" in refusal(lambda: zoo.load(path))


def test_a_flipped_bit_in_the_weights_is_noticed(tmp_path, checkpoint):
    content = bytearray(checkpoint.read_bytes())
    with zipfile.ZipFile(checkpoint) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
    content[largest.header_offset + largest.file_size // 2] ^= 1
    (tmp_path / "x.ckpt").write_bytes(content)
    with pytest.raises(ZooError, match=r"x\.ckpt is truncated or damaged"):
        zoo.load(tmp_path / "x.ckpt")


@pytest.mark.parametrize("keep", [0, 1, 100, 5000, -1, -30])
def test_a_truncated_checkpoint(tmp_path, checkpoint, keep):
    (tmp_path / "x.ckpt").write_bytes(checkpoint.read_bytes()[:keep])
    with pytest.raises(ZooError, match=r"is truncated or damaged|is not a checkpoint"):
        zoo.load(tmp_path / "x.ckpt")


def test_no_file_at_all(tmp_path):
    for path in (tmp_path / "none.ckpt", tmp_path):
        with pytest.raises(ZooError, match="no checkpoint"):
            zoo.load(path)


def test_files_of_before_zip_archives_are_no_checkpoints(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.ckpt", _use_new_zipfile_serialization=False)
    with pytest.raises(ZooError, match="is not a checkpoint"):
        zoo.load(tmp_path / "x.ckpt")


def test_a_class_that_was_made_known_is_read(tmp_path, checkpoint):
    contents = torch.load(checkpoint, weights_only=True)
    torch.save({**contents, "more": Level.LOW}, tmp_path / "x.ckpt")
    with pytest.raises(ZooError, match="Level, which is not read"):
        zoo.load(tmp_path / "x.ckpt")
    with torch.serialization.safe_globals([Level]):
        assert read(tmp_path / "x.ckpt")["more"] is Level.LOW


def test_all_that_a_checkpoint_may_hold_is_read(tmp_path, checkpoint):
    more = {
        "numbers": [1, -1, 2**40, 1.5, True, None, float("inf")],
        "names": ["é", b"\0\xff", ("a",), {"b": {}}],
        "tensors": [torch.arange(6).view(2, 3).t(), torch.zeros(0), torch.ones(3, dtype=torch.bfloat16), torch.tensor(3.0)],
        "types": [torch.float32, torch.Size([1, 2]), torch.device("cpu")],
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "ordered": OrderedDict(a=1),
        "set": {1, 2},
        "keys": {(1, "a"): 1, ((1, 2), None): 2, -1: 3, 0.5: 4, None: 5, True: 6, b"b": 7},
        "counter": Counter(a=2),
        "complex": 1 + 2j,
        "bytearray": bytearray(b"\0\xff"),
        "sparse": torch.eye(3).to_sparse(),
        "unsigned": torch.zeros(3, dtype=torch.uint16),
        "expanded": torch.zeros(1).expand(100),
    }
    torch.save({**torch.load(checkpoint, weights_only=True), "more": more}, tmp_path / "x.ckpt")
    found = read(tmp_path / "x.ckpt")["more"]
    for name in ("numbers", "names", "types", "ordered", "set", "keys", "counter", "complex", "bytearray"):
        assert found[name] == more[name]
    for ours, theirs in zip(found["tensors"], more["tensors"], strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype
    assert torch.equal(found["parameter"], more["parameter"])
    assert torch.equal(found["sparse"].to_dense(), torch.eye(3))
    assert isinstance(zoo.load(tmp_path / "x.ckpt"), VAE)


@pytest.mark.parametrize("missing", ["loops", "optimizer_states", "lr_schedulers", "callbacks"])
def test_weights_alone_are_loaded_but_no_training_goes_on_from_them(tmp_path, checkpoint, missing):
    contents = torch.load(checkpoint, weights_only=True)
    del contents[missing]
    torch.save(contents, tmp_path / "x.ckpt")
    model = zoo.load(tmp_path / "x.ckpt")
    with pytest.raises(ZooError, match=f"holds a model alone, without {missing}"):
        require_same_model(tmp_path / "x.ckpt", model)


def test_a_trainer_reads_as_the_zoo_does(tmp_path, checkpoint):
    (tmp_path / "x.ckpt").write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(ZooError, match="truncated or damaged"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "x.ckpt", weights_only=True)


def test_a_model_of_another_class_is_not_gone_on_with(checkpoint):
    model = GAN(DataSpec("digits", (1, 8, 8), 17))
    with pytest.raises(ZooError, match=r"is a checkpoint of zoo\.models\.vae\.VAE"):
        require_same_model(checkpoint, model)
