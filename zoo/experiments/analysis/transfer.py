"""Whether what is best on one data set, by one score, for one seed, is good elsewhere."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy import stats

from zoo.experiments.analysis.selection import beaten

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

    def without(self, seed: int) -> "Grid":
        """The grid without one seed."""
        kept = [i for i, each in enumerate(self.seeds) if each != seed]
        return Grid(self.settings, tuple(self.seeds[i] for i in kept), self.values[:, kept])

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
    found = []
    for kind, same_data, same_score in KINDS:
        pairs = [(a, b) for a, b in product(scores, scores) if (a[0] == b[0]) == same_data and (a[1] == b[1]) == same_score]
        wins = _mean(_wins(scores[a], scores[b]) for a, b in pairs)
        if not pairs:
            found.append(Transfer(kind, None, reason="one data set" if not same_data else "one score"))
        elif wins is None:
            found.append(Transfer(kind, None, pairs=len(pairs), reason="no setting with another seed there"))
        else:
            left = [_mean(_wins(scores[a].without(seed), scores[b].without(seed)) for a, b in pairs) for seed in seeds]
            low, high = _jackknife(wins, left) if len(seeds) > 2 else (None, None)
            reason = "" if low is not None else f"no interval: {len(seeds)} seeds, more are needed"
            found.append(Transfer(kind, wins, low, high, len(pairs), reason))
    return found


def _mean(values: Iterable[float | None]) -> float | None:
    known = [each for each in values if each is not None]
    return sum(known) / len(known) if known else None


def _wins(chosen_on: Grid, tried_on: Grid) -> float | None:
    """How often a model of the setting that each seed selects beats a random one of another seed."""
    place = {setting: i for i, setting in enumerate(tried_on.settings)}
    shares = []
    for i, seed in enumerate(chosen_on.seeds):
        column = chosen_on.values[:, i]
        if np.isnan(column).all() or (~np.isnan(column)).sum() < 2:
            continue
        best = [chosen_on.settings[j] for j in np.flatnonzero(column == np.nanmax(column))]
        there = np.array([place[setting] for setting in best if setting in place], dtype=np.int64)
        shares += [
            beaten(tried_on.values[:, j], there) if len(there) else None
            for j, other in enumerate(tried_on.seeds)
            if other != seed
        ]
    return _mean(shares)


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
