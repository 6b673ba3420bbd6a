"""Workers of a study by Parsl: on this machine, or on the nodes that a cluster gives."""

import atexit
import contextlib
import importlib
import importlib.util
import inspect
import logging
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from zoo import registry
from zoo.errors import ZooError
from zoo.experiments.study_file import Execution
from zoo.experiments.study_worker import Job, Outcome, work

__all__ = ["Pool", "devices", "require_parsl", "require_provider", "workers"]

# The name in a study's file, the class of Parsl, and the program that it needs here.
_PROVIDERS: dict[str, tuple[str, str | None]] = {
    "local": ("LocalProvider", None),
    "slurm": ("SlurmProvider", "sbatch"),
    "pbs": ("PBSProProvider", "qsub"),
    "torque": ("TorqueProvider", "qsub"),
    "lsf": ("LSFProvider", "bsub"),
    "grid_engine": ("GridEngineProvider", "qsub"),
    "condor": ("CondorProvider", "condor_submit"),
    "kubernetes": ("KubernetesProvider", None),
}
_PACKAGES = {"kubernetes": "kubernetes"}  # that a provider imports
_WORKERS = "parsl.executors.high_throughput.process_worker_pool"
# Parsl's interchange stays for ever when the study is killed: the system is told to end it then. What a terminal sends
# to all programs in front, as by Ctrl-C, is for the study alone.
_INTERCHANGE = (
    "import ctypes, os, runpy, sys; os.setsid(); sys.platform == 'linux' and ctypes.CDLL(None).prctl(1, 9, 0, 0, 0); "
    "runpy.run_module('parsl.executors.high_throughput.interchange', run_name='__main__')"
)


def require_parsl() -> None:
    """ZooError where Parsl is not installed."""
    if importlib.util.find_spec("parsl") is None:
        raise ZooError(
            "zoo.study needs Parsl, which is not installed: pip install 'generative-zoo[study]', or pip install parsl"
        )


def require_provider(provider: Mapping[str, Any]) -> None:
    """ZooError for a provider that there is not, options that it does not have, and a machine that lacks what it needs."""
    require_parsl()
    name = str(provider["name"])
    if name not in _PROVIDERS:
        there = ", ".join(_PROVIDERS)
        raise ZooError(f"provider {name}: there is none.{registry.suggestion(name, _PROVIDERS)}\nThere are {there}.")
    program = _PROVIDERS[name][1]
    if program is not None and shutil.which(program) is None:
        raise ZooError(
            f"provider {name}: this machine has no {program}.\n"
            "Start the study where jobs are submitted from, or leave `provider` out."
        )
    if name in _PACKAGES and importlib.util.find_spec(_PACKAGES[name]) is None:
        raise ZooError(f"provider {name} needs the package {_PACKAGES[name]}: pip install {_PACKAGES[name]}")
    known = [each for each in inspect.signature(_provider_class(name)).parameters if each != "self"]
    for option in provider:
        if option not in (*known, "name", "address"):
            raise ZooError(
                f"provider {name} has no option {option}.{registry.suggestion(option, known)}\nThere are {', '.join(known)}."
            )


def _provider_class(name: str) -> Any:
    return getattr(importlib.import_module("parsl.providers"), _PROVIDERS[name][0])


