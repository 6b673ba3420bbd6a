"""Every disentanglement score of one set of codes and factors, in one call."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.dci import completeness, disentanglement, importance_and_accuracy
from zoo.metrics.disentanglement.explicitness import explicitness
from zoo.metrics.disentanglement.irs import irs
from zoo.metrics.disentanglement.mig import mig_from_information
from zoo.metrics.disentanglement.modularity import modularity_from_information
from zoo.metrics.disentanglement.mutual_information import entropy, factor_information
from zoo.metrics.disentanglement.points import check_points, check_split, check_varying, number_values
from zoo.metrics.disentanglement.sap import sap, sap_continuous
from zoo.metrics.disentanglement.unsupervised import (
    code_information,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
)
from zoo.registry import suggestion

__all__ = ["GROUPS", "SCORES", "PointScores", "score_codes", "select"]

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

    ========================================== ====================================================
    ``mig``                                    mutual information gap
    ``sap``, ``sap_continuous``                separated attribute predictability: test accuracy of
                                               classifiers (as in the study), squared correlation
    ``modularity``, ``explicitness``           explicitness on the test points
    ``dci_disentanglement``,                   informativeness is the accuracy on the test points
    ``dci_completeness``,
    ``dci_informativeness``
    ``irs``                                    interventional robustness score
    ``gaussian_total_correlation``,            dependence between codes, without the factors; nats,
    ``gaussian_wasserstein_correlation``,      except for the Wasserstein correlation
    ``gaussian_wasserstein_correlation_norm``,
    ``mutual_information``
    ========================================== ====================================================

    Arguments:
        codes: The codes, an array or tensor with shape (N, D). Everything is computed on its device.
        factors: Their factors, whole numbers with shape (N, K).
        codes_test: The test codes, with shape (M, D).
        factors_test: Their factors, with shape (M, K).
        metrics: The scores to compute, by name or group (``"dci"``, ``"unsupervised"``); all if not given.
        bins: The number of equal-width bins of a code, for mutual information.
        estimator: The estimator of DCI, ``"torch"`` or ``"sklearn"``: see :func:`zoo.metrics.disentanglement.dci`.
        seed: The seed of scikit-learn's choices in DCI.

    Returns:
        A number for each name.

    Raises:
        ZooError: if a name is unknown, test points are missing, or a score is not defined for these codes and factors:
            a factor takes one value only, there is one code or one factor only, or a code is not finite.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(3))
        >>> score_codes(factors.float(), factors, metrics=["mig", "modularity"])
        {'mig': 1.0, 'modularity': 1.0}
    """
    names = select(metrics)
    codes, factors = check_points(codes, factors)
    if codes_test is None or factors_test is None:
        if lacking := [name for name in names if name in NEED_TEST_POINTS]:
            raise ZooError(
                f"{', '.join(lacking)} need codes_test and factors_test\nWithout test points, choose others by metrics=…"
            )
        codes_test = factors_test = None
    scores = PointScores(codes, factors, codes_test, factors_test, bins, estimator, seed)
    return {name: scores.compute(name) for name in names}


class PointScores:
    r"""Creates the scores of one set of codes and factors, each computed when asked for, what several need once.

    The arguments are those of :func:`score_codes`.

    Raises:
        ZooError: as :func:`score_codes` does.

    Example:
        >>> import torch
        >>> factors = torch.cartesian_prod(torch.arange(4), torch.arange(2))
        >>> scores = PointScores(factors.float(), factors)
        >>> scores.compute("mig")
        1.0
        >>> scores.information
        tensor([[1.3863, 0.0000],
                [0.0000, 0.6931]], dtype=torch.float64)
    """

    def __init__(
        self,
        codes: Any,
        factors: Any,
        codes_test: Any = None,
        factors_test: Any = None,
        bins: int = 20,
        estimator: str = "torch",
        seed: int = 0,
    ):
        self.train = self.codes, self.factors = check_points(codes, factors)
        self.test: tuple[Tensor, Tensor] | None = None
        if codes_test is not None:
            self.test = check_split(*self.train, codes_test, factors_test)[2:]
        self.bins, self.estimator, self.seed = bins, estimator, seed
        self.labels, _ = number_values(self.factors)

    @cached_property
    def information(self) -> Tensor:
        r"""The mutual information of every code, cut into bins, with every factor, (D, K), in nats."""
        return factor_information(self.codes, self.labels, self.bins)

    @property
    def importance(self) -> Tensor:
        r"""The importance of every code for every factor, (D, K), by DCI's classifiers; columns sum to 1."""
        return self._trees[0]

    @cached_property
    def _trees(self) -> tuple[Tensor, Tensor]:
        return importance_and_accuracy(*self.train, *self._tested, estimator=self.estimator, seed=self.seed)

    @property
    def sizes(self) -> tuple[int, int]:
        """How many points and test points there are."""
        return len(self.codes), len(self.test[0]) if self.test is not None else 0

    @property
    def _tested(self) -> tuple[Tensor, Tensor]:
        if self.test is None:
            raise ZooError("these scores need test points: give codes_test and factors_test")
        return self.test

    def compute(self, name: str) -> float:
        """The score of that name, one of ``SCORES``."""
        compute: dict[str, Callable[[], Tensor]] = {
            "mig": self._mig,
            "sap": lambda: sap(*self.train, *self._tested),
            "sap_continuous": lambda: sap_continuous(*self.train),
            "modularity": lambda: modularity_from_information(self.information),
            "explicitness": lambda: explicitness(*self.train, *self._tested),
            "dci_disentanglement": lambda: disentanglement(self.importance),
            "dci_completeness": lambda: completeness(self.importance),
            "dci_informativeness": lambda: self._trees[1],
            "irs": lambda: irs(*self.train),
            "gaussian_total_correlation": lambda: gaussian_total_correlation(self.codes),
            "gaussian_wasserstein_correlation": lambda: gaussian_wasserstein_correlation(self.codes),
            "gaussian_wasserstein_correlation_norm": lambda: gaussian_wasserstein_correlation(self.codes, normalize=True),
            "mutual_information": lambda: code_information(self.codes, self.bins),
        }
        return compute[name]().item()

    def _mig(self) -> Tensor:
        check_varying(self.factors, "mig")
        return mig_from_information(self.information, entropy(self.labels))


def select(metrics: str | Iterable[str] | None, names: Sequence[str] = SCORES) -> list[str]:
    """The scores among ``names`` that are asked for, groups spelled out, each once; ZooError for another word."""
    if metrics is None:
        return list(names)
    known = {**GROUPS, **{name: (name,) for name in names}}
    chosen: list[str] = []
    for word in [metrics] if isinstance(metrics, str) else metrics:
        if word not in known:
            raise ZooError(f"no score {word!r}.{suggestion(word, list(known))}\nThere are {', '.join(known)}.")
        chosen += known[word]
    return list(dict.fromkeys(chosen))
