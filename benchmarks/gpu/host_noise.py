"""The same random numbers on every device: all are drawn on the host and sent over."""

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

__all__ = ["HostNoise"]

_DRAWS = ("normal", "uniform", "bernoulli", "rand", "randn", "randint", "randperm", "exponential", "native_dropout")


class HostNoise(TorchDispatchMode):
    """Inside, what draws random numbers draws them from the CPU's generator, whatever the device.

    So a loss on an accelerator can be compared with the same loss on the CPU, seed by seed. Compiled functions draw their
    own numbers, and are not reached.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function.name().removeprefix("aten::").partition(".")[0]
        if name.removesuffix("_").removesuffix("_like") not in _DRAWS:
            return function(*args, **kwargs)
        device = next((arg.device for arg in args if isinstance(arg, Tensor)), kwargs.get("device"))
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        drawn = function(*tree_map_only(Tensor, Tensor.cpu, args), **kwargs)
        if name.endswith("_"):
            return args[0].copy_(drawn)
        return tree_map_only(Tensor, lambda tensor: tensor.to(device or "cpu"), drawn)
