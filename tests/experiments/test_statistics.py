"""The statistics of comparisons: against scipy, against numbers of statsmodels, and by simulation of what they promise."""

import math

import numpy as np
import pytest
from scipy import stats

from zoo.experiments.statistics import (
    holm,
    paired,
    permutation,
    seeds_needed,
    smallest_p,
    summarize,
    welch,
)

DRAWS = 2000
A, B = [92.55, 92.81, 92.62, 92.43], [95.36, 94.91, 95.70]


def rate(outcomes) -> float:
    outcomes = list(outcomes)
    assert len(outcomes) == DRAWS
    return sum(outcomes) / DRAWS


def test_a_mean_and_its_interval_are_scipy_s():
    found = summarize(A)
    low, high = stats.t.interval(0.95, 3, np.mean(A), stats.sem(A))
    assert (found.n, found.mean, found.std) == (4, pytest.approx(np.mean(A)), pytest.approx(np.std(A, ddof=1)))
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))
    # statsmodels 0.15.0: DescrStatsW(A).tconfint_mean()
    assert (found.low, found.high) == (pytest.approx(92.34944214999723), pytest.approx(92.85555785000278))
    assert found.method == "95 % t-interval over 4 seeds"
    assert (summarize([0, 1, 2]).high - 1) == pytest.approx(2.48, abs=0.005), "of three seeds, in standard deviations"


def test_one_seed_has_no_interval():
    found = summarize([3.0])
    assert (found.n, found.mean) == (1, 3.0)
    assert all(map(math.isnan, (found.std, found.low, found.high)))
    assert found.method == "no interval: one seed"
    with pytest.raises(ValueError, match="no values"):
        summarize([])


def test_welch_is_scipy_s():
    found, expected = welch(A, B), stats.ttest_ind(A, B, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert found.effect == pytest.approx(np.mean(A) - np.mean(B))
    # statsmodels 0.15.0: CompareMeans(...).ttest_ind(usevar="unequal"), tconfint_diff(usevar="unequal")
    assert found.p == pytest.approx(0.0034029605366934345)
    assert (found.low, found.high) == pytest.approx((-3.58961859362312, -1.8520480730435145))
    assert math.isnan(welch([1.0], B).p) and "two of each" in welch([1.0], B).method


def test_no_spread():
    assert (welch([1, 1], [2, 2]).p, welch([1, 1], [1, 1]).p) == (0, 1)
    assert (welch([1, 1], [2, 2]).low, welch([1, 1], [2, 2]).effect) == (-1, -1)


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (4, 4), (3, 5), (6, 6)])
def test_exact_permutation_is_scipy_s(n, m):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n), rng.normal(0.8, size=m)
    expected = stats.permutation_test(
        (x, y), lambda a, b, axis: np.abs(a.mean(axis=axis) - b.mean(axis=axis)), vectorized=True, alternative="greater"
    )
    assert permutation(x, y) == pytest.approx(expected.pvalue, abs=1e-12)


def test_random_permutations_come_near_exact_ones():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=7), rng.normal(0.9, size=7)
    exact = permutation(x, y)
    assert permutation(x, y, exact=3000, draws=3000) == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 3000))
    assert permutation(np.arange(30), np.arange(30) + 1000) == pytest.approx(1 / 20_000), "never 0"


def test_ties_count():
    assert permutation([1, 1, 1], [1, 1, 1]) == 1
    assert permutation([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]) == permutation([0.3, 0.1, 0.2], [0.6, 0.4, 0.5]) == 0.1


@pytest.mark.parametrize(("n", "m"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (3, 5), (1, 4)])
def test_the_smallest_p_is_reached_and_not_undercut(n, m):
    assert permutation(np.arange(n), np.arange(m) + 100) == pytest.approx(smallest_p(n, m))


def test_holm_is_that_of_statsmodels():
    p = [0.0013, 0.057, 0.40, 0.030, 0.0058, 0.0058, 0.7]
    # statsmodels 0.15.0: multipletests(p, method="holm")[1]
    assert holm(p) == pytest.approx([0.0091, 0.171, 0.8, 0.12, 0.0348, 0.0348, 0.8])


def test_holm_of_a_larger_family_and_of_what_could_not_be_tested():
    assert holm([0.01, math.nan, 0.02]) == pytest.approx([0.02, math.nan, 0.02], nan_ok=True)
    assert holm([0.01, 0.02], family=6) == pytest.approx([0.06, 0.1])
    assert holm([0.3, 0.9], family=1) == pytest.approx([0.6, 0.9]), "no family is smaller than what was tested"
    assert holm([]) == []


