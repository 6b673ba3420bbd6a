"""A run that is told to stop finishes its batch, writes a checkpoint, and says how to go on."""

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

__all__ = ["GracefulStop", "TrainingStopped"]

_SIGNALS = [signal.Signals[name] for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class TrainingStopped(SystemExit):
    """Training was stopped by a signal. Not caught, it ends the program with status 128 + the signal's number.

    Attributes:
        signal: The signal.
        checkpoint: What to go on with; None where nothing was trained yet, or no checkpoints are kept.
    """

    def __init__(self, stopped_by: signal.Signals, checkpoint: Path | None):
        super().__init__(128 + stopped_by)
        self.signal, self.checkpoint = stopped_by, checkpoint


class GracefulStop(Callback):
    """On Ctrl-C, SIGTERM and SIGUSR1 finishes the batch, writes ``last.ckpt``, says how to go on, and stops.

    Training that goes on from there is, bit for bit, the one that was not stopped. A second signal ends the program at once,
    as it would without this. What comes before the first batch is not waited for. A validation is stopped after its batch,
    and done again by whoever goes on. Under Slurm, SIGUSR1 also puts the job back into the queue (``sbatch
    --signal=USR1@120`` sends it two minutes before the time is up); ``python -m zoo.fit ... --resume`` then goes on.

    Several processes stop at the same batch, so they agree on it every now and then.

    Arguments:
        every_n_batches: How often several processes agree; one process stops after the very batch.

    Raises:
        TrainingStopped: in ``Trainer.fit``, a ``SystemExit`` of status 130 for Ctrl-C and 143 for SIGTERM.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(callbacks=[GracefulStop()], accelerator="cpu", logger=False)
    """

    def __init__(self, every_n_batches: int = 20):
        self.every_n_batches = every_n_batches
        self._received: signal.Signals | None = None
        self._training = False
        self._trainer: Trainer | None = None
        self._before: dict[int, Any] = {}  # what each signal did before

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Listen."""
        if stage == "fit":
            self._received, self._training = None, False
            self._listen(trainer)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leave: Lightning notes now what signals did before, and will put that back."""
        self._leave()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Listen again, in the place of Lightning."""
        self._listen(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From now on there is something to lose."""
        self._listen(trainer)
        self._training = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop, if that was asked for."""
        self._stop_if_asked(trainer, batch_idx)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Stop, if that was asked for."""
        if self._training:
            self._stop_if_asked(trainer, batch_idx)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """All is done: the checkpoints are written, and what is left is short."""
        self._training = False

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Signals do again what they did before."""
        self._leave()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Signals do again what they did before."""
        self._leave()

    def _listen(self, trainer: Trainer) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # where Python lets nobody listen
        self._trainer = trainer
        for number in _SIGNALS:
            if signal.getsignal(number) != self._receive:
                self._before[number] = signal.signal(number, self._receive)

    def _leave(self) -> None:
        self._training = False
        if threading.current_thread() is threading.main_thread():
            for number, before in self._before.items():
                if signal.getsignal(number) == self._receive:
                    signal.signal(number, before)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        """What is done at the moment of a signal."""
        received, trainer = signal.Signals(number), self._trainer
        assert trainer is not None
        if self._received is not None:
            _say(trainer, f"{received.name} again: stopped at once.")
            _end_processes(trainer, signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self._received = received
        if not self._training:
            _end_processes(trainer, signal.SIGTERM)
            _say(trainer, f"stopped by {received.name} before anything was trained.")
            raise TrainingStopped(received, None)
        _say(trainer, f"{received.name}: stopping after this batch; once more to stop at once.")

    def _stop_if_asked(self, trainer: Trainer, batch_idx: int) -> None:
        received = int(self._received or 0)
        if trainer.world_size > 1:
            if batch_idx % self.every_n_batches:
                return
            asked = torch.tensor(received, device=trainer.strategy.root_device)
            received = int(trainer.strategy.reduce(asked, reduce_op="max"))
        if received:
            self._stop(trainer, signal.Signals(received))

    def _stop(self, trainer: Trainer, received: signal.Signals) -> None:
        """Write the checkpoint, on all processes together, and leave."""
        paths = self.save(trainer)
        if paths:
            then = "go on with: " + "\n".join(f"python -m zoo.fit --ckpt_path {path}" for path in paths)
        else:
            then = "no checkpoints are kept, so it can't be gone on with."
        _say(trainer, f"stopped by {received.name} at batch {trainer.global_step}; {then}")
        if trainer.is_global_zero and received.name == "SIGUSR1":
            _requeue()
        raise TrainingStopped(received, paths[0] if paths else None)

    def save(self, trainer: Trainer) -> list[Path]:
        """Write what training goes on from, and say where that is: one checkpoint, none where none are kept."""
        path = _place(trainer)
        if path is None:
            return []
        trainer.save_checkpoint(path)
        return [path]


def _place(trainer: Trainer) -> Path | None:
    """Where the newest state is kept: beside other checkpoints."""
    writers = [each for each in trainer.checkpoint_callbacks if isinstance(each, ModelCheckpoint)]
    writers.sort(key=lambda each: each.monitor is not None)
    if not writers or writers[0].dirpath is None:
        return None
    return Path(writers[0].dirpath) / f"{ModelCheckpoint.CHECKPOINT_NAME_LAST}{ModelCheckpoint.FILE_EXTENSION}"


def _say(trainer: Trainer, line: str) -> None:
    """A line on standard error, of the first process; written at once, since a signal may come in the middle of a print."""
    if trainer.is_global_zero:
        os.write(sys.__stderr__.fileno() if sys.__stderr__ is not None else 2, f"\n{line}\n".encode())


def _end_processes(trainer: Trainer, number: signal.Signals) -> None:
    """Pass a signal on to the processes that Lightning started; Ctrl-C reaches them by itself."""
    for process in getattr(trainer.strategy.launcher, "procs", ()):
        if process.poll() is None:
            process.send_signal(number)


def _requeue() -> None:
    """Put the Slurm job that this is back into the queue."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")
    if job is not None and shutil.which("scontrol") is not None:
        done = subprocess.run(["scontrol", "requeue", job], check=False)
        print(f"job {job} is {'queued again' if done.returncode == 0 else 'not queued again'}", file=sys.stderr, flush=True)
