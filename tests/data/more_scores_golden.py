"""Makes more_scores_golden.json: InfoMEC, DCIMIG, MIG-sup, JEMMIG, downstream accuracies and UDR by their formulas.

NumPy counts and distances, and scikit-learn's classifiers and Lasso; nothing of the zoo. It was run once, with NumPy 2 and
scikit-learn 1.9, in half a minute: ``python tests/data/more_scores_golden.py``.
"""

import json
from pathlib import Path

import numpy as np
from scipy.special import digamma
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import Lasso, LogisticRegression

HERE = Path(__file__).parent
CASES = ("perfect", "rotated", "noise")


def counted(code, factor, bins=20):
    """Joint probabilities of a code in equal-width bins and a factor."""
    return np.histogram2d(code, factor, bins=[bins, np.append(np.unique(factor), factor.max() + 1)])[0] / len(code)


def entropy(p):
    p = p[p > 0]
    return -(p * np.log(p)).sum()


def gaps(codes, factors):
    """DCIMIG, MIG-sup and JEMMIG."""
    codes_n, factors_n = codes.shape[1], factors.shape[1]
    joint = [[counted(codes[:, d], factors[:, k]) for k in range(factors_n)] for d in range(codes_n)]
    h_joint = np.array([[entropy(p.ravel()) for p in row] for row in joint])
    h_code = np.array([entropy(row[0].sum(axis=1)) for row in joint])
    h = np.array([entropy(p.sum(axis=0)) for p in joint[0]])
    mi = h_code[:, None] + h - h_joint

    given = np.zeros(factors_n)
    for row in mi:
        k = row.argmax()
        given[k] = max(given[k], row[k] - np.delete(row, k).max())
    shares = np.sort(mi / h, axis=1)
    jemmig = 0
    for k in range(factors_n):
        d = mi[:, k].argmax()
        worst = h[k] + np.log(20)
        jemmig += (1 - (h_joint[d, k] - mi[d, k] + np.delete(mi[:, k], d).max()) / worst) / factors_n
    return {
        "dcimig": given.sum() / h.sum(),
        "mig_sup": (shares[:, -1] - shares[:, -2]).mean(),
        "jemmig": jemmig,
    }


def neighbor_information(code, factor, neighbors=10):
    """Ross's estimate, by all distances of pairs."""
    distances = np.abs(code[:, None] - code)
    terms = []
    for n in range(len(code)):
        same = np.flatnonzero(factor == factor[n])
        k = min(neighbors, len(same) - 1)
        radius = np.sort(distances[n, same])[k]
        m = (distances[n] < radius).sum()
        terms.append(digamma(k) - digamma(len(same)) - digamma(m))
    return max(0, digamma(len(code)) + np.mean(terms))


def infomec(codes, factors):
    spans = np.ptp(codes, axis=0)
    active = codes[:, spans > spans.max() / 20]
    shares = np.array(
        [
            [neighbor_information(z, y) / entropy(np.bincount(y) / len(y)) for y in factors.T]
            for z in ((active - active.mean(0)) / active.std(0)).T
        ]
    )
    d, k = shares.shape
    x, explained = (codes - codes.mean(0)) / codes.std(0), []
    for y in factors.T:
        model = LogisticRegression(C=np.inf, class_weight="balanced", tol=1e-8, max_iter=5000).fit(x, y)
        loss = -model.predict_log_proba(x)[np.arange(len(y)), np.searchsorted(model.classes_, y)].mean()
        explained.append(1 - loss / np.log(len(model.classes_)))
    return {
        "infom": ((shares.max(1) / shares.sum(1)).mean() - 1 / k) / (1 - 1 / k),
        "infoe": np.mean(explained),
        "infoc": ((shares.max(0) / shares.sum(0)).mean() - 1 / d) / (1 - 1 / d),
    }


def downstream(codes, factors, codes_test, factors_test):
    found = {}
    for n in (10, 100, 1000):
        x, y = codes[:n], factors[:n]
        mean, std = x.mean(0), x.std(0)
        linear, trees = [], []
        for k in range(factors.shape[1]):
            model = LogisticRegression(tol=1e-8, max_iter=5000).fit((x - mean) / std, y[:, k])
            linear.append((model.predict((codes_test - mean) / std) == factors_test[:, k]).mean())
            if n < 1000:
                model = GradientBoostingClassifier(random_state=0).fit(x, y[:, k])
                trees.append((model.predict(codes_test) == factors_test[:, k]).mean())
        found[f"downstream_logistic_{n}"] = np.mean(linear)
        if trees:
            found[f"downstream_trees_{n}"] = np.mean(trees)
    return found


def models():
    """Codes of 300 points and KL divergences of four models: the same three latents in other order, sign and rotation."""
    random = np.random.RandomState(0)
    s = random.randn(300, 3)
    turn = np.linalg.qr(random.randn(3, 3))[0]
    codes = [s, -s[:, [2, 0, 1]], s @ turn, s + random.randn(300, 3)]
    dead = [random.randn(300, width) for width in (1, 2, 1, 0)]
    kl = [[1.0] * 3 + [0.001] * each.shape[1] for each in dead]
    return [np.concatenate(pair, axis=1) + 0.05 * random.randn(300, pair[0].shape[1] + pair[1].shape[1])
            for pair in zip(codes, dead, strict=True)], kl  # fmt: skip


def udr(codes, kl, correlation):
    masks = [np.array(each) > 0.01 for each in kl]
    z = [(own - own.mean(0)) / own.std(0) for own in codes]
    pairs = np.full((len(z), len(z)), np.nan)
    for a in range(len(z)):
        for b in range(len(z)):
            if a == b:
                continue
            if correlation == "lasso":
                r = Lasso(alpha=0.1, tol=1e-12, max_iter=100000).fit(z[a] * masks[a], z[b] * masks[b]).coef_.T
            else:
                r = spearmanr(z[a], z[b]).statistic[: z[a].shape[1], z[a].shape[1] :]
            r = np.abs(r)[masks[a]][:, masks[b]]
            pairs[a, b] = ((r.max(0) ** 2 / r.sum(0)).mean() + (r.max(1) ** 2 / r.sum(1)).mean()) / 2
    return {"pairs": np.nan_to_num(pairs).tolist(), "scores": np.nanmedian(pairs, axis=0).tolist()}


def main():
    golden = {"points": {}, "udr": {each: udr(*models(), each) for each in ("lasso", "spearman")}}
    for case in CASES:
        arrays = np.load(HERE / f"disentanglement_{case}.npz")
        points = [arrays[f"{kind}_{part}"] for part in ("train", "test") for kind in ("codes", "factors")]
        points[::2] = [codes.astype(float) for codes in points[::2]]
        golden["points"][case] = gaps(*points[:2]) | infomec(*points[:2]) | downstream(*points)
    (HERE / "more_scores_golden.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    main()
