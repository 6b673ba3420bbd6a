"""What may be said of numbers over a few seeds: intervals, tests of differences, corrections, how many seeds it takes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

__all__ = [
    "Difference",
    "Summary",
    "holm",
    "paired",
    "permutation",
    "seeds_needed",
    "smallest_p",
    "summarize",
    "welch",
]

_MANY = 10_000  # seeds that nobody trains
_CHUNK = 2**22  # elements at once


@dataclass(frozen=True)
class Summary:
    """A mean and what is known of it.

    Attributes:
        n: How many values.
        mean: Their mean.
        std: Their standard deviation, that of a sample (n - 1); NaN of one value.
        low, high: The ends of the interval; NaN of one value.
        method: What the interval is, in words.
    """

    n: int
    mean: float
    std: float
    low: float
    high: float
    method: str


@dataclass(frozen=True)
class Difference:
    """How much two means differ, and whether chance alone explains it.

    Attributes:
        effect: The first mean minus the second.
        low, high: The ends of its interval; NaN where there is none.
        p: The two-sided p-value; NaN where there is none.
        method: The test, in words.
    """

    effect: float
    low: float
    high: float
    p: float
    method: str

    @property
    def half_width(self) -> float:
        """Half of the interval's width."""
        return (self.high - self.low) / 2


def summarize(values: ArrayLike, level: float = 0.95) -> Summary:
    r"""The mean with Student's interval, :math:`\bar x \pm t_{n-1} \, s / \sqrt n`.

    Of three seeds that is 2.48 standard deviations to each side, where tables print one.

    Arguments:
        values: A number for each seed, at least one.
        level: How often such an interval holds the true mean.

    Returns:
        The summary.

    Example:
        >>> found = summarize([92.1, 92.7, 92.4])
        >>> round(found.mean, 2), round(found.std, 2), round(found.low, 2), round(found.high, 2)
        (92.4, 0.3, 91.65, 93.15)
        >>> found.method
        '95 % t-interval over 3 seeds'
    """
    x = _floats(values)
    n, mean = len(x), float(x.mean())
    if n == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan, "no interval: one seed")
    std = float(x.std(ddof=1))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / math.sqrt(n)
    return Summary(n, mean, std, mean - half, mean + half, f"{100 * level:g} % t-interval over {n} seeds")


