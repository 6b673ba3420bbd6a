"""The memory of a training step without the memory: the step is run on meta tensors, which have shapes and no numbers."""

import contextlib
import weakref
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["LiveBytes", "MetaAutocast", "peak_bytes"]

_NARROW = {F.linear, F.conv2d, F.conv_transpose2d, torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.einsum, torch.bmm}
_NARROW |= {F.scaled_dot_product_attention}
_WIDE = {F.layer_norm, F.softplus, torch.softmax, torch.exp, torch.log, Tensor.exp, Tensor.log, Tensor.softmax}


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of the storages that operations inside make, as long as they live.

    Attributes:
        now: Bytes alive.
        peak: The most there were.
    """

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self._alive: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        given = {id(storage) for storage in map(_storage, tree_leaves((args, kwargs))) if storage is not None}
        for storage in map(_storage, tree_leaves(out)):
            if storage is not None and id(storage) not in given and id(storage) not in self._alive:
                size = storage.nbytes()
                self._alive[id(storage)] = weakref.ref(storage, partial(self._freed, id(storage), size))
                self.now += size
                self.peak = max(self.peak, self.now)
        return out

    def _freed(self, key: int, size: int, _) -> None:
        self.now -= size
        del self._alive[key]


def _storage(thing) -> torch.UntypedStorage | None:
    return thing.untyped_storage() if isinstance(thing, Tensor) else None


class MetaAutocast(TorchFunctionMode):
    """Does to meta tensors what bf16 autocast does to a GPU's: products in bf16, norms, exponentials and logarithms not."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in _NARROW:
            args, kwargs = tree_map_only(Tensor, partial(_cast, torch.float32, torch.bfloat16), (args, kwargs or {}))
        elif function in _WIDE:
            args, kwargs = tree_map_only(Tensor, partial(_cast, torch.bfloat16, torch.float32), (args, kwargs or {}))
        return function(*args, **(kwargs or {}))


def _cast(of: torch.dtype, to: torch.dtype, tensor: Tensor) -> Tensor:
    return tensor.to(to) if tensor.dtype == of else tensor


def peak_bytes(model: nn.Module, loss: Callable[[], Tensor], bf16: bool) -> int:
    """The most bytes of a step: weights, twice as many of Adam's, and what the loss and its gradients need.

    What an allocator rounds up and a library's own workspace are not in it.

    Arguments:
        model: On the meta device.
        loss: Computes the loss of a batch, on the meta device.
        bf16: Whether autocast is on.
    """
    own = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    # Backward too: activations that are computed again there are so under autocast, as they were before. (Not by
    # Tensor.backward, a function that such a mode is asked about, and off while it runs.)
    with LiveBytes() as live, MetaAutocast() if bf16 else contextlib.nullcontext():
        torch.autograd.backward(loss())
    model.zero_grad()
    return 3 * own + live.peak
