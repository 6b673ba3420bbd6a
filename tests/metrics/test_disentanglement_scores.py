"""Disentanglement scores against the reference's numbers, closed forms, scikit-learn, and degenerate input."""

import json
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import LinearSVC

from zoo.errors import ZooError
from zoo.metrics import (
    SCORES,
    CachedEncoder,
    PointScores,
    PointsMetric,
    beta_vae_score,
    dci,
    draw_codes,
    explicitness,
    factor_vae_score,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
    irs,
    mig,
    modularity,
    score_codes,
)
from zoo.metrics.disentanglement.beta_vae_score import beta_vae_accuracy
from zoo.metrics.disentanglement.boosting import BoostedTrees
from zoo.metrics.disentanglement.dci import completeness, disentanglement, importance_and_accuracy
from zoo.metrics.disentanglement.explicitness import roc_auc
from zoo.metrics.disentanglement.factor_vae_score import factor_vae_accuracy
from zoo.metrics.disentanglement.logistic import fit_logistic
from zoo.metrics.disentanglement.mutual_information import (
    contingency,
    discretize,
    entropy,
    factor_information,
    mutual_information,
)
from zoo.metrics.disentanglement.scalar_svm import ScalarSVMs
from zoo.metrics.disentanglement.scores import GROUPS
from zoo.metrics.disentanglement.trees import TreeGrower
from zoo.metrics.disentanglement.unsupervised import code_information

DATA = REPOSITORY / "tests" / "data"
FULL = REPOSITORY.parent / "shared" / "golden" / "disentanglement"
GOLDEN = json.loads((DATA / "disentanglement_golden.json").read_text())
NEED_FULL = pytest.mark.skipif(not FULL.is_dir(), reason="the reference's numbers for 10000 points are not here")

EXACT, DCI_SCORES = 1e-6, ("dci_disentanglement", "dci_completeness", "dci_informativeness")
STUDY = SCORES[: SCORES.index("dcimig")]  # of the study; the others are in test_more_disentanglement_scores.py
UNSUPERVISED = GROUPS["unsupervised"]
TOLERANCES = dict.fromkeys(STUDY, EXACT) | {"sap": 5e-3, "explicitness": 1e-3} | dict.fromkeys(DCI_SCORES, 0.02)
QUICK = [name for name in STUDY if name not in DCI_SCORES]
SIZES = torch.tensor(GOLDEN["factor_sizes"])


def read(path):
    """Codes, factors, test codes and test factors of a case."""
    arrays = np.load(path)
    return [arrays[f"{kind}_{part}"] for part in ("train", "test") for kind in ("codes", "factors")]


def small(case):
    return read(DATA / f"disentanglement_{case}.npz")


def standardized(factors, sizes):
    return (factors - (sizes - 1) / 2) / ((sizes**2 - 1) / 12).sqrt()


def made(sizes=(3, 5, 4), codes=6, points=600, test=300, noise=0.3, seed=0):
    """Random mixtures of factors with noise: codes, factors, test codes, test factors."""
    generator = torch.Generator().manual_seed(seed)
    factors = torch.stack([torch.randint(size, (points + test,), generator=generator) for size in sizes], dim=1)
    mixing = torch.randn(len(sizes), codes, generator=generator)
    z = standardized(factors, torch.tensor(sizes)) @ mixing + noise * torch.randn(points + test, codes, generator=generator)
    return z[:points], factors[:points], z[points:], factors[points:]


def grid(*sizes):
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes))


@pytest.mark.parametrize("case", GOLDEN["points"])
def test_scores_are_the_reference_s(case):
    golden, points = GOLDEN["points"][case], small(case)
    for name, score in score_codes(*points, metrics=STUDY).items():
        assert score == pytest.approx(golden[name], abs=TOLERANCES[name]), name
    on_train = explicitness(*points[:2], *points[:2]).item()
    assert on_train == pytest.approx(golden["explicitness_train"], abs=TOLERANCES["explicitness"])


