"""Whether what is best on one data set, by one score, for one seed, is good elsewhere."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

__all__ = ["KINDS", "Grid", "Transfer", "best_strengths", "costs", "grid", "transfer"]

# Where the selected setting is tried: on the same data or others, by the same score or others.
KINDS = (
    ("same data, same score", True, True),
    ("same data, other score", True, False),
    ("other data, same score", False, True),
    ("other data, other score", False, False),
)


@dataclass(frozen=True)
class Grid:
    """A score of all models on one data set.

    Attributes:
        settings: Methods with their strengths.
        seeds: The seeds.
        values: (settings, seeds), NaN for what is missing.
    """

    settings: tuple[str, ...]
    seeds: tuple[int, ...]
    values: np.ndarray

    def of(self, settings: Iterable[str]) -> "Grid":
        """The grid of some settings alone."""
        wanted = set(settings)
        kept = [i for i, setting in enumerate(self.settings) if setting in wanted]
        return Grid(tuple(self.settings[i] for i in kept), self.seeds, self.values[kept])


@dataclass(frozen=True)
class Transfer:
    """How good a selected setting is elsewhere.

    Attributes:
        kind: Where it is tried.
        value: How often a model of it, of another seed, beats a random one there; None where there is nothing to try.
        low, high: The 95 % interval, of a jackknife over seeds; None where there is none.
        pairs: How many pairs of data and scores it is of.
        reason: Why there is no value or no interval.
    """

    kind: str
    value: float | None
    low: float | None = None
    high: float | None = None
    pairs: int = 0
    reason: str = ""


def grid(values: Mapping[tuple[str, int], float]) -> Grid:
    """A score by setting and seed as a table.

    Example:
        >>> grid({("vae", 0): 0.1, ("vae", 1): 0.2, ("beta_vae", 1): 0.3}).values
        array([[0.1, 0.2],
               [nan, 0.3]])
    """
    settings = tuple(dict.fromkeys(setting for setting, _ in values))
    seeds = tuple(sorted({seed for _, seed in values}))
    table = [[values.get((setting, seed), math.nan) for seed in seeds] for setting in settings]
    return Grid(settings, seeds, np.array(table, dtype=np.float64).reshape(len(settings), len(seeds)))


def transfer(scores: Mapping[tuple[str, str], Grid]) -> list[Transfer]:
    """The study's test of selection: take the best setting by one score, on one data set, of one seed, and try it elsewhere.

    It is tried with every other seed, against a random setting of that seed; the share of wins is .5 by chance. That is an
    average over all pairs of data and scores, all seeds and all rivals, which the study draws at random.

    Arguments:
        scores: The grid of each data set and score.

    Returns:
        One for each of :data:`KINDS`.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations (Locatello et al.)
        | https://arxiv.org/abs/1811.12359

    Example:
        >>> both = grid({(f"beta={beta}", seed): beta + 0.1 * seed for beta in (1, 2, 3) for seed in range(4)})
        >>> found = transfer({("dsprites", "mig"): both, ("shapes3d", "mig"): both})
        >>> [(each.kind, each.value and round(each.value, 2)) for each in found][::2]
        [('same data, same score', 0.83), ('other data, same score', 0.83)]
    """
    seeds = sorted({seed for each in scores.values() for seed in each.seeds})
    wins = {(a, b): _wins(scores[a], scores[b]) for a, b in product(scores, scores)}
    found = []
    for kind, same_data, same_score in KINDS:
        own = [each for (a, b), each in wins.items() if (a[0] == b[0]) == same_data and (a[1] == b[1]) == same_score]
        value = _mean(each.mean() for each in own)
        if value is None:
            reason = "no other seed to try it with" if own or not scores else "one score" if same_data else "one data set"
            found.append(Transfer(kind, None, pairs=len(own), reason=reason))
            continue
        low, high = _jackknife(value, [_mean(each.mean(seed) for each in own) for seed in seeds])
        reason = "" if low is not None else f"no interval: {len(seeds)} seeds, 3 are needed"
        found.append(Transfer(kind, value, low, high, len(own), reason))
    return found


@dataclass(frozen=True)
class _Wins:
    """How often the setting that one seed selects beats a random one of another: (seeds, other seeds), NaN for unknown."""

    seeds: np.ndarray
    others: np.ndarray
    share: np.ndarray

    def mean(self, without: int | None = None) -> float | None:
        """Over pairs of different seeds, also without one of them; None where there is no pair."""
        wanted = (self.seeds[:, None] != self.others) & ~np.isnan(self.share)
        if without is not None:
            wanted &= (self.seeds[:, None] != without) & (self.others != without)
        return float(self.share[wanted].mean()) if wanted.any() else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def _wins(chosen_on: Grid, tried_on: Grid) -> _Wins:
    """Of several settings that are the best of a seed one is taken at random; equal scores are half a win."""
    known = ~np.isnan(chosen_on.values)
    best = known & (chosen_on.values == np.nanmax(np.where(known, chosen_on.values, -np.inf), axis=0))
    best &= known.sum(0) > 1  # (settings, seeds); of one setting nothing is selected
    ranks = stats.rankdata(tried_on.values, axis=0, nan_policy="omit")
    count = (~np.isnan(tried_on.values)).sum(0)
    beaten = np.where(count > 1, (ranks - 0.5) / np.maximum(count, 1), np.nan)  # (settings, other seeds)
    place = {setting: i for i, setting in enumerate(tried_on.settings)}
    there = np.array([place.get(setting, -1) for setting in chosen_on.settings])
    share = np.where(there[:, None] >= 0, beaten[there], np.nan)  # in the order of the settings that are chosen from
    tried = best.T.astype(np.float64) @ ~np.isnan(share)
    won = best.T.astype(np.float64) @ np.nan_to_num(share)
    mean = np.divide(won, tried, out=np.full_like(won, np.nan), where=tried > 0)
    return _Wins(np.array(chosen_on.seeds), np.array(tried_on.seeds), mean)


def _jackknife(value: float, left: Sequence[float | None], level: float = 0.95) -> tuple[float | None, float | None]:
    """The interval of an average, from what it is without each seed; shares end at 0 and 1."""
    known = np.array([each for each in left if each is not None])
    n = len(known)
    if n < 3 or n < len(left):
        return None, None
    error = math.sqrt((n - 1) / n * float(((known - known.mean()) ** 2).sum()))
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * error
    return max(value - half, 0.0), min(value + half, 1.0)


def best_strengths(scores: Mapping[str, Grid]) -> dict[str, tuple[str, float]]:
    """The setting with the best mean over seeds on each data set, with that mean; ties go to the first.

    Arguments:
        scores: One score on several data sets, of the settings of one method.

    Example:
        >>> best_strengths({"dsprites": grid({("beta=1", 0): 0.1, ("beta=4", 0): 0.3})})
        {'dsprites': ('beta=4', 0.3)}
    """
    found = {}
    for data, each in scores.items():
        known = [i for i, row in enumerate(each.values) if not np.isnan(row).all()]
        means = [float(np.nanmean(each.values[i])) for i in known]
        if known:
            found[data] = (each.settings[known[int(np.argmax(means))]], max(means))
    return found


def costs(scores: Mapping[str, Grid], best: Mapping[str, tuple[str, float]]) -> dict[str, float]:
    """What is lost with the best strength of other data, as a share of what the best one gains over a random one.

    Arguments:
        scores: One score on several data sets, of the settings of one method.
        best: What :func:`best_strengths` found.

    Returns:
        For each data set the mean over the others: 0 where nothing is lost, 1 where all that the choice gains is, above 1
        where a random strength were better. Data on which strengths do not differ, or that are alone, are not in it.

    Example:
        >>> grids = {"a": grid({("weak", 0): 0.1, ("strong", 0): 0.3}), "b": grid({("weak", 0): 0.3, ("strong", 0): 0.1})}
        >>> {data: round(lost, 2) for data, lost in costs(grids, best_strengths(grids)).items()}
        {'a': 2.0, 'b': 2.0}
    """
    found = {}
    for here, of in scores.items():
        rows = zip(of.settings, of.values, strict=True)
        means = {setting: float(np.nanmean(row)) for setting, row in rows if not np.isnan(row).all()}
        gain = best[here][1] - sum(means.values()) / len(means) if here in best else 0.0
        lost = [best[here][1] - means[setting] for other, (setting, _) in best.items() if other != here and setting in means]
        if lost and gain > 0:
            found[here] = sum(lost) / len(lost) / gain
    return found
