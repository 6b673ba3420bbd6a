"""What every test may use: the command line in this process, small data, and the values that golden tests compare with."""

import contextlib
import io
import os
import shutil
from pathlib import Path

import pytest
import torch

os.environ["WANDB_MODE"] = "disabled"  # tests that want W&B say so
REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """The fastest for models this small; and sums are the same on every machine."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Runs ``python -m zoo.<command> ...`` in this process and in an empty folder; returns (exit status, stdout, stderr)."""
    from zoo.cli.main import main

    monkeypatch.chdir(tmp_path)

    def run(command: str, *argv: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = 0
        try:
            main(command, [str(argument) for argument in argv])
        except SystemExit as leave:
            status = int(leave.code or 0)
        return status, *capsys.readouterr()

    return run


SHORT_RUN = ("--model", "gan", "--trainer.max_steps", "30", "--trainer.log_every_n_steps", "1")


@pytest.fixture
def new_run_folder(cli) -> Path:
    """The run folder of a GAN that was trained on digits for 30 batches, in this test: one to resume.

    Lightning forgets which checkpoints it wrote where a run folder has been moved.
    """
    status, out, err = cli("fit", *SHORT_RUN)
    assert status == 0, err
    return Path(out.splitlines()[-1].removeprefix("run: ")).resolve()


@pytest.fixture(scope="session")
def trained_run(tmp_path_factory) -> Path:
    """Such a run folder, trained once; tests have copies of it, as ``run_folder``."""
    from zoo.cli.main import main

    said = io.StringIO()
    with contextlib.chdir(tmp_path_factory.mktemp("trained")), contextlib.redirect_stdout(said):
        main("fit", list(SHORT_RUN))
        return Path(said.getvalue().splitlines()[-1].removeprefix("run: ")).resolve()


@pytest.fixture
def run_folder(cli, trained_run) -> Path:
    """A copy of such a run folder in the empty folder in which ``cli`` works: one to read and to break."""
    return Path(shutil.copytree(trained_run, Path("runs", *trained_run.parts[-2:]))).resolve()