@pytest.mark.parametrize("case", GOLDEN["points"])
def test_information_is_the_reference_s(case):
    codes, factors = (torch.as_tensor(x) for x in small(case)[:2])
    golden = GOLDEN["points"][case]
    assert np.allclose(factor_information(codes, factors.long()), golden["mi_matrix"], atol=EXACT, rtol=0)
    assert np.allclose(entropy(factors.long()), golden["factor_entropy"], atol=EXACT, rtol=0)


@NEED_FULL
@pytest.mark.parametrize("case", ["perfect", "rotated", "noise", "collapsed"])
@pytest.mark.parametrize("names", [QUICK, pytest.param(["dci"], marks=pytest.mark.slow)], ids=["quick", "dci"])
def test_full_scores_are_the_reference_s(case, names):
    (dataset,) = (d for key, d in json.loads((FULL / "golden.json").read_text()).items() if key.startswith("ds3x6x8"))
    golden = dataset[case]["full"]
    renamed = {"mutual_information": "mutual_info_score"}
    renamed |= {name: f"{name}_test" for name in ("explicitness", "dci_informativeness")}
    for name, score in score_codes(*read(FULL / f"ds3x6x8x8x8_{case}_full.npz"), metrics=names).items():
        assert score == pytest.approx(golden[renamed.get(name, name)], abs=TOLERANCES[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("case", GOLDEN["points"])
def test_sklearn_s_trees_give_the_reference_s_scores(case):
    for name, score in score_codes(*small(case), metrics="dci", estimator="sklearn").items():
        assert score == pytest.approx(GOLDEN["points"][case][name], abs=0.02), name


class Noisy:
    """The factors beside ten standard normal numbers, drawn anew at every rendering."""

    factor_sizes = tuple(GOLDEN["factor_sizes"])

    def render(self, factors):
        return torch.cat([factors.float(), torch.randn(len(factors), 10)], dim=1)


def encode_perfect(x, rest=1.0):
    return torch.cat([standardized(x[:, :5], SIZES) + 0.02 * x[:, 5:10], rest * x[:, 10:]], dim=1)


def encode_rotated(x):
    codes, factors = (torch.as_tensor(array) for array in small("rotated")[:2])
    rotation = torch.linalg.lstsq(standardized(factors, SIZES).float(), codes).solution
    return standardized(x[:, :5], SIZES) @ rotation + 0.02 * x[:, 5:]


ENCODERS = {
    "perfect": encode_perfect,
    "rotated": encode_rotated,
    "noise": lambda x: x[:, 5:],
    "collapsed": lambda x: encode_perfect(x, rest=0.01),
}


@pytest.mark.parametrize("case", ENCODERS)
def test_sampled_scores_are_the_reference_s(case):
    votes = {"num_train": 500, "num_eval": 250}
    beta = beta_vae_score(ENCODERS[case], Noisy(), **votes)
    factor = factor_vae_score(ENCODERS[case], Noisy(), variance_points=1000, **votes)
    for found, golden in ((beta, GOLDEN["votes"][case]["beta_vae"]), (factor, GOLDEN["votes"][case]["factor_vae"])):
        assert found["eval_accuracy"] == pytest.approx(golden["eval_mean"], abs=3 * golden["eval_std"] + 1e-2)
        assert (found["num_train"], found["num_eval"]) == (500, 250)
    assert factor["active_dims"] == (5 if case == "collapsed" else 10)


def test_information_of_known_tables():
    copy, independent = (
        torch.tensor([[3.0, 0.0], [0.0, 3.0]]),
        torch.outer(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])),
    )
    skewed = torch.tensor([[4.0, 1.0], [1.0, 4.0]])  # a binary channel that flips with probability 0.2
    found = mutual_information(torch.stack([copy, independent, skewed]).double())
    flip = math.log(2) + 0.2 * math.log(0.2) + 0.8 * math.log(0.8)
    assert found.tolist() == pytest.approx([math.log(2), 0.0, flip], abs=1e-12)
    assert found[1] == 0


