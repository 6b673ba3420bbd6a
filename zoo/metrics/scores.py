"""Every disentanglement score of one set of codes and factors, in one call."""

__all__ = ["GROUPS", "SCORES", "score_codes"]

from collections.abc import Iterable
from functools import cache
from typing import Any

from torch import Tensor

from zoo.metrics.dci import completeness, disentanglement, importance_and_accuracy
from zoo.metrics.explicitness import explicitness
from zoo.metrics.irs import irs
from zoo.metrics.mig import mig_from_information
from zoo.metrics.modularity import modularity_from_information
from zoo.metrics.mutual_information import entropy, factor_information
from zoo.metrics.points import check_points, check_split, check_varying, number_values
from zoo.metrics.sap import sap, sap_continuous
from zoo.metrics.unsupervised import code_information, gaussian_total_correlation, gaussian_wasserstein_correlation
from zoo.registry import suggestion

GROUPS = {
    "dci": ("dci_disentanglement", "dci_completeness", "dci_informativeness"),
    "unsupervised": (
        "gaussian_total_correlation",
        "gaussian_wasserstein_correlation",
        "gaussian_wasserstein_correlation_norm",
        "mutual_information",
    ),
}
NEED_TEST_POINTS = ("sap", "explicitness", *GROUPS["dci"])
SCORES = ("mig", "sap", "sap_continuous", "modularity", "explicitness", *GROUPS["dci"], "irs", *GROUPS["unsupervised"])


def score_codes(
    codes: Any,
    factors: Any,
    codes_test: Any = None,
    factors_test: Any = None,
    metrics: str | Iterable[str] | None = None,
    bins: int = 20,
    estimator: str = "torch",
    seed: int = 0,
) -> dict[str, float]:
    r"""Computes disentanglement scores of codes, by the protocol of the study: 10000 points, and 5000 test points.

    ========================================= ====================================================
    ``mig``                                   mutual information gap
    ``sap``, ``sap_continuous``               separated attribute predictability: test accuracy of
                                              classifiers (as in the study), squared correlation
    ``modularity``, ``explicitness``          explicitness on the test points
    ``dci_disentanglement``,                  informativeness is the accuracy on the test points
    ``dci_completeness``,
    ``dci_informativeness``
    ``irs``                                   interventional robustness score
    ``gaussian_total_correlation``,           dependence between codes, without the factors; nats,
    ``gaussian_wasserstein_correlation``,     except for the Wasserstein correlation
    ``gaussian_wasserstein_correlation_norm``,
    ``mutual_information``
    ========================================= ====================================================

    Arguments:
        codes: The codes, an array or tensor with shape :math:`(N, D)`. Everything is computed on its device.
        factors: Their factors, whole numbers with shape :math:`(N, K)`.
        codes_test: The test codes, with shape :math:`(M, D)`.
        factors_test: Their factors, with shape :math:`(M, K)`.
        metrics: The scores to compute, by name or group (``"dci"``, ``"unsupervised"``); all if not given.
        bins: The number of equal-width bins of a code, for mutual information.
        estimator: The estimator of DCI, ``"torch"`` or ``"sklearn"``: see :func:`zoo.metrics.dci`.
        seed: The seed of scikit-learn's choices in DCI.

    Returns:
        A number for each name.

    Raises:
        ValueError: If a name is unknown, test points are missing, or a score is not defined for these codes and factors:
            a factor takes one value only, there is one code or one factor only, or a code is not finite.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(3))
        >>> score_codes(factors.float(), factors, metrics=["mig", "modularity"])
        {'mig': 1.0, 'modularity': 1.0}
    """

    names = _selected(metrics)
    train = codes, factors = check_points(codes, factors)
    if codes_test is not None and factors_test is not None:
        *_, codes_test, factors_test = check_split(codes, factors, codes_test, factors_test)
    elif lacking := [name for name in names if name in NEED_TEST_POINTS]:
        raise ValueError(
            f"{', '.join(lacking)} need codes_test and factors_test\nWithout test points, choose others by metrics=…"
        )
    split = (*train, codes_test, factors_test)
    labels, _ = number_values(factors)

    @cache
    def information() -> Tensor:
        return factor_information(codes, labels, bins)

    @cache
    def importance() -> tuple[Tensor, Tensor]:
        return importance_and_accuracy(*split, estimator=estimator, seed=seed)

    def mig() -> Tensor:
        check_varying(factors, "mig")
        return mig_from_information(information(), entropy(labels))

    compute = {
        "mig": mig,
        "sap": lambda: sap(*split),
        "sap_continuous": lambda: sap_continuous(*train),
        "modularity": lambda: modularity_from_information(information()),
        "explicitness": lambda: explicitness(*split),
        "dci_disentanglement": lambda: disentanglement(importance()[0]),
        "dci_completeness": lambda: completeness(importance()[0]),
        "dci_informativeness": lambda: importance()[1],
        "irs": lambda: irs(*train),
        "gaussian_total_correlation": lambda: gaussian_total_correlation(codes),
        "gaussian_wasserstein_correlation": lambda: gaussian_wasserstein_correlation(codes),
        "gaussian_wasserstein_correlation_norm": lambda: gaussian_wasserstein_correlation(codes, normalise=True),
        "mutual_information": lambda: code_information(codes, bins),
    }
    return {name: compute[name]().item() for name in names}


def _selected(metrics: str | Iterable[str] | None) -> list[str]:
    """The names of scores that are asked for, groups spelled out, each once."""
    if metrics is None:
        return list(SCORES)
    known = {**GROUPS, **{name: (name,) for name in SCORES}}
    chosen = []
    for word in [metrics] if isinstance(metrics, str) else metrics:
        if word not in known:
            raise ValueError(f"no score {word!r}.{suggestion(word, list(known))}\nThere are {', '.join(known)}.")
        chosen += known[word]
    return list(dict.fromkeys(chosen))
