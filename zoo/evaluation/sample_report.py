"""Scores of a model's samples against test examples, beside three rows that say what they mean."""

import math
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from pytorch_lightning import LightningDataModule
from torch import Tensor, nn

from zoo.errors import ZooError
from zoo.evaluation.features import Features, features_for
from zoo.evaluation.modes import Modes, modes_of
from zoo.evaluation.references import Reference, reference
from zoo.evaluation.samples import sample
from zoo.metrics.two_sample import (
    authenticity,
    c2st,
    c_t,
    clipped_density_coverage,
    frechet_distance,
    frechet_distance_infinity,
    kernel_distance,
    mind,
    mmd,
    mmd_fuse,
    prdc,
    sliced_wasserstein,
)
from zoo.models.base import GenerativeModule
from zoo.options import require_at_least
from zoo.progress import progress_bar
from zoo.registry import suggestion

__all__ = [
    "SAMPLE_GROUPS",
    "SAMPLE_SCORES",
    "SampleReport",
    "requested_sample_scores",
    "sample_report",
    "score_model",
    "score_samples",
]

SAMPLE_GROUPS = {
    "tests": ("c2st", "mmd", "mmd_fuse"),
    "distances": ("fd", "fd_infinity", "kid", "mind", "sliced_wasserstein"),
    "neighborhoods": ("prdc", "clipped"),
    "memorization": ("c_t", "authenticity"),
    "modes": ("modes",),
}
SAMPLE_SCORES = tuple(name for group in SAMPLE_GROUPS.values() for name in group)
_TRAINING = 50_000  # training examples among which copies are sought
_PERMUTATIONS = 500


class _Sets(dict[str, Tensor]):
    """Features of ``train``, ``test`` and what stands in a model's place, ``y``; and how they are scored."""

    def __init__(self, k: int, seed: int, modes: Modes | str, **sets: Tensor):
        super().__init__(sets)
        self.k, self.seed, self.modes = k, seed, modes


def _test(test: Callable[..., Any]) -> Callable[[_Sets], tuple[float, float]]:
    def score(sets: _Sets) -> tuple[float, float]:
        found = test(sets["test"], sets["y"], seed=sets.seed, permutations=_PERMUTATIONS)
        return found.statistic, found.p_value

    return score


def _modes(sets: _Sets) -> dict[str, float]:
    if isinstance(sets.modes, str):
        raise ZooError(sets.modes)
    return sets.modes(sets["y"])


# A score to the leaves of its metrics, and what computes them; of modes it depends on the data which there are.
_COMPUTED: dict[str, tuple[tuple[str, ...], Callable[[_Sets], Any]]] = {
    "c2st": (("c2st", "c2st_p"), _test(c2st)),
    "mmd": (("mmd", "mmd_p"), _test(mmd)),
    "mmd_fuse": (("mmd_fuse", "mmd_fuse_p"), _test(mmd_fuse)),
    "fd": (("fd",), lambda s: frechet_distance(s["test"], s["y"])),
    "fd_infinity": (("fd_infinity",), lambda s: frechet_distance_infinity(s["test"], s["y"], seed=s.seed)),
    "kid": (("kid",), lambda s: kernel_distance(s["test"], s["y"])),
    "mind": (("mind",), lambda s: mind(s["test"], s["y"])),
    "sliced_wasserstein": (("sliced_wasserstein",), lambda s: sliced_wasserstein(s["test"], s["y"])),
    "prdc": (("precision", "recall", "density", "coverage"), lambda s: prdc(s["test"], s["y"], k=s.k)),
    "clipped": (
        ("clipped_density", "clipped_coverage"),
        lambda s: clipped_density_coverage(s["test"], s["y"], k=s.k),
    ),
    "c_t": (("c_t",), lambda s: c_t(s["train"], s["test"], s["y"], seed=s.seed)),
    "authenticity": (("authenticity",), lambda s: authenticity(s["train"], s["y"])),
    "modes": ((), _modes),
}


