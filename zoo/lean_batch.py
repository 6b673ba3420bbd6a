"""A training batch as Lightning does it, without the calls that nobody listens to: half of what it costs a small network."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.core.hooks import DataHooks
from pytorch_lightning.loops.fetchers import _DataFetcher, _DataLoaderIterDataFetcher
from pytorch_lightning.loops.optimization.automatic import ClosureResult
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

__all__ = ["LeanBatch"]

_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)
_OPTIMIZATION = ("backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping")


class LeanBatch:
    """A training batch on one device, in which hooks are called that somebody overrides, and no others.

    Lightning calls some hundred hooks a batch, most of them empty, inspects the signature of ``training_step``, and wraps
    the optimizer's step eight times. Here who listens is looked up once an epoch. All that can be seen stays as it is, bit
    for bit: the hooks and their order, which of them ``self.log`` is called in, the counters that checkpoints store, the
    closure that the optimizer gets. What is not this plain case goes Lightning's way: :meth:`of` gives None.

    Arguments:
        trainer: The Trainer, at the start of an epoch.
    """

    def __init__(self, trainer: Trainer):
        module = trainer.lightning_module
        self._trainer: Any = trainer
        self._module: Any = module
        self._callbacks: list[Callback] = list(cast(Any, trainer).callbacks)
        self._listening: dict[str, list[Callable]] = {}
        self._own: dict[str, Callable | None] = {}
        for name in _HOOKS:
            self._listening[name] = [getattr(each, name) for each in self._callbacks if _overrides(each, Callback, name)]
            self._own[name] = getattr(module, name) if _overrides(module, LightningModule, name) else None
        self._numbered = is_param_in_hook_signature(module.training_step, "batch_idx", min_args=2)
        self._one_step = module.automatic_optimization and not _overrides(module, LightningModule, *_OPTIMIZATION)
        selector: Any = self._trainer._data_connector._datahook_selector
        self._as_it_is = not any(
            _overrides(selector.get_instance(name), DataHooks, name)
            for name in ("on_before_batch_transfer", "on_after_batch_transfer")
        )
        self._mover = selector.get_instance("transfer_batch_to_device")

    @classmethod
    def of(cls, trainer: Trainer, fetcher: _DataFetcher) -> "LeanBatch | None":
        """That of a Trainer, or None where its batches need what only Lightning does.

        Those are batches of several processes or of a strategy of one's own, a model that is wrapped in another module,
        gradients that are accumulated, a scaler of 16-bit gradients, a profiler, and a ``training_step`` that takes an
        iterator.
        """
        precision = trainer.precision_plugin
        known = type(precision) in (Precision, DoublePrecision, HalfPrecision) or (
            type(precision) is MixedPrecision and precision.scaler is None
        )
        plain = (
            known
            and type(trainer.strategy) is SingleDeviceStrategy
            and trainer.strategy.model is trainer.lightning_module
            and isinstance(cast(Any, trainer).profiler, PassThroughProfiler)
            and trainer.accumulate_grad_batches == 1
            and not isinstance(fetcher, _DataLoaderIterDataFetcher)
        )
        return cls(trainer) if plain else None

    def is_of(self, trainer: Trainer) -> bool:
        """Whether those that listen are the Trainer's still."""
        return cast(Any, trainer).callbacks == self._callbacks

    def advance(self, loop: _TrainingEpochLoop, fetcher: _DataFetcher) -> None:
        """Train on the next batch: what ``_TrainingEpochLoop.advance`` does, in its order.

        Raises:
            StopIteration: where the model's ``on_train_batch_start`` gives -1, which ends the epoch.
        """
        trainer, progress, connector = self._trainer, loop.batch_progress, self._trainer._logger_connector
        loop.val_loop.restarting = False
        batch, _, _ = next(fetcher)
        number = loop.batch_idx + 1
        progress.is_last_batch = fetcher.done
        batch = self._moved(batch)
        progress.increment_ready()
        connector.on_batch_start(batch)
        output, over = None, False
        if batch is None:
            loop._warning_cache.warn("train_dataloader yielded None. If this was on purpose, ignore this warning...")
        elif over := self._call("on_train_batch_start", batch, number) == -1:
            progress.increment_by(0, is_last_batch=True)
        else:
            progress.increment_started()
            given = OrderedDict(batch=batch, batch_idx=number) if self._numbered else OrderedDict(batch=batch)
            if self._one_step:
                output = self._step(loop, given)
            elif self._module.automatic_optimization:
                output = loop.automatic_optimization.run(trainer.optimizers[0], number, given)
            else:
                output = loop.manual_optimization.run(given)
        progress.increment_processed()
        if trainer.lr_scheduler_configs:
            loop.update_lr_schedulers("step", update_plateau_schedulers=False)
            if loop._num_ready_batches_reached():
                loop.update_lr_schedulers("epoch", update_plateau_schedulers=False)
        if over:
            raise StopIteration
        self._call("on_train_batch_end", output, batch, number)
        connector.on_batch_end()
        progress.increment_completed()
        connector.update_train_step_metrics()

    def _moved(self, batch: Any) -> Any:
        trainer = self._trainer
        batch = trainer.precision_plugin.convert_input(batch)
        if self._as_it_is:
            return self._mover.transfer_batch_to_device(batch, trainer.strategy.root_device, 0)
        batch = self._module._on_before_batch_transfer(batch, dataloader_idx=0)
        return trainer.strategy.batch_to_device(batch, dataloader_idx=0)

    def _step(self, loop: _TrainingEpochLoop, given: OrderedDict) -> dict[str, Any]:
        """The optimizer's step, with the closure that it computes its gradients by; what hooks are told of it."""
        optimizer, module = self._trainer.optimizers[0], self._module
        progress = loop.automatic_optimization.optim_progress.optimizer
        results: list[ClosureResult] = []

        def closure() -> Tensor | None:
            with torch.enable_grad():
                results.append(self._gradients(optimizer, progress, given))
            return results[-1].loss

        progress.step.increment_ready()
        before, module._current_fx_name = module._current_fx_name, "optimizer_step"
        optimizer.step(closure)
        module._current_fx_name = before
        progress.step.increment_completed()
        return {} if results[-1].loss is None else results[-1].asdict()

    def _gradients(self, optimizer: Any, progress: Any, given: OrderedDict) -> ClosureResult:
        """Loss, zeroed gradients, gradients, and what comes between them and a step."""
        trainer, module = self._trainer, self._module
        before, module._current_fx_name = module._current_fx_name, "training_step"
        with trainer.precision_plugin.train_step_context():
            result = ClosureResult.from_training_step_output(module.training_step(*given.values()))
        module._current_fx_name = before
        progress.zero_grad.increment_ready()
        self._call("on_before_zero_grad", optimizer)
        progress.zero_grad.increment_started()
        optimizer.zero_grad()
        progress.zero_grad.increment_completed()
        if result.closure_loss is not None:
            self._call("on_before_backward", result.closure_loss)
            result.closure_loss.backward()
            self._call("on_after_backward")
        self._call("on_before_optimizer_step", optimizer)
        if trainer.gradient_clip_val is not None:
            module.configure_gradient_clipping(optimizer, trainer.gradient_clip_val, trainer.gradient_clip_algorithm)
        return result

    def _call(self, name: str, *args: Any) -> Any:
        """The callbacks' hooks of a name, then the model's; what that gives, or None."""
        listening, own = self._listening[name], self._own[name]
        if not listening and own is None:
            return None
        module = self._module
        before, module._current_fx_name = module._current_fx_name, name
        for hook in listening:
            hook(self._trainer, module, *args)
        answer = None if own is None else own(*args)
        module._current_fx_name = before
        return answer


def _overrides(owner: Any, base: type, *names: str) -> bool:
    """Whether an object does anything else than ``base`` under one of these names, by its class or by itself."""
    return any(name in vars(owner) or getattr(type(owner), name) is not getattr(base, name) for name in names)