def welch(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    r"""Welch's test: the means of two groups of seeds, whose spreads need not be equal.

    .. math:: t = (\bar a - \bar b) / \sqrt{s_a^2 / n_a + s_b^2 / n_b}

    Arguments:
        a, b: A number for each seed, at least two of each.
        level: Of the interval of the difference.

    Returns:
        The difference; NaN for interval and p where a group has one seed.

    References:
        | The generalization of "Student's" problem when several different population variances are involved (Welch, 1947)
        | https://doi.org/10.1093/biomet/34.1-2.28

    Example:
        >>> found = welch([92.1, 92.7, 92.4], [94.9, 95.4, 95.1])
        >>> round(found.effect, 2), round(found.p, 4)
        (-2.73, 0.0003)
    """
    x, y = _floats(a), _floats(b)
    method = f"Welch over {len(x)} and {len(y)} seeds"
    if min(len(x), len(y)) < 2:
        return Difference(float(x.mean() - y.mean()), math.nan, math.nan, math.nan, f"{method}: two of each are needed")
    parts = [(float(x.var(ddof=1)) / len(x), len(x) - 1), (float(y.var(ddof=1)) / len(y), len(y) - 1)]
    return _t_test(float(x.mean() - y.mean()), parts, level, method)


def paired(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Difference:
    r"""Two methods on the same test examples: over examples, in which their own spread cancels, and over seeds.

    With :math:`d_i` the difference of the two methods' means over seeds at example i, and :math:`s_a`, :math:`s_b` the
    standard deviations over seeds of the means over examples, the variance of the mean difference is estimated by

    .. math:: s_a^2 / S_a + s_b^2 / S_b + s_d^2 / n

    and its degrees of freedom by Satterthwaite's formula. It generalizes to other seeds and to other test examples. Where a
    method has one seed, the spread over seeds is unknown, and what is said holds for the trained models alone.

    Arguments:
        a, b: (seeds, examples): a number for each seed and example, the same examples in the same order in both.
        level: Of the interval of the difference.

    Returns:
        The difference.

    References:
        | An approximate distribution of estimates of variance components (Satterthwaite, 1946)
        | https://doi.org/10.2307/3002019

    Example:
        >>> rng = np.random.default_rng(0)
        >>> images = rng.normal(90, 20, 500)
        >>> found = paired(images + rng.normal(0, 1, (4, 500)), images + 0.5 + rng.normal(0, 1, (4, 500)))
        >>> found.p < 0.01, found.method
        (True, 'paired over 500 test examples, seeds (4 and 4) as second level')
    """
    x, y = np.atleast_2d(np.asarray(a, dtype=np.float64)), np.atleast_2d(np.asarray(b, dtype=np.float64))
    if x.shape[1] != y.shape[1]:
        raise ValueError(f"{x.shape[1]} and {y.shape[1]} examples: the same ones are needed")
    difference = x.mean(0) - y.mean(0)  # (examples,)
    n = len(difference)
    over = f"paired over {n:,} test examples"
    if n < 2:
        return Difference(float(difference.mean()), math.nan, math.nan, math.nan, f"{over}: two are needed")
    parts = [(float(difference.var(ddof=1)) / n, n - 1)]
    if min(len(x), len(y)) < 2:
        return _t_test(float(difference.mean()), parts, level, f"{over}, of these trained models alone")
    parts += [(float(each.mean(1).var(ddof=1)) / len(each), len(each) - 1) for each in (x, y)]
    return _t_test(float(difference.mean()), parts, level, f"{over}, seeds ({len(x)} and {len(y)}) as second level")


def permutation(a: ArrayLike, b: ArrayLike, exact: int = 200_000, draws: int = 20_000, seed: int = 0) -> float:
    """The p-value of the permutation test over seeds: how many ways to deal them make the means differ as much.

    Where there are no more than ``exact`` ways, all are looked at; else ``draws`` random ones, the observed one among them.
    It assumes nothing of the spread but that, if nothing differs, it does not either.

    Arguments:
        a, b: A number for each seed.
        exact: The most ways that are all looked at.
        draws: How many random ones are looked at where there are more.
        seed: The seed of random ones.

    Returns:
        The two-sided p-value.

    Example:
        >>> permutation([1, 2, 3], [4, 5, 6])
        0.1
    """
    x, y = _floats(a), _floats(b)
    pooled, n = np.concatenate([x, y]), len(x)
    pooled = pooled - pooled.mean()  # the statistic is then the sum of the first group
    ways, observed = math.comb(len(pooled), n), abs(float(pooled[:n].sum()))
    least = observed - 1e-9 * max(float(np.abs(pooled).sum()), 1e-300)  # ties, whatever the order of summation
    if ways <= exact:
        places = np.fromiter((i for chosen in combinations(range(len(pooled)), n) for i in chosen), np.int64, ways * n)
        return float((np.abs(pooled[places.reshape(ways, n)].sum(1)) >= least).mean())
    rng, at_least, left = np.random.default_rng(seed), 1, draws - 1
    while left:
        some = min(left, max(_CHUNK // len(pooled), 1))
        shuffled = rng.permuted(np.broadcast_to(pooled, (some, len(pooled))), axis=1)
        at_least += int((np.abs(shuffled[:, :n].sum(1)) >= least).sum())
        left -= some
    return at_least / draws


def smallest_p(n_a: int, n_b: int) -> float:
    """The smallest p that the exact permutation test can give with so many seeds, two-sided.

    Example:
        >>> [round(smallest_p(n, n), 3) for n in (3, 4, 5, 6)]
        [0.1, 0.029, 0.008, 0.002]
    """
    ways = math.comb(n_a + n_b, n_a)
    return min(1.0, (2 if n_a == n_b else 1) / ways)


def holm(p: Sequence[float], family: int | None = None) -> list[float]:
    """P-values corrected for how many there are, by Holm's method: an error anywhere among them is as rare as in one test.

    Arguments:
        p: The p-values; NaN stays NaN and counts for nothing.
        family: How many tests there might have been, if more: where the reference of all comparisons is the best row of a
            table, the data chose it, and every pair of rows is a test that might have been made.

    Returns:
        The corrected ones, in the same order.

    References:
        | A simple sequentially rejective multiple test procedure (Holm, 1979)
        | https://www.jstor.org/stable/4615733

    Example:
        >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    order = sorted((i for i, each in enumerate(p) if not math.isnan(each)), key=lambda i: p[i])
    most = len(order) if family is None else max(family, len(order))
    corrected, largest = [math.nan] * len(p), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (most - rank) * p[i]))
        corrected[i] = largest
    return corrected


def seeds_needed(effect: float, std_a: float, std_b: float, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """About how many seeds of each of two methods tell them apart, if what was seen is what is.

    The least n with which a two-sided t-test at ``alpha`` finds ``effect`` with probability ``power``, by the noncentral t
    distribution. An effect that is taken from few seeds is itself uncertain: it is a rough guide.

    Arguments:
        effect: The difference of the means.
        std_a, std_b: The standard deviations over seeds.
        alpha: The p-value below which they are told apart, corrected where there are several tests.
        power: The probability.

    Returns:
        The number; None if it is above 10,000 or there is no difference.

    Example:
        >>> seeds_needed(0.5, 1.0, 1.0)
        64
    """
    spread = math.sqrt((std_a**2 + std_b**2) / 2)
    if not effect or not all(map(math.isfinite, (effect, spread))):
        return None
    if spread == 0:
        return 2
    low, high = 2, 2
    while _power(abs(effect) / spread, high, alpha) < power:
        low, high = high, 2 * high
        if high > 2 * _MANY:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _power(abs(effect) / spread, middle, alpha) >= power else (middle + 1, high)
    return low if low <= _MANY else None


def _power(standardized: float, n: int, alpha: float) -> float:
    freedom, noncentrality = 2 * (n - 1), standardized * math.sqrt(n / 2)
    threshold = stats.t.ppf(1 - alpha / 2, freedom)
    if noncentrality > 30:  # where the distribution can't be computed, and need not be
        return float(noncentrality > threshold)
    found = float(stats.nct.sf(threshold, freedom, noncentrality))
    return found if math.isfinite(found) else 0.0


def _t_test(effect: float, parts: Sequence[tuple[float, int]], level: float, method: str) -> Difference:
    """A difference whose variance is a sum of estimates, each with its degrees of freedom."""
    variance = sum(part for part, _ in parts)
    if not variance > 0:
        return Difference(effect, effect, effect, float(effect == 0), f"{method}: no spread")
    freedom = variance**2 / sum(part**2 / each for part, each in parts)
    error = math.sqrt(variance)
    half = float(stats.t.ppf((1 + level) / 2, freedom)) * error
    return Difference(effect, effect - half, effect + half, float(2 * stats.t.sf(abs(effect) / error, freedom)), method)


def _floats(values: ArrayLike) -> np.ndarray:
    x = np.asarray(values, dtype=np.float64).ravel()
    if not len(x):
        raise ValueError("no values")
    return x