@dataclass
class SampleReport:
    """Scores of the samples of one model, and of what stands in its place for comparison.

    Attributes:
        features: What :meth:`~zoo.evaluation.features.Features.describe` says of the features.
        n_real: The number of test examples.
        n_samples: The number of samples in each row: ``model``, ``real``, ``training set``, ``half of the modes``.
        k: The number of neighbors.
        draws: The model's scores, by leaf, for each sampling seed.
        rows: Those of the other rows.
        undefined: Scores of the model, and rows, that there are not, with the reason.
        seconds: The time that it took.
        references: The features of ``test``, ``val`` and ``train`` examples that samples were compared with.
        modes: Where they are counted, how many ``modes`` there are, and how many are ``reachable``: hit in the mean by so
            many samples of the data themselves.
    """

    features: dict[str, Any]
    n_real: int
    n_samples: dict[str, int]
    k: int
    draws: list[dict[str, float]]
    rows: dict[str, dict[str, float]]
    undefined: dict[str, str]
    seconds: float
    references: dict[str, Reference]
    modes: dict[str, float] = field(default_factory=dict)

    @property
    def absent(self) -> str:
        """Why the data could not be read, so that kept features stood in for them; empty where they could."""
        return next((known.absent for known in self.references.values() if known.absent), "")

    @property
    def scores(self) -> dict[str, list[float]]:
        """Each of the model's scores, draw by draw."""
        return {leaf: [draw[leaf] for draw in self.draws] for leaf in self.draws[0] if all(leaf in d for d in self.draws)}

    @property
    def metrics(self) -> dict[str, float]:
        """``test/kid_digits_cnn`` and so on, means over sampling seeds."""
        return {f"test/{leaf}_{self.features['name']}": statistics.fmean(values) for leaf, values in self.scores.items()}

    @property
    def protocol(self) -> dict[str, Any]:
        """How they were measured: those of equal protocols are comparable."""
        sizes = {"n_real": self.n_real, "n_samples": self.n_samples["model"], "draws": len(self.draws)}
        return {**sizes, "k": self.k, "permutations": _PERMUTATIONS, "features": self.features}

    def to_dict(self) -> dict[str, Any]:
        """What JSON stores: means, spreads, every draw, the other rows, and what they are made of."""
        return {
            **self.protocol,
            "seconds": self.seconds,
            "scores": {
                leaf: {"mean": statistics.fmean(values), "std": _spread(values), "draws": values}
                for leaf, values in self.scores.items()
            },
            **({"modes": self.modes} if self.modes else {}),
            "rows": {name: {"n_samples": self.n_samples[name], **row} for name, row in self.rows.items()},
            "undefined": self.undefined,
            "references": {split: known.describe() for split, known in self.references.items()},
            "data_absent": self.absent or None,
        }

    def lines(self) -> Iterator[str]:
        """The table, line by line: a score in each, of the model and of the other rows."""
        told = f"features {self.features['name']} ({self.features['dim']}, {self.features['hash']}"
        told += f", accuracy {self.features['accuracy']:.3f})" if "accuracy" in self.features else ")"
        yield f"{self.n_samples['model']} samples, {self.n_real} test examples, {told}, k = {self.k} ({self.seconds:.0f} s)"
        width = max(map(len, (*self.scores, *self.undefined)), default=0)
        if self.absent:
            yield f"  by features of the data that were kept; the data: {self.absent.splitlines()[0]}"
        yield "  ".join([f"  {'':<{width}}", f"{'model':>18}", *(f"{name:>18}" for name in self.rows)])
        for leaf, values in self.scores.items():
            spread = f" ± {_spread(values):.2g}" if len(values) > 1 else ""
            others = (f"{row[leaf]:>18.4g}" if leaf in row else f"{'-':>18}" for row in self.rows.values())
            yield "  ".join([f"  {leaf:<{width}}", f"{statistics.fmean(values):.4g}{spread}".rjust(18), *others])
        if self.modes:
            hit = f"{self.n_samples['model']} samples of the data themselves hit {self.modes['reachable']:.5g} in the mean"
            yield f"  of {self.modes['modes']:.0f} modes; {hit}"
        for name, reason in self.undefined.items():
            yield f"  {name:<{width}}  undefined: {reason.splitlines()[0]}"

    def __str__(self) -> str:
        return "\n".join(self.lines())


def requested_sample_scores(names: str | Iterable[str] | None) -> tuple[str, ...]:
    """The scores that names, groups, ``"all"`` or ``"none"`` stand for, in a list or with commas between them.

    Raises:
        ZooError: for a name that is none.
    """
    chosen: list[str] = []
    for name in filter(None, names.split(",") if isinstance(names, str) else names or ()):
        if name not in ("all", "none", *SAMPLE_GROUPS, *SAMPLE_SCORES):
            known = ["all", "none", *SAMPLE_GROUPS, *SAMPLE_SCORES]
            raise ZooError(f"sample score {name!r}: {', '.join(known)} are accepted.{suggestion(name, known)}")
        chosen += SAMPLE_SCORES if name == "all" else () if name == "none" else SAMPLE_GROUPS.get(name, (name,))
    return tuple(name for name in SAMPLE_SCORES if name in chosen)


