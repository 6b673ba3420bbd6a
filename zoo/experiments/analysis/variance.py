"""How much of a score's variance is due to the method, to its strength, and to the seed alone."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from zoo.experiments.analysis.agreement import DRAWS

__all__ = ["Explained", "explained_variance"]

_LARGE = 1000.0


@dataclass(frozen=True)
class Explained:
    """Shares of a score's variance over the models of a study; None for what is not defined.

    Attributes:
        method: Between methods: R squared of a one-way analysis of variance, as in the study.
        setting: Between settings, methods with their strengths.
        method_adjusted, setting_adjusted: The same corrected for the number of groups; near 0, also below, where groups are
            dealt at random.
        setting_low, setting_high: The 95 % interval of ``setting``, of the normal theory.
        p_method: That methods differ by chance, of a permutation of whole settings over methods.
        p_strength: That strengths of one method do, of a permutation of models within methods.
        n, methods, settings: How many there are.
        reason: Why something is None.
    """

    method: float | None = None
    setting: float | None = None
    method_adjusted: float | None = None
    setting_adjusted: float | None = None
    setting_low: float | None = None
    setting_high: float | None = None
    p_method: float | None = None
    p_strength: float | None = None
    n: int = 0
    methods: int = 0
    settings: int = 0
    reason: str = ""

    @property
    def strength(self) -> float | None:
        """Between the strengths of one method."""
        return None if self.setting is None or self.method is None else self.setting - self.method

    @property
    def seed(self) -> float | None:
        """Within settings: what the seed alone decides."""
        return None if self.setting is None else 1 - self.setting

    @property
    def strength_adjusted(self) -> float | None:
        """``strength`` of the adjusted shares."""
        known = self.setting_adjusted is not None and self.method_adjusted is not None
        return self.setting_adjusted - self.method_adjusted if known else None  # type: ignore[operator]

    @property
    def seed_adjusted(self) -> float | None:
        """``seed`` of the adjusted shares."""
        return None if self.setting_adjusted is None else 1 - self.setting_adjusted


def explained_variance(
    values: ArrayLike,
    methods: Sequence[Hashable],
    strengths: Sequence[Hashable],
    draws: int = DRAWS,
    seed: int = 0,
) -> Explained:
    r"""The study's analysis of variance: which share of a score's variance is between methods, and between settings.

    With groups g of :math:`n_g` models and means :math:`\bar y_g`,

    .. math:: R^2 = \frac{\sum_g n_g (\bar y_g - \bar y)^2}{\sum_i (y_i - \bar y)^2}, \qquad
              R^2_{adjusted} = 1 - (1 - R^2) \frac{N - 1}{N - G}.

    :math:`R^2` is positive by chance alone, :math:`(G - 1) / (N - 1)` in the mean where nothing matters: .19 for 18 settings
    of 5 seeds. The adjusted one is 0 in the mean then.

    Arguments:
        values: (N,), the score of each model; NaN for what is missing, which counts for nothing.
        methods: The method of each.
        strengths: The strength of each.
        draws: Permutations of the tests.
        seed: Their seed.

    Returns:
        The shares, with their tests.

    Example:
        >>> found = explained_variance([1, 1.1, 2, 2.1, 5, 5.1, 7, 7.1], 4 * ["a"] + 4 * ["b"], [1, 1, 2, 2, 1, 1, 2, 2])
        >>> round(found.method, 2), round(found.strength, 2), round(found.seed, 2)
        (0.89, 0.11, 0.0)
    """
    y = np.asarray(values, dtype=np.float64)
    known = [i for i, each in enumerate(y) if not np.isnan(each)]
    y = y[known]
    setting, method = _codes([(methods[i], strengths[i]) for i in known]), _codes([methods[i] for i in known])
    n, many, few = len(y), len(set(setting)), len(set(method))
    counts = {"n": n, "methods": few, "settings": many}
    if n < 3 or many < 2:
        return Explained(**counts, reason=f"{n} models of {many} settings: two settings and three models are needed")
    if np.ptp(y) == 0:
        return Explained(**counts, reason="constant in all models")
    within = n > many
    own = _share(y, method) if few > 1 else None
    both = _share(y, setting) if within else None
    reason = "" if within else "one model of each setting: strength and seed can't be told apart"
    reason = reason or ("one method" if few < 2 else "")
    low, high = _interval(both, n, many) if both is not None else (None, None)
    p_strength = p_method = None
    if within and any(len(set(setting[method == each])) > 1 for each in range(few)):
        p_strength = _p(y, setting, lambda rng: _within(rng, method), draws, seed)
    if few > 1 and many > few:
        p_method = _p_of_methods(y, setting, method, draws, seed)
    return Explained(own, both, _adjusted(own, n, few), _adjusted(both, n, many), low, high, p_method, p_strength, **counts,
                     reason=reason)  # fmt: skip


def _codes(groups: Sequence[Hashable]) -> np.ndarray:
    known = {each: i for i, each in enumerate(dict.fromkeys(groups))}
    return np.array([known[each] for each in groups], dtype=np.int64)


def _share(y: np.ndarray, groups: np.ndarray) -> float:
    """The share of the variance that is between groups."""
    size = np.bincount(groups)
    means = np.bincount(groups, y) / np.maximum(size, 1)
    return float((size * (means - y.mean()) ** 2).sum() / ((y - y.mean()) ** 2).sum())


def _adjusted(share: float | None, n: int, groups: int) -> float | None:
    return None if share is None or n <= groups else 1 - (1 - share) * (n - 1) / (n - groups)


def _within(rng: np.random.Generator, groups: np.ndarray) -> np.ndarray:
    """A permutation of models that leaves each in its group."""
    order, shuffled = np.argsort(groups, kind="stable"), np.lexsort((rng.random(len(groups)), groups))
    permutation = np.empty(len(groups), dtype=np.int64)
    permutation[order] = shuffled
    return permutation


def _p(
    y: np.ndarray, groups: np.ndarray, shuffle: Callable[[np.random.Generator], np.ndarray], draws: int, seed: int
) -> float:
    rng, observed = np.random.default_rng(seed), _share(y, groups) - 1e-12
    return (1 + sum(_share(y[shuffle(rng)], groups) >= observed for _ in range(draws - 1))) / draws


def _p_of_methods(y: np.ndarray, setting: np.ndarray, method: np.ndarray, draws: int, seed: int) -> float:
    """Whole settings are dealt to methods: seeds of one setting are no independent witnesses of a method."""
    first = np.unique(setting, return_index=True)[1]
    of = method[first]  # the method of each setting
    rng, observed = np.random.default_rng(seed), _share(y, method) - 1e-12
    return (1 + sum(_share(y, rng.permutation(of)[setting]) >= observed for _ in range(draws - 1))) / draws


def _interval(share: float, n: int, groups: int, level: float = 0.95) -> tuple[float, float]:
    """The interval of a share between fixed groups: of noncentralities with which the observed F is no extreme one."""
    between, rest = groups - 1, n - groups
    if share >= 1:
        return 1.0, 1.0
    observed = share / between / ((1 - share) / rest)

    def noncentrality(quantile: float) -> float:
        def excess(nc: float) -> float:
            if nc > _LARGE:  # Patnaik's approximation, where the distribution takes seconds
                freedom, scale = (between + nc) ** 2 / (between + 2 * nc), between / (between + nc)
                return float(stats.f.cdf(observed * scale, freedom, rest)) - quantile
            return (
                float(stats.ncf.cdf(observed, between, rest, nc) if nc else stats.f.cdf(observed, between, rest)) - quantile
            )

        if excess(0.0) <= 0:
            return 0.0
        most = 10.0 + observed * between
        while excess(most) > 0:
            most *= 2
        return float(optimize.brentq(excess, 0.0, most))

    low, high = (noncentrality(quantile) for quantile in ((1 + level) / 2, (1 - level) / 2))
    return low / (low + n), high / (high + n)
