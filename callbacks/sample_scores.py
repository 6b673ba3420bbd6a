"""Scores of samples while a model trains."""

import time
from collections.abc import Sequence
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from zoo.errors import ZooError
from zoo.evaluation.features import Features, features_for
from zoo.evaluation.modes import Modes
from zoo.evaluation.references import examples_of
from zoo.evaluation.sample_report import known_modes, requested_sample_scores, score_model
from zoo.lightning import datamodule_of
from zoo.models.base import GenerativeModule
from zoo.options import require_at_least

__all__ = ["SampleScores"]


class SampleScores(Callback):
    """Logs ``val/fd_digits_cnn``, ``val/clipped_coverage_digits_cnn``, … of samples against validation examples.

    At every n-th validation as many samples are drawn as there are validation examples to compare with, with the same seed
    each time. They are drawn and scored on rank 0 and the scores logged on all, so that a checkpoint can follow them;
    ``val/sample_scores_seconds`` is the time that they took. Random numbers are drawn from streams of their own: training is
    the same, bit for bit, without the callback. A score that can't be computed, as of samples that are no numbers, is left
    out with a warning.

    The number of examples bounds the time. The classifier that gives the features is trained at the first validation, unless
    it was kept. Numbers to report are those of :func:`zoo.evaluation.sample_report`, on test examples and beside rows that
    say what they mean.

    Arguments:
        scores: Names or groups of :func:`zoo.evaluation.sample_report`.
        every_n_validations: Scores are computed at the first and at every n-th validation from there.
        examples: Validation examples, and samples; all where the split has no more.
        features: As in :func:`zoo.evaluation.features_for`.
        seed: Seed of what is drawn.

    Raises:
        ZooError: for a score that is none, a number out of range, a training without a datamodule, and features that the
            data can't have.
    """

    def __init__(
        self,
        scores: Sequence[str] = ("fd", "clipped"),
        every_n_validations: int = 1,
        examples: int = 500,
        features: str | None = None,
        seed: int = 0,
    ):
        require_at_least(1, every_n_validations=every_n_validations)
        require_at_least(2, examples=examples)
        self.scores = requested_sample_scores(scores)
        self.every_n_validations, self.examples, self.features, self.seed = every_n_validations, examples, features, seed
        self.validations = 0
        self._kept: tuple[Features, Tensor, Tensor, Modes | str] | None = None

    def state_dict(self) -> dict[str, Any]:
        """The number of validations so far."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.validations = state_dict["validations"]

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score and log, where it is time."""
        if trainer.sanity_checking:
            return
        self.validations += 1
        if (self.validations - 1) % self.every_n_validations:
            return
        start, model = time.perf_counter(), cast(GenerativeModule, pl_module)
        features, held_out, train, modes = self._references(trainer, model)
        found: tuple[dict[str, float], dict[str, str]] = ({}, {})
        if trainer.is_global_zero:
            options: dict[str, Any] = {"seed": self.seed, "sample_seed": self.seed, "modes": modes}
            found = score_model(self.scores, model, features, len(held_out), test=held_out, train=train, **options)
        scores, undefined = trainer.strategy.broadcast(found)
        for name, reason in undefined.items():
            rank_zero_warn(f"val/{name}_{features.name} is left out: {reason}")
        metrics = {f"{leaf}_{features.name}": value for leaf, value in scores.items()}
        metrics["sample_scores_seconds"] = trainer.strategy.broadcast(time.perf_counter() - start)
        pl_module.log_dict({f"val/{name}": value for name, value in metrics.items()}, sync_dist=True, batch_size=1)

    def _references(self, trainer: Trainer, model: GenerativeModule) -> tuple[Features, Tensor, Tensor, Modes | str]:
        """The features, those of validation and of training examples, and the modes of the data, made once."""
        if self._kept is None:
            data = datamodule_of(trainer)
            if data is None:
                raise ZooError(f"{type(self).__name__} compares samples with the data: give Trainer.fit a datamodule.")
            features = features_for(data, self.features, seed=self.seed)
            parts = {split: examples_of(data, split, n, self.seed).x for split, n in self._sizes.items()}
            held_out, train = (features(part.to(model.device)) for part in (parts["val"], parts["train"]))
            modes = known_modes(self.scores, data, features, train)
            self._kept = features, held_out, train, modes
        return self._kept

    @property
    def _sizes(self) -> dict[str, int]:
        """Examples of each split; training examples are needed to find copies of them, and for the shares of modes."""
        needed = any(name in ("c_t", "authenticity", "modes") for name in self.scores)
        return {"val": self.examples, "train": 10_000 if needed else 2}
