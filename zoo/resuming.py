"""Training that goes on from a checkpoint as if it had never stopped, whatever moment the checkpoint was written at."""

import hashlib
import random
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loops import _Loop
from pytorch_lightning.loops.fit_loop import RestartStage, _FitLoop
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from zoo.batches import BatchLoop, count_batches
from zoo.errors import ZooError
from zoo.lightning import datamodule_of, writes_row

__all__ = ["Resumption", "random_state"]

# The moments of training at which a checkpoint can be written: what of the last batch is done, in the order of its course.
STEP = "step"  # in the midst of its training step, which is to be done again
BATCH_END = "batch_end"  # trained; its row of metrics and its validation, if that is due, are still to come
VALIDATION = "validation"  # its validation has begun and is to be done again
VALIDATED = "validated"  # its validation is done
BETWEEN = "between"  # all of that is done; of the last batch of an epoch, the epoch's end is still to come
EPOCH_END = "epoch_end"  # the end of an epoch, or of a training that was stopped inside one
AFTER = "after"  # all is done


class Resumption(Callback):
    """Lets a training that goes on from a checkpoint be, bit for bit, the one that was not interrupted.

    Every model of the zoo brings it along, and every data set, for models that are not the zoo's. A checkpoint holds beside
    what Lightning stores:

    - the moment that it was written at, and what is left of it: Lightning infers the moment from counters, at one place for
      epochs and at another for steps, and then repeats or skips validations, shifts rows of metrics by one, or counts an
      epoch too few;
    - the random states of torch, NumPy and Python, of every process;
    - the latest metrics, which a scheduler or a checkpoint's monitor may ask for, and gradients of batches that were
      accumulated.

    All that is left of the moment is then done: a row of metrics, a validation, the end of an epoch, also where the
    checkpoint is of the last batch of training.
    """

    def __init__(self) -> None:
        self._before_validation: dict[str, Any] | None = None
        self._stored: dict[str, Any] | None = None
        self._configured: list[list[dict[str, Any]]] = []

    @classmethod
    def attach(cls, trainer: Trainer) -> None:
        """Add one to a Trainer that has none, and those of its loggers that keep something in checkpoints.

        The Trainer counts batches from then on (:mod:`zoo.batches`).
        """
        count_batches(trainer)
        callbacks = cast(Any, trainer).callbacks  # public, and not declared
        if not any(isinstance(callback, cls) for callback in callbacks):
            callbacks.append(cls())
        callbacks += [logger for logger in trainer.loggers if isinstance(logger, Callback) and logger not in callbacks]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note what a validation changes: one that a checkpoint is written in is done again."""
        states = {each.state_key: deepcopy(each.state_dict()) for each in cast(Any, trainer).callbacks}
        self._before_validation = {
            "random": random_state(pl_module),
            "callbacks": {key: state for key, state in states.items() if state},
        }

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Forget it."""
        self._before_validation = None

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add where training is."""
        progress = _progress(trainer)
        before = getattr(trainer.train_dataloader, "before", None)
        if progress["moment"] == STEP and before is not None:  # the batch that was given is not trained on
            checkpoint[type(datamodule_of(trainer)).__qualname__]["examples"] = before.examples
        before_validation = self._before_validation if progress["moment"] == VALIDATION else None
        if before_validation is not None:
            checkpoint["callbacks"] = before_validation["callbacks"]
        checkpoint["zoo_progress"] = progress
        drawn = before_validation["random"] if before_validation is not None else random_state(pl_module)
        checkpoint["zoo_random_states"] = _of_all_processes(drawn)
        checkpoint["zoo_gradients"] = _accumulated(trainer, pl_module, progress)
        latest: dict[str, Tensor] = getattr(pl_module, "latest_of_all", dict)()
        checkpoint["zoo_latest_metrics"] = {name: value.cpu() for name, value in latest.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Enter the loop where it was left, if training goes on from a checkpoint that says where that was."""
        if trainer.state.fn == TrainerFn.FITTING and "zoo_progress" in checkpoint:
            self._stored = checkpoint
            _enter(trainer, checkpoint["zoo_progress"], checkpoint["loops"]["fit_loop"])
            _restore_random_state(pl_module, checkpoint["zoo_random_states"], trainer.global_rank)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note the optimizers' options as the model has them, before those of a checkpoint take their place."""
        self._configured = [[_options(group) for group in optimizer.param_groups] for optimizer in trainer.optimizers]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take up what the first batch, or what is left of the last one, depends on."""
        stored, self._stored = self._stored, None
        if stored is None:
            return
        before = stored.get("hyper_parameters", {})
        if before != dict(pl_module.hparams):
            _apply(self._configured, trainer, before.get("schedule") != pl_module.hparams.get("schedule"))
        _restore_random_state(pl_module, stored["zoo_random_states"], trainer.global_rank)
        for name, parameter in pl_module.named_parameters():
            if name in stored["zoo_gradients"]:
                parameter.grad = stored["zoo_gradients"][name].to(parameter.device)
        if hasattr(pl_module, "latest_metrics"):
            latest = {name: value.to(pl_module.device) for name, value in stored["zoo_latest_metrics"].items()}
            cast(Any, pl_module).latest_metrics.update(latest)


def _options(group: dict[str, Any]) -> dict[str, Any]:
    """The options of an optimizer's group of parameters: learning rate, betas, weight decay, ..."""
    return {name: value for name, value in group.items() if name != "params"}


