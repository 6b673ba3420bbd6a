"""Disentanglement scores of a checkpoint as ``zoo.evaluate`` prints, stores and draws them."""

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.disentanglement import (
    ALL_SCORES,
    RENDERED_SCORES,
    DisentanglementResult,
    Sizes,
    cached_encoder,
    can_render,
    evaluate_disentanglement,
    pick,
)
from zoo.metrics.disentanglement.factor_sampling import seeded
from zoo.metrics.disentanglement.scores import NEED_TEST_POINTS, select
from zoo.models.base import Autoencodes, GenerativeModule, HasPosterior
from zoo.plots import heat_map

__all__ = ["DisentanglementReport", "disentanglement_report", "requested_scores"]


@dataclass
class DisentanglementReport:
    """Scores of the codes of one model, from one draw of points and votes or several.

    Attributes:
        representation: ``mean``, the codes ``encode(x)``, or ``sampled``, draws from q(z|x).
        rendered: Whether points were rendered; else they are test examples.
        sizes: How much was asked for.
        draws: What was found in each draw.
        seconds: The time that it took.
    """

    representation: str
    rendered: bool
    sizes: Sizes
    draws: list[DisentanglementResult]
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

    def to_dict(self) -> dict:
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

    def draw(self, names: tuple[str, ...], folder: Path) -> list[Path]:
        """Write the matrices of codes and factors of the first draw as pictures, and return where they are."""
        first = self.draws[0]
        folder.mkdir(parents=True, exist_ok=True)
        codes, paths = [f"z{d}" for d in range(first.points.codes.shape[1])], []
        for kind, (matrix, title) in first.matrices.items():
            paths.append(folder / f"evaluation_{kind}_{self.representation}.png")
            heat_map(matrix, codes, names, f"{title} ({self.representation} codes)").save(paths[-1])
        return paths

    @property
    def _points(self) -> tuple[int, int]:
        points = self.draws[0].points
        return len(points.codes), len(points.test[0])

    def _made_of(self, name: str) -> str:
        if name in RENDERED_SCORES:
            made = f"{self.sizes.num_train:,} votes + {self.sizes.num_eval:,} fresh ones"
            made += f", {self.sizes.points:,} points" if name == "factor_vae_score" else ""
        else:
            points, test_points = self._points
            made = f"{points:,} points" + (f" + {test_points:,} test points" if name in NEED_TEST_POINTS else "")
        return made + (f", {len(self.draws)} repeats" if len(self.draws) > 1 else "")


def requested_scores(
    model: GenerativeModule, data: LightningDataModule, options: argparse.Namespace
) -> dict[str, list[str]]:
    """The scores to compute of each representation (:func:`zoo.cli.options.evaluate_options`); none where none are possible.

    Raises: ZooError for what was asked for by name and is no score or not possible here.
    """
    chosen = [word for word in (options.scores or "all").split(",") if word]
    if chosen == ["none"]:
        return {}
    if (reason := _impossible(model)) is not None:
        if options.scores or options.representation:
            raise ZooError(f"disentanglement scores: {reason}; leave --scores and --representation out.")
        return {}
    try:
        names = select(None if chosen == ["all"] else chosen, ALL_SCORES)
    except ZooError as error:
        raise ZooError(f"--scores: {error}") from None
    if not can_render(data):
        votes = [name for name in names if name in RENDERED_SCORES]
        if votes and chosen != ["all"]:
            raise ZooError(f"--scores: {model.spec.name} can't render chosen factors, as {', '.join(votes)} need it.")
        names = [name for name in names if name not in RENDERED_SCORES]
    kinds = {None: ("mean",), "both": ("mean", "sampled")}.get(options.representation, (options.representation,))
    if "sampled" in kinds and not isinstance(model, HasPosterior):
        raise ZooError(f"--representation {options.representation}: {type(model).__name__} has no q(x) to sample from.")
    return dict.fromkeys(kinds, names)


def _impossible(model: GenerativeModule) -> str | None:
    if not isinstance(model, Autoencodes):
        return f"{type(model).__name__} has no encode(x)"
    if not model.spec.factor_names:
        return f"{model.spec.name} has no ground-truth factors"
    return None


@torch.inference_mode()
def disentanglement_report(
    representation: str,
    names: list[str],
    model: GenerativeModule,
    data: LightningDataModule,
    options: argparse.Namespace,
) -> DisentanglementReport:
    """Compute those scores of one representation, with progress bars, in the sizes and repeats of the options."""
    start = time.perf_counter()
    sizes = Sizes(options.points, options.points // 2, options.num_train, options.num_train // 2)
    model.eval()

    def encode(x: Tensor) -> Tensor:
        x = x.to(model.device)
        return model.encode(x) if representation == "mean" else model.q(x).rsample_and_log_prob()[0]

    table = held_out = None
    if can_render(data):
        table = cached_encoder(encode, data, model.device, cache_codes=None if representation == "mean" else False)
    else:
        held_out = _held_out(encode, data, options.repeats * (sizes.points + sizes.test_points), options.seed)
    seeds = range(options.seed, options.seed + options.repeats)
    try:
        draws = [evaluate_disentanglement(names, sizes, table, held_out, seed, progress=True) for seed in seeds]
    except ZooError as error:
        raise ZooError(f"disentanglement scores: {error}. --scores none leaves them out.") from None
    return DisentanglementReport(representation, table is not None, sizes, draws, time.perf_counter() - start)


def _held_out(encode: Callable, data: LightningDataModule, wanted: int, seed: int) -> tuple[Tensor, Tensor]:
    """Codes and factors of so many test examples, from all over the split, or of all."""
    loader, codes, factors = data.test_dataloader(), [], []
    with seeded(seed) as generator:
        for batch in loader:
            if batch.factors is None:
                raise ZooError(f"the test batches of {type(data).__name__} have no factors: add --scores none.")
            index = pick(len(batch.x), len(loader), wanted, generator).to(batch.x.device)
            codes.append(encode(batch.x[index]))
            factors.append(batch.factors[index].to(codes[-1].device))
    return torch.cat(codes), torch.cat(factors)


def _spread(values: list[float]) -> float:
    """The standard deviation over draws, 0 for one."""
    return statistics.stdev(values) if len(values) > 1 else 0.0
