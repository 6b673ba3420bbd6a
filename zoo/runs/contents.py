"""What a checkpoint holds, checked before anything of it is used: a damaged or foreign one is told in a line."""

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from zoo.errors import ZooError
from zoo.pickles import ForeignCallError, Global, read_pickle
from zoo.spec import DataSpec

__all__ = ["read"]

_SIZES = {  # bytes of an element
    **dict.fromkeys(("UntypedStorage", "BoolStorage", "ByteStorage", "CharStorage"), 1),
    **dict.fromkeys(("BFloat16Storage", "HalfStorage", "ShortStorage"), 2),
    **dict.fromkeys(("FloatStorage", "IntStorage"), 4),
    **dict.fromkeys(("DoubleStorage", "LongStorage", "ComplexFloatStorage"), 8),
    "ComplexDoubleStorage": 16,
}
_REPEATED = 2**20  # elements that a tensor may have although less is stored: an expanded one repeats what there is
_OPCODES = 3_000_000  # of thirty thousand tensors with Adam's two averages of each
_LARGEST = 2**28  # dimensions of an example
_RESUMED = {  # what training goes on with, beside the model
    **dict.fromkeys(("loops", "callbacks"), dict),
    **dict.fromkeys(("optimizer_states", "lr_schedulers"), list),
    **dict.fromkeys(("epoch", "global_step"), int),
}


class _Storage(NamedTuple):
    """The stored elements of tensors."""

    elements: int


class _Tensor(NamedTuple):
    """A tensor, before it is read."""

    shape: tuple[int, ...]


class _Ordered(dict):
    """An ``OrderedDict``, whose attributes are of no interest."""

    def build(self, state: object) -> None:
        """Leave out the versions of modules that a state dict notes."""


class _Known:
    """An object of a class that was made known by :func:`torch.serialization.add_safe_globals`."""

    def __init__(self, *arguments: object):
        pass

    def build(self, state: object) -> None:
        """Leave out its state."""


def read(path: str | Path) -> dict[str, Any]:
    """The contents of a checkpoint of this zoo, on the CPU.

    Nothing in it is run and none of its classes is imported: it is read as data (:func:`zoo.pickles.read_pickle`), its
    checksums are compared, and the parts that every checkpoint has are checked for their types, before PyTorch loads the
    tensors with ``weights_only=True``.

    Arguments:
        path: The file.

    Returns:
        The dictionary that Lightning stored.

    Raises:
        ZooError: where there is no such file, or it is damaged, or not a checkpoint of a zoo model.
    """
    path = Path(path)
    if not path.is_file():
        raise ZooError(f"no checkpoint {path}. A run keeps them in <run folder>/checkpoints/.")
    try:
        _require_model(_outline(path))
        return torch.load(path, map_location="cpu", weights_only=True)
    except ForeignCallError as error:
        raise ZooError(
            f"{path} holds {error.name}, which is not read from a file: it could run any program. Checkpoints of the zoo "
            "hold numbers, strings, lists, dictionaries and tensors."
        ) from error
    except _ForeignError as error:
        raise ZooError(f"{path} is a PyTorch file, but not a checkpoint of a zoo model{error}.") from error
    except Exception as error:  # damage can surface as almost any error of zip, of the pickle in it or of PyTorch
        with path.open("rb") as file:
            reason = "is truncated or damaged" if file.read(2) == b"PK" else "is not a checkpoint"
        raise ZooError(f"{path} {reason} ({path.stat().st_size:,} bytes).") from error


def _outline(path: Path) -> Any:
    """The contents without the tensors, after a comparison of all checksums."""
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        if len(members) < len(archive.infolist()) or any(member.compress_type for member in members.values()):
            raise ValueError("it has two members of one name, or compressed ones")
        if sum(member.file_size for member in members.values()) > path.stat().st_size:
            raise ValueError("its members are larger than it is")
        (pickled,) = (name for name in members if name.rpartition("/")[2] == "data.pkl")
        if (damaged := archive.testzip()) is not None:
            raise ValueError(f"the checksum of {damaged} differs")
        folder = pickled.removesuffix("data.pkl")

        def storage(key: Any) -> _Storage:
            kind, element, number, _, elements = key
            stored = members[f"{folder}data/{number}"].file_size
            if kind != "storage" or stored != elements * _SIZES[element.name.rpartition(".")[2]]:
                raise ValueError("a tensor in it has another size than its contents")
            return _Storage(elements)

        return read_pickle(archive.read(pickled), _calls(), storage, _OPCODES)


