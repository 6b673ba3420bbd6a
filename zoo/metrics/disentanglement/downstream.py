"""Downstream accuracy: how well classifiers predict the factors from the codes of few labeled points."""

from collections.abc import Sequence

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.boosting import BoostedTrees
from zoo.metrics.disentanglement.logistic import fit_logistic
from zoo.metrics.disentanglement.points import check_split, number_values, number_values_as, standardize

__all__ = ["LABELS", "downstream", "downstream_accuracy"]

LABELS = (10, 100, 1000, 10000)
CLASSIFIERS = ("logistic", "trees")


def downstream_accuracy(
    codes: Tensor, factors: Tensor, codes_test: Tensor, factors_test: Tensor, labels: int, classifier: str = "logistic"
) -> Tensor:
    r"""Computes the test accuracy, averaged over factors, of classifiers fitted to the first so many points.

    A factor that takes one value in these points is predicted to have it always.

    Arguments:
        codes: The codes to fit on, with shape (N, D).
        factors: Their factors, whole numbers with shape (N, K).
        codes_test: The test codes, with shape (M, D).
        factors_test: Their factors, with shape (M, K). A value that no fitted point has counts as missed.
        labels: The number of points to fit on.
        classifier: ``"logistic"``, a multinomial logistic regression on standardized codes with the penalty
            :math:`\frac{1}{2} \|w\|^2`, or ``"trees"``, the boosted trees of :func:`zoo.metrics.dci`.

    Raises:
        ZooError: if there are fewer points, no such classifier, or a code is not finite.
    """
    if classifier not in CLASSIFIERS:
        raise ZooError(f"no classifier {classifier!r}: choose {' or '.join(CLASSIFIERS)}")
    codes, factors, codes_test, factors_test = check_split(codes, factors, codes_test, factors_test)
    if labels < 1 or len(codes) < labels:
        raise ZooError(f"downstream accuracy from {labels} labels needs as many points, 1 or more; there are {len(codes)}")
    codes, factors = codes[:labels], factors[:labels]
    numbered, sizes = number_values(factors)
    predicted = torch.zeros_like(factors_test)
    varying = [k for k, size in enumerate(sizes) if size > 1]
    if varying and classifier == "trees":
        trees = BoostedTrees().fit(codes, numbered[:, varying], [sizes[k] for k in varying])
        predicted[:, varying] = trees.predict(codes_test)
    elif varying:
        train, test = standardize(codes, codes), standardize(codes_test, codes)
        for k in varying:
            weights = fit_logistic(train, numbered[:, k], sizes[k])
            predicted[:, k] = (weights[:, :-1] @ test.T + weights[:, -1:]).argmax(dim=0)
    return (predicted == number_values_as(factors, factors_test)).double().mean()


def downstream(
    codes: Tensor,
    factors: Tensor,
    codes_test: Tensor,
    factors_test: Tensor,
    classifier: str = "logistic",
    labels: Sequence[int] = LABELS,
) -> dict[str, Tensor]:
    r"""Computes downstream accuracies from few and many labels, and the statistical efficiency.

    The efficiency is the accuracy from 100 labels divided by that from 10000: 1 if a hundred are as good.

    Arguments:
        codes, factors, codes_test, factors_test, classifier: As in :func:`downstream_accuracy`.
        labels: The numbers of points to fit on.

    Returns:
        The accuracy for each number, by name, ``"100"``; and ``"efficiency"`` where 100 and 10000 are among them.

    Raises:
        ZooError: as :func:`downstream_accuracy` does.

    References:
        | Challenging Common Assumptions in the Unsupervised Learning of Disentangled Representations
        | (Locatello et al., 2019), section 5.6
        | https://arxiv.org/abs/1811.12359
    """
    points = codes, factors, codes_test, factors_test
    found = {str(n): downstream_accuracy(*points, n, classifier) for n in labels}
    if {"100", "10000"} <= found.keys():
        found["efficiency"] = found["100"] / found["10000"]
    return found
