"""InfoMEC, DCIMIG, MIG-sup, JEMMIG, downstream accuracy and UDR against formulas computed otherwise and closed forms."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from sklearn.feature_selection import mutual_info_classif
from sklearn.linear_model import LogisticRegression

from zoo.errors import ZooError
from zoo.metrics import (
    DOWNSTREAM_SCORES,
    PointScores,
    dcimig,
    downstream,
    downstream_accuracy,
    infomec,
    jemmig,
    mig,
    mig_sup,
    score_codes,
    udr,
)
from zoo.metrics.disentanglement.infomec import active_codes, infoc, infoe, infom
from zoo.metrics.disentanglement.logistic import fit_logistic
from zoo.metrics.disentanglement.mutual_information import neighbor_information
from zoo.metrics.disentanglement.scores import select

DATA = REPOSITORY / "tests" / "data"
GOLDEN = json.loads((DATA / "more_scores_golden.json").read_text())
# Nearest neighbors are counted at distances that are rounded otherwise; codes that tell all have no finite regression; of
# codes that split ten points equally well, scikit-learn's trees take one at random.
TOLERANCES = {"infom": 1e-5, "infoc": 1e-5, "infoe": 5e-4, "downstream_trees_10": 0.03, "downstream_trees_100": 0.02}


def points_of(case):
    arrays = np.load(DATA / f"disentanglement_{case}.npz")
    return [arrays[f"{kind}_{part}"] for part in ("train", "test") for kind in ("codes", "factors")]


def grid(*sizes):
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes))


@pytest.mark.parametrize("case", GOLDEN["points"])
def test_scores_are_those_of_their_formulas(case):
    golden = GOLDEN["points"][case]
    for name, score in score_codes(*points_of(case), metrics=list(golden)).items():
        assert score == pytest.approx(golden[name], abs=TOLERANCES.get(name, 1e-9)), name


@pytest.mark.parametrize("correlation", ["lasso", "spearman"])
def test_udr_is_that_of_its_formula(correlation):
    sys.path.insert(0, str(DATA))
    try:
        from more_scores_golden import models
    finally:
        sys.path.remove(str(DATA))
    golden = GOLDEN["udr"][correlation]
    found = udr(*models(), correlation)
    assert np.allclose(found.pairs.nan_to_num(0), golden["pairs"], atol=1e-9)
    assert np.allclose(found.scores, golden["scores"], atol=1e-9)
    assert found.pairs.diagonal().isnan().all() and found.informative.tolist() == [3, 3, 3, 3]


def test_a_code_for_each_factor_is_perfect():
    factors = grid(4, 3, 5)
    for score in (dcimig, mig_sup, jemmig):
        assert score(factors.flip(1).float(), factors).item() == pytest.approx(1, abs=1e-12), score


def test_gaps_of_a_code_that_is_there_twice():
    """MIG and JEMMIG want one code; DCIMIG and MIG-sup look from the codes and do not mind."""
    factors = grid(4, 3)
    twice = torch.cat([factors, factors], dim=1).float()
    assert [score(twice, factors).item() for score in (mig, dcimig, mig_sup)] == pytest.approx([0, 1, 1], abs=1e-12)
    h = torch.tensor([4.0, 3.0]).log()
    assert jemmig(twice, factors).item() == pytest.approx((1 - h / (h + math.log(20))).mean().item(), abs=1e-6)


def test_gaps_of_a_code_of_two_factors():
    factors = grid(2, 2)
    codes = torch.stack([2 * factors[:, 0] + factors[:, 1], torch.zeros(4)], dim=1)
    assert dcimig(codes, factors) == mig_sup(codes, factors) == 0
    # H(z, y) = log 4, of which it tells log 2 of each factor.
    assert jemmig(codes, factors).item() == pytest.approx(1 - math.log(2) / math.log(40), abs=1e-12)


def test_jemmig_of_codes_that_tell_nothing():
    factors = torch.arange(3).repeat_interleave(20)[:, None]
    spread = torch.arange(20).repeat(3)[:, None].float()
    constant = torch.zeros(60, 1)
    assert jemmig(torch.cat([spread, spread], 1), factors).item() == pytest.approx(0, abs=1e-12)
    expected = math.log(20) / math.log(60)
    assert jemmig(torch.cat([constant, constant], 1), factors).item() == pytest.approx(expected, abs=1e-12)


def test_neighbor_information_is_scikit_learn_s():
    """Of values that 20 points or fewer share, scikit-learn counts neighbors at distances rounded otherwise."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.stack([torch.randint(n, (700,), generator=generator) for n in (2, 5, 12)], dim=1)
    codes = factors.double() @ torch.randn(3, 4, generator=generator).double() + torch.randn(700, 4, generator=generator)
    found = neighbor_information(codes, factors)
    standard = ((codes - codes.mean(0)) / codes.std(0, correction=0)).numpy()
    for k, labels in enumerate(factors.T):
        expected = mutual_info_classif(standard, labels, discrete_features=False, n_neighbors=10, random_state=0)
        assert np.allclose(found[:, k], expected, atol=1e-4)