def _apply(configured: list[list[dict[str, Any]]], trainer: Trainer, anew: bool) -> None:
    """Let optimizers have options that the model has now and not those of a checkpoint, where training goes on otherwise.

    A schedule goes on where it was: its learning rate changes by the ratio of the new one to the old one. Where there is
    another schedule (``anew``), the rate is that of the model, which the schedule changes.
    """
    for optimizer, groups in zip(trainer.optimizers, configured, strict=True):
        for group, options in zip(optimizer.param_groups, groups, strict=True):
            old, new = (each.get("initial_lr", each["lr"]) for each in (group, options))
            rate = new if anew or group["lr"] == old else group["lr"] * new / old if old else group["lr"]
            group.update(options, lr=rate)
    for config in trainer.lr_scheduler_configs:
        if hasattr(config.scheduler, "base_lrs"):
            groups = config.scheduler.optimizer.param_groups
            config.scheduler.base_lrs = [group.get("initial_lr", group["lr"]) for group in groups]


def _progress(trainer: Trainer) -> dict[str, Any]:
    """Where training is, in plain values."""
    loop: Any = trainer.fit_loop
    done, epochs = loop.epoch_loop.batch_progress, loop.epoch_progress.current
    moment = _moment(trainer)
    complete = moment != STEP and (done.is_last_batch or done.current.processed >= loop.max_batches > 0)
    limit = trainer.global_step == trainer.max_steps or (complete and epochs.started == trainer.max_epochs)
    return {
        "moment": moment,
        "epoch": epochs.started - 1,
        "batches": done.current.processed,
        "complete": complete,
        "begun": done.current.started > done.current.processed,  # the step of the batch that is to be done again
        "stop": trainer.should_stop and not limit,
        "row": _row(trainer) if moment == BATCH_END else {},
        "metrics": {name: value.cpu() for name, value in trainer.callback_metrics.items()},
    }


def _moment(trainer: Trainer) -> str:
    loop: Any = trainer.fit_loop
    validation = loop.epoch_loop.val_loop
    batches, epochs = loop.epoch_loop.batch_progress.current, loop.epoch_progress.current
    if batches.ready > batches.processed:
        return STEP
    if batches.processed > batches.completed:
        return BATCH_END
    if trainer.validating and trainer.state.fn == TrainerFn.FITTING:
        of_it = validation.batch_progress
        logged = of_it.is_last_batch and of_it.current.completed == of_it.current.ready and not validation._logged_outputs
        return VALIDATED if logged else VALIDATION
    if epochs.started > epochs.processed:
        return BETWEEN
    return EPOCH_END if epochs.processed > epochs.completed else AFTER


def _row(trainer: Trainer) -> dict[str, float]:
    """What the batch that was just trained logged, for its row; what its model has yet to log is not in it."""
    return {name: float(value) for name, value in trainer._logger_connector.metrics["log"].items()}


