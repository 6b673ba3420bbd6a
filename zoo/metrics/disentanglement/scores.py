"""Every disentanglement score of one set of codes and factors, in one call."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

from torch import Tensor

from zoo.errors import ZooError
from zoo.metrics.disentanglement.dci import completeness, disentanglement, importance_and_accuracy
from zoo.metrics.disentanglement.downstream import CLASSIFIERS, LABELS, downstream_accuracy
from zoo.metrics.disentanglement.explicitness import explicitness
from zoo.metrics.disentanglement.infomec import infoc, infoe, infom, normalized_information
from zoo.metrics.disentanglement.information_gaps import (
    dcimig_from_information,
    jemmig_from_information,
    mig_sup_from_information,
)
from zoo.metrics.disentanglement.irs import irs
from zoo.metrics.disentanglement.mig import mig_from_information
from zoo.metrics.disentanglement.modularity import modularity_from_information
from zoo.metrics.disentanglement.mutual_information import discretize, entropy, factor_information
from zoo.metrics.disentanglement.points import check_points, check_split, check_varying, number_values
from zoo.metrics.disentanglement.sap import sap, sap_continuous
from zoo.metrics.disentanglement.unsupervised import (
    code_information,
    gaussian_total_correlation,
    gaussian_wasserstein_correlation,
)
from zoo.registry import suggestion

__all__ = ["DOWNSTREAM_SCORES", "GROUPS", "SCORES", "PointScores", "score_codes", "select"]

GROUPS = {
    "dci": ("dci_disentanglement", "dci_completeness", "dci_informativeness"),
    "infomec": ("infom", "infoe", "infoc"),
    "unsupervised": (
        "gaussian_total_correlation",
        "gaussian_wasserstein_correlation",
        "gaussian_wasserstein_correlation_norm",
        "mutual_information",
    ),
    **{
        f"downstream_{classifier}": tuple(f"downstream_{classifier}_{what}" for what in (*LABELS, "efficiency"))
        for classifier in CLASSIFIERS
    },
}
GROUPS["downstream"] = DOWNSTREAM_SCORES = tuple(name for each in CLASSIFIERS for name in GROUPS[f"downstream_{each}"])
NEED_TEST_POINTS = ("sap", "explicitness", *GROUPS["dci"], *DOWNSTREAM_SCORES)
SCORES = (
    *("mig", "sap", "sap_continuous", "modularity", "explicitness", *GROUPS["dci"], "irs", *GROUPS["unsupervised"]),
    *("dcimig", "mig_sup", "jemmig", *GROUPS["infomec"]),
)


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
    ``dcimig``, ``mig_sup``, ``jemmig``        other gaps of mutual information
    ``infom``, ``infoe``, ``infoc``            modularity, explicitness and compactness of InfoMEC
    ``downstream_logistic_10``, ``…_100``,     accuracy on the test points of classifiers fitted to so
    ``…_1000``, ``…_10000``, ``…_efficiency``, many points, and the ratio of 100 to 10000; only where
    ``downstream_trees_10``, …                 asked for
    ========================================== ====================================================

    Arguments:
        codes: The codes, an array or tensor with shape (N, D). Everything is computed on its device.
        factors: Their factors, whole numbers with shape (N, K).
        codes_test: The test codes, with shape (M, D).
        factors_test: Their factors, with shape (M, K).
        metrics: The scores to compute, by name or group (``"dci"``, ``"unsupervised"``, ``"infomec"``, ``"downstream"``,
            ``"downstream_logistic"``, ``"downstream_trees"``); all but the downstream ones if not given.
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
        self.labels, self.values = number_values(self.factors)
        self._accuracies: dict[tuple[str, int], Tensor] = {}

    @cached_property
    def information(self) -> Tensor:
        r"""The mutual information of every code, cut into bins, with every factor, (D, K), in nats."""
        return factor_information(self.codes, self.labels, self.bins)

    @cached_property
    def shares(self) -> Tensor:
        r"""The information of the active codes, by nearest neighbors, as shares of the factors' entropies, (D', K)."""
        return normalized_information(*self.train)

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
        """The score of that name, one of ``SCORES`` and ``DOWNSTREAM_SCORES``."""
        if name in DOWNSTREAM_SCORES:
            return self._downstream(*name.removeprefix("downstream_").split("_")).item()
        compute: dict[str, Callable[[], Tensor]] = {
            "mig": lambda: mig_from_information(*self._information_and_entropies(name)),
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
            "dcimig": lambda: dcimig_from_information(*self._information_and_entropies(name)),
            "mig_sup": lambda: mig_sup_from_information(*self._information_and_entropies(name)),
            "jemmig": self._jemmig,
            "infom": lambda: infom(self.shares),
            "infoe": lambda: infoe(*self.train),
            "infoc": lambda: infoc(self.shares),
        }
        return compute[name]().item()

    def _information_and_entropies(self, score: str) -> tuple[Tensor, Tensor]:
        check_varying(self.factors, score)
        return self.information, entropy(self.labels)

    def _jemmig(self) -> Tensor:
        code_entropies = entropy(discretize(self.codes, self.bins))
        return jemmig_from_information(*self._information_and_entropies("jemmig"), code_entropies, self.bins)

    def _downstream(self, classifier: str, labels: str) -> Tensor:
        """The accuracy from so many labels, or the efficiency."""
        if labels == "efficiency":
            return self._downstream(classifier, "100") / self._downstream(classifier, "10000")
        key = classifier, int(labels)
        if key not in self._accuracies:
            if key == ("trees", len(self.codes)) and min(self.values) > 1:
                self._accuracies[key] = self._trees[1]  # DCI's classifiers are the same
            else:
                self._accuracies[key] = downstream_accuracy(*self.train, *self._tested, key[1], classifier)
        return self._accuracies[key]


def select(metrics: str | Iterable[str] | None, names: Sequence[str] = SCORES) -> list[str]:
    """The scores that are asked for, groups spelled out, each once, ``names`` by default; ZooError for another word."""
    if metrics is None:
        return list(names)
    known = {**GROUPS, **{name: (name,) for name in (*names, *DOWNSTREAM_SCORES)}}
    chosen: list[str] = []
    for word in [metrics] if isinstance(metrics, str) else metrics:
        if word not in known:
            raise ZooError(f"no score {word!r}.{suggestion(word, list(known))}\nThere are {', '.join(known)}.")
        chosen += known[word]
    return list(dict.fromkeys(chosen))
