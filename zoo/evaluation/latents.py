"""What the latent space holds: reconstructions, paths between examples, traversals of single latents."""

from collections.abc import Callable

import torch
from torch import Tensor

from zoo.models.base import Autoencodes, Decodes
from zoo.options import require_at_least

__all__ = ["decoded", "interpolations", "moved_latents", "reconstructions", "traversals"]

_AT_ONCE = 256  # examples that are decoded at once


def decoded(model: Decodes, z: Tensor) -> Tensor:
    """Decodes latents as pictures show them: by the model's ``decode_mean`` if it has any, or else by ``decode``.

    Arguments:
        model: The model.
        z: The latents, (N, d).

    Returns:
        The examples, (N, \\*shape), on the scale of the data; between levels where they are means of few levels.
    """
    decode: Callable[[Tensor], Tensor] = getattr(model, "decode_mean", model.decode)
    return torch.cat([decode(part) for part in z.split(_AT_ONCE)])


def reconstructions(model: Autoencodes, x: Tensor) -> Tensor:
    """Computes what the model makes of examples, decode(encode(x)), each beside its example.

    Arguments:
        model: The model.
        x: The examples, (N, \\*shape).

    Returns:
        Examples and reconstructions, (N, 2, \\*shape).
    """
    made = decoded(model, model.encode(x))
    return torch.stack((x.to(made.dtype), made), 1)


def interpolations(model: Autoencodes, x: Tensor, steps: int = 11) -> Tensor:
    """Decodes what lies on the line between the latents of two examples, the first half of ``x`` with the second.

    Arguments:
        model: The model.
        x: The examples, (2 n, \\*shape).
        steps: Steps from one to the other, both included.

    Returns:
        The examples, (n, steps, \\*shape).

    Raises:
        ZooError: for fewer than 2 examples, and no step.
    """
    require_at_least(2, examples=len(x))
    require_at_least(1, steps=steps)
    z = model.encode(x)
    pairs = len(z) // 2
    start, end = z[:pairs, None], z[pairs : 2 * pairs, None]  # (pairs, 1, d)
    weight = torch.linspace(0, 1, steps, device=z.device, dtype=z.dtype)[:, None]
    return decoded(model, torch.lerp(start, end, weight).flatten(0, 1)).unflatten(0, (pairs, steps))


def traversals(
    model: Autoencodes, x: Tensor, examples: int = 1, steps: int = 11, reach: float = 2.5, latents: int = 16
) -> Tensor:
    """Decodes the latents of examples with one entry at a time moved from ``-reach`` to ``reach``.

    Arguments:
        model: The model.
        x: Examples, (N, \\*shape); by all of them the latents are chosen.
        examples: So many of them are shown.
        steps: Steps from one end to the other.
        reach: How far from 0, in standard deviations of a standard normal prior.
        latents: At most so many, those whose means vary most over ``x``, in their order: where all are shown, row d moves
            latent d, as in the heat maps of the scores.

    Returns:
        The examples, (latents, examples, steps, \\*shape).

    Raises:
        ZooError: for numbers below 1.
    """
    require_at_least(1, examples=min(len(x), examples), steps=steps, latents=latents)
    moved = moved_latents(model.encode(x), examples, steps, reach, latents)
    return decoded(model, moved.flatten(0, 2)).unflatten(0, moved.shape[:3])


def moved_latents(z: Tensor, examples: int, steps: int, reach: float, latents: int) -> Tensor:
    """Moves single entries of latents, as :func:`traversals` decodes them.

    Arguments:
        z: The latents, (N, d).
        examples, steps, reach, latents: See :func:`traversals`.

    Returns:
        Latents, (rows, examples, steps, d).

    Example:
        >>> moved_latents(torch.zeros(1, 2), examples=1, steps=2, reach=2.0, latents=2).flatten(1, 2).tolist()
        [[[-2.0, 0.0], [2.0, 0.0]], [[0.0, -2.0], [0.0, 2.0]]]
    """
    rows = z.var(0, correction=0).argsort(descending=True, stable=True)[:latents].sort().values
    moved = z[:examples, None].repeat(len(rows), 1, steps, 1)
    moved[torch.arange(len(rows)), :, :, rows] = torch.linspace(-reach, reach, steps, device=z.device, dtype=z.dtype)
    return moved
