"""Disentanglement scores while a model trains, and the matrices behind them as pictures."""

import time
from collections.abc import Sequence
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from callbacks.gallery import keep_picture
from zoo.distributed import share
from zoo.errors import ZooError
from zoo.evaluation.disentanglement import (
    ALL_SCORES,
    DisentanglementResult,
    HeldOutPoints,
    Sizes,
    cached_encoder,
    can_render,
    encoder_of,
    evaluate_disentanglement,
    require_rendering,
    unscorable,
)
from zoo.lightning import datamodule_of
from zoo.metrics.disentanglement.factor_sampling import seeded
from zoo.metrics.disentanglement.scores import select
from zoo.models.base import GenerativeModule
from zoo.spec import Batch

__all__ = ["DisentanglementScores"]


class DisentanglementScores(Callback):
    """Logs ``val/mig``, ``val/dci_disentanglement``, ``val/sap``, … of the codes ``encode(x)`` at validations.

    Points are rendered from factors drawn at random, as in the study, where the datamodule renders
    (:class:`~zoo.metrics.FactorData`); the same points at every validation. Otherwise they are validation examples with
    their ``factors``, of several processes those that one would take. The scores are computed on rank 0 and logged on
    all, so that a checkpoint can follow them; ``val/disentanglement_seconds`` is the time that they took. One that is not
    defined, as MIG where the points hold one value of a factor only, is left out with a warning. Random numbers are drawn
    from streams of their own: training is the same, bit for bit, without the callback.

    Pictures in the run folder, anew at each scoring: ``information.png``, the mutual information of codes and factors in
    nats, and, where a DCI score is asked for, ``importance.png``.

    The sizes bound the time. dSprites at 64x64 with a convolutional encoder: 9 s a time on one core of a CPU by default,
    2 s without DCI. The study's sizes are those of ``python -m zoo.evaluate``.

    Arguments:
        scores: Names or groups of :func:`zoo.metrics.score_codes`, and ``beta_vae_score`` and ``factor_vae_score`` for data
            that render.
        every_n_validations: Scores are computed at the first and at every n-th validation from there.
        points: Points for all scores but these two.
        test_points: Fresh points on which classifiers are tested.
        num_train: Votes that the beta-VAE and FactorVAE scores are fitted on.
        num_eval: Fresh votes on which they are tested.
        heat_maps: Whether to draw the pictures.
        where_possible: For data without factors and a model without ``encode`` do nothing, instead of raising an error: in a
            preset that is to train on any data.
        seed: Seed of the points and votes.

    Raises:
        ZooError: for a score that is none, a size below 1, and votes of data that can't render; for a model without
            ``encode`` and data without factors unless ``where_possible``.
    """

    def __init__(
        self,
        scores: Sequence[str] = ("mig", "dci_disentanglement", "sap", "modularity"),
        every_n_validations: int = 1,
        points: int = 2000,
        test_points: int = 1000,
        num_train: int = 200,
        num_eval: int = 100,
        heat_maps: bool = True,
        where_possible: bool = False,
        seed: int = 0,
    ):
        for name in ("every_n_validations", "points", "test_points", "num_train", "num_eval"):
            if locals()[name] < 1:
                raise ZooError(f"{name} {locals()[name]}: 1 or more is needed")
        self.scores = select(scores, ALL_SCORES)
        self.sizes = Sizes(points, test_points, num_train, num_eval)
        self.every_n_validations, self.heat_maps, self.seed = every_n_validations, heat_maps, seed
        self.where_possible = where_possible
        self.validations = 0
        self._due = False
        self._held_out: HeldOutPoints | None = None

    def state_dict(self) -> dict[str, Any]:
        """The number of validations so far."""
        return {"validations": self.validations}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.validations = state_dict["validations"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what can't be scored, before training starts."""
        model = _model(pl_module)
        reason = unscorable(model)
        self._idle = reason is not None and self.where_possible
        if self._idle:
            return
        if reason is not None:
            raise ZooError(f"{type(self).__name__}: {reason}; leave it out, or set where_possible: true.")
        require_rendering(self.scores, datamodule_of(trainer), model.spec.name)
        self._renders = can_render(datamodule_of(trainer))

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Whether it is time."""
        self._due, self._held_out = False, None
        if not (trainer.sanity_checking or self._idle):
            self._due = self.validations % self.every_n_validations == 0
            self.validations += 1
        if self._due and not self._renders:
            wanted = self.sizes.points + self.sizes.test_points
            self._held_out = HeldOutPoints(encoder_of(_model(pl_module)), wanted, trainer.num_val_batches[0])

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Encode some of the validation examples, where the data do not render."""
        if self._held_out is None:
            return
        if batch.factors is None:
            name = _model(pl_module).spec.name
            raise ZooError(f"{type(self).__name__}: the validation batches of {name} have no factors.")
        with seeded(self.seed + batch_idx) as generator:
            self._held_out.add(batch.x, batch.factors, generator, share(len(batch.x)))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Score and log."""
        if not self._due:
            return
        start = time.perf_counter()
        held_out = None if self._held_out is None else self._held_out.points(of_all=True)
        found: tuple[dict[str, float], dict[str, str]] = ({}, {})
        if trainer.is_global_zero:
            try:
                result = self._evaluate(trainer, _model(pl_module), held_out)
                found = result.scores, result.undefined
                self._draw(trainer, _model(pl_module), result)
            except ZooError as error:  # no points at all
                found = {}, dict.fromkeys(self.scores, str(error))
        scores, undefined = trainer.strategy.broadcast(found)
        for name, reason in undefined.items():
            rank_zero_warn(f"val/{name} is left out: {reason}")
        metrics = {**scores, "disentanglement_seconds": trainer.strategy.broadcast(time.perf_counter() - start)}
        pl_module.log_dict({f"val/{name}": value for name, value in metrics.items()}, sync_dist=True, batch_size=1)

    def _evaluate(
        self, trainer: Trainer, model: GenerativeModule, held_out: tuple[Tensor, Tensor] | None
    ) -> DisentanglementResult:
        encoder = None
        if held_out is None:
            encoder = cached_encoder(encoder_of(model), datamodule_of(trainer), model.device)
        return evaluate_disentanglement(self.scores, self.sizes, encoder, held_out, self.seed)

    def _draw(self, trainer: Trainer, model: GenerativeModule, result: DisentanglementResult) -> None:
        if self.heat_maps:
            for name, image in result.heat_maps(model.spec.factor_names).items():
                keep_picture(trainer, name, image)


def _model(module: LightningModule) -> GenerativeModule:
    """The model: Lightning's hooks know of LightningModule alone, and :func:`unscorable` asks for what is needed of it."""
    return cast(GenerativeModule, module)
