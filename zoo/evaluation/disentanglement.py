"""Every score of an encoder on data with known factors: points and votes drawn, scored, and what is undefined said."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from zoo.distributed import Share, gather
from zoo.errors import ZooError
from zoo.metrics.disentanglement.beta_vae_score import beta_vae_score
from zoo.metrics.disentanglement.factor_sampling import CachedEncoder, draw_codes
from zoo.metrics.disentanglement.factor_vae_score import factor_vae_score
from zoo.metrics.disentanglement.points import check_points
from zoo.metrics.disentanglement.scores import DOWNSTREAM_SCORES, GROUPS, SCORES, PointScores
from zoo.models.base import Autoencodes, GenerativeModule, HasPosterior
from zoo.plots import heat_map
from zoo.progress import progress_bar

__all__ = [
    "ALL_SCORES",
    "DEFAULT_SCORES",
    "RENDERED_SCORES",
    "DisentanglementResult",
    "HeldOutPoints",
    "Representation",
    "Sizes",
    "cached_encoder",
    "can_render",
    "encoder_of",
    "evaluate_disentanglement",
    "require_rendering",
    "unscorable",
]

RENDERED_SCORES: dict[str, Callable[..., dict[str, float]]] = {
    "beta_vae_score": beta_vae_score,
    "factor_vae_score": factor_vae_score,
}
DEFAULT_SCORES = (*SCORES, *RENDERED_SCORES)
ALL_SCORES = (*DEFAULT_SCORES, *DOWNSTREAM_SCORES)
Representation = Literal["mean", "sampled"]


@dataclass(frozen=True)
class Sizes:
    """How much the scores are computed from, by default as much as in the study.

    Arguments:
        points: Points for all scores but the two that vote; classifiers are fitted on them. For the FactorVAE score as many
            give the codes' variances.
        test_points: Fresh points on which classifiers are tested.
        num_train: Votes that the beta-VAE and FactorVAE scores are fitted on.
        num_eval: Fresh votes on which they are tested.
        batch_size: Observations (FactorVAE score) or pairs of them (beta-VAE score) in a vote.
    """

    points: int = 10000
    test_points: int = 5000
    num_train: int = 10000
    num_eval: int = 5000
    batch_size: int = 64


class DisentanglementResult(NamedTuple):
    """What :func:`evaluate_disentanglement` found.

    Attributes:
        scores: A number for each score that is defined.
        undefined: For each that is not, the reason.
        points: The points, with their matrices of information and importance.
    """

    scores: dict[str, float]
    undefined: dict[str, str]
    points: PointScores

    @property
    def matrices(self) -> dict[str, tuple[Tensor, str]]:
        """The (d, K) matrices of codes and factors by name, with what their numbers are; importance where DCI is scored."""
        matrices = {"information": (self.points.information, "mutual information, nats")}
        if any(name in self.scores for name in GROUPS["dci"]):
            matrices["importance"] = (self.points.importance, "importance in DCI")
        return matrices

    def heat_maps(self, factor_names: Sequence[str], note: str = "") -> dict[str, Image.Image]:
        """The matrices as pictures, by name; ``note`` follows their titles."""
        codes = [f"z{d}" for d in range(self.points.codes.shape[1])]
        return {name: heat_map(matrix, codes, factor_names, title + note) for name, (matrix, title) in self.matrices.items()}


def unscorable(model: GenerativeModule) -> str | None:
    """Why codes of a model can't be scored; None where they can."""
    if not isinstance(model, Autoencodes):
        return f"{type(model).__name__} has no encode(x)"
    if not model.spec.factor_names:
        return f"{model.spec.name} has no ground-truth factors"
    return None


def can_render(data: Any) -> bool:
    """Whether data render an observation of any factors (:class:`~zoo.metrics.FactorData`), as votes need it."""
    return all(hasattr(data, name) for name in ("render", "factor_sizes"))


def require_rendering(scores: Sequence[str], data: Any, name: str) -> None:
    """ZooError where data called ``name`` can't render what one of the scores needs."""
    votes = [score for score in scores if score in RENDERED_SCORES]
    if votes and not can_render(data):
        raise ZooError(f"{name} can't render chosen factors, as {', '.join(votes)} need it.")


def encoder_of(model: GenerativeModule, representation: Representation = "mean") -> Callable[[Tensor], Tensor]:
    """The map from observations to codes (B, d): ``encode(x)``, or draws from q(z|x)."""
    if representation == "mean" and isinstance(model, Autoencodes):
        return lambda x: model.encode(x.to(model.device))
    if representation == "sampled" and isinstance(model, HasPosterior):
        return lambda x: model.q(x.to(model.device)).rsample_and_log_prob()[0]
    lacking = "encode(x)" if representation == "mean" else "q(x) to sample from"
    raise ZooError(f"{representation} representation: {type(model).__name__} has no {lacking}.")