@pytest.mark.parametrize(
    ("effect", "alpha", "power", "expected"),
    [
        # statsmodels 0.15.0: TTestIndPower().solve_power(effect_size=..., alpha=..., power=...)
        (0.3, 0.05, 0.8, 175.38466947047476),
        (0.5, 0.05, 0.8, 63.76561058891169),
        (1.0, 0.05, 0.8, 16.714722446954024),
        (2.5, 0.05, 0.8, 3.7618131422306145),
        (0.3, 0.01, 0.9, 332.31600435275436),
        (2.5, 0.01, 0.9, 6.631396461270954),
    ],
)
def test_seeds_needed_are_those_of_statsmodels(effect, alpha, power, expected):
    assert seeds_needed(effect, 1, 1, alpha, power) == math.ceil(expected)
    assert seeds_needed(-3 * effect, 3, 3, alpha, power) == math.ceil(expected)


def test_seeds_needed_at_the_ends():
    assert seeds_needed(0.0, 1, 1) is None
    assert seeds_needed(1e-3, 1, 1) is None, "more than anybody trains"
    assert seeds_needed(1.0, 0, 0) == 2
    assert seeds_needed(1e6, 1, 1) == 2
    assert seeds_needed(1.0, math.nan, 1) is None


@pytest.mark.parametrize("n", [2, 3, 6])
def test_intervals_of_means_hold_them(n):
    rng = np.random.default_rng(n)
    found = (summarize(rng.normal(5, 2, n)) for _ in range(DRAWS))
    assert 0.93 <= rate(each.low <= 5 <= each.high for each in found) <= 0.97


@pytest.mark.parametrize(("n", "m", "spread"), [(5, 5, 1.0), (6, 4, 2.0), (6, 6, 3.0)])
def test_intervals_of_differences_hold_them(n, m, spread):
    rng = np.random.default_rng(n)
    found = [welch(rng.normal(1, 1, n), rng.normal(0, spread, m)) for _ in range(DRAWS)]
    assert 0.93 <= rate(each.low <= 1 <= each.high for each in found) <= 0.97


def two_methods(rng, seeds, examples, effect, seed_spread, noise):
    """log p of two methods: examples that are easy or hard for both, for one of them; seeds; noise."""
    common, shape = rng.normal(-90, 20, examples), (seeds, examples)
    own = [mean + rng.normal(0, 1, examples) + rng.normal(0, seed_spread, (seeds, 1)) for mean in (effect, 0.0)]
    return [common + each + rng.normal(0, noise, shape) for each in own]


@pytest.mark.parametrize(("seeds", "seed_spread"), [(5, 0.3), (5, 0.05), (3, 0.3), (2, 0.1)])
def test_two_levels_hold_the_difference_over_seeds_and_examples(seeds, seed_spread):
    """At least as often as promised: noise within examples is in both levels' variances."""
    rng = np.random.default_rng(seeds)
    found = [paired(*two_methods(rng, seeds, 100, 0.2, seed_spread, 0.5)) for _ in range(DRAWS)]
    assert 0.93 <= rate(each.low <= 0.2 <= each.high for each in found) <= 0.99


def test_examples_alone_would_not_hold_it():
    """Why seeds are a level: with one seed's models the interval is of those alone, and methods differ by more."""
    rng = np.random.default_rng(0)
    found = [paired(*two_methods(rng, 1, 100, 0.2, 0.3, 0.5)) for _ in range(DRAWS)]
    assert rate(each.low <= 0.2 <= each.high for each in found) < 0.75
    assert found[0].method == "paired over 100 test examples, of these trained models alone"


def test_pairing_cancels_the_spread_of_examples():
    rng = np.random.default_rng(0)
    a, b = two_methods(rng, 4, 500, 1.0, 0.05, 0.5)
    assert paired(a, b).p < 1e-4 < 0.3 < stats.ttest_ind(a.mean(0), b.mean(0)).pvalue
    with pytest.raises(ValueError, match="500 and 400 examples"):
        paired(a, b[:, :400])
    assert math.isnan(paired(a[:, :1], b[:, :1]).p)


@pytest.mark.parametrize("test", ["welch", "permutation", "paired"])
def test_where_nothing_differs_five_in_a_hundred_are_told_apart_at_most(test):
    rng = np.random.default_rng(1)

    def p() -> float:
        if test == "paired":
            return paired(*two_methods(rng, 4, 60, 0.0, 0.2, 0.5)).p
        x, y = rng.normal(size=(2, 5))
        return welch(x, y).p if test == "welch" else permutation(x, y)

    assert rate(p() <= 0.05 for _ in range(DRAWS)) <= 0.06


def test_the_best_is_chosen_by_the_data():
    """Of six equal methods the best is told apart from any other in 5 % of tables at most; k - 1 tests would not do."""
    rng = np.random.default_rng(2)
    naive, ours = [], []
    for _ in range(DRAWS):
        rows = rng.normal(size=(6, 5))
        best = rows.mean(1).argmin()
        p = [welch(row, rows[best]).p for i, row in enumerate(rows) if i != best]
        naive.append(min(holm(p)) <= 0.05)
        ours.append(min(holm(p, family=15)) <= 0.05)
    assert rate(ours) <= 0.06 < rate(naive)