def _enter(trainer: Trainer, progress: Any, state: dict[str, Any]) -> None:
    """Let the Trainer's loop go on where ``progress`` says, from the counters in ``state``, which are set right."""
    kinds = {"moment": str, "epoch": int, "batches": int, "complete": bool, "stop": bool, "row": dict, "metrics": dict}
    if not isinstance(progress, dict) or not all(isinstance(progress.get(name), kind) for name, kind in kinds.items()):
        raise ZooError(f"where training was can't be understood from the checkpoint: {progress}")
    if type(trainer.fit_loop) not in (_FitLoop, _ResumedFitLoop):
        return  # a loop of one's own
    # An epoch is over for Lightning where training was stopped inside it; for us it goes on.
    left_open = progress["moment"] in (STEP, BATCH_END, VALIDATION, VALIDATED, BETWEEN)
    begun = progress["epoch"] + 1
    ended = begun if begun == 0 or (progress["complete"] and not left_open) else begun - 1
    counts = {"ready": begun, "started": begun, "processed": ended, "completed": ended}
    state["epoch_progress"] = {"total": counts, "current": dict(counts)}
    loop = cast(Any, trainer.fit_loop)
    loop.__class__ = _ResumedFitLoop
    loop.entry = {**progress, "left_open": left_open, "over": ended == begun}


class _ResumedFitLoop(_FitLoop):
    """Lightning's loop over epochs, entered where a checkpoint was written; after that it is Lightning's own again."""

    entry: dict[str, Any]

    @property
    def restarting(self) -> bool:
        """True until the loop is entered, between epochs too: loaders get their states, and no sanity check is made."""
        return self._restarting

    @restarting.setter
    def restarting(self, restarting: bool) -> None:
        cast(Any, _Loop.restarting).fset(self, restarting)

    @property
    def done(self) -> bool:
        """Not before what is left to do is done, be the last batch the last one of training."""
        return super().done and (self.entry["moment"] in (STEP, AFTER) or self.max_batches == 0)

    def reset(self) -> None:
        """Take the counters as they are, in place of Lightning's conclusions from them."""
        torch.set_grad_enabled(True)
        trainer, entry, inner = self.trainer, self.entry, self.epoch_loop
        trainer._logger_connector._callback_metrics.update(entry["metrics"])
        for loop in (self, inner, inner.val_loop, inner.automatic_optimization, inner.manual_optimization):
            loop._restarting = False
        ended = entry["moment"] == EPOCH_END and super().done  # training is, but for the end of it
        if ended and not entry["over"]:
            self.epoch_progress.increment_processed()
            self.epoch_progress.increment_completed()
        if entry["over"] and entry["moment"] == EPOCH_END:
            # What Lightning does between that moment and the last count of the epoch.
            self.epoch_progress.current.completed -= 1
            inner.update_lr_schedulers("epoch", update_plateau_schedulers=True)
            self.epoch_progress.current.completed += 1
        if ended or entry["over"]:
            # Another epoch's iterator is made when it begins, with the random state that it has then, as in any epoch.
            self._resuming_from_checkpoint = self._keeps_place()
            _restore_class(self, _FitLoop)
            return
        trainer.should_stop = trainer.should_stop or (entry["stop"] and entry["left_open"])
        self._restart_stage = RestartStage.RESTARTED_MID_EPOCH
        self._place()
        cast(Any, inner).__class__ = _ResumedEpochLoop
        cast(_ResumedEpochLoop, inner).entry = entry

    def _place(self) -> None:
        """Set the batches of this epoch that are behind; a loader that cuts it otherwise now says how many it counts."""
        inner, entry = self.epoch_loop, self.entry
        behind = getattr(self.trainer.train_dataloader, "batches_behind", None)
        count = entry["batches"] if behind is None else min(behind, int(self.max_batches))
        batches, in_all = cast(Any, inner.batch_progress.current), cast(Any, inner.batch_progress.total)
        batches.ready = batches.started = batches.processed = batches.completed = count
        in_all.ready = in_all.started = in_all.completed = in_all.processed
        inner.batch_progress.is_last_batch = entry["complete"]
        for progress in (
            inner.scheduler_progress,
            inner.automatic_optimization.optim_progress,
            inner.manual_optimization.optim_step_progress,
        ):
            progress.reset_on_restart()
        if entry["moment"] == VALIDATION:
            total, current = inner.val_loop.batch_progress.total, inner.val_loop.batch_progress.current
            for name in ("ready", "started", "processed", "completed"):
                setattr(total, name, getattr(total, name) - getattr(current, name))
        if behind is None and not self._keeps_place() and 0 < count < self.max_batches:
            rank_zero_warn(
                "the checkpoint was written inside an epoch, and the loader keeps no place: the rest of this epoch begins "
                "at the loader's start. A DataModule of the zoo, or a loader with state_dict and load_state_dict, goes on."
            )

    def _keeps_place(self) -> bool:
        """Whether Lightning stores the places of all loaders."""
        return all(hasattr(loader, "state_dict") for loader in cast(Any, self._combined_loader).flattened)

    def advance(self) -> None:
        """The rest of the epoch."""
        _restore_class(self, _FitLoop)
        self.advance()


