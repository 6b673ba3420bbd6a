"""Disentanglement, completeness and informativeness: who is needed to predict whom, and how well it can be done."""

from typing import Any

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.boosting import BoostedTrees
from zoo.metrics.disentanglement.points import check_split, check_varying, number_values, number_values_as

__all__ = ["completeness", "dci", "disentanglement", "importance_and_accuracy"]

ESTIMATORS = ("torch", "sklearn")


def disentanglement(importance: Tensor) -> Tensor:
    r"""Returns :math:`\sum_d \rho_d (1 - H_K(P_d))`: 1 if each code matters for one factor only.

    :math:`P_d` is the importance of code d shared out over factors, :math:`H_K` its entropy with logarithms of base K,
    and :math:`\rho_d` the code's part of all importance; equal parts where nothing matters at all, which scores 0.

    Arguments:
        importance: The importance of codes for factors, with shape (D, K).

    Raises:
        ZooError: if there is one factor only.
    """
    return _concentration(importance, "dci_disentanglement", "factors")


def completeness(importance: Tensor) -> Tensor:
    r"""Returns :math:`\sum_k \rho_k (1 - H_D(P_k))`: 1 if one code alone matters for each factor.

    :math:`P_k` is the importance for factor k shared out over codes; otherwise as in :func:`disentanglement`.

    Raises:
        ZooError: if there is one code only.
    """
    return _concentration(importance.T, "dci_completeness", "codes")


def _concentration(importance: Tensor, score: str, across: str) -> Tensor:
    if importance.shape[1] < 2:
        raise ZooError(f"{score} compares {across}: it needs at least 2 {across}, got 1")
    total = importance.sum()
    weights = importance.sum(dim=1) / total if total > 0 else importance.new_full((len(importance),), 1 / len(importance))
    shares = importance + 1e-11  # as in the reference: a row of zeros is shared out evenly
    shares = shares / shares.sum(dim=1, keepdim=True)
    entropy = torch.special.entr(shares).sum(dim=1) / torch.log(shares.new_tensor(shares.shape[1]))
    return (weights * (1 - entropy)).sum().clamp(min=0)


def importance_and_accuracy(
    codes: Tensor,
    factors: Tensor,
    codes_test: Tensor,
    factors_test: Tensor,
    estimator: str = "torch",
    seed: int = 0,
) -> tuple[Tensor, Tensor]:
    r"""Fits a classifier of every factor on all codes: see :func:`dci`.

    Returns:
        The importance of codes for factors, with shape (D, K) and columns that sum to 1, and the mean test
        accuracy.
    """
    if estimator not in ESTIMATORS:
        raise ZooError(f"no DCI estimator {estimator!r}: choose {' or '.join(ESTIMATORS)}")
    codes, factors, codes_test, factors_test = check_split(codes, factors, codes_test, factors_test)
    check_varying(factors, "dci")
    labels, sizes = number_values(factors)
    labels_test = number_values_as(factors, factors_test)
    if estimator == "torch":
        trees = BoostedTrees().fit(codes, labels, sizes)
        return trees.importances, (trees.predict(codes_test) == labels_test).double().mean()

    from sklearn.ensemble import GradientBoostingClassifier  # seconds to import, and rarely needed

    importances, accuracies = [], []
    for label, label_test in zip(labels.T.cpu().numpy(), labels_test.T.cpu().numpy(), strict=True):
        trees = GradientBoostingClassifier(random_state=seed).fit(codes.cpu().numpy(), label)
        importances.append(torch.from_numpy(trees.feature_importances_))
        accuracies.append(trees.score(codes_test.cpu().numpy(), label_test))
    return torch.stack(importances, dim=1).to(codes), codes.new_tensor(accuracies).mean()


def dci(codes: Tensor, factors: Tensor, codes_test: Tensor, factors_test: Tensor, **options: Any) -> dict[str, Tensor]:
    r"""Computes disentanglement, completeness and informativeness, each in :math:`[0, 1]`.

    A boosted-tree classifier of every factor is fitted on all codes. Informativeness is its test accuracy, averaged over
    factors; the other two tell how the importance :math:`R_{dk}` of code d for factor k, the reduction of squared error by
    splits on it, is spread: see :func:`disentanglement` and :func:`completeness`.

    The default estimator is the model of the reference in other code, some ten times faster; scores agree within 0.01.
    ``estimator="sklearn"`` is the reference's own, which takes minutes. It takes one at random of several codes that split
    a node equally well, so its scores vary, by up to 0.006 at N = 1000.

    Arguments:
        codes: The codes to fit on, with shape (N, D).
        factors: Their factors, whole numbers with shape (N, K).
        codes_test: The test codes, with shape (M, D). With the training points once more, the accuracy is theirs.
        factors_test: Their factors, with shape (M, K). A value never seen in training counts as missed.
        estimator: ``"torch"`` or ``"sklearn"``.
        seed: The seed of scikit-learn's choices.

    Returns:
        ``disentanglement``, ``completeness`` and ``informativeness``.

    Raises:
        ZooError: if there is one code or one factor only, a factor takes one value only, or a code is not finite.

    References:
        | A Framework for the Quantitative Evaluation of Disentangled Representations (Eastwood and Williams, 2018),
        | section 2
        | https://openreview.net/forum?id=By-7dz-AZ
    """
    importance, accuracy = importance_and_accuracy(codes, factors, codes_test, factors_test, **options)
    return {
        "disentanglement": disentanglement(importance),
        "completeness": completeness(importance),
        "informativeness": accuracy,
    }
