"""Factors in, codes out: what scores that draw their own data need of an encoder and of the data."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.points import check_codes
from zoo.progress import progress_bar

__all__ = ["CachedEncoder", "FactorData", "draw_codes", "draw_factors", "draw_votes", "seeded"]


class FactorData(Protocol):
    r"""Data that are rendered from known factors.

    Two more members are used where the data have them. ``sample_factors(n, generator)`` draws factors (n, K) that
    are not uniform or not independent. ``deterministic = True`` promises that equal factors render equal observations.

    Attributes:
        factor_sizes: The number of values of each factor.
    """

    factor_sizes: Sequence[int]

    def render(self, factors: Tensor) -> Any:
        r"""Renders an observation for each row of factors (n, K), int64 on the CPU, from 0 to :math:`n_k - 1`."""


def draw_factors(data: FactorData, n: int, generator: torch.Generator) -> Tensor:
    r"""Draws n rows of factors, with shape (n, K): the data's own draw, or uniform and independent."""
    if hasattr(data, "sample_factors"):
        return torch.as_tensor(data.sample_factors(n, generator)).long().cpu()
    return torch.stack([torch.randint(int(size), (n,), generator=generator) for size in data.factor_sizes], dim=1)


@contextmanager
def seeded(seed: int) -> Iterator[torch.Generator]:
    """Gives a generator for factors, and seeds torch for random rendering; the caller's random state stays untouched."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


class CachedEncoder:
    r"""Creates the map from factors to codes: render, then encode, in batches.

    With a cache, a combination of factors is rendered and encoded when it is first met, and looked up from then on. Give
    the table in place of the encoder to several scores, and they share what it knows.

    Arguments:
        encode: Maps a batch of observations to codes with shape (n, D), as a rule to posterior means.
        data: What renders the observations.
        cache_codes: Whether to look codes up. If not given, that is done where the data say that they are
            ``deterministic`` and have at most ``2 ** 22`` combinations. If rendering or encoding is random, a cache keeps
            one draw for each combination: equal factors then share their noise, and scores are not the reference's.
        encode_batch: The largest number of observations that are rendered and encoded at a time.

    Raises:
        ZooError: if a cache is asked for that would need more than ``2 ** 22`` rows.
    """

    bound = 2**22

    def __init__(
        self,
        encode: Callable[[Any], Any],
        data: FactorData,
        cache_codes: bool | None = None,
        encode_batch: int = 1024,
    ):
        self.encode, self.data, self.encode_batch = encode, data, encode_batch
        self.sizes = torch.tensor([int(size) for size in data.factor_sizes])
        rows = prod(self.sizes.tolist())
        if cache_codes is None:
            cache_codes = bool(getattr(data, "deterministic", False)) and rows <= self.bound
        if cache_codes and rows > self.bound:
            raise ZooError(
                f"a cache for {rows} combinations of factors is too large, {self.bound} fit: use cache_codes=False"
            )
        self.strides = self.sizes.flip(0).cumprod(0).flip(0) // self.sizes
        self.known = torch.zeros(rows, dtype=torch.bool) if cache_codes else None
        self.table: Tensor | None = None

    @torch.no_grad()
    def __call__(self, factors: Tensor) -> Tensor:
        r"""Returns the codes (n, D) of factors (n, K), in single precision."""
        if self.known is None:
            return self._encode(factors)
        index = (factors * self.strides).sum(dim=1)
        new = index[~self.known[index]].unique()
        if len(new) or self.table is None:
            codes = self._encode(new[:, None] // self.strides % self.sizes)
            if self.table is None:
                self.table = codes.new_empty(len(self.known), codes.shape[1])
            self.table[new.to(codes.device)] = codes
            self.known[new] = True
        return self.table[index.to(self.table.device)]

    def _encode(self, factors: Tensor) -> Tensor:
        batches = factors.split(self.encode_batch)
        return torch.cat([check_codes(self.encode(self.data.render(batch))).float() for batch in batches])


def draw_codes(
    encode: Callable[[Any], Any], data: FactorData, points: int = 10000, seed: int = 0, **options: Any
) -> tuple[Tensor, Tensor]:
    r"""Draws points to score: codes (N, D) and factors (N, K). Options: those of :class:`CachedEncoder`."""
    table = encode if isinstance(encode, CachedEncoder) else CachedEncoder(encode, data, **options)
    with seeded(seed) as generator:
        factors = draw_factors(data, points, generator)
        codes = table(factors)
    return codes, factors.to(codes.device)


def draw_votes(
    data: FactorData, votes: int, batch_size: int, generator: torch.Generator, progress: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    r"""Draws, some 64 votes at a time, the factor that is fixed in each vote (V,) and factors (V, B, K)."""
    for start in progress_bar(range(0, votes, 64), "votes", unit="votes", scale=64, hidden=not progress, leave=False):
        v = min(64, votes - start)
        fixed = torch.randint(len(data.factor_sizes), (v,), generator=generator)
        yield fixed, draw_factors(data, v * batch_size, generator).view(v, batch_size, -1)
