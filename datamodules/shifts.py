"""How training data differ from the whole grid of factors: factors that are correlated, combinations that are held out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import ZooError

__all__ = ["Correlation", "HeldOut", "listing"]

STRENGTH = "strength"


class Correlation(NamedTuple):
    r"""Pairs of factors that go together in training.

    With the class indices of a pair in units of the largest, :math:`u = i / (n_a - 1)` and :math:`v = j / (n_b - 1)`,

    .. math:: p(i, j) \propto \exp \left( - \frac{(u - v)^2}{2 \sigma^2} \right);

    of several pairs the product. All else is uniform. The less :math:`\sigma`, the stronger; the correlation
    coefficient of u and v is about 0.8 at 0.2, 0.45 at 0.4, and 0.1 at 1.

    Attributes:
        pairs: The names of the factors of each pair.
        strength: :math:`\sigma`.

    References:
        | On Disentangled Representations Learned from Correlated Data (Träuble et al., 2021), section 3
        | https://arxiv.org/abs/2006.07886
    """

    pairs: tuple[tuple[str, str], ...]
    strength: float

    @classmethod
    def of(cls, given: Mapping[str, Any], names: Sequence[str], title: str) -> "Correlation":
        """The correlation that ``{scale: posX, strength: 0.2}`` says, of factors among ``names``.

        Raises:
            ZooError: where it says none.
        """
        pairs = tuple((first, second) for first, second in given.items() if first != STRENGTH)
        for name in [name for pair in pairs for name in pair]:
            if name not in names:
                raise ZooError(f"correlate: no factor {name!r} that varies in {title}: there are {', '.join(names)}.")
        if not pairs or any(first == second for first, second in pairs):
            raise ZooError(f"correlate {dict(given)}: two factors are needed, as in {{scale: posX, strength: 0.2}}.")
        strength = given.get(STRENGTH)
        if isinstance(strength, bool) or not isinstance(strength, int | float) or not 0 < strength < math.inf:
            raise ZooError(f"correlate: strength {strength}: a number above 0 is needed; 0.2 is strong, 1 is weak.")
        return cls(pairs, float(strength))

    def weights(self, factors: Mapping[str, np.ndarray], sizes: Mapping[str, int]) -> np.ndarray:
        """How frequent each row of class indices is, (n,) float64, the most frequent there 1.

        Arguments:
            factors: The class indices (n,) of each factor.
            sizes: The number of values of each factor.
        """
        scaled = {name: factors[name] / (sizes[name] - 1) for pair in self.pairs for name in pair}
        distance = np.sum([np.square(scaled[first] - scaled[second]) for first, second in self.pairs], axis=0)
        return np.exp((distance.min() - distance) / (2 * self.strength**2))

    def __str__(self) -> str:
        return ",".join(f"{first}~{second}:{self.strength:g}" for first, second in self.pairs)


class HeldOut(NamedTuple):
    """Combinations that training never shows: those of which each named factor has one of the listed values.

    Attributes:
        values: The class indices in the whole grid, in increasing order, of each named factor.

    References:
        | The Role of Disentanglement in Generalisation (Montero et al., 2021), section 3
        | https://openreview.net/forum?id=qbH974jKUVy
    """

    values: dict[str, tuple[int, ...]]

    @classmethod
    def of(cls, given: Mapping[str, Sequence[int]], kept: Mapping[str, Sequence[int]], title: str) -> "HeldOut":
        """What ``{shape: [2], orientation: [0, 1, 2]}`` says, of the values that are kept of each factor.

        Raises:
            ZooError: for a factor that is not there, a value that is not kept, and where nothing or all is held out.
        """
        for name, values in given.items():
            if name not in kept:
                raise ZooError(f"hold_out: no factor {name!r} in {title}: it has {', '.join(kept)}.")
            if not values or len(set(values)) < len(values) or not set(values) <= set(kept[name]):
                there = listing(kept[name])
                raise ZooError(f"hold_out: {name}: {list(values)}: one or more of {there} are accepted, once each.")
        if all(len(values) == len(kept[name]) for name, values in given.items()):
            raise ZooError(f"hold_out {dict(given)} holds everything out: name some values of one factor or more.")
        return cls({name: tuple(sorted(values)) for name, values in given.items()})

    def __call__(self, places: Mapping[str, np.ndarray]) -> np.ndarray:
        """Whether each row of class indices in the whole grid is held out, (n,)."""
        return np.all([np.isin(places[name], values) for name, values in self.values.items()], axis=0)

    def __str__(self) -> str:
        return f"hold_out({','.join(f'{name}={listing(values)}' for name, values in self.values.items())})"


def listing(values: Sequence[int]) -> str:
    """``0-9`` for a run of values, ``0+10+20`` for others."""
    run = len(values) > 2 and values[-1] - values[0] == len(values) - 1
    return f"{values[0]}-{values[-1]}" if run else "+".join(map(str, values))
