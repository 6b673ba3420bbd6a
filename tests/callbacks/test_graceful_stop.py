"""A run that is told to stop: real signals to real processes, and what goes on is the run that was not stopped."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

import zoo
from callbacks import GracefulStop, TrainingStopped
from datamodules import Digits, Toy
from zoo.models import GAN, VAE
from zoo.runs.checkpoints import newest_checkpoint, read
from zoo.runs.training import fit

EPOCH = len(Digits(seed=0).train_dataloader())  # batches

# A training that says at which batch it is, so that a signal can be sent in the midst of one.
SCRIPT = """
import os, signal, sys, time
from pytorch_lightning import Callback, seed_everything
from zoo.cli.main import main
from zoo.models.vae import VAE

objective, steps = VAE.objective, 0

def say(line):
    if os.environ.get("LOCAL_RANK", "0") == "0":
        print(line, flush=True)

def slow(self, batch):
    global steps
    if self.training:
        steps += 1
        say(f"batch {{steps}}")
        time.sleep({sleep})
    elif steps:
        say("validation")
        time.sleep({sleep})
    return objective(self, batch)

VAE.objective = slow
main("fit", ["--model", "vae", "--model.network", "mlp", "--model.hidden", "8", "--trainer.accelerator", "cpu",
             "--trainer.enable_progress_bar", "false", "--wandb", "off", *sys.argv[1:]])
