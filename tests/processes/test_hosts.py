"""Processes on two hosts: two network namespaces where those may be made, else two loopback addresses."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY
from launch import run

TASKS = Path(__file__).with_name("tasks.py")


@dataclass
class Host:
    """Where a process is started, by the words before its command, and how others reach it."""

    words: list[str]
    address: str
    interface: str


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """Two hosts that are joined by a cable, or one that has two addresses."""
    names = [f"zoo{os.getpid()}{end}" for end in "ab"]  # of namespaces and of the ends of the cable, 15 characters at most
    addresses = ("10.77.0.1", "10.77.0.2")
    lines = [f"netns add {name}" for name in names] + [f"link add {names[0]} type veth peer name {names[1]}"]
    for name, address in zip(names, addresses, strict=True):
        lines += [f"link set {name} netns {name}", f"-n {name} addr add {address}/24 dev {name}"]
        lines += [f"-n {name} link set {interface} up" for interface in (name, "lo")]
    try:
        for line in lines:
            subprocess.run(["ip", *line.split()], check=True, capture_output=True)
        yield [Host(["ip", "netns", "exec", name], at, name) for name, at in zip(names, addresses, strict=True)]
    except (FileNotFoundError, subprocess.CalledProcessError):
        yield [Host([], address, "lo") for address in ("127.0.0.1", "127.0.0.2")]
    finally:
        for name in names if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


def torchrun(hosts: list[Host], folder: Path, *words: object, processes: int = 1) -> list[tuple[str, str]]:
    """What torchrun prints on each host; all must succeed."""
    with contextlib.closing(socket.create_server((hosts[0].address if not hosts[0].words else "127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    started = []
    for number, host in enumerate(hosts):
        places = (REPOSITORY, REPOSITORY / "tests", REPOSITORY / "tests" / "models", TASKS.parent)
        environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, places)), "WANDB_MODE": "disabled"}
        command = [*host.words, sys.executable, "-m", "torch.distributed.run", "--nnodes=2", f"--node-rank={number}"]
        command += [f"--nproc-per-node={processes}", f"--master-addr={hosts[0].address}", f"--master-port={port}"]
        command += [f"--local-addr={host.address}", *map(str, words)]
        environment |= {**os.environ, **environment, "GLOO_SOCKET_IFNAME": host.interface}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, cwd=folder, env=environment, **pipes))
    printed = [process.communicate(timeout=500) for process in started]
    assert [process.returncode for process in started] == [0, 0], [err[-3000:] for _, err in printed]
    return printed


@pytest.mark.slow
def test_gradients_on_two_hosts_are_those_of_one_process(hosts, tmp_path):
    run(TASKS, "hosts", tmp_path, 1)
    torchrun(hosts, tmp_path, TASKS, "hosts", tmp_path)
    for rank in (0, 1):
        found = torch.load(tmp_path / f"2-{rank}.pt")
        assert len(found) >= 10
        for name, (difference, _, weight) in found.items():
            assert difference < 1e-10, (name, weight)


@pytest.mark.slow
def test_a_training_on_two_hosts_has_one_folder(hosts, tmp_path):
    """Two processes on each; the first writes and prints, the others do neither."""
    words = ["-m", "zoo.fit", "--model", "vae", "--data", "digits", "--trainer.max_steps", 4, "--trainer.accelerator", "cpu"]
    words += ["--trainer.devices", 2, "--trainer.num_nodes", 2, "--trainer.log_every_n_steps", 1]
    (first, _), (second, _) = torchrun(hosts, tmp_path, *words, processes=2)
    assert first.count("run: runs/vae-digits/1") == 1
    assert "runs/" not in second
    assert [path.name for path in (tmp_path / "runs" / "vae-digits").iterdir()] == ["1"]
    rows = (tmp_path / "runs" / "vae-digits" / "1" / "metrics.csv").read_text().splitlines()
    assert len(rows) > 4
    assert "val/elbo" in rows[0]