def test_contingency_counts_pairs():
    a, b = torch.tensor([[0, 2], [1, 0], [1, 1]]), torch.tensor([[1], [0], [1]])
    counts = contingency(a, b)  # (2, 1, 3, 2)
    assert counts[0, 0].tolist() == [[0, 1], [1, 1], [0, 0]]
    assert counts[1, 0].tolist() == [[1, 0], [0, 1], [0, 1]]


def test_bins_are_numpy_s():
    codes = torch.cat([torch.randn(500, 3), torch.arange(500)[:, None] % 41], dim=1)
    for column, found in zip(codes.double().numpy().T, discretize(codes).T, strict=True):
        edges = np.histogram_bin_edges(column, 20)
        assert (np.digitize(column, edges[:-1]) - 1 == found.numpy()).all()
    assert discretize(torch.full((5, 1), 0.3)).unique().numel() == 1


def test_a_code_for_each_factor_is_perfect():
    factors = grid(4, 3, 5)
    codes = factors.flip(1).float()
    assert mig(codes, factors).item() == pytest.approx(1, abs=1e-12)
    assert modularity(codes, factors).item() == pytest.approx(1, abs=1e-12)
    assert irs(codes, factors).item() == pytest.approx(1, abs=1e-12)


def test_more_values_than_bins_bound_mig():
    factors = torch.arange(40)[:, None].repeat(10, 1)
    codes = torch.cat([factors.float(), torch.zeros(400, 1)], dim=1)
    assert mig(codes, factors).item() == pytest.approx(math.log(20) / math.log(40), abs=1e-12)


def correlated(rho):
    """Points with exactly the covariance ((1, rho), (rho, 1))."""
    square = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64) * math.sqrt(3 / 4)
    return square @ torch.linalg.cholesky(torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64)).T


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9])
def test_gaussian_scores_of_a_known_correlation(rho):
    codes = correlated(rho)
    assert gaussian_total_correlation(codes).item() == pytest.approx(-0.5 * math.log(1 - rho**2), abs=1e-12)
    distance = 4 - 2 * (math.sqrt(1 + rho) + math.sqrt(1 - rho))
    assert gaussian_wasserstein_correlation(codes).item() == pytest.approx(distance, abs=1e-12)
    assert gaussian_wasserstein_correlation(10 * codes, normalize=True).item() == pytest.approx(distance / 2, abs=1e-12)


def test_total_correlation_of_dependent_and_constant_codes():
    codes = correlated(0.5)
    assert gaussian_total_correlation(torch.cat([codes, codes[:, :1]], dim=1)).item() == math.inf
    padded = torch.cat([codes, torch.full((4, 1), 0.3)], dim=1)
    assert gaussian_total_correlation(padded).item() == pytest.approx(-0.5 * math.log(0.75), abs=1e-12)


def test_disentanglement_and_completeness_of_known_importance():
    assert disentanglement(torch.eye(3)).item() == pytest.approx(1, abs=1e-8)
    assert completeness(torch.eye(3)).item() == pytest.approx(1, abs=1e-8)
    assert disentanglement(torch.ones(4, 3)).item() == pytest.approx(0, abs=1e-8)
    two_codes_per_factor = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 0.5], [0.0, 0.5]])
    assert disentanglement(two_codes_per_factor).item() == pytest.approx(1, abs=1e-8)
    assert completeness(two_codes_per_factor).item() == pytest.approx(0.5, abs=1e-8)
    assert disentanglement(torch.zeros(4, 3)).item() == completeness(torch.zeros(4, 3)).item() == pytest.approx(0, abs=1e-8)


def test_majority_vote_of_known_variances():
    fixed = torch.tensor([0, 0, 1, 1])
    variances = torch.tensor([[0.1, 1, 0], [0.1, 1, 0], [1, 0.1, 0], [0.1, 1, 0]])
    found = factor_vae_accuracy(variances, fixed, variances[:3], fixed[:3], torch.tensor([1.0, 1.0, 0.0]), threshold=0)
    assert found["train_accuracy"] == 0.75
    assert found["eval_accuracy"] == 1
    assert found["active_dims"] == 2


