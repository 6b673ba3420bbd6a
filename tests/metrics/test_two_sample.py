"""Sample scores against other packages' numbers, closed forms, their distribution under H0, and input that has no score."""

import itertools
import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from scipy import linalg, stats
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits

from zoo.errors import ZooError
from zoo.metrics.two_sample import (
    authenticity,
    c2st,
    c_t,
    class_coverage,
    clipped_density_coverage,
    examples,
    frechet_distance,
    frechet_distance_infinity,
    kernel_distance,
    mind,
    mmd,
    mmd_fuse,
    mode_coverage,
    neighbors,
    permutations,
    prdc,
    sliced_wasserstein,
    stacked_classes,
)
from zoo.metrics.two_sample.clipped_density_coverage import _expected

GOLDEN = json.loads((REPOSITORY / "tests" / "data" / "two_sample_golden.json").read_text())
TESTS = {"c2st": c2st, "mmd": mmd, "mmd_fuse": mmd_fuse}
PAIRS = {
    "c2st": lambda x, y: c2st(x, y, permutations=20, steps=20),
    "mmd": lambda x, y: mmd(x, y, permutations=20),
    "mmd_fuse": lambda x, y: mmd_fuse(x, y, permutations=20),
    "frechet_distance": frechet_distance,
    "frechet_distance_infinity": frechet_distance_infinity,
    "kernel_distance": kernel_distance,
    "prdc": prdc,
    "clipped_density_coverage": clipped_density_coverage,
    "sliced_wasserstein": sliced_wasserstein,
    "mind": mind,
    "authenticity": authenticity,
    "c_t": lambda x, y: c_t(x[: len(x) // 2], x[len(x) // 2 :], y),
    "mode_coverage": lambda x, y: mode_coverage(y, x, std=0.1),
}


def golden_samples():
    draw = np.random.RandomState(0)
    real, fake = draw.randn(300, 8), 1.2 * draw.randn(250, 8) + 0.3
    fake[:20] = 12.0 + draw.randn(20, 8)
    real[:3] *= 6
    return real, fake


def normal(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def ring(n, modes, seed):
    generator = torch.Generator().manual_seed(seed)
    angle = torch.tensor(modes)[torch.randint(len(modes), (n,), generator=generator)] * (2 * math.pi / 8)
    return 2 * torch.stack([angle.cos(), angle.sin()], dim=1) + 0.05 * torch.randn(n, 2, generator=generator)


def digits(*sizes):
    """Disjoint sets of real digits, (n, 64) in [0, 1]."""
    images = torch.as_tensor(load_digits(return_X_y=True)[0] / 16)
    return images[torch.randperm(len(images), generator=torch.Generator().manual_seed(0))][: sum(sizes)].split(sizes)


def blurred(x):
    return torch.nn.functional.avg_pool2d(x.view(-1, 1, 8, 8), 3, 1, 1).flatten(1)


# Other packages' numbers


@pytest.mark.parametrize("k", [3, 5])
def test_neighborhoods_are_the_other_packages_(k):
    real, fake = golden_samples()
    assert prdc(real, fake, k=k)._asdict() == pytest.approx(GOLDEN[f"prdc_{k}"], abs=1e-12)
    density, coverage = clipped_density_coverage(real, fake, k=k)
    assert density == pytest.approx(GOLDEN[f"clipped_density_{k}"], abs=1e-6)
    assert coverage * 251 / 250 == pytest.approx(GOLDEN[f"clipped_coverage_{k}"], abs=1e-6)


def test_distances_are_torch_fidelity_s():
    real, fake = golden_samples()
    assert kernel_distance(real[:250], fake) == pytest.approx(GOLDEN["kid"], rel=1e-9)
    assert frechet_distance(real, fake) == pytest.approx(GOLDEN["fid"], rel=1e-9)


def test_mmd_fuse_is_the_authors_():
    real, fake = golden_samples()
    assert mmd_fuse(real, fake, permutations=1).statistic == pytest.approx(GOLDEN["mmd_fuse"], rel=1e-6)
    equal = mmd_fuse(real[:100, :2], fake[100:200, :2], permutations=1).statistic
    assert equal == pytest.approx(GOLDEN["mmd_fuse_equal"], rel=1e-6)


# Tests: exact under H0, and powerful


def p_values(test, n, d, draws, **options):
    return [test(normal(n, d, 2 * i), normal(n, d, 2 * i + 1), seed=i, **options).p_value for i in range(draws)]


@pytest.mark.parametrize("name", TESTS)
def test_p_values_are_uniform_under_h0(name):
    options = {"steps": 20} if name == "c2st" else {}
    assert stats.kstest(p_values(TESTS[name], 50, 2, 200, permutations=200, **options), "uniform").pvalue > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("d", [2, 64])
@pytest.mark.parametrize("n", [50, 500])
@pytest.mark.parametrize("name", TESTS)
def test_p_values_are_uniform_under_h0_at_many_sizes(name, n, d):
    """Of twelve such comparisons one in nine sets is below 0.01 somewhere by chance, one in a hundred below 0.001."""
    assert stats.kstest(p_values(TESTS[name], n, d, 200, permutations=300), "uniform").pvalue > 0.001


@pytest.mark.parametrize("name", TESTS)
def test_p_values_of_unequal_sizes_are_uniform(name):
    options = {"steps": 10} if name == "c2st" else {}
    pairs = [(normal(20, 3, 2 * i), normal(45, 3, 2 * i + 1)) for i in range(200)]
    found = [TESTS[name](x, y, seed=i, permutations=100, **options).p_value for i, (x, y) in enumerate(pairs)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


ALTERNATIVES = {
    "shift": lambda: (normal(400, 2, 0), normal(400, 2, 1) + torch.tensor([0.5, 0.0])),
    "variance": lambda: (normal(400, 2, 0), 1.5 * normal(400, 2, 1)),
    "a missing mode": lambda: (ring(400, range(4), 0), ring(400, range(3), 1)),
}


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("name", TESTS)
def test_tests_have_power(name, alternative):
    assert TESTS[name](*ALTERNATIVES[alternative](), permutations=300).p_value < 0.01


def test_the_classifier_s_accuracy_is_in_its_interval():
    test = c2st(*ALTERNATIVES["shift"](), permutations=100)
    below, above = test.interval
    assert test.statistic == test.accuracy
    assert below < test.accuracy < above
    apart = c2st(normal(40, 2, 0), normal(40, 2, 1) + 50, permutations=100)
    assert (apart.accuracy, apart.interval[1], apart.p_value) == (1, 1, 1 / 101)
    assert apart.interval[0] < 0.96


def test_the_classifier_weighs_both_classes_alike():
    """Always the larger class is no better than chance."""
    assert abs(c2st(normal(40, 2, 0), normal(800, 2, 1), permutations=100).accuracy - 0.5) < 0.15


def naive_mmd(x, y, kernel):
    of_x, of_y = (np.mean([kernel(a, b) for a, b in itertools.permutations(z, 2)]) for z in (x, y))
    return of_x + of_y - 2 * np.mean([kernel(a, b) for a, b in itertools.product(x, y)])


def test_mmd_is_its_formula():
    x, y = normal(7, 3, 0).numpy(), normal(5, 3, 1).numpy() + 0.5
    gaussian = naive_mmd(x, y, lambda a, b: math.exp(-((a - b) ** 2).sum() / (2 * 1.3**2)))
    assert mmd(x, y, bandwidth=1.3, permutations=1).statistic == pytest.approx(gaussian, abs=1e-12)
    polynomial = naive_mmd(x, y, lambda a, b: (a @ b / 3 + 1) ** 3)
    assert kernel_distance(x, y) == pytest.approx(polynomial, abs=1e-12)
    assert mmd(x, y, kernel="polynomial", permutations=1).statistic == pytest.approx(polynomial, abs=1e-12)


def test_the_permutation_p_is_that_of_all_partitions():
    x, y = np.array([[0.0], [0.4], [1.0]]), np.array([[1.3], [2.0], [2.2]])
    z = np.concatenate([x, y])
    values = []
    for chosen in itertools.combinations(range(6), 3):
        rest = [i for i in range(6) if i not in chosen]
        values.append(naive_mmd(z[list(chosen)], z[rest], lambda a, b: math.exp(-((a - b) ** 2).sum() / 2)))
    exact = np.mean(np.array(values) >= values[0] - 1e-12)
    assert mmd(x, y, bandwidth=1.0, permutations=20_000).p_value == pytest.approx(exact, abs=0.01)


def test_no_p_value_is_0():
    assert mmd(normal(50, 2, 0), normal(50, 2, 1) + 9, permutations=99).p_value == 0.01


# Distances


def test_frechet_distance_by_hand():
    """Of Gaussians on a line it is (m - m')² + (s - s')²; with axes that differ, against a matrix square root."""
    x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([[2.0], [8.0]])  # variances 2 and 18
    assert frechet_distance(x, y) == pytest.approx(5**2 + (math.sqrt(18) - math.sqrt(2)) ** 2, abs=1e-12)
    a, b = (normal(200, 5, seed) @ normal(5, 5, seed + 9) for seed in (0, 1))
    covariances = [np.cov(z.numpy(), rowvar=False) for z in (a, b)]
    trace = np.trace(covariances[0] + covariances[1] - 2 * linalg.sqrtm(covariances[0] @ covariances[1]).real)
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum().item() + trace
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_a_sample_to_itself_is_0():
    """Where the covariance is singular too."""
    for x in (normal(100, 7, 0), normal(5, 50, 0), digits(100)[0]):
        assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
        assert frechet_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_infinity_has_less_bias():
    x = normal(20_000, 16, 0)
    biased = [frechet_distance(x, normal(300, 16, seed)) for seed in range(1, 6)]
    found = [frechet_distance_infinity(x, normal(300, 16, seed)) for seed in range(1, 6)]
    assert abs(np.mean(found)) < 0.3 * np.mean(biased)


def test_sliced_wasserstein_in_closed_form():
    """A translation by v: E (θᵀv)² = |v|²/D. Samples of other sizes are those with each example repeated."""
    x, v = normal(300, 8, 0), normal(1, 8, 1)
    squared = (v**2).sum().item() / 8
    assert sliced_wasserstein(x, x + v, directions=20_000) ** 2 == pytest.approx(squared, rel=0.05)
    assert mind(x, x + v, directions=20_000) == pytest.approx(24 * squared, rel=0.05)
    y = normal(200, 8, 2)
    assert sliced_wasserstein(x, y) == pytest.approx(sliced_wasserstein(x.repeat(2, 1), y.repeat(3, 1)), abs=1e-12)
    line, other = normal(30, 1, 3), normal(30, 1, 4)
    gap = line.sort(dim=0).values - other.sort(dim=0).values
    assert sliced_wasserstein(line, other) == pytest.approx((gap**2).mean().sqrt().item(), abs=1e-12)


# Neighborhoods


def test_precision_and_recall_are_not_exchanged():
    """A model that makes half of the modes is precise; one that makes others besides has recall."""
    some, all_ = ring(400, range(4), 0), ring(800, range(8), 1)
    half = prdc(all_, some)
    assert half.precision > 0.95
    assert half.recall < 0.6
    more = prdc(some, all_)
    assert more.recall > 0.95
    assert more.precision < 0.6


def test_neighborhoods_of_a_sample_in_itself():
    """Whatever rounding does with neighbors that lie on the sphere."""
    for x in (normal(500, 16, 0) + 100, digits(300)[0]):
        assert prdc(x, x) == pytest.approx((1, 1, 1, 1), abs=0.01)


def test_clipped_scores_fall_as_the_share_of_good_examples():
    x, y = normal(2000, 8, 0), normal(2000, 8, 1)
    assert clipped_density_coverage(x, y) == pytest.approx((1, 1), abs=0.06)
    for good in (0.25, 0.5, 0.75):
        mixed = y.clone()
        mixed[int(good * len(y)) :] += 1000
        assert clipped_density_coverage(x, mixed) == pytest.approx((good, good), abs=0.06)


def test_one_outlier_inflates_density_and_not_its_clipped_version():
    x, y = normal(500, 2, 0), 30 + 0.5 * normal(500, 2, 1)
    x[:6] = 30 + torch.tensor([100.0, -100.0]) * normal(6, 1, 2)
    assert prdc(x, y).density > 0.5
    assert clipped_density_coverage(x, y).density < 0.05


def test_the_calibration_is_the_mean_of_a_beta_binomial():
    k, n, m = 3, 20, 12
    expected = [stats.betabinom(size, k, n - k).expect(lambda j: np.minimum(j, k)) / k for size in range(m + 1)]
    assert _expected(n, m, k).tolist() == pytest.approx(expected, abs=1e-10)


# Memorization


def test_copies_fresh_and_blurred_digits():
    train, test, fresh = digits(800, 400, 400)
    copied, blurry = train[:400], blurred(fresh)
    assert c_t(train, test, copied) < -5
    assert abs(c_t(train, test, fresh)) < 3
    assert c_t(train, test, blurry) > 5
    level = authenticity(train, test)
    assert authenticity(train, copied) == 0
    assert authenticity(train, fresh) == pytest.approx(level, abs=0.1)
    assert authenticity(train, blurry) > level + 0.1
    # Every distance likes the copies.
    assert mmd(test, copied, permutations=100).p_value > 0.01
    assert mmd(test, blurry, permutations=100).p_value < 0.02


def test_c_t_is_its_formula():
    centers = torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]])
    train, test, y = (
        torch.cat([center + normal(n, 2, seed + i) for i, center in enumerate(centers)])
        for n, seed in ((40, 0), (30, 10), (50, 20))
    )
    y, test = y[:-45], test[:-10]  # a cell with too few samples, and others that weigh differently
    cells = KMeans(3, n_init=10, random_state=0).fit(train.numpy())
    of_train, of_test, of_y = (cells.predict(z.numpy()) for z in (train, test, y))
    scores, weights = [], []
    for cell in range(3):
        known, real, made = train[of_train == cell], test[of_test == cell], y[of_y == cell]
        if len(made) < 20:
            continue
        distances = [torch.cdist(z, known).amin(dim=1).numpy() for z in (made, real)]
        u, n, m = stats.mannwhitneyu(*distances).statistic, len(real), len(made)
        scores.append((u - (n * m / 2 - 0.5)) / math.sqrt(n * m * (n + m + 1) / 12))
        weights.append(n)
    assert len(scores) == 2
    assert c_t(train, test, y) == pytest.approx(np.average(scores, weights=weights), abs=1e-9)


def test_authenticity_is_its_definition():
    train, y = normal(60, 3, 0), normal(50, 3, 1)
    of_train = torch.cdist(train, train).fill_diagonal_(torch.inf).amin(dim=1)
    distances, places = torch.cdist(y, train).min(dim=1)
    assert authenticity(train, y) == pytest.approx((of_train[places] < distances).double().mean().item(), abs=1e-12)


# Modes


def test_modes_of_a_ring():
    centers = 2 * torch.stack([torch.arange(8) * math.pi / 4]).T
    centers = torch.cat([2 * (centers / 2).cos(), 2 * (centers / 2).sin()], dim=1)
    real = mode_coverage(ring(4000, range(8), 0), centers, std=0.05)
    assert real.modes == 8
    assert real.share == pytest.approx(1 - math.exp(-4.5), abs=0.01)
    assert real.kl < 0.01
    half = mode_coverage(ring(4000, range(4), 0), centers, std=0.05)
    assert half.modes == 4
    assert half.kl == pytest.approx(math.log(2), abs=0.01)
    assert mode_coverage(torch.zeros(5, 2), centers, std=0.05) == (0, 0, math.inf)


def test_classes_of_stacked_digits():
    labels = stacked_classes(torch.tensor([[0, 0, 0], [0, 0, 1], [9, 9, 9], [9, 9, 9]]))
    assert labels.tolist() == [0, 1, 999, 999]
    kl = 0.5 * math.log(250) + 0.5 * math.log(500)
    assert class_coverage(labels, 1000) == pytest.approx((3, kl), abs=1e-9)
    assert class_coverage(labels, 1000, data_labels=labels) == (3, 0)
    assert class_coverage(labels, 1000, data_labels=labels[:2]).kl == math.inf
    assert class_coverage(labels.new_tensor([0, 0]), 2, probabilities=torch.tensor([0.25, 0.75])).kl == pytest.approx(
        math.log(4)
    )
    assert class_coverage(torch.arange(1000), 1000) == pytest.approx((1000, 0), abs=1e-9)


@pytest.mark.parametrize(
    "call",
    [
        lambda: class_coverage(torch.tensor([0, 5]), 5),
        lambda: class_coverage(torch.tensor([0.5]), 5),
        lambda: class_coverage(torch.tensor([], dtype=torch.int64), 5),
        lambda: class_coverage(torch.tensor([0]), 2, probabilities=torch.tensor([0.5, 0.4])),
        lambda: class_coverage(torch.tensor([0]), 2, probabilities=torch.tensor([1.0])),
        lambda: class_coverage(torch.tensor([0]), 2, probabilities=torch.tensor([0.5, 0.5]), data_labels=torch.tensor([0])),
        lambda: stacked_classes(torch.tensor([[10, 1, 2]])),
        lambda: stacked_classes(torch.tensor([1, 2])),
        lambda: mode_coverage(normal(5, 2, 0), normal(3, 2, 1), std=0.0),
    ],
)
def test_no_classes_or_modes(call):
    with pytest.raises(ZooError) as refusal:
        call()
    assert len(str(refusal.value).splitlines()) <= 2


# What holds for all of them


def flat(found):
    values = found if isinstance(found, tuple) else (found,)
    return [number for value in values for number in (value if isinstance(value, tuple) else (value,))]


@pytest.mark.parametrize("name", PAIRS)
def test_the_order_of_examples_does_not_matter(name):
    x, y = normal(150, 6, 0), 1.1 * normal(130, 6, 1)
    halves = torch.cat([torch.randperm(75), 75 + torch.randperm(75)])  # those of c_t are two sets
    expected = flat(PAIRS[name](x, y))
    assert flat(PAIRS[name](x[halves], y[torch.randperm(130)])) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", PAIRS)
def test_kinds_of_examples(name):
    """Images, arrays, lists and other precisions are taken; nothing is changed, no random number of torch's is used."""
    x, y = (torch.randint(17, (60, 1, 3, 4), generator=torch.Generator().manual_seed(i), dtype=torch.uint8) for i in (0, 1))
    state, before = torch.get_rng_state(), x.clone()
    expected = flat(PAIRS[name](x, y))
    for kind in (lambda z: z.flatten(1).double(), lambda z: z.flatten(1).numpy(), lambda z: z.float().requires_grad_()):
        assert flat(PAIRS[name](kind(x), kind(y))) == pytest.approx(expected, abs=1e-9, nan_ok=True)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)
    assert all(isinstance(number, float | int) for number in expected)


