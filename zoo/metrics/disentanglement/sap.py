"""Separated attribute predictability: how much better the best code predicts a factor than the second best."""

import torch
from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.points import (
    check_points,
    check_split,
    check_varying,
    number_values,
    number_values_as,
)
from zoo.metrics.disentanglement.scalar_svm import ScalarSVMs

__all__ = ["sap", "sap_continuous"]


def _gap(scores: Tensor) -> Tensor:
    """The mean over factors of the best minus the second-best code's score (D, K)."""
    if len(scores) < 2:
        raise ZooError("sap is the gap between the two best codes of a factor: it needs at least 2 codes, got 1")
    best, second = scores.topk(2, dim=0).values
    return (best - second).mean()


def sap(codes: Tensor, factors: Tensor, codes_test: Tensor, factors_test: Tensor, penalty: float = 0.01) -> Tensor:
    r"""Computes the SAP score of classifiers, in :math:`[0, 1]`, as the study does.

    .. math:: \mathrm{SAP} = \frac{1}{K} \sum_k ( \max_d S_{dk} - \max_{d \ne d^*_k} S_{dk} )

    :math:`S_{dk}` is the test accuracy of one-vs-rest linear support vector machines that see the single code d. They can
    single out only the smallest and the largest values of a factor, so even perfect codes score far below 1 (0.40 for
    sizes 3, 6, 8, 8, 8), and the result depends on the codes' scale and on N.

    Arguments:
        codes: The codes to fit on, with shape (N, D).
        factors: Their factors, whole numbers with shape (N, K).
        codes_test: The test codes, with shape (M, D).
        factors_test: Their factors, with shape (M, K). A value never seen in training counts as missed.
        penalty: The cost C of a margin violation.

    Raises:
        ZooError: if there is one code only, a factor takes one value only, or a code is not finite.

    References:
        | Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018), section 3
        | https://arxiv.org/abs/1711.00848
    """
    codes, factors, codes_test, factors_test = check_split(codes, factors, codes_test, factors_test)
    check_varying(factors, "sap")
    labels, sizes = number_values(factors)
    machines = ScalarSVMs(codes, penalty)
    test = codes_test.T[..., None]  # (D, M, 1)
    scores = []
    for label, label_test, size in zip(labels.T, number_values_as(factors, factors_test).T, sizes, strict=True):
        weight, bias = machines.fit(label, size)  # (D, C)
        predicted = (test * weight[:, None] + bias[:, None]).argmax(dim=-1)
        scores.append((predicted == label_test).double().mean(dim=1))
    return _gap(torch.stack(scores, dim=1))


def sap_continuous(codes: Tensor, factors: Tensor) -> Tensor:
    r"""Computes the SAP score with :math:`S_{dk}` the squared correlation of code and factor, for ordered factors.

    A code of variance up to 1e-12 scores 0. No test points are needed.

    Arguments:
        codes: The codes, with shape (N, D).
        factors: The factors, whole numbers with shape (N, K).

    Raises:
        ZooError: if there is one code only, a factor takes one value only, or a code is not finite.

    See also:
        :func:`sap`
    """
    codes, factors = check_points(codes, factors)
    check_varying(factors, "sap_continuous")
    values = factors.double()
    variance = codes.var(dim=0)[:, None]
    centered, centered_values = codes - codes.mean(dim=0), values - values.mean(dim=0)
    covariance = centered.T @ centered_values / (len(codes) - 1)  # (D, K)
    return _gap(torch.where(variance > 1e-12, covariance**2 / variance / values.var(dim=0), 0))
