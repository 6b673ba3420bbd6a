"""Several processes: the rows of all in one tensor, so that a statistic of the batch is one of the global batch."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import ZooError

__all__ = ["gather", "require_gpus"]


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, (B, ...) to (N, ...), in the order of their ranks; ``x`` itself where there is one.

    Differentiable: the gradient that arrives at a row is summed over the processes, so that after DDP has averaged the
    gradients of the weights they are those of the mean of the processes' losses. Where each process computes the same
    statistic of all N rows, that is the gradient of one process with the whole batch. Processes may hold different
    numbers of rows; all must call it, in the same order.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return x
    return _gathered(x)


@torch.compiler.disable  # compiled, collectives would not be waited for
def _gathered(x: Tensor) -> Tensor:
    return _Gather.apply(x)


def require_gpus(wanted: int | None) -> None:
    """ZooError, in a line that says what to type instead, where there are fewer GPUs than wanted."""
    found = torch.cuda.device_count()
    if wanted and wanted > found and not torch.backends.mps.is_available():
        machine = f"this machine has {found or 'no'} GPU{'s' if found != 1 else ''}"
        raise ZooError(f"--gpus {wanted}: {machine}. Type --gpus {found}{'' if found else ' to use the CPU'}.")


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """(B, ...) -> (N, ...)."""
        rank, processes = dist.get_rank(), dist.get_world_size()
        rows = [torch.tensor([0], device=x.device) for _ in range(processes)]
        dist.all_gather(rows, torch.tensor([len(x)], device=x.device))
        sizes = torch.cat(rows).tolist()
        ctx.start, ctx.stop = sum(sizes[:rank]), sum(sizes[: rank + 1])
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in range(processes)]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """(N, ...) -> (B, ...)."""
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.start : ctx.stop]
