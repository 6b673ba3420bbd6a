"""Disentanglement scores of a model over several draws of points: as lines of a table, JSON, and pictures."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.disentanglement import (
    ALL_SCORES,
    DEFAULT_SCORES,
    RENDERED_SCORES,
    DisentanglementResult,
    HeldOutPoints,
    Representation,
    Sizes,
    cached_encoder,
    can_render,
    encoder_of,
    evaluate_disentanglement,
    require_rendering,
    unscorable,
)
from zoo.evaluation.inference import inference, whole_test_split
from zoo.metrics.disentanglement.factor_sampling import seeded
from zoo.metrics.disentanglement.scores import DOWNSTREAM_SCORES, NEED_TEST_POINTS, SCORES, select
from zoo.models.base import GenerativeModule, HasPosterior

__all__ = ["DisentanglementReport", "disentanglement_report", "requested_scores"]


@dataclass
class DisentanglementReport:
    """Scores of the codes of one model, from one draw of points and votes or several.

    Attributes:
        representation: ``mean``, the codes ``encode(x)``, or ``sampled``, draws from q(z|x).
        rendered: Whether points were rendered; else they are test examples.
        sizes: How much was asked for.
        draws: What was found in each draw.
        factor_names: The names of the factors.
        seconds: The time that it took.
    """

    representation: Representation
    rendered: bool
    sizes: Sizes
    draws: list[DisentanglementResult]
    factor_names: tuple[str, ...]
    seconds: float

    @property
    def scores(self) -> dict[str, list[float]]:
        """Each score that is defined and finite in all draws, draw by draw."""
        found = {name: [draw.scores.get(name, math.nan) for draw in self.draws] for name in self.draws[0].scores}
        return {name: values for name, values in found.items() if all(map(math.isfinite, values))}

    @property
    def undefined(self) -> dict[str, str]:
        """Each other score with the reason."""
        infinite = [name for name in self.draws[0].scores if name not in self.scores]
        reasons = dict.fromkeys(infinite, "infinite, as codes depend on each other")
        return reasons | {name: reason for draw in self.draws for name, reason in draw.undefined.items()}

    @property
    def metrics(self) -> dict[str, float]:
        """``test/mig`` and so on, means over draws; ``test/mig_sampled`` for sampled codes."""
        suffix = "" if self.representation == "mean" else f"_{self.representation}"
        return {f"test/{name}{suffix}": statistics.fmean(values) for name, values in self.scores.items()}

    def to_dict(self) -> dict[str, Any]:
        """What JSON stores: means, spreads, every draw, and what they are made of."""
        return {
            "representation": self.representation,
            "points": "rendered from random factors" if self.rendered else "test examples",
            "sizes": {**asdict(self.sizes), "points": self._points[0], "test_points": self._points[1]},
            "repeats": len(self.draws),
            "seconds": self.seconds,
            "scores": {
                name: {"mean": statistics.fmean(values), "std": _spread(values), "draws": values}
                for name, values in self.scores.items()
            },
            "undefined": self.undefined,
        }

    def lines(self) -> Iterator[str]:
        """The table, line by line."""
        source = "rendered from random factors" if self.rendered else "from the test split"
        yield f"disentanglement, {self.representation} representation, points {source} ({self.seconds:.0f} s)"
        width = max(map(len, (*self.scores, *self.undefined)), default=0)
        for name, values in self.scores.items():
            spread = f" ± {_spread(values):.3f}" if len(values) > 1 else ""
            yield f"  {name:<{width}}  {statistics.fmean(values):.3f}{spread} ({self._made_of(name)})"
        for name, reason in self.undefined.items():
            yield f"  {name:<{width}}  undefined: {reason.splitlines()[0]}"

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def draw(self, folder: str | Path) -> list[Path]:
        """Write the matrices of codes and factors of the first draw as pictures, and return where they are."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = []
        for name, image in self.draws[0].heat_maps(self.factor_names, f" ({self.representation} codes)").items():
            paths.append(Path(folder) / f"evaluation_{name}_{self.representation}.png")
            image.save(paths[-1])
        return paths

    @property
    def _points(self) -> tuple[int, int]:
        return self.draws[0].points.sizes

    def _made_of(self, name: str) -> str:
        if name in RENDERED_SCORES:
            made = f"{self.sizes.num_train:,} votes + {self.sizes.num_eval:,} fresh ones"
            made += f", {self.sizes.points:,} points" if name == "factor_vae_score" else ""
        else:
            points, test_points = self._points
            if name in DOWNSTREAM_SCORES and not name.endswith("efficiency"):
                points = int(name.rpartition("_")[2])
            made = f"{points:,} points" + (f" + {test_points:,} test points" if name in NEED_TEST_POINTS else "")
        return made + (f", {len(self.draws)} repeats" if len(self.draws) > 1 else "")


