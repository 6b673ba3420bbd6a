"""Explicitness: how well a linear classifier reads a factor's value from all codes."""

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.logistic import fit_logistic
from zoo.metrics.disentanglement.points import (
    check_split,
    check_varying,
    number_values,
    number_values_as,
    standardize,
)

__all__ = ["explicitness", "roc_auc"]


def roc_auc(scores: Tensor, labels: Tensor) -> Tensor:
    r"""Computes the area under the ROC curve of each class against the rest, ties counted half.

    Arguments:
        scores: The score of each class, with shape (C, N).
        labels: The classes, with shape (N,); -1 for a class without a score.

    Returns:
        The areas of the classes that some but not all labels belong to, with shape :math:`(\leq C,)`.
    """
    areas = []
    for c, (ordered, score) in enumerate(zip(scores.sort(dim=1).values, scores, strict=True)):
        positive = score[labels == c]
        if 0 < len(positive) < len(labels):
            # Twice the points below a positive; the positives themselves count as a tie with each other.
            below = torch.searchsorted(ordered, positive) + torch.searchsorted(ordered, positive, right=True)
            wins = (below.sum() - len(positive) ** 2) / 2
            areas.append(wins / (len(positive) * (len(labels) - len(positive))))
    return torch.stack(areas) if areas else scores.new_empty(0)


def explicitness(codes: Tensor, factors: Tensor, codes_test: Tensor, factors_test: Tensor) -> Tensor:
    r"""Computes the explicitness on the test points: 1 at best, 0.5 by chance.

    Codes are standardized as in training; for every factor a multinomial logistic regression (penalty
    :math:`\frac{1}{2} \|w\|^2`) is fitted on all codes. The score is the area under the ROC curve of its probabilities,
    one value against the rest, averaged over values and then over factors.

    The reference divides by zero for a constant code; here it becomes 0 and tells nothing. The reference fails where the
    test points lack a value; here the area is averaged over the values that they have. A test value that was never seen
    in training counts among the rest.

    Arguments:
        codes: The codes to fit on, with shape (N, D).
        factors: Their factors, whole numbers with shape (N, K).
        codes_test: The test codes, with shape (M, D). With the training points once more, the score is theirs.
        factors_test: Their factors, with shape (M, K).

    Raises:
        ZooError: if a factor takes one value only, in training or of those values in the test points, or a code is not
            finite.

    References:
        | Learning Deep Disentangled Embeddings with the F-Statistic Loss (Ridgeway and Mozer, 2018), section 3
        | https://arxiv.org/abs/1802.05312
    """
    codes, factors, codes_test, factors_test = check_split(codes, factors, codes_test, factors_test)
    check_varying(factors, "explicitness")
    train, test = standardize(codes, codes), standardize(codes_test, codes)
    labels, sizes = number_values(factors)
    labels_test = number_values_as(factors, factors_test)
    scores = []
    for k, size in enumerate(sizes):
        weights = fit_logistic(train, labels[:, k], size)
        # Single precision, as the reference's: equal codes then tie, whatever order their sums were rounded in.
        probabilities = (weights[:, :-1] @ test.T + weights[:, -1:]).softmax(dim=0).float()
        # Equal points can differ in the last digit of their probabilities, by their place in a vector of the processor:
        # rounding keeps them tied.
        areas = roc_auc((probabilities * 2**40).round(), labels_test[:, k])
        if not len(areas):
            raise ZooError(f"explicitness is not defined: factor {k} takes one value in all {len(test)} test points")
        scores.append(areas.mean())
    return torch.stack(scores).mean()