"""


class Training:
    """A process that trains in ``folder``."""

    def __init__(self, folder: Path, *options: str, sleep: float = 0.05, **environment: str):
        (folder / "train.py").write_text(SCRIPT.format(sleep=sleep))
        places = {"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1", **environment}
        self.process = subprocess.Popen(
            [sys.executable, "train.py", *options],
            cwd=folder,
            env={**os.environ, **places},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.said: list[str] = []

    def wait_for(self, line: str) -> None:
        while True:
            read = self.process.stdout.readline()
            assert read, (self.process.wait(10), self.said, self.process.stderr.read())
            self.said.append(read.strip())
            if read.strip() == line:
                return

    def end(self) -> tuple[int, str]:
        out, err = self.process.communicate(timeout=120)
        self.said += out.splitlines()
        return self.process.returncode, err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_in_the_first_epoch_loses_no_batch(tmp_path, number, status):
    training = Training(tmp_path, "--trainer.max_epochs", "3")
    training.wait_for("batch 3")
    training.process.send_signal(number)
    returned, err = training.end()
    assert returned == status, err
    last = tmp_path / "runs" / "vae-digits" / "1" / "checkpoints" / "last.ckpt"
    (said,) = (line for line in err.splitlines() if "go on" in line)
    batches = int(re.fullmatch(rf"stopped by {number.name} at batch (\d+); go on with: .* --ckpt_path (.*)", said)[1])
    assert said.endswith(str(last))
    assert batches == read(last)["global_step"] == sum(line.startswith("batch") for line in training.said) >= 3
    assert "Traceback" not in err


def test_what_goes_on_is_the_training_that_was_not_stopped(tmp_path, monkeypatch):
    """From Python and in one process: a signal to itself, in a batch and in a validation."""

    class Signal(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 13:
                os.kill(os.getpid(), signal.SIGTERM)

        def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx, dataloader_idx=0):
            if trainer.global_step == EPOCH:
                os.kill(os.getpid(), signal.SIGTERM)

    def train(folder, resume=None, **options):
        torch.manual_seed(0)
        data = Digits(seed=0)
        model = VAE(data.spec, network="mlp", hidden=8)
        return fit(
            model, data, root=folder, resume=resume, wandb="off", accelerator="cpu", enable_progress_bar=False,
            max_epochs=2, seed=0, **options
        )  # fmt: skip

    whole = train(tmp_path / "whole")
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)]
    with pytest.raises(TrainingStopped) as stopped:
        train(tmp_path / "parts", callbacks=[Signal()])
    assert stopped.value.code == 143 and stopped.value.signal is signal.SIGTERM
    assert read(stopped.value.checkpoint)["global_step"] == 14
    with pytest.raises(TrainingStopped) as again:
        train(tmp_path / "parts", stopped.value.checkpoint, callbacks=[Signal()])
    assert read(again.value.checkpoint)["global_step"] == EPOCH
    parts = train(tmp_path / "parts", again.value.checkpoint)
    for name, weight in whole.model.state_dict().items():
        assert torch.equal(weight, parts.model.state_dict()[name]), name
    assert (whole.folder / "metrics.csv").read_text() == (parts.folder / "metrics.csv").read_text()
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)] == before


def test_a_second_signal_ends_at_once(tmp_path):
    training = Training(tmp_path, sleep=60)
    training.wait_for("batch 1")
    began = time.monotonic()
    training.process.send_signal(signal.SIGTERM)
    while "stopping after this batch; once more to stop at once" not in (line := training.process.stderr.readline()):
        assert line
    training.process.send_signal(signal.SIGINT)
    returned, err = training.end()
    assert returned == -signal.SIGINT
    assert "SIGINT again: stopped at once" in err
    assert time.monotonic() - began < 30
    assert not list(tmp_path.rglob("*.ckpt"))


def test_before_the_first_batch_there_is_nothing_to_wait_for(tmp_path, capfd):
    class Signal(Callback):
        def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    data = Toy("ring")
    trainer = Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path,
        callbacks=[GracefulStop(), Signal()],
    )  # fmt: skip
    with pytest.raises(TrainingStopped) as stopped:
        trainer.fit(GAN(data.spec), data)
    assert (stopped.value.code, stopped.value.checkpoint) == (130, None)
    assert "stopped by SIGINT before anything was trained" in capfd.readouterr().err
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("kept", [False, True])
def test_a_trainer_of_ones_own(tmp_path, capfd, kept):
    checkpoints = [ModelCheckpoint(tmp_path / "here", monitor="val/x", every_n_epochs=9)] if kept else []

    class Signal(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            os.kill(os.getpid(), signal.SIGTERM)

    data = Toy("ring")
    trainer = Trainer(
        max_steps=4, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=kept,
        callbacks=[GracefulStop(), Signal(), *checkpoints],
    )  # fmt: skip
    with pytest.raises(TrainingStopped) as stopped:
        trainer.fit(GAN(data.spec), data)
    if kept:
        assert stopped.value.checkpoint == tmp_path / "here" / "last.ckpt"
        assert isinstance(zoo.load(stopped.value.checkpoint), GAN)
    else:
        assert stopped.value.checkpoint is None
        assert "no checkpoints are kept" in capfd.readouterr().err


def test_in_another_thread_nobody_listens():
    before = signal.getsignal(signal.SIGTERM)
    data = Toy("ring")
    trainer = Trainer(max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False,
                      callbacks=[GracefulStop()])  # fmt: skip
    thread = threading.Thread(target=trainer.fit, args=(GAN(data.spec), data))
    thread.start()
    thread.join()
    assert trainer.global_step == 1
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_slurm_queues_the_job_again_and_it_goes_on_by_itself(tmp_path):
    """The same command each time: nothing to go on with at first, then the checkpoint of the requeue signal."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "scontrol").write_text(f"#!/bin/sh\necho $* >> {tmp_path}/asked\n")
    (tools / "scontrol").chmod(0o755)
    slurm = {"SLURM_JOB_ID": "4711", "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train", "SLURM_PROCID": "0",
             "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NODELIST": "localhost", "SLURM_NODELIST": "localhost",
             "PATH": f"{tools}:{os.environ['PATH']}"}  # fmt: skip
    training = Training(tmp_path, "--resume", "--trainer.max_epochs", "1", **slurm)
    training.wait_for("batch 4")
    training.process.send_signal(signal.SIGUSR1)
    returned, err = training.end()
    assert returned == 138, err
    assert "starting anew" in err and "job 4711 is queued again" in err
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    done = newest_checkpoint(tmp_path / "runs", "vae", "digits")
    batches = read(done)["global_step"]
    training = Training(tmp_path, "--resume", "--trainer.max_epochs", "1", sleep=0, **slurm)
    returned, err = training.end()
    assert returned == 0, err
    assert "going on with runs/vae-digits/1/checkpoints/last.ckpt" in training.said
    assert batches + sum(line.startswith("batch") for line in training.said) == EPOCH
    assert not list(tmp_path.rglob("hpc_ckpt*"))


