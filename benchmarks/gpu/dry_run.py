"""The memory of a training step without the memory: the step is run on meta tensors, which have shapes and no numbers."""

import contextlib
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

__all__ = ["LiveBytes", "like_a_gpu", "peak_bytes"]

# What autocast computes in bf16, and what in float32, of the functions that the zoo's networks call.
_NARROW = ((F, "linear"), (F, "conv2d"), (F, "conv_transpose2d"), (torch, "einsum"))
_WIDE = ((F, "layer_norm"),)


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


@contextlib.contextmanager
def like_a_gpu(bf16: bool) -> Iterator[None]:
    """Makes meta tensors go a GPU's way: attention that keeps no matrix of weights, and products in bf16 where asked.

    Autocast and the choice of an attention go by a tensor's device, and know nothing of meta tensors.
    """
    casts = [(place, torch.float32, torch.bfloat16) for place in _NARROW]
    casts += [(place, torch.bfloat16, torch.float32) for place in _WIDE]
    attention = (F, "scaled_dot_product_attention")
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(*attention, partial(_attention, torch.bfloat16 if bf16 else torch.float32)))
        for (module, name), of, to in casts if bf16 else []:
            stack.enter_context(mock.patch.object(module, name, partial(_converted, getattr(module, name), of, to)))
        yield


def _converted(function: Callable, of: torch.dtype, to: torch.dtype, *args, **kwargs) -> Tensor:
    args, kwargs = tree_map_only(Tensor, lambda tensor: tensor.to(to) if tensor.dtype == of else tensor, (args, kwargs))
    return function(*args, **kwargs)


def _attention(dtype: torch.dtype, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.to(dtype) for each in (q, k, v))
    return torch.ops.aten._scaled_dot_product_efficient_attention(q, k, v, None, True)[0]


def peak_bytes(model: nn.Module, loss: Callable[[], Tensor], bf16: bool) -> int:
    """The most bytes of a step: weights, twice as many of Adam's, and what the loss and its gradients need.

    What an allocator rounds up and a library's own workspace are not in it.

    Arguments:
        model: On the meta device.
        loss: Computes the loss of a batch, on the meta device.
        bf16: Whether autocast is on.
    """
    own = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    # Backward too: activations that are computed again there are so under autocast, as they were before.
    with LiveBytes() as live, like_a_gpu(bf16):
        loss().backward()
    model.zero_grad()
    return 3 * own + live.peak
