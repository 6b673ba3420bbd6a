"""Whether models can be selected without labels: scores against ELBO, reconstruction and other numbers that need none."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from zoo.experiments.analysis.agreement import DRAWS, rank_correlations
from zoo.experiments.statistics import Summary, summarize

__all__ = ["UNSUPERVISED", "Within", "beaten", "selected", "within_groups"]

# Numbers that need no labels, with the end at which one would select; None where there is none.
UNSUPERVISED: dict[str, Literal["higher", "lower"] | None] = {
    "elbo": "higher",
    "reconstruction": "lower",
    "kl": None,
    "udr": "higher",
    "gaussian_total_correlation": "lower",
}


@dataclass(frozen=True)
class Within:
    """A rank correlation within groups of models.

    Attributes:
        value: The mean over models of all groups, ranks taken within each; None where it is not defined.
        lowest, highest: Of single groups.
        groups: How many groups it is of.
        p: Of a permutation within groups, two-sided; None where nothing was tested.
        reason: Why there is no value.
    """

    value: float | None
    lowest: float | None = None
    highest: float | None = None
    groups: int = 0
    p: float | None = None
    reason: str = ""


def within_groups(
    x: ArrayLike, y: ArrayLike, groups: Sequence[Hashable], draws: int = DRAWS, seed: int = 0, fewest: int = 3
) -> Within:
    r"""The rank correlation of two numbers within groups of models: what differs between groups counts for nothing.

    Ranks are taken within each group and centered there; the correlation is that of these over all groups. Its p-value is of
    a permutation of one of the numbers within groups, which is exact where models of a group differ by their seed alone.

    Arguments:
        x, y: (N,), NaN for what is missing.
        groups: The group of each model: its method, or its setting.
        draws: Permutations.
        seed: Their seed.
        fewest: The fewest models of a group that counts.

    Returns:
        The correlation.

    Example:
        >>> found = within_groups([1, 2, 3, 11, 12, 13], [3, 4, 5, 0, 1, 2], 3 * ["a"] + 3 * ["b"])
        >>> round(found.value, 2), found.groups
        (1.0, 2)
    """
    a, b = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    of: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        if not (np.isnan(a[i]) or np.isnan(b[i])):
            of.setdefault(group, []).append(i)
    members = [np.array(each) for each in of.values()]
    members = [each for each in members if len(each) >= fewest and np.ptp(a[each]) > 0 and np.ptp(b[each]) > 0]
    if not members:
        return Within(None, reason=f"no group of {fewest} models in which both differ")
    own = [float(rank_correlations(np.stack([a[each], b[each]], -1))[0, 1]) for each in members]
    ranks = [(_centered(a[each]), _centered(b[each])) for each in members]
    scale = np.sqrt(sum(float(u @ u) for u, _ in ranks) * sum(float(v @ v) for _, v in ranks))
    observed = sum(float(u @ v) for u, v in ranks) / scale
    rng = np.random.default_rng(seed)
    drawn = np.zeros(draws - 1)
    for u, v in ranks:
        drawn += rng.permuted(np.broadcast_to(u, (draws - 1, len(u))), axis=1) @ v
    p = (1 + int((np.abs(drawn / scale) >= abs(observed) - 1e-12).sum())) / draws
    return Within(float(observed), min(own), max(own), len(members), p)


def _centered(values: np.ndarray) -> np.ndarray:
    ranks = stats.rankdata(values)
    return ranks - ranks.mean()


def beaten(scores: np.ndarray, chosen: np.ndarray) -> float | None:
    """How often the chosen models score above one of all models that is taken at random; equal ones count one half.

    Arguments:
        scores: (N,), NaN for what is missing.
        chosen: The indices of the chosen ones, among which one is taken at random.

    Returns:
        The share, .5 by chance; None where there is no score.

    Example:
        >>> beaten(np.array([0.1, 0.2, 0.3, 0.4]), np.array([3]))
        0.875
    """
    of, all_ = scores[chosen][~np.isnan(scores[chosen])], scores[~np.isnan(scores)]
    if not len(of) or len(all_) < 2:
        return None
    return float(((of[:, None] > all_).mean() + (of[:, None] >= all_).mean()) / 2)


def selected(
    by: ArrayLike, scores: ArrayLike, seeds: Sequence[Hashable], way: Literal["higher", "lower"] = "higher"
) -> Summary | None:
    """How good the model is that a number selects: of each seed's models the best by ``by``, and how many others it beats.

    Arguments:
        by: (N,), the number by which one selects; NaN for what is missing.
        scores: (N,), the score that one would like to be high.
        seeds: The seed of each model.
        way: Which end of ``by`` is selected.

    Returns:
        The share of that seed's models that the selected one beats (:func:`beaten`), over seeds with a t-interval; None
        where no seed has two models.

    Example:
        >>> found = selected([1, 2, 3, 1, 2, 3], [0.1, 0.2, 0.3, 0.2, 0.1, 0.3], [0, 0, 0, 1, 1, 1])
        >>> round(found.mean, 3), found.n
        (0.833, 2)
    """
    a, s = np.asarray(by, dtype=np.float64), np.asarray(scores, dtype=np.float64)
    a = a if way == "higher" else -a
    shares = []
    for seed in dict.fromkeys(seeds):
        own = np.array([i for i, each in enumerate(seeds) if each == seed and not np.isnan(a[i]) and not np.isnan(s[i])])
        if len(own) < 2:
            continue
        share = beaten(s[own], np.flatnonzero(a[own] == a[own].max()))
        if share is not None:
            shares.append(share)
    return summarize(shares) if shares else None
