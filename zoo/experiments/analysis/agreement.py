"""How far scores agree: rank correlations over the models of a study, with intervals by a bootstrap of settings."""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from zoo.experiments.statistics import holm

__all__ = [
    "DRAWS",
    "FEWEST",
    "LECTURE",
    "SCORES",
    "Correlation",
    "agreement",
    "draw_settings",
    "holm_of",
    "rank_correlations",
]

# The six scores of the lecture's table, in its order.
SCORES = ("beta_vae_score", "factor_vae_score", "mig", "dci_disentanglement", "modularity", "sap")

# The lecture's table: Spearman's correlations of SCORES on Noisy-dSprites, times 100.
LECTURE = np.array(
    [
        [100, 80, 44, 41, 46, 37],
        [80, 100, 49, 52, 25, 38],
        [44, 49, 100, 76, 6, 42],
        [41, 52, 76, 100, -8, 38],
        [46, 25, 6, -8, 100, 13],
        [37, 38, 42, 38, 13, 100],
    ]
)
DRAWS = 2000
FEWEST = 5  # settings, or models of one, for an interval
_CHUNK = 2**21  # elements at once


@dataclass(frozen=True)
class Correlation:
    """A rank correlation over models.

    Attributes:
        value: Spearman's rho; None where it is not defined.
        low, high: The ends of its interval; None where there is none.
        n: How many models have both numbers.
        units: How many settings they are of: what the bootstrap draws.
        p: The two-sided p-value of the number that it was tested against; None where there was none.
        reason: Why there is no value, or no interval.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    units: int = 0
    p: float | None = None
    reason: str = ""


def rank_correlations(values: np.ndarray) -> np.ndarray:
    """Spearman's correlations of columns.

    Arguments:
        values: (..., N, K).

    Returns:
        (..., K, K), NaN where one of the columns is constant.

    Example:
        >>> rank_correlations(np.array([[1.0, 10.0], [2.0, 30.0], [3.0, 20.0]]))[0, 1].round(2)
        np.float64(0.5)
    """
    ranks = stats.rankdata(values, axis=-2)
    centered = ranks - ranks.mean(-2, keepdims=True)
    covariance = np.swapaxes(centered, -1, -2) @ centered
    spread = np.sqrt(np.einsum("...kk->...k", covariance))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = covariance / (spread[..., :, None] * spread[..., None, :])
    return np.where(np.abs(found) > 1 - 1e-12, np.sign(found), found)  # equal ranks correlate by 1 and nothing less


def draw_settings(settings: Sequence[Hashable], draws: int, seed: int) -> list[np.ndarray]:
    """Bootstrap draws of a study: as many settings as it has, with replacement, each with all of its models.

    Where there is one setting alone, its models are drawn.

    Arguments:
        settings: The setting of each model.
        draws: How many draws.
        seed: The seed of the draws.

    Returns:
        The indices of the models of each draw.
    """
    rng = np.random.default_rng(seed)
    known = list(dict.fromkeys(settings))
    members = [np.array([i for i, each in enumerate(settings) if each == one]) for one in known]
    if len(members) == 1:
        return list(members[0][rng.integers(0, len(members[0]), (draws, len(members[0])))])
    return [np.concatenate([members[i] for i in drawn]) for drawn in rng.integers(0, len(members), (draws, len(members)))]


def agreement(
    values: ArrayLike,
    settings: Sequence[Hashable],
    against: ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    level: float = 0.95,
) -> list[list[Correlation]]:
    r"""Spearman's correlations of scores over models, with intervals that hold for other settings and seeds.

    Models of one setting are alike, so a bootstrap that draws models one by one gives intervals far too narrow. Here
    settings are drawn, each with all of its seeds. With :math:`z = \operatorname{artanh} \rho`, the standard deviation
    :math:`s` of z over the draws and G settings, the interval is

    .. math:: \tanh \left( z \pm t_{G-1} \, s \sqrt{G / (G - 1)} \right).

    Arguments:
        values: (N, K), a row for each model, a column for each score, NaN for what is missing: a correlation is over the
            models that have both numbers.
        settings: The setting of each model, its method and strength; with one setting alone models are drawn.
        against: (K, K), numbers to test the correlations against, taken as exact; NaN where there is none.
        draws: Draws of the bootstrap.
        seed: Its seed.
        level: How often such an interval holds the correlation over infinitely many settings and seeds.

    Returns:
        The K x K correlations. A correlation with a constant score, or over fewer than three models, has no value but a
        reason.

    References:
        | Bootstrapping clustered data (Field and Welsh, 2007)
        | https://doi.org/10.1111/j.1467-9868.2007.00593.x

    Example:
        >>> rng = np.random.default_rng(0)
        >>> scores = rng.normal(size=(60, 1)) + 0.5 * rng.normal(size=(60, 2))
        >>> found = agreement(scores, settings=[i // 5 for i in range(60)])[0][1]
        >>> f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}] over {found.n} models of {found.units} settings"
        '0.74 [0.60, 0.84] over 60 models of 12 settings'
    """
    table = np.asarray(values, dtype=np.float64)
    theirs = np.full((table.shape[1],) * 2, np.nan) if against is None else np.asarray(against, dtype=np.float64)
    found = [[Correlation(1.0 if i == j else None) for j in range(len(theirs))] for i in range(len(theirs))]
    has = ~np.isnan(table)
    # Pairs of scores that the same models have share their draws.
    alike: dict[bytes, list[tuple[int, int]]] = {}
    for i, j in combinations(range(len(theirs)), 2):
        alike.setdefault((has[:, i] & has[:, j]).tobytes(), []).append((i, j))
    for pairs in alike.values():
        both = [i for i, each in enumerate(has[:, pairs[0][0]] & has[:, pairs[0][1]]) if each]
        of = [settings[i] for i in both]
        columns = sorted({i for pair in pairs for i in pair})
        part = table[both][:, columns]
        whole, drawn = rank_correlations(part), _drawn(part, draw_settings(of, draws, seed) if len(of) > 2 else [])
        for i, j in pairs:
            a, b = columns.index(i), columns.index(j)
            found[i][j] = found[j][i] = _correlation(of, whole[a, b], drawn[:, a, b], theirs[i, j], level)
    return found


def _drawn(table: np.ndarray, draws: list[np.ndarray]) -> np.ndarray:
    """The correlations of each draw, (draws, K, K); draws of one size are ranked together."""
    found = np.empty((len(draws), table.shape[1], table.shape[1]))
    sizes: dict[int, list[int]] = {}
    for i, draw in enumerate(draws):
        sizes.setdefault(len(draw), []).append(i)
    for size, places in sizes.items():
        some = max(_CHUNK // (size * table.shape[1]), 1)
        for start in range(0, len(places), some):
            part = places[start : start + some]
            found[part] = rank_correlations(table[np.stack([draws[i] for i in part])])
    return found


def _correlation(settings: list[Hashable], value: float, drawn: np.ndarray, against: float, level: float) -> Correlation:
    n, units = len(settings), len(set(settings))
    if n < 3:
        return Correlation(None, n=n, units=units, reason=f"{n} models have both, three are needed")
    if math.isnan(value):
        return Correlation(None, n=n, units=units, reason="a number that is the same in all models")
    value, freedom = float(value), (units if units > 1 else n) - 1
    if freedom + 1 < FEWEST:
        reason = f"no interval: {freedom + 1} {'settings' if units > 1 else 'models'}, {FEWEST} are needed"
        return Correlation(value, n=n, units=units, reason=reason)
    drawn = drawn[np.isfinite(drawn)]
    if abs(value) == 1 and (drawn == value).all():
        return Correlation(value, value, value, n, units)
    # Few models may be ranked alike in a draw: none counts as nearer to 1 than with two neighbors exchanged.
    nearest = 1 - 6 / (n * (n * n - 1))
    center, z = (np.arctanh(np.clip(each, -nearest, nearest)) for each in (value, drawn))
    error = float(z.std(ddof=1)) * math.sqrt((freedom + 1) / freedom)  # what is drawn spreads as sums over G, not G - 1
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    p = None
    if math.isfinite(against):
        distance = abs(float(center) - math.atanh(min(max(against, -nearest), nearest)))
        p = float(2 * stats.t.sf(distance / error, freedom))
    return Correlation(value, math.tanh(center - half), math.tanh(center + half), n, units, p)


def holm_of(correlations: Sequence[Correlation]) -> list[float | None]:
    """The p-values of correlations, corrected by Holm's method; None where nothing was tested."""
    corrected = holm([math.nan if each.p is None else each.p for each in correlations])
    return [None if math.isnan(p) else p for p in corrected]
