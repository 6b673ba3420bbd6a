"""One process of a run is killed: the others end within seconds, with two lines and not with tracebacks of exchanges."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY
from pytorch_lightning import Callback, Trainer

from datamodules import Toy
from zoo.errors import ZooError
from zoo.models import GAN
from zoo.runs.peers import PeerWatch, explain_lost_peers

pytestmark = pytest.mark.skipif(not Path("/proc").is_dir(), reason="children are found in /proc")


def children(pid: int) -> list[int]:
    """The Python processes that one has started."""
    found = [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [child for child in found if b"zoo.fit" in Path(f"/proc/{child}/cmdline").read_bytes()]


def ended(pid: int) -> bool:
    """Whether a process is gone, or waits for its parent to take note of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] == "Z"
    except FileNotFoundError:
        return True


def wait(condition, seconds: float) -> bool:
    start = time.monotonic()
    while not (met := condition()) and time.monotonic() - start < seconds:
        time.sleep(0.1)
    return bool(met)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["vae", "gan", "factor_vae"])
@pytest.mark.parametrize("killed", [0, 1, 2])
def test_a_killed_process_is_noticed(model, killed, tmp_path):
    """Of three processes; the first one has started the others."""
    words = ["--model", model, "--data", "digits", "--trainer.max_steps", 1_000_000, "--wandb", "off"]
    words += ["--trainer.accelerator", "cpu", "--trainer.devices", 3, "--trainer.enable_progress_bar", "false"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-m", "zoo.fit", *map(str, words)]
    with (tmp_path / "err").open("w") as err:
        main = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=err)
    try:
        assert wait(lambda: list(tmp_path.glob("runs/*/1/checkpoints/last.ckpt")), 200), (tmp_path / "err").read_text()
        processes = [main.pid, *children(main.pid)]
        assert len(processes) == 3
        os.kill(processes[killed], signal.SIGKILL)
        assert wait(lambda: all(map(ended, processes)), 60)
        status = main.wait()
    finally:
        for pid in (main.pid, *children(main.pid)) if main.poll() is None else ():
            os.kill(pid, signal.SIGKILL)
    assert status == (-signal.SIGKILL if killed == 0 else 2)
    printed = (tmp_path / "err").read_text().splitlines()
    said = [line for line in printed if "another process of this run has ended" in line]
    assert 1 <= len(said) <= 2, printed
    assert len(printed) == 2 * len(said), printed
    assert all("Go on with --ckpt_path" in line for line in printed if line not in said)


def test_errors_of_exchanges_are_told_from_others():
    gloo = "[../third_party/gloo/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:29. This is typical"
    said = r"has ended.* \(Connection closed by peer \[127.0.0.1\]:29\)\.\nStart again\.$"
    with pytest.raises(ZooError, match=said), explain_lost_peers(lambda: "Start again."):
        raise RuntimeError(gloo)
    with pytest.raises(RuntimeError, match="shapes"), explain_lost_peers(lambda: "Start again."):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_whoever_waits_without_end_is_ended(monkeypatch, capfd):
    """The thread that watches, with a process that can't notice by itself."""
    watch, left = PeerWatch(interval=0.01, grace=0.05), []
    monkeypatch.setattr(os, "_exit", lambda status: (left.append(status), watch._over.set()))
    with subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"]) as child:
        watch._watch(watch._over, lambda: bool(child.poll()))
    assert left == [2]
    assert "another process of this run has ended" in capfd.readouterr().err


def test_nobody_is_watched_where_there_is_one_process(tmp_path):
    class Threads(Callback):
        def on_train_start(self, *_) -> None:
            import threading

            assert "peer-watch" not in {thread.name for thread in threading.enumerate()}

    data = Toy("ring")
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    Trainer(accelerator="cpu", max_steps=1, callbacks=[PeerWatch(), Threads()], default_root_dir=tmp_path, **quiet).fit(
        GAN(data.spec), data
    )