@pytest.mark.parametrize("sizes", [(2,), (5,)])
def test_logistic_regression_is_sklearn_s(sizes):
    x, factors, *_ = made(sizes, codes=4, noise=1.0)
    y = factors[:, 0]
    weights = fit_logistic(x.double(), y, *sizes, tolerance=1e-9)
    sklearn = LogisticRegression(tol=1e-10, max_iter=10000).fit(x.double().numpy(), y.numpy())
    found = (x.double() @ weights[:, :-1].T + weights[:, -1]).softmax(dim=1)
    assert np.allclose(found, sklearn.predict_proba(x.double().numpy()), atol=1e-5)


def test_roc_auc_is_sklearn_s():
    labels = torch.arange(60) % 3
    scores = torch.randn(3, 60).round(decimals=1)  # with ties
    expected = [roc_auc_score(labels == c, scores[c]) for c in range(3)]
    assert roc_auc(scores, labels).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("size", [2, 5])
def test_support_vector_machines_are_sklearn_s(size):
    x, factors, *_ = made((size, 3), codes=4)
    x = torch.cat([x, x[:, :1].round(), 100 + x[:, :1], torch.zeros(len(x), 1)], dim=1).double()
    weight, bias = ScalarSVMs(x).fit(factors[:, 0], size)
    for d in range(x.shape[1]):
        machine = LinearSVC(C=0.01, class_weight="balanced", dual=False, tol=1e-10, max_iter=100000)
        machine.fit(x[:, d : d + 1].numpy(), factors[:, 0].numpy())
        ours = (weight[d], bias[d]) if size > 2 else (weight[d, 1:], bias[d, 1:])
        assert np.allclose(ours[0], machine.coef_[:, 0], atol=1e-6)
        assert np.allclose(ours[1], machine.intercept_, atol=1e-4)


def reduction_by(left, residuals):
    """How much a split reduces the squared error of residuals."""
    parts = residuals[left], residuals[~left]
    return (sum(part.sum() ** 2 / len(part) for part in parts) - residuals.sum() ** 2 / len(residuals)).item()


@pytest.mark.parametrize("kind", ["continuous", "rounded", "half zero"])
def test_trees_take_the_best_splits(kind):
    x = torch.randn(3, 200, dtype=torch.float64)
    x = {"continuous": x, "rounded": x.round(decimals=1), "half zero": x.relu()}[kind]
    residuals = torch.rand(4, 200) - 0.5
    splits, leaves, reduction = TreeGrower(x, depth=3, candidates=10**6).grow(residuals)
    for t, r in enumerate(residuals.double()):
        nodes, removed = torch.zeros(200, dtype=torch.int64), 0.0
        for codes, thresholds in splits:
            right = x.gather(0, codes[t][nodes][None])[0] > thresholds[t][nodes]
            for p in range(codes.shape[1]):
                here = nodes == p
                cuts = [row[here] <= (low + high) / 2 for row in x for low, high in pairwise(row[here].unique())]
                best = max((reduction_by(left, r[here]) for left in cuts), default=0.0)
                if cuts:
                    assert reduction_by(~right[here], r[here]) == pytest.approx(best, rel=1e-3, abs=1e-5)
                removed += best
            nodes = 2 * nodes + right
        assert torch.equal(leaves[t], nodes)
        assert reduction[:, t].sum().item() == pytest.approx(removed, rel=1e-3)


@pytest.mark.parametrize("sizes", [(2, 3), (4,)])
def test_boosted_trees_are_sklearn_s(sizes):
    x, factors, x_test, _ = made(sizes, codes=4)
    trees = BoostedTrees(stages=20).fit(x.double(), factors, list(sizes))
    for k in range(len(sizes)):
        sklearn = GradientBoostingClassifier(n_estimators=20, random_state=0).fit(x.numpy(), factors[:, k].numpy())
        assert np.allclose(trees.importances[:, k], sklearn.feature_importances_, atol=0.01)
        agree = trees.predict(x_test.double())[:, k].numpy() == sklearn.predict(x_test.numpy())
        assert agree.mean() > 0.97


def test_equal_codes_share_importance():
    x, factors, *_ = made((3,), codes=2)
    trees = BoostedTrees(stages=5).fit(torch.cat([x, x], dim=1).double(), factors, [3])
    assert torch.allclose(trees.importances[:2], trees.importances[2:])


def degenerate():
    codes, factors, codes_test, factors_test = made(points=200, test=100)
    constant, nan = codes.clone(), codes.clone()
    constant[:, 1] = 0.3
    nan[3, 2] = torch.nan
    single = factors.clone()
    single[:, 1] = 2
    seen = factors_test[:, 1] != 4
    known = factors[:, 1] != 4
    return {
        "all codes constant": (torch.full_like(codes, 1.5), factors, torch.full_like(codes_test, 1.5), factors_test),
        "one code constant": (constant, factors, codes_test, factors_test),
        "one-valued factor": (codes, single, codes_test, factors_test),
        "one code": (codes[:, :1], factors, codes_test[:, :1], factors_test),
        "one factor": (codes, factors[:, :1], codes_test, factors_test[:, :1]),
        "nan": (nan, factors, codes_test, factors_test),
        "few points": (codes[:4], factors[:4], codes_test[:9], factors_test[:9]),
        "value missing in test": (codes, factors, codes_test[seen], factors_test[seen]),
        "value missing in training": (codes[known], factors[known], codes_test, factors_test),
        "numbers with gaps": (codes, 10 * factors - 7, codes_test, 10 * factors_test - 7),
    }


DEFINED = {
    "all codes constant": SCORES,
    "one code constant": SCORES,
    "one-valued factor": ("modularity", "irs", *UNSUPERVISED),
    "one code": (
        *("modularity", "explicitness", "dci_disentanglement", "dci_informativeness", "irs", *UNSUPERVISED[:3]),
        *("dcimig", "mig_sup", "infom", "infoe"),
    ),
    "one factor": tuple(
        name for name in SCORES if name not in ("modularity", "dci_disentanglement", "dcimig", "mig_sup", "infom")
    ),
    "nan": (),
    "value missing in test": SCORES,
    "value missing in training": SCORES,
    "numbers with gaps": SCORES,
}


@pytest.mark.parametrize("kind", DEFINED)
def test_degenerate_input_is_scored_or_refused(kind):
    points = degenerate()[kind]
    found = score_codes(*points, metrics=DEFINED[kind]) if DEFINED[kind] else {}
    assert all(math.isfinite(score) for score in found.values())
    for name in set(SCORES) - set(found):
        with pytest.raises(ValueError) as refusal:
            score_codes(*points, metrics=name)
        assert len(str(refusal.value).splitlines()) <= 2


def test_few_points_give_no_nan():
    points = degenerate()["few points"]
    for name in SCORES:
        try:
            assert not math.isnan(score_codes(*points, metrics=name)[name])
        except ValueError as refusal:
            assert len(str(refusal).splitlines()) <= 2


def test_constant_codes_score_zero():
    found = score_codes(*degenerate()["all codes constant"])
    chance = ("explicitness", "dci_informativeness", "jemmig")
    assert all(score == pytest.approx(0, abs=1e-9) for name, score in found.items() if name not in chance)
    assert found["explicitness"] == 0.5


def test_a_constant_code_does_not_matter():
    codes, factors, *_ = made()
    padded = torch.cat([codes, torch.ones(len(codes), 1)], dim=1)
    for score in (mig, irs, gaussian_total_correlation, gaussian_wasserstein_correlation):
        arguments = (factors,) if score in (mig, irs) else ()
        assert score(padded, *arguments).item() == pytest.approx(score(codes, *arguments).item(), abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(5), torch.zeros(5, 1)), "matrix"),
        ((torch.zeros(5, 2), torch.zeros(4, 1)), "beside 5 codes"),
        ((torch.zeros(5, 2), torch.full((5, 1), 0.5)), "whole numbers"),
        ((torch.zeros(5, 2), torch.zeros(5, 1), torch.zeros(5, 3), torch.zeros(5, 1)), "must agree"),
    ],
)
def test_wrong_shapes_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        score_codes(*arguments, metrics="unsupervised")


def test_scores_are_selected_by_name_and_group():
    points = made()
    assert list(score_codes(*points, metrics=["irs", "unsupervised", "irs"])) == ["irs", *UNSUPERVISED]
    assert list(score_codes(*points[:2], metrics="mig")) == ["mig"]
    with pytest.raises(ValueError, match="Did you mean modularity"):
        score_codes(*points, metrics=["mig", "modularty"])
    with pytest.raises(ValueError, match="explicitness need codes_test"):
        score_codes(*points[:2], metrics=["mig", "explicitness"])
    with pytest.raises(ValueError, match="torch or sklearn"):
        importance_and_accuracy(*points, estimator="xgboost")


GATHERED = ("mig", "modularity", "irs", "sap", "explicitness", "sap_continuous")


@pytest.mark.parametrize("name", GATHERED)
def test_points_gather_batches(name):
    codes, factors, codes_test, factors_test = points = made()
    train, test = PointsMetric(), PointsMetric()
    for batch in torch.arange(len(codes)).split(250):
        train.update(codes[batch], factors[batch])
    test.update(codes_test, factors_test)
    expected = score_codes(*points, metrics=name)[name]
    found = score_codes(*train.compute(), *test.compute(), metrics=name)[name]
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_missing_points_are_named():
    with pytest.raises(ValueError, match="call update"):
        PointsMetric().compute()
    with pytest.raises(ZooError, match="give codes_test"):
        PointScores(*made()[:2]).compute("sap")


def test_points_gather_processes():
    codes, factors, *_ = made()

    def gather(x, group):
        other = codes[300:].double() if x.is_floating_point() else factors[300:]
        return [x, other] if x.numel() else [x]

    points = PointsMetric(dist_sync_fn=gather, distributed_available_fn=lambda: True)
    points.update(codes[:300], factors[:300])
    assert mig(*points.compute()).item() == pytest.approx(mig(codes, factors).item(), abs=1e-12)


def test_functions_of_several_scores_gather_batches():
    codes, factors, codes_test, factors_test = points = made((2, 3), codes=3, points=200, test=100)
    train, test = PointsMetric(), PointsMetric()
    for half in torch.arange(200).split(100):
        train.update(codes[half], factors[half])
    test.update(codes_test, factors_test)
    found = {f"dci_{name}": score for name, score in dci(*train.compute(), *test.compute()).items()}
    codes, _ = train.compute()
    found["gaussian_total_correlation"] = gaussian_total_correlation(codes)
    found["gaussian_wasserstein_correlation"] = gaussian_wasserstein_correlation(codes)
    found["gaussian_wasserstein_correlation_norm"] = gaussian_wasserstein_correlation(codes, normalize=True)
    found["mutual_information"] = code_information(codes)
    expected = score_codes(*points, metrics=["dci", "unsupervised"])
    assert {name: score.item() for name, score in found.items()} == pytest.approx(expected, abs=1e-9)


