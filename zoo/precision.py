"""What stays in float32 whatever autocast says: tensors that it narrowed, and methods that it must not narrow."""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

__all__ = ["autocast_off", "autocast_while_training", "computes_bfloat16", "widen_half", "without_autocast"]


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device has units that multiply matrices of bfloat16: on others bf16-mixed is slower than float32.

    Example:
        >>> computes_bfloat16(torch.device("meta"))
        False
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type != "cpu":
        return False
    found: dict = getattr(torch.cpu, "get_capabilities", dict)()  # which torch 2.11 does not have
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


def autocast_off(device: str) -> contextlib.AbstractContextManager:
    """A context in which autocast is off on devices of that type; one that does nothing where there is no autocast.

    Example:
        >>> with torch.autocast("cpu", torch.bfloat16), autocast_off("cpu"):
        ...     (torch.ones(1, 1) @ torch.ones(1, 1)).dtype
        torch.float32
    """
    available = torch.amp.is_autocast_available(device)
    return torch.autocast(device, enabled=False) if available else contextlib.nullcontext()


def autocast_while_training(module: nn.Module, device: str) -> contextlib.AbstractContextManager:
    """A context in which autocast, where it is on, stays on in a training step alone: in training mode, with gradients.

    For networks whose outputs two passes must agree on, as a flow's forward and inverse. In bfloat16 an input that differs
    by one rounding of float32 is now and then rounded to another number of two digits, and the outputs differ as much.
    """
    in_step = module.training and torch.is_grad_enabled()
    return contextlib.nullcontext() if in_step else autocast_off(device)


def widen_half(x: Tensor) -> Tensor:
    """bfloat16 and float16, as autocast gives them, to float32; float32 and float64 unchanged."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


Method = TypeVar("Method", bound=Callable[..., tuple[Tensor, Tensor]])


def without_autocast(method: Method) -> Method:
    """A transform's method, run outside autocast, its inputs widened to float32.

    A log-determinant holds for the map as it is computed: Q of a Sylvester flow, for one, is orthogonal only to the
    precision it is computed in, which in bfloat16 is two digits.

    Example:
        >>> class Halve(torch.nn.Module):
        ...     @without_autocast
        ...     def forward(self, x, context=None):
        ...         return x / 2, x.new_full(x.shape[:-1], -0.6931) * x.shape[-1]
        >>> with torch.autocast("cpu", torch.bfloat16):
        ...     Halve()(torch.ones(1, 1, dtype=torch.bfloat16))[0].dtype
        torch.float32
    """

    @functools.wraps(method)
    def widened(self: Any, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        device = x.device.type
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return method(self, x, context)
        with torch.autocast(device, enabled=False):
            return method(self, _widen(x), None if context is None else _widen(context))

    return cast(Method, widened)


def _widen(x: Tensor) -> Tensor:
    # float64 is left as it is: only what autocast narrowed is widened.
    return x if x.dtype == torch.float64 else x.float()