def _calls() -> dict[str, Callable[..., Any]]:
    """What the pickle in a checkpoint may call, with ours in the place of PyTorch's."""
    dtypes = {f"torch.{name}" for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype)}
    known = [
        each[1] if isinstance(each, tuple) else f"{each.__module__}.{each.__qualname__}"
        for each in torch.serialization.get_safe_globals()
    ]
    return {
        **dict.fromkeys([f"torch.{name}" for name in _SIZES] + [f"torch.storage.{name}" for name in _SIZES], _refuse),
        **dict.fromkeys(dtypes, _refuse),
        **dict.fromkeys(known, _Known),
        "torch._utils._rebuild_tensor_v2": _tensor,
        "torch._utils._rebuild_tensor_v3": _tensor,
        "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
        "torch.Size": tuple,
        "torch.device": lambda *arguments: arguments,
        "torch._utils._rebuild_parameter_with_state": lambda tensor, *_: tensor,
        "torch._utils._rebuild_sparse_tensor": lambda layout, parts: _Tensor(tuple(parts[2])),
        "torch.serialization._get_layout": lambda name: name,
        "collections.OrderedDict": lambda: _Ordered(),
        "collections.Counter": lambda *counts: dict(*counts),
        "_codecs.encode": lambda text, encoding: text.encode("latin1"),
        "__builtin__.set": list,
        "builtins.set": list,
        **dict.fromkeys(("__builtin__.complex", "builtins.complex"), complex),
        **dict.fromkeys(("__builtin__.bytearray", "builtins.bytearray"), _bytes),
    }


def _bytes(text: str | bytes = b"", encoding: str = "latin-1") -> bytes:
    """A ``bytearray`` of contents, and not of a length."""
    return text.encode(encoding) if isinstance(text, str) else bytes(memoryview(text))


def _refuse(*_: object) -> None:
    raise ValueError("it calls a type")


def _tensor(stored: Any, offset: int, shape: Any, stride: Any, *_: object) -> _Tensor:
    """The outline of a tensor whose elements are all stored."""
    if not isinstance(stored, _Storage) or len(shape) != len(stride) or min((offset, *shape, *stride)) < 0:
        raise ValueError("a tensor in it is malformed")
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if math.prod(shape) and (last >= stored.elements or math.prod(shape) > max(stored.elements, _REPEATED)):
        raise ValueError("a tensor in it is larger than its contents")
    return _Tensor(tuple(shape))


class _ForeignError(Exception):
    """What a file lacks to be a checkpoint of the zoo, as the end of a sentence."""


def _require_model(contents: Any) -> None:
    """Raise where a checkpoint lacks what every one of a zoo model has, or has it as another type."""
    if not isinstance(contents, dict) or not {"zoo_class", "state_dict", "hyper_parameters"} <= contents.keys():
        raise _ForeignError("")
    _require(contents, "zoo_class", str)
    _require_tensors(contents["state_dict"], "state_dict")
    _require(contents, "hyper_parameters", dict)
    _require_spec(contents["hyper_parameters"].get("spec"))
    for name in contents["hyper_parameters"]:
        if not isinstance(name, str):
            raise _ForeignError(f": a name in hyper_parameters is {name!r}")
    if "zoo_average" in contents:
        _require(contents, "zoo_average", dict)
        _require(contents["zoo_average"], "updates", int)
        average = contents["zoo_average"].get("weights")
        _require_tensors(average, "zoo_average")
        for name, tensor in average.items():
            if contents["state_dict"].get(name) != tensor:
                raise _ForeignError(f": {name} of its average is of another shape than the weights")
    for name, kind in _RESUMED.items():
        if name in contents:
            _require(contents, name, kind)


def _kind(value: object) -> str:
    return {"_Ordered": "dict", "_Tensor": "tensor"}.get(name := type(value).__name__, name)


def _require(contents: Mapping[str, Any], name: str, kind: type) -> None:
    found = contents.get(name)
    if not isinstance(found, kind) or isinstance(found, Global):
        raise _ForeignError(f": its {name} is of type {_kind(found)}, not {kind.__name__}")


def _require_tensors(found: Any, name: str) -> None:
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise _ForeignError(f": its {name} holds no tensors by their names")
    for key, value in found.items():
        if not isinstance(value, _Tensor):
            raise _ForeignError(f": {key} in its {name} is of type {_kind(value)}, not a tensor")


def _require_spec(found: Any) -> None:
    if not isinstance(found, dict) or isinstance(found.get("name"), str) is False:
        raise _ForeignError(": its hyper_parameters hold no spec of the data")
    numbers = [found.get("levels"), *found.get("shape", [None]), *found.get("factor_sizes", [])]
    whole = [isinstance(number, int) and not isinstance(number, bool) and 0 < number < _LARGEST for number in numbers[1:]]
    levels = numbers[0] is None or (isinstance(numbers[0], int) and numbers[0] <= 2**16)
    strings = all(isinstance(name, str) for name in found.get("factor_names", []))
    if not all(whole) or not levels or not strings or math.prod(found["shape"]) > _LARGEST:
        raise _ForeignError(": its spec of the data is malformed")
    try:
        DataSpec.of(found)
    except (ZooError, TypeError) as error:
        raise _ForeignError(f": its spec of the data is malformed ({error})") from error