@pytest.mark.parametrize("whom", ["the first", pytest.param("all", marks=pytest.mark.slow)])
def test_two_processes_stop_at_the_same_batch(tmp_path, whom):
    """A scheduler may tell the first process alone; Ctrl-C on a terminal tells all."""
    training = Training(tmp_path, "--trainer.devices", "2", "--trainer.max_epochs", "30")
    training.wait_for("batch 3")
    if whom == "all":
        os.killpg(training.process.pid, signal.SIGTERM)
    else:
        training.process.send_signal(signal.SIGTERM)
    returned, err = training.end()
    assert returned == 143, err
    last = tmp_path / "runs" / "vae-digits" / "1" / "checkpoints" / "last.ckpt"
    assert f"go on with: python -m zoo.fit --ckpt_path {last}" in err
    assert err.count("stopped by SIGTERM") == 1
    assert 0 < read(last)["global_step"] <= 41


class TestResume:
    """``--resume`` finds what to go on with."""

    def test_the_newest_usable_checkpoint_of_the_newest_run(self, cli, new_run_folder, recwarn):
        root = new_run_folder.parents[1]
        last = new_run_folder / "checkpoints" / "last.ckpt"
        assert newest_checkpoint(root, "gan", "digits") == last
        second = root / "gan-digits" / "2" / "checkpoints"
        second.mkdir(parents=True)
        assert newest_checkpoint(root) == last, "a run without any is passed over"
        (second / "last.ckpt").write_bytes(last.read_bytes())
        assert newest_checkpoint(root, "gan", "digits") == second / "last.ckpt"
        (second / "best.ckpt").write_bytes(last.read_bytes())
        (second / "last.ckpt").write_bytes(last.read_bytes()[:-100])
        with pytest.warns(UserWarning, match=r"2/checkpoints/last\.ckpt is truncated or damaged .* It is skipped\."):
            assert newest_checkpoint(root, "gan", "digits") == second / "best.ckpt"
        assert newest_checkpoint(root, "vae", "digits") is None
        assert newest_checkpoint(root / "nowhere") is None

    @pytest.mark.parametrize("words", [[], ["--model", "gan"], ["--model", "gan", "--data", "digits"], ["FILE"]])
    def test_it_goes_on_with_the_run_as_it_was(self, cli, new_run_folder, words):
        last = new_run_folder / "checkpoints" / "last.ckpt"
        resume = ["--resume", last] if words == ["FILE"] else [*words, "--resume"]
        status, out, err = cli("fit", *resume, "--trainer.max_steps", 33, "--trainer.enable_progress_bar", "false")
        assert status == 0, err
        assert Path(out.splitlines()[-1].removeprefix("run: ")).resolve() == new_run_folder
        assert read(last)["global_step"] == 33

    def test_another_model_starts_anew(self, cli, new_run_folder):
        status, out, err = cli("fit", "--model", "vae", "--resume", "--trainer.max_steps", 1, "--wandb", "off")
        assert status == 0, err
        assert "no checkpoint of vae-digits in runs: starting anew." in err
        assert Path(out.splitlines()[-1].removeprefix("run: ")) == Path("runs/vae-digits/1")

    def test_only_one_of_two(self, cli):
        status, _, err = cli("fit", "--resume", "--ckpt_path", "x")
        assert status == 2
        assert "--resume and --ckpt_path: one of them is enough" in err