def requested_scores(
    model: GenerativeModule,
    data: LightningDataModule,
    scores: str | Sequence[str] | None = None,
    representation: Literal["mean", "sampled", "both"] = "mean",
) -> dict[Representation, list[str]]:
    """The scores to compute of each representation; none where none are possible and none were asked for by name.

    The arguments are those of :func:`zoo.evaluation.evaluate`.

    Raises:
        ZooError: for what was asked for and is no score, or not possible here.
    """
    if representation not in ("mean", "sampled", "both"):
        raise ZooError(f"representation {representation!r}: mean, sampled or both is accepted")
    chosen = [name for name in scores.split(",") if name] if isinstance(scores, str) else scores
    if chosen is not None and list(chosen) in ([], ["none"]):
        return {}
    if (reason := unscorable(model)) is not None:
        if chosen is not None or representation != "mean":
            raise ZooError(f"disentanglement scores: {reason}; leave --scores and --representation out.")
        return {}
    everything = chosen is None or list(chosen) == ["all"]
    names = select(None if everything else chosen, DEFAULT_SCORES if chosen is None else ALL_SCORES)
    if everything and not can_render(data):
        names = [name for name in names if name not in RENDERED_SCORES]
    require_rendering(names, data, model.spec.name)
    if representation != "mean" and not isinstance(model, HasPosterior):
        raise ZooError(f"--representation {representation}: {type(model).__name__} has no q(x) to sample from.")
    kinds: tuple[Representation, ...] = ("mean", "sampled") if representation == "both" else (representation,)
    return dict.fromkeys(kinds, names)


def disentanglement_report(
    model: GenerativeModule,
    data: LightningDataModule,
    names: Sequence[str] = SCORES,
    *,
    representation: Representation = "mean",
    sizes: Sizes = Sizes(),  # noqa: B008 (frozen)
    repeats: int = 1,
    seed: int = 0,
    progress: bool = True,
) -> DisentanglementReport:
    """Computes disentanglement scores of a model on data with known factors.

    Arguments:
        model: A model that encodes.
        data: Data with factors: points are rendered where the data render, else they are test examples.
        names: The scores.
        representation: The codes to score.
        sizes: How much to compute them from.
        repeats: Draws of points and votes; the second one has the seed ``seed + 1``, and so on.
        seed: The seed of the first draw.
        progress: Whether to show progress bars.

    Returns:
        The scores of every draw. It is computed by the process that asks, alone.

    Raises:
        ZooError: if the model has no such codes, or no points can be drawn.
    """
    start = time.perf_counter()
    encode = encoder_of(model, representation)
    encoder = held_out = None
    with inference(model, seed):
        seeds = range(seed, seed + repeats)
        try:
            if can_render(data):
                cache = None if representation == "mean" else False
                encoder = cached_encoder(encode, data, model.device, cache_codes=cache)
            else:
                held_out = _held_out(encode, data, repeats * (sizes.points + sizes.test_points), seed)
            draws = [evaluate_disentanglement(names, sizes, encoder, held_out, each, progress) for each in seeds]
        except ZooError as error:
            raise ZooError(f"disentanglement scores: {error}. --scores none leaves them out.") from None
    seconds = time.perf_counter() - start
    return DisentanglementReport(representation, encoder is not None, sizes, draws, model.spec.factor_names, seconds)


def _held_out(
    encode: Callable[[Tensor], Tensor], data: LightningDataModule, wanted: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Codes and factors of so many test examples, from all over the split, or of all."""
    batches = whole_test_split(data)
    held_out = HeldOutPoints(encode, wanted, len(batches))
    with seeded(seed) as generator:
        for batch in batches:
            if batch.factors is None:
                raise ZooError(f"the test batches of {type(data).__name__} have no factors")
            held_out.add(batch.x, batch.factors, generator)
    return held_out.points()


def _spread(values: list[float]) -> float:
    """The standard deviation over draws, 0 for one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