def test_neighbor_information_of_uniform_codes():
    """y = 0: U[-1, 1], y = 1: U[0, 2]; they overlap in half."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(4000) % 2
    z = 2 * torch.rand(4000, generator=generator) - 1 + y
    apart = 2 * torch.rand(4000, generator=generator) - 1 + 5 * y
    found = neighbor_information(torch.stack([z, apart, torch.ones(4000)], dim=1), y[:, None]).flatten()
    assert found.tolist() == pytest.approx([math.log(2) / 2, math.log(2), 0], abs=0.02)
    assert found[2] == 0


def test_neighbor_information_of_equal_codes_and_lone_values():
    y = torch.arange(60) % 3
    equal = y.double()[:, None]
    first = neighbor_information(equal, y[:, None])
    assert first.item() == pytest.approx(math.log(3), abs=0.02)
    assert torch.equal(first, neighbor_information(equal, y[:, None])), "the same noise at every call"
    lone = torch.arange(5)
    assert neighbor_information(torch.randn(5, 2), lone[:, None]).tolist() == [[0], [0]]
    assert neighbor_information(torch.randn(5, 2), torch.tensor([0, 1, 2, 3, 3])[:, None]).isfinite().all()


def test_infom_and_infoc_of_known_shares():
    shares = torch.tensor([[0.9, 0.0], [0.0, 0.5], [0.2, 0.2], [0.0, 0.0]], dtype=torch.float64)
    # Rows: 1, 1, 1/2, and 1/2 of the one that tells nothing; columns: 9/11, 5/7.
    assert infom(shares).item() == pytest.approx((3 / 4 - 1 / 2) * 2)
    assert infoc(shares).item() == pytest.approx(((9 / 11 + 5 / 7) / 2 - 1 / 4) * 4 / 3)
    assert infom(shares[:0]) == infoc(shares[:0]) == 0
    with pytest.raises(ZooError, match="infoc compares active codes"):
        infoc(shares[:1])
    with pytest.raises(ZooError, match="infom compares factors"):
        infom(shares[:, :1])


def test_codes_of_small_range_are_not_active():
    codes = torch.tensor([[0.0, 0.0, 3.0], [20.0, 1.0, 3.0], [10.0, 1.2, 3.0]])
    assert active_codes(codes).tolist() == [True, True, False]
    factors = grid(6, 5).repeat(20, 1)
    codes = torch.cat([factors + 0.01 * torch.randn(600, 2), 0.01 * torch.randn(600, 3)], dim=1)
    found = infomec(codes, factors)
    assert found["infom"] > 0.95 and found["infoc"] > 0.95 and found["infoe"] > 0.99


def test_infoe_of_a_channel_that_flips_a_bit():
    y = torch.tensor([0] * 5 + [1] * 5)
    z = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1, 1, 0]).double()[:, None]
    flip = -(0.2 * math.log(0.2) + 0.8 * math.log(0.8))
    assert infoe(z, y[:, None]).item() == pytest.approx(1 - flip / math.log(2), abs=1e-6)
    assert infoe(torch.ones(10, 1), y[:, None]).item() == pytest.approx(0, abs=1e-12)
    rare = torch.tensor([0] * 9 + [1])[:, None]
    assert infoe(torch.ones(10, 1), rare).item() == pytest.approx(0, abs=1e-12), "values weigh the same in the fit"


@pytest.mark.parametrize("classes", [2, 4])
def test_balanced_regression_without_penalty_is_scikit_learn_s(classes):
    generator = torch.Generator().manual_seed(0)
    y = (torch.rand(500, generator=generator).square() * classes).long()
    x = y[:, None] * torch.tensor([1.0, -0.5, 0.0]) + 2 * torch.randn(500, 3, generator=generator)
    x = x.double()
    weights = fit_logistic(x, y, classes, tolerance=1e-8, penalty=0.0, balanced=True)
    expected = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-10, max_iter=5000).fit(x.numpy(), y.numpy())
    found = (weights[:, :-1] @ x.T + weights[:, -1:]).softmax(0).T
    assert np.allclose(found, expected.predict_proba(x.numpy()), atol=1e-4)


@pytest.mark.parametrize("classifier", ["logistic", "trees"])
def test_downstream_accuracy_of_codes_that_are_the_factors(classifier):
    factors = grid(2, 3).repeat(50, 1)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    points = (factors.double(), factors, factors.double(), factors)
    assert downstream_accuracy(*points, 100, classifier) == 1
    share = torch.stack([(column == column[0]).double().mean() for column in factors.T]).mean()
    assert downstream_accuracy(*points, 1, classifier).item() == pytest.approx(share.item()), "the one value that was seen"
    assert list(downstream(*points, classifier, labels=(10, 100))) == ["10", "100"]


def test_a_value_that_no_label_has_is_missed():
    codes, factors = torch.tensor([[0.0], [0.1], [1.0], [1.1]]), torch.tensor([[5], [5], [7], [7]])
    test = torch.tensor([[0.0], [1.0], [2.0], [0.0]]), torch.tensor([[5], [7], [9], [6]])
    assert downstream_accuracy(codes, factors, *test, 4) == 0.5


def test_efficiency_is_the_ratio():
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(3, (10200, 1), generator=generator)
    codes = factors + torch.randn(10200, 1, generator=generator)
    points = codes[:10000], factors[:10000], codes[10000:], factors[10000:]
    found = score_codes(*points, metrics="downstream_logistic")
    names = [f"downstream_logistic_{what}" for what in (10, 100, 1000, 10000, "efficiency")]
    assert list(found) == names == list(select("downstream")[:5])
    assert found[names[4]] == pytest.approx(found[names[1]] / found[names[3]])
    assert downstream(*points)["efficiency"].item() == found[names[4]]


def test_trees_of_all_points_are_dci_s():
    points = points_of("noise")
    scores = PointScores(points[0][:100], points[1][:100], *points[2:])
    assert scores.compute("downstream_trees_100") == scores.compute("dci_informativeness")
    assert downstream_accuracy(*map(torch.as_tensor, points), 100, "trees").item() == scores.compute("downstream_trees_100")


def test_downstream_scores_are_computed_where_asked_for():
    points = points_of("perfect")
    assert not set(select(None)) & set(DOWNSTREAM_SCORES)
    with pytest.raises(ZooError, match="from 10000 labels needs as many points, 1 or more; there are 1000"):
        score_codes(*points, metrics="downstream_logistic_10000")
    with pytest.raises(ZooError, match="downstream_logistic_10 need codes_test"):
        score_codes(*points[:2], metrics="downstream_logistic_10")
    with pytest.raises(ZooError, match="logistic or trees"):
        downstream_accuracy(*map(torch.as_tensor, points), 10, "forest")


def orthogonal(points=8):
    """Three codes of mean 0 and variance 1 without correlation."""
    return torch.linalg.qr(torch.cat([torch.ones(points, 1), torch.randn(points, 3)], 1).double())[0][:, 1:] * points**0.5


def test_udr_of_codes_in_another_order():
    z = orthogonal()
    found = udr([z, -5 * z[:, [2, 0, 1]] + 3, z], [[1.0] * 3] * 3)
    assert found.scores.tolist() == pytest.approx([0.9] * 3, abs=1e-6), "1, less the penalty"
    assert udr([z, z], [[1.0, 1.0, 1.0]] * 2, alpha=0.0).scores.tolist() == pytest.approx([1, 1], abs=1e-6)
    ranked = torch.arange(8.0)[:, None]
    assert udr([ranked, -(ranked**3)], [[1.0], [1.0]], "spearman").scores.tolist() == pytest.approx([1, 1])


def test_udr_counts_informative_codes_alone():
    z = orthogonal()
    found = udr([z, z, z], [[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 0.0, 0.01]])
    assert found.informative.tolist() == [2, 3, 0]
    assert found.pairs[0, 1].item() == pytest.approx((0.9 * 2 / 3 + 0.9) / 2, abs=1e-6)
    assert found.pairs[:2, 2].tolist() == found.pairs[2, :2].tolist() == [0, 0]
    assert found.scores[2] == 0 and found.scores[0] == found.pairs[1:, 0].mean(), "the median of two"
    constant = torch.cat([z[:, :2], torch.ones(8, 1)], dim=1)
    assert udr([constant, z], [[1.0] * 3] * 2).scores.isfinite().all()


@pytest.mark.parametrize(
    ("codes", "kl", "message"),
    [
        ([torch.zeros(5, 2)], [[1.0, 1.0]], "2 or more are needed, got 1 and 1"),
        ([torch.zeros(5, 2)] * 2, [[1.0, 1.0]], "got 2 and 1"),
        ([torch.zeros(5, 2), torch.zeros(4, 2)], [[1.0, 1.0]] * 2, "of the same points"),
        ([torch.zeros(5, 2)] * 2, [[1.0, 1.0], [1.0]], "a KL divergence of each code"),
        ([torch.zeros(5, 2), torch.full((5, 2), torch.nan)], [[1.0, 1.0]] * 2, "NaN"),
    ],
)
def test_udr_refuses_what_does_not_match(codes, kl, message):
    with pytest.raises(ZooError, match=message):
        udr(codes, kl)
    with pytest.raises(ZooError, match="lasso or spearman"):
        udr([torch.zeros(5, 2)] * 2, [[1.0, 1.0]] * 2, "pearson")
