"""Several processes that compute what one would: statistics, gradients and noise of the global batch.

The global batch is the rows of all processes in the order of their ranks. Each function does nothing where there is one
process; where there are several, all call it, in the same order.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from zoo.errors import ZooError

__all__ = [
    "Share",
    "all_sum",
    "broadcast",
    "common_noise",
    "deal",
    "from_first",
    "gather",
    "noise_of",
    "processes",
    "rand",
    "randn",
    "rank",
    "require_gpus",
    "separate_noise",
    "share",
    "weighted",
]


T = TypeVar("T")


class Share(NamedTuple):
    """The rows ``start`` to ``stop`` of ``total``: what one process has of them."""

    start: int
    stop: int
    total: int


_noise: Share | None = None  # whose noise is drawn; None where each process draws its own


def processes() -> int:
    """The number of processes, W."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, 0 to W - 1."""
    return dist.get_rank() if processes() > 1 else 0


def share(rows: int) -> Share:
    """What this process has of the global batch, where it has so many rows; waits for the others."""
    if processes() == 1:
        return Share(0, rows, rows)
    sizes = _sizes(rows)
    start = sum(sizes[: rank()])
    return Share(start, start + rows, sum(sizes))


def deal(rows: int) -> Share:
    """What this process gets of rows that all have, where they are shared out evenly; all of them if processes are more."""
    if rows < processes():
        return Share(0, rows, rows)
    size, larger = divmod(rows, processes())
    start = rank() * size + min(rank(), larger)
    return Share(start, start + size + (rank() < larger), rows)


def gather(x: Tensor) -> Tensor:
    """The rows of all processes, (B, ...) to (N, ...), in the order of their ranks; ``x`` itself where there is one.

    Differentiable: the gradient that arrives at a row is summed over the processes, so that after DDP has averaged the
    gradients of the weights they are those of the mean of the processes' losses. Where each process computes the same
    statistic of all N rows, that is the gradient of one process with the whole batch. Processes may hold different
    numbers of rows; all must call it, in the same order.
    """
    return x if processes() == 1 else _gathered(x)


def all_sum(x: Tensor) -> Tensor:
    """The sum over processes of tensors of one shape, the same on all of them. Differentiable as :func:`gather` is."""
    return x if processes() == 1 else _summed(x)


@torch.no_grad()
def broadcast(x: Tensor) -> Tensor:
    """The first process's ``x`` on all of them; theirs have its shape and dtype."""
    if processes() > 1:
        x = x.contiguous()
        dist.broadcast(x, 0)
    return x


def from_first(make: Callable[[], T]) -> T:
    """What ``make`` gives in the first process, in all of them; the others wait, and raise the ZooError that it raised."""
    if processes() == 1:
        return make()
    outcome: list[Any] = [None, None]
    if rank() == 0:
        try:
            outcome[0] = make()
        except ZooError as error:
            outcome[1] = str(error)
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise ZooError(outcome[1])
    return outcome[0]


def weighted(loss: Tensor, examples: int) -> Tensor:
    """W n / N times a mean over n examples of this process, N of all W.

    DDP averages gradients over processes. Those of the mean over the global batch come out where processes have different
    numbers of examples too: 1/W sum_r (W n_r / N) mean_r. What every process computes of the global batch, from
    :func:`gather`, may be part of the loss, since the factors' mean is 1. Waits for no device.
    """
    return loss if processes() == 1 else loss * _weight(loss, examples)


@contextmanager
def common_noise(rows: int) -> Iterator[Share]:
    """A context in which :func:`randn` and :func:`rand` draw the noise of the global batch; gives the share of this process.

    All take up the first process's random state, draw for all rows and keep their own. So each example gets the noise that
    it would get in one process, and a metric of held-out data does not depend on how many processes shared them. Elsewhere,
    and so in training, each process draws from a stream of its own (:func:`separate_noise`).

    Arguments:
        rows: The examples that this process has.
    """
    if processes() == 1:
        yield Share(0, rows, rows)
        return
    own, part = _random_state(), share(rows)
    _set_random_state([broadcast(state.to(_device())).cpu() for state in own])
    try:
        with _drawing(part):
            yield part
    finally:
        if rank() > 0:
            _set_random_state(own)