class _ResumedEpochLoop(BatchLoop):
    """Lightning's loop over an epoch's batches, of which some are behind and the last may be half done."""

    entry: dict[str, Any]

    @property
    def done(self) -> bool:
        """Not before what was left of the last batch is done."""
        return False

    def reset(self) -> None:
        """Keep the counters."""
        if self.entry["moment"] not in (BATCH_END, VALIDATION, VALIDATED):
            _restore_class(self, BatchLoop)

    def advance(self, data_fetcher: Any) -> None:
        """What follows the last batch, in place of another one; its validation and its counters are the caller's next."""
        if self.entry["moment"] == BATCH_END:
            self._log_row()
        _restore_class(self, BatchLoop)
        self._skip_next_val = self.entry["moment"] == VALIDATED or self.batch_progress.current.ready == 0

    def _log_row(self) -> None:
        """Log what the batch had yet to log, and its row where loggers get one."""
        module, connector = self.trainer.lightning_module, self.trainer._logger_connector
        due: dict[str, Tensor] = getattr(module, "due_metrics", dict)()
        connector._callback_metrics.update(due)
        if writes_row(self.trainer):
            connector.log_metrics({**self.entry["row"], **due})


def _restore_class(loop: Any, cls: type) -> None:
    loop.__class__ = cls


def random_state(module: LightningModule) -> dict[str, Any]:
    """The states of the generators that a model, data or callbacks may draw from, in plain values."""
    _, key, *rest = cast(tuple, np.random.get_state(legacy=True))
    state = {
        "torch": torch.get_rng_state(),
        "numpy": {"key": torch.from_numpy(key.astype(np.int64)), "rest": rest},
        "python": [*random.getstate()[1], random.getstate()[2]],
    }
    if module.device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(module.device)
    return state


def _restore_random_state(module: LightningModule, states: list[dict[str, Any]], rank: int) -> None:
    """Take up a process's state; one that there was not yet gets streams of its own, made from the first one's."""
    if rank >= len(states):
        digest = hashlib.sha256(states[0]["torch"].numpy().tobytes() + rank.to_bytes(4, "big")).digest()
        seed = int.from_bytes(digest[:4], "big")
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)
        return
    state = states[rank]
    torch.set_rng_state(state["torch"].cpu())
    numbers = state["numpy"]
    np.random.set_state(("MT19937", numbers["key"].numpy().astype(np.uint32), *numbers["rest"]))
    random.setstate((3, tuple(state["python"][:-1]), state["python"][-1]))
    if module.device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), module.device)


def _of_all_processes(state: dict[str, Any]) -> list[dict[str, Any]]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [state]
    states: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(states, state)
    return states


def _accumulated(trainer: Trainer, module: LightningModule, progress: dict[str, Any]) -> dict[str, Tensor]:
    """The gradients of batches whose optimizer step is still to come, averaged over processes."""
    if progress["complete"] or progress["batches"] % trainer.accumulate_grad_batches == 0:
        return {}
    kept = {name: p.grad.detach().clone() for name, p in module.named_parameters() if p.grad is not None}
    if trainer.world_size > 1:
        for gradient in kept.values():
            torch.distributed.all_reduce(gradient)
            gradient /= trainer.world_size
    return {name: gradient.cpu() for name, gradient in kept.items()}