def test_accuracies_of_perfect_votes():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([4, 5, 6])
    distances, variances, labels, codes = [], [], [], []
    for _ in range(3):
        fixed = torch.randint(3, (50,), generator=generator)
        first, second = (torch.rand(2, 50, 32, 3, generator=generator) * sizes).floor()
        column = fixed[:, None, None].expand(-1, 32, 1)
        distances.append((first - second.scatter(2, column, first.gather(2, column))).abs().mean(1))
        variances.append(first.scatter(2, column, 1.0).double().var(1))
        codes.append(first.flatten(0, 1))
        labels.append(fixed)
    fitted, fresh = torch.cat(labels[:2]), labels[2]
    beta = beta_vae_accuracy(torch.cat(distances[:2]), fitted, distances[2], fresh)
    variance = torch.cat(codes).double().var(0)
    factor = factor_vae_accuracy(torch.cat(variances[:2]), fitted, variances[2], fresh, variance)
    for found in (beta, factor):
        assert found["eval_accuracy"] == found["train_accuracy"] == 1
        assert (found["num_train"], found["num_eval"], found["active_dims"]) == (100, 50, 3)


class Factors:
    """Renders the factors themselves, and counts how many it rendered."""

    factor_sizes = (3, 4, 5)
    deterministic = True
    rendered = 0

    def render(self, factors):
        self.rendered += len(factors)
        return factors.float()


FEW = {"num_train": 200, "num_eval": 100, "batch_size": 16}


def test_each_image_is_encoded_once():
    data = Factors()
    cached = beta_vae_score(lambda x: x, data, **FEW)
    assert data.rendered == 60
    assert beta_vae_score(lambda x: x, data, cache_codes=False, **FEW) == cached
    assert data.rendered == 60 + 2 * 16 * 300


def test_scores_share_a_table():
    data = Factors()
    table = CachedEncoder(lambda x: x.numpy(), data, encode_batch=7)
    factor_vae_score(table, data, variance_points=1000, **FEW)
    beta_vae_score(table, data, **FEW)
    assert data.rendered == 60
    factors = grid(3, 4, 5)
    assert torch.equal(table(factors), factors.float())


def test_scores_repeat_and_leave_random_numbers_alone():
    state = torch.get_rng_state()
    first, second = (factor_vae_score(ENCODERS["noise"], Noisy(), variance_points=500, **FEW) for _ in range(2))
    assert first == second
    assert torch.equal(torch.get_rng_state(), state)
    assert first != factor_vae_score(ENCODERS["noise"], Noisy(), variance_points=500, seed=1, **FEW)


def test_data_may_draw_their_own_factors():
    class Biased(Factors):
        def sample_factors(self, n, generator):
            return torch.stack([torch.randint(size, (n,), generator=generator) for size in (1, 4, 5)], dim=1)

    codes, factors = draw_codes(lambda x: x, Biased(), points=50)
    assert torch.equal(codes, factors.float())
    assert factors[:, 0].max() == 0
    assert factors[:, 2].max() > 0


def test_no_active_code_scores_zero():
    found = factor_vae_score(lambda x: torch.zeros(len(x), 4), Factors(), **FEW)
    assert (found["eval_accuracy"], found["train_accuracy"], found["active_dims"]) == (0, 0, 0)
    assert factor_vae_score(lambda x: torch.zeros(len(x), 4), Factors(), threshold=0, **FEW)["eval_accuracy"] == 0


def test_a_constant_code_does_not_win_every_vote():
    found = factor_vae_score(lambda x: torch.cat([x, torch.ones(len(x), 1)], dim=1), Factors(), threshold=0, **FEW)
    assert found["eval_accuracy"] == 1
    assert found["active_dims"] == 3


@pytest.mark.parametrize("score", [beta_vae_score, factor_vae_score])
def test_votes_that_cannot_be_scored_are_refused(score):
    class OneFactor(Factors):
        factor_sizes = (3,)

    class Huge(Factors):
        factor_sizes = (1000, 1000, 1000)

    with pytest.raises(ValueError, match="at least 2 factors"):
        score(lambda x: x, OneFactor(), **FEW)
    with pytest.raises(ValueError, match="cache_codes=False"):
        score(lambda x: x, Huge(), cache_codes=True, **FEW)
    with pytest.raises(ValueError, match="NaN"):
        score(lambda x: x / 0, Factors(), **FEW)