def cached_encoder(encode: Callable[[Any], Any], data: Any, device: torch.device, **options: Any) -> CachedEncoder:
    """A :class:`~zoo.metrics.CachedEncoder` whose batches suit the device: small ones stay in the cache of a CPU."""
    return CachedEncoder(encode, data, encode_batch=64 if device.type == "cpu" else 1024, **options)


class HeldOutPoints:
    """Codes and factors of examples taken at random from held-out batches, in the order in which they were taken.

    Arguments:
        encode: The map from observations to codes (B, d).
        wanted: How many to take of all batches together, where they have so many.
        batches: The number of batches.
    """

    def __init__(self, encode: Callable[[Tensor], Tensor], wanted: int, batches: float):
        self.encode, self.per_batch = encode, math.ceil(wanted / min(batches, wanted))
        self._parts: list[tuple[Tensor, Tensor, Tensor]] = []  # codes, factors, and their places in the order
        self._taken = 0

    def add(self, x: Tensor, factors: Tensor, generator: torch.Generator, part: Share | None = None) -> None:
        """Take some of the examples x (B, ...) with factors (B, K), which are ``part`` of a batch of all processes."""
        start, stop, total = Share(0, len(x), len(x)) if part is None else part
        chosen = torch.randperm(total, generator=generator)[: self.per_batch]
        own = ((chosen >= start) & (chosen < stop)).nonzero().squeeze(1)
        index = (chosen[own] - start).to(x.device)
        # A process that none was taken from encodes one all the same, for the shapes, and drops it.
        encoded = index if len(index) else torch.zeros(1, dtype=torch.int64, device=x.device)
        codes, labels = check_points(self.encode(x[encoded]), factors[encoded])
        self._parts.append((codes[: len(own)], labels[: len(own)], self._taken + own.to(codes.device)))
        self._taken += len(chosen)

    def points(self, of_all: bool = False) -> tuple[Tensor, Tensor]:
        """Codes (N, d) and factors (N, K), those of all processes where these call it together and for all."""
        if not self._parts:
            raise ZooError("no examples were held out")
        parts = [torch.cat(part) for part in zip(*self._parts, strict=True)]
        codes, factors, places = (gather(part) if of_all else part for part in parts)
        order = places.argsort()
        return codes[order], factors[order]


def evaluate_disentanglement(
    names: Sequence[str],
    sizes: Sizes,
    encoder: CachedEncoder | None = None,
    held_out: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> DisentanglementResult:
    r"""Computes scores of codes that are drawn for them.

    Points are rendered from factors drawn at random, as in the study, or taken at random and without replacement from
    held-out ones where data do not render; if those are too few, they are shared out in the proportion of the sizes.

    Arguments:
        names: The scores, among ``ALL_SCORES``.
        sizes: How much to compute them from.
        encoder: The codes of any factors, for data that render.
        held_out: Codes :math:`(N, D)` and factors :math:`(N, K)` for data that do not; they have no scores of votes.
        seed: The seed of all that is drawn. Torch's own random state stays as it is.
        progress: Whether to show progress bars.

    Returns:
        The scores, the reasons for those that are not defined, and the points.

    Raises:
        ZooError: if no points can be drawn, since a code is not finite or there are no examples.
    """
    bar = progress_bar(names, "encoding", unit="scores", hidden=not progress)
    wanted = sizes.points + sizes.test_points
    if encoder is not None:
        codes, factors = draw_codes(encoder, encoder.data, wanted, seed)
    elif held_out is not None:
        codes, factors = held_out
        order = torch.randperm(len(codes), generator=torch.Generator().manual_seed(seed))[:wanted].to(codes.device)
        codes, factors = codes[order], factors[order]
    else:
        raise ZooError("an encoder of data that render, or held-out codes and factors, are needed")
    train = min(sizes.points, round(len(codes) * sizes.points / wanted))
    points = PointScores(codes[:train], factors[:train], codes[train:], factors[train:], seed=seed)
    scores, undefined = {}, {}
    for name in bar:
        bar.set_description(name)
        try:
            if encoder is not None and name in RENDERED_SCORES:
                sampling = {"num_train": sizes.num_train, "num_eval": sizes.num_eval, "batch_size": sizes.batch_size}
                if name == "factor_vae_score":
                    sampling["variance_points"] = sizes.points
                found = RENDERED_SCORES[name](encoder, encoder.data, seed=seed, progress=progress, **sampling)
                scores[name] = found["eval_accuracy"]
            else:
                scores[name] = points.compute(name)
        except ZooError as error:
            undefined[name] = str(error)
    return DisentanglementResult(scores, undefined, points)