@pytest.mark.parametrize("name", PAIRS)
def test_blocks_do_not_matter(name, monkeypatch):
    x, y = normal(150, 6, 0), 1.1 * normal(130, 6, 1)
    expected = flat(PAIRS[name](x, y))
    monkeypatch.setattr(examples.chunks, "__defaults__", (1000,))
    monkeypatch.setattr(permutations, "_BLOCK", 1000)
    monkeypatch.setattr(permutations, "_LABELS", 1000)
    assert flat(PAIRS[name](x, y)) == pytest.approx(expected, rel=1e-7)


def test_no_block_is_large(monkeypatch):
    """50,000 x 50,000 distances are 20 GB; a block has 8 MB."""
    sizes = [part.stop - part.start for part in examples.chunks(50_000, 50_000)]
    assert sum(sizes) == 50_000
    assert max(sizes) * 50_000 * 8 <= 2**23
    seen = []

    def spy(x, y):
        seen.append(len(x) * len(y))
        return squared_distances(x, y)

    squared_distances = neighbors.squared_distances
    monkeypatch.setattr(neighbors, "squared_distances", spy)
    authenticity(normal(6000, 2, 0), normal(5000, 2, 1))
    assert max(seen) <= 2**20


LARGE = """
import resource, torch
torch.set_num_threads(1)
from zoo.metrics.two_sample import authenticity, kernel_distance, mmd, prdc
x, y = torch.randn(2, 50_000, 2)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
{call}
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["prdc(x, y)", "kernel_distance(x, y)", "authenticity(x, y)", "mmd(x, y, permutations=9)"])
def test_large_samples_fit_in_2_gb(call):
    ran = subprocess.run([sys.executable, "-c", LARGE.format(call=call)], capture_output=True, text=True, cwd=REPOSITORY)
    assert int(ran.stdout) < 2e6, ran.stderr  # kilobytes


BAD = {
    "NaN": lambda x, y: (x, y.index_fill(0, torch.tensor([3]), torch.nan)),
    "infinite": lambda x, y: (x.index_fill(0, torch.tensor([3]), torch.inf), y),
    "other shapes": lambda x, y: (x, y[:, :-1]),
    "no features": lambda x, y: (x[:, :0], y[:, :0]),
    "a vector": lambda x, y: (x[:, 0], y[:, 0]),
    "no samples": lambda x, y: (x, y[:0]),
    "complex": lambda x, y: (x.to(torch.complex64), y),
}
TOO_FEW = {"c2st": 3, "mmd": 1, "mmd_fuse": 1, "frechet_distance": 1, "frechet_distance_infinity": 19, "kernel_distance": 1}
TOO_FEW |= {"prdc": 5, "clipped_density_coverage": 5, "c_t": 19}
NEED_DIFFERENT = ("c2st", "mmd", "mmd_fuse", "prdc", "clipped_density_coverage", "c_t", "authenticity")


def refused(call):
    with pytest.raises(ZooError) as refusal:
        call()
    assert len(str(refusal.value).splitlines()) <= 2
    return str(refusal.value)


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("name", PAIRS)
def test_input_without_a_score_is_refused(name, kind):
    refused(lambda: PAIRS[name](*BAD[kind](normal(60, 4, 0), normal(60, 4, 1))))


@pytest.mark.parametrize("name", TOO_FEW)
def test_too_few_examples(name):
    assert str(TOO_FEW[name]) in refused(lambda: PAIRS[name](normal(60, 4, 0), normal(TOO_FEW[name], 4, 1)))


@pytest.mark.parametrize("name", NEED_DIFFERENT)
def test_constant_features(name):
    message = refused(lambda: PAIRS[name](torch.ones(60, 4), torch.ones(60, 4)))
    assert "same" in message or "different" in message


@pytest.mark.parametrize("name", PAIRS)
def test_a_collapsed_model_has_scores(name):
    """All samples the same is what a GAN may do, and bad; one constant feature is what a border of pixels is."""
    x, y = normal(60, 4, 0), torch.ones(60, 4)
    x[:, 0] = 1
    assert not any(math.isnan(number) for number in flat(PAIRS[name](x, y)))
    if name in TESTS:
        assert PAIRS[name](x, y).p_value < 0.05


@pytest.mark.parametrize(
    "call",
    [
        lambda x: prdc(x, x, k=0),
        lambda x: clipped_density_coverage(x, x, k=0),
        lambda x: mmd(x, x, permutations=0),
        lambda x: mmd(x, x, kernel="linear"),
        lambda x: mmd(x, x, bandwidth=0.0),
        lambda x: mmd_fuse(x, x, bandwidths=0),
        lambda x: c2st(x, x, hidden=0),
        lambda x: sliced_wasserstein(x, x, directions=0),
        lambda x: frechet_distance_infinity(x, x, sizes=1),
        lambda x: c_t(x, x, x, cells=0),
        lambda x: c_t(x[:1], x, x),
        lambda x: c_t(x, x, x[:20], cells=10),
    ],
)
def test_options_out_of_range(call):
    refused(lambda: call(normal(40, 3, 0)))