def devices(execution: Execution, there: int) -> tuple[str | None, ...]:
    """What ``CUDA_VISIBLE_DEVICES`` is for each worker of a node; empty where all are on the CPU.

    Arguments:
        execution: How runs are executed.
        there: The number of GPUs of this machine.

    Raises:
        ZooError: for GPUs that are not there.

    Example:
        >>> devices(Execution(gpus=2, per_gpu=2), 2), devices(Execution(gpus=1, per_gpu=1, workers=2), 4)
        (('0', '1', '0', '1'), ('0', None))
    """
    local = execution.provider["name"] == "local"
    asked = (-1 if local else 0) if execution.gpus is None else execution.gpus
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "") if local else ""
    names = [name.strip() for name in given.split(",") if name.strip()] or list(map(str, range(there if local else 1024)))
    if asked == -1 and not local:
        raise ZooError("gpus -1: how many GPUs a node has must be said for a cluster: run.gpus")
    numbers = list(range(there)) if asked == -1 else list(range(asked)) if isinstance(asked, int) else asked
    if local and numbers and max(numbers) >= there:
        raise ZooError(f"gpus {asked}: this machine has {there}.")
    if not numbers:
        return ()
    each = execution.per_gpu or (-(-execution.workers // len(numbers)) if execution.workers else 1)
    pinned: list[str | None] = [names[number] for _ in range(each) for number in numbers]
    count = execution.workers or len(pinned)
    return tuple((pinned + [None] * count)[:count])


def workers(execution: Execution, pinned: tuple[str | None, ...]) -> int:
    """How many runs are computed at a time on a node."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return execution.workers or len(pinned) or max(1, cores // execution.threads)


class Pool:
    """Workers that are started when the first run is given to them; a context that ends them.

    Arguments:
        folder: Where Parsl writes what it does.
        execution: How runs are executed.
        count: Workers of a node.

    Raises:
        ZooError: where Parsl, or the provider, is not there.
    """

    def __init__(self, folder: Path, execution: Execution, count: int):
        require_provider(execution.provider)
        self.folder, self.execution, self.count = folder, execution, count
        self._kernel: Any = None
        self._executor: Any = None
        self._app: Callable[[Job], Future] | None = None

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def submit(self, job: Job) -> "Future[Outcome]":
        """The run's outcome, when it is there."""
        if self._app is None:
            self._start()
        assert self._app is not None
        return self._app(job)

    def require_alive(self) -> None:
        """ZooError where Parsl's interchange is gone, without which no outcome ever comes."""
        if self._executor is not None and self._executor.interchange_proc.poll() is not None:
            raise ZooError(
                f"Parsl's interchange was killed: no run can be heard of.\nThe same command goes on; see {self.folder}."
            )

    def close(self) -> None:
        """End the workers."""
        if self._kernel is None:
            return
        kernel, executor, self._kernel, self._app = self._kernel, self._executor, None, None
        with _quiet():
            if executor.interchange_proc.poll() is None:
                kernel.cleanup()
            else:  # which would wait for it for ever
                executor.provider.cancel([*executor.blocks_to_job_id.values()])
                atexit.unregister(kernel.atexit_cleanup)

    def _start(self) -> None:
        import parsl
        from parsl.config import Config
        from parsl.executors import HighThroughputExecutor
        from parsl.executors.high_throughput.executor import DEFAULT_LAUNCH_CMD

        options = {key: value for key, value in self.execution.provider.items() if key not in ("name", "address")}
        options["worker_init"] = "\n".join(
            [str(options.get("worker_init", "")), *_environment(self.execution.threads)]
        ).strip()
        name = str(self.execution.provider["name"])
        local = name == "local"
        if local:
            options = {"init_blocks": 1, "min_blocks": 1, "max_blocks": 1, **options}
        try:
            provider = _provider_class(name)(**options)
        except Exception as error:  # of whatever package or service it stands on
            raise ZooError(f"provider {name} can't be made: {' '.join(str(error).split())[:300]}") from error
        python = "python" if name == "kubernetes" else shlex.quote(sys.executable)
        address = self.execution.provider.get("address", "127.0.0.1" if local else None)
        self._executor = HighThroughputExecutor(
            label="study",
            provider=provider,
            address=address,
            max_workers_per_node=self.count,
            cores_per_worker=1e-6,  # max_workers_per_node alone decides
            heartbeat_period=2,
            heartbeat_threshold=90,
            launch_cmd=DEFAULT_LAUNCH_CMD.replace("process_worker_pool.py", f"{python} -m {_WORKERS}", 1),
            interchange_launch_cmd=[sys.executable, "-c", _INTERCHANGE],
            encrypted=not local,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        config = Config(
            executors=[self._executor], run_dir=str(self.folder), usage_tracking=0, strategy="simple", strategy_period=2
        )
        with _quiet():
            self._kernel = parsl.DataFlowKernel(config)
        self._app = parsl.python_app(work, data_flow_kernel=self._kernel, cache=False)


def _environment(threads: int) -> Iterator[str]:
    """Lines of the shell that starts workers: our packages and Parsl's programs are found, libraries use few threads."""
    home = str(Path(__file__).resolve().parents[2])
    yield f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
    yield f"export PYTHONPATH={shlex.quote(os.pathsep.join([os.getcwd(), home]))}:$PYTHONPATH"
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        yield f"export {name}={threads}"
    yield "export PYTORCH_NVML_BASED_CUDA_CHECK=1"  # else to ask whether there is a GPU may begin what can't be forked
    yield "export GOMP_SPINCOUNT=${GOMP_SPINCOUNT:-1000}"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Parsl's warnings are in its own log."""
    logger = logging.getLogger("parsl")
    before, logger.propagate = logger.propagate, False
    try:
        yield
    finally:
        logger.propagate = before