@contextmanager
def noise_of(part: Share) -> Iterator[None]:
    """A context for rows that were dealt out anew: where noise is common, draws are now those of ``part``."""
    with _drawing(None if _noise is None else part):
        yield


def separate_noise() -> None:
    """Give each process but the first a random stream of its own, which follows from the first's state.

    Lightning starts all with the same seed: what they draw for their examples would be the same numbers.
    """
    if processes() > 1:
        state = broadcast(torch.get_rng_state().to(_device())).cpu()
        if rank() > 0:
            seed = hashlib.blake2b(state.numpy().tobytes() + rank().to_bytes(8), digest_size=8)
            torch.manual_seed(int.from_bytes(seed.digest()))


def randn(*shape: int, rows: int = 0, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """Draws of N(0, 1), of a shape whose dimension ``rows`` counts examples; those of the global batch in
    :func:`common_noise`.
    """
    return _drawn(torch.randn, shape, rows, device, dtype)


def rand(*shape: int, rows: int = 0, device: torch.device | None = None, dtype: torch.dtype | None = None) -> Tensor:
    """The same of U[0, 1)."""
    return _drawn(torch.rand, shape, rows, device, dtype)


def require_gpus(wanted: int | list[int] | None) -> None:
    """ZooError, in a line that says what to type instead, where there are fewer GPUs than wanted, or not these.

    Arguments:
        wanted: How many, -1 for all that there are; or their numbers, from 0 on.
    """
    found = torch.cuda.device_count()
    needed = max(wanted, default=-1) + 1 if isinstance(wanted, list) else abs(wanted or 0)
    if needed > found and not torch.backends.mps.is_available():
        shown = ",".join(map(str, wanted)) if isinstance(wanted, list) else wanted
        machine = f"this machine has {found or 'no'} GPU{'s' if found != 1 else ''}"
        numbered = f", with the numbers 0 to {found - 1}" if isinstance(wanted, list) and found else ""
        raise ZooError(f"--gpus {shown}: {machine}{numbered}. Type --gpus {found}{'' if found else ' to use the CPU'}.")


def _device() -> torch.device:
    """Where tensors must be for processes to exchange them."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else torch.device("cpu")


def _sizes(rows: int) -> list[int]:
    """The numbers of rows of all processes."""
    sizes = [torch.zeros(1, dtype=torch.int64, device=_device()) for _ in range(processes())]
    dist.all_gather(sizes, torch.full_like(sizes[0], rows))
    return torch.cat(sizes).tolist()


def _drawn(
    draw: Callable[..., Tensor], shape: tuple[int, ...], rows: int, device: torch.device | None, dtype: torch.dtype | None
) -> Tensor:
    if _noise is None:
        return draw(shape, device=device, dtype=dtype)
    whole, rows = list(shape), rows % len(shape)
    whole[rows] = _noise.total
    return draw(whole, device=device, dtype=dtype).narrow(rows, _noise.start, shape[rows])


@contextmanager
def _drawing(part: Share | None) -> Iterator[None]:
    global _noise
    outer, _noise = _noise, part
    try:
        yield
    finally:
        _noise = outer


def _random_state() -> list[Tensor]:
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [])]


def _set_random_state(states: list[Tensor]) -> None:
    torch.set_rng_state(states[0])
    if len(states) > 1:
        torch.cuda.set_rng_state(states[1])


# Compiled, collectives would not be waited for.
@torch.compiler.disable
def _gathered(x: Tensor) -> Tensor:
    return _Gather.apply(x)


@torch.compiler.disable
def _summed(x: Tensor) -> Tensor:
    return _AllSum.apply(x)


@torch.compiler.disable
@torch.no_grad()
def _weight(loss: Tensor, examples: int) -> Tensor:
    total = torch.full((), examples, dtype=torch.float64, device=loss.device)
    dist.all_reduce(total)
    return (processes() * examples / total).to(loss.dtype)


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _AllSum.apply(gradient)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        """(B, ...) -> (N, ...)."""
        sizes = _sizes(len(x))
        ctx.start = sum(sizes[: rank()])
        ctx.stop = ctx.start + len(x)
        padded = x.new_zeros(max(sizes), *x.shape[1:])
        padded[: len(x)] = x
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """(N, ...) -> (B, ...)."""
        return _AllSum.apply(gradient)[ctx.start : ctx.stop]
