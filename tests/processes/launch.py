"""Runs tasks on several processes, forked from one that has imported everything and computed nothing."""

import faulthandler
import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing
from conftest import REPOSITORY

import zoo.distributed

_LIMIT = 240  # seconds, after which a process that waits says where
Task = Callable[[Path], object]


def run(script: Path, task: str, folder: Path, *processes: int) -> dict[int, list]:
    """What ``task(folder)`` of the script gives in each process, for each number of them, run one after the other."""
    places = ("", "tests", "tests/models", "tests/processes")
    done = subprocess.run(
        [sys.executable, str(script), task, str(folder), *map(str, processes)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(str(REPOSITORY / each) for each in places)},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    return {count: [torch.load(folder / f"{count}-{rank}.pt") for rank in range(count)] for count in processes}


def main(*tasks: Task) -> None:
    """What a script of tasks does: the one that is named, in a folder, on each of some numbers of processes."""
    name, folder, *processes = sys.argv[1:]
    (task,) = (task for task in tasks if task.__name__ == name)
    if "RANK" in os.environ:  # a launcher has started the processes
        dist.init_process_group("gloo", timeout=timedelta(seconds=120))
        _do(task, Path(folder))
    for count in map(int, processes):
        arguments = (count, task, Path(folder))
        started = torch.multiprocessing.start_processes(_rank, arguments, nprocs=count, join=False, start_method="fork")
        while not started.join():
            pass


def _rank(number: int, count: int, task: Task, folder: Path) -> None:
    """One process, as Lightning sees those of a launcher. They meet in a file, so that no port can be taken."""
    faulthandler.dump_traceback_later(_LIMIT, exit=True)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    if count > 1:
        places = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
        places |= {"MASTER_ADDR": "localhost", "MASTER_PORT": 0, "TORCHELASTIC_RUN_ID": "tests", "GLOO_SOCKET_IFNAME": "lo"}
        os.environ.update({name: str(value) for name, value in places.items()})
        meeting = f"file://{folder / f'meeting-{count}'}"
        dist.init_process_group("gloo", meeting, rank=number, world_size=count, timeout=timedelta(seconds=120))
    _do(task, folder)


def _do(task: Task, folder: Path) -> None:
    torch.save(task(folder), folder / f"{zoo.distributed.processes()}-{zoo.distributed.rank()}.pt")
    if dist.is_initialized():
        dist.destroy_process_group()