def sample_report(
    model: GenerativeModule,
    data: LightningDataModule,
    scores: str | Iterable[str] = "all",
    *,
    features: str | nn.Module | Features | None = None,
    n: int = 2000,
    repeats: int = 1,
    k: int = 5,
    seed: int = 0,
    progress: bool = True,
) -> SampleReport:
    """Scores the samples of a model against test examples, by the protocol of docs/samples.md.

    As many samples are drawn as there are test examples to compare with. Three rows stand beside the model's: other real
    examples, the validation split (the floor); the training set (a memorizer); and training examples of half of the classes,
    or of half of the modes that the data know (a model that misses much).

    Arguments:
        model: The model; it samples where it is.
        data: Data of the shape and levels that the model was made for.
        scores: Names or groups of ``SAMPLE_SCORES`` and ``SAMPLE_GROUPS``, in a list or with commas between them.
        features: As in :func:`~zoo.evaluation.features.features_for`.
        n: Test examples, drawn at random; all where the split has no more.
        repeats: Sampling seeds: ``seed``, ``seed + 1``, ….
        k: The number of neighbors.
        seed: The first seed of samples, and that of everything else.
        progress: Whether to show a progress bar.

    Returns:
        The scores, and the reasons for those that there are not.

    Raises:
        ZooError: for an unknown score, a number out of range, and features that the data can't have.

    Example:
        >>> from datamodules import Toy
        >>> from zoo.models import GAN
        >>> data = Toy("ring", size=500)
        >>> report = sample_report(GAN(data.spec), data, "fd,clipped", progress=False)
        >>> list(report.metrics)
        ['test/fd_points', 'test/clipped_density_points', 'test/clipped_coverage_points']
        >>> report.rows["real"]["fd"] < report.rows["half of the modes"]["fd"]
        True
    """
    require_at_least(2, n=n)
    require_at_least(1, repeats=repeats, k=k)
    begun, names, undefined = time.perf_counter(), requested_sample_scores(scores), {}
    made = features_for(data, features, seed=seed, progress=progress)
    numbers = {"test": n, "val": n, "train": _TRAINING}
    known = {
        split: reference(data, made, split, number, seed=seed, device=model.device) for split, number in numbers.items()
    }
    test, val, train = (known[split].features.to(model.device) for split in numbers)
    count, half, modes = len(test), known["train"].half, known_modes(names, data, made, train)
    sets: dict[str, Any] = {"test": test, "train": train, "modes": modes}
    others = {"real": val[:count], "training set": train[:count]}
    if isinstance(half, str):
        undefined["half of the modes"] = half
    else:
        others["half of the modes"] = train[half.to(train.device)][:count]
    total = repeats + len(others)
    bar: Any = progress_bar(None, "sample scores", total, "rows", hidden=not progress)

    draws, rows = [], {}
    for draw in range(repeats):
        found, lacking = score_model(names, model, made, count, **sets, k=k, seed=seed, sample_seed=seed + draw)
        draws.append(found)
        undefined |= lacking
        bar.update()
    for name, y in others.items():
        rows[name], _ = score_samples(names, y, **sets, k=k, seed=seed)
        bar.update()
    bar.close()
    for name in ("c_t", "authenticity"):  # they are copies by their making, and no statement on missing modes
        rows.get("half of the modes", {}).pop(name, None)
    return SampleReport(
        features=made.describe(),
        n_real=count,
        n_samples={"model": count, **{name: len(y) for name, y in others.items()}},
        k=k,
        draws=draws,
        rows=rows,
        undefined=undefined,
        seconds=time.perf_counter() - begun,
        references=known,
        modes=modes.describe(count) if isinstance(modes, Modes) else {},
    )


def known_modes(names: Sequence[str], data: LightningDataModule, features: Features, train: Tensor) -> Modes | str:
    """The modes of the data, or the reason for which they can't be counted; they are sought only if a score asks."""
    if "modes" not in names:
        return "not asked for"
    try:
        return modes_of(data, features, train)
    except ZooError as error:
        return str(error)


def score_samples(
    names: Sequence[str],
    y: Tensor,
    *,
    test: Tensor,
    train: Tensor,
    k: int = 5,
    seed: int = 0,
    modes: Modes | str = "no modes were given",
) -> tuple[dict[str, float], dict[str, str]]:
    """Scores features of samples y (M, D) against those of ``test`` (N, D) and ``train`` (L, D) examples.

    ``modes`` are those of the data, or the reason for which they are not known.

    Returns:
        A number for each leaf of the named scores, and the reasons for the scores that there are not.
    """
    found: dict[str, float] = {}
    undefined: dict[str, str] = {}
    for name in names:
        leaves, compute = _COMPUTED[name]
        try:
            value = compute(_Sets(k, seed, modes, y=y, test=test, train=train))
            named = isinstance(value, dict)
            found |= value if named else zip(leaves, value if isinstance(value, tuple) else (value,), strict=True)
        except ZooError as error:
            undefined[name] = str(error)
    return found, undefined


def score_model(
    names: Sequence[str],
    model: GenerativeModule,
    features: Features,
    n: int,
    *,
    test: Tensor,
    train: Tensor,
    k: int = 5,
    seed: int = 0,
    sample_seed: int = 0,
    modes: Modes | str = "no modes were given",
) -> tuple[dict[str, float], dict[str, str]]:
    """The same of n samples of a model; where some of them are no numbers, the reason for every score."""
    try:
        y = features(sample(model, n, seed=sample_seed).to(test.device))
    except ZooError as error:
        return {}, dict.fromkeys(names, str(error))
    return score_samples(names, y, test=test, train=train, k=k, seed=seed, modes=modes)


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan
