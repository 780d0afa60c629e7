"""Jobs of a sweep on a Ray cluster: one Ray task a job.

Ray looks after machines and retries a task whose worker died; what is done is known from files
alone, so the cluster keeps nothing. All machines must see OUT, the model and the corpus under the
same paths, and have babelpress installed.

Threads decide the last bits of a result: every task runs with as many as it was given processors.
Memory that nobody gave a number for is reserved as a dry run found it (jobs.Size), so that no more
tasks share a machine than fit.
"""

import contextlib
import math
import os
import socket
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from babelpress.errors import BadRun, BadSetting, MissingPackage
from babelpress.sweeps import jobs
from babelpress.sweeps.jobs import attempt
from babelpress.sweeps.looks import Merge
from babelpress.sweeps.setup import Job, Setup
from babelpress.system.claims import LOCK_NAME

SECONDS = 10  # for a machine to answer
SPARE = 1.3  # times the memory of a dry run, which may be wrong by as much
SURROUNDINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job takes of a machine; its processors are its threads.

    `memory_mb` is reserved for every job; None is as much as the dry run says.
    """

    cpus: int = 1
    gpus: float = 0.0
    memory_mb: int | None = None

    def options(self, job: Job, out: Path, largest: int = 0) -> dict[str, Any]:
        """The same for a job, in the words of Ray; `largest` is the memory of a machine, if known.

        What no machine has would wait for ever: such a job gets a whole one.
        """
        memory = (self.memory_mb or 0) << 20
        if self.memory_mb is None:
            memory = math.ceil(jobs.memory(job, out) * SPARE)
            memory = min(memory, largest) if largest else memory
        gpus = 0.0 if isinstance(job, Merge) else self.gpus  # processors merge
        asked = {"num_cpus": self.cpus, "num_gpus": gpus}
        return {**asked, "memory": memory} if memory else asked


def package() -> Any:
    """The ray package, which is optional. Raises MissingPackage."""
    try:
        return import_module("ray")
    except ImportError as error:
        raise MissingPackage("ray", "ray") from error


class OnRay:
    """Hands of a cluster; a `with` block connects and disconnects."""

    apart = True

    def __init__(
        self,
        setup: Setup,
        resources: Resources,
        *,
        address: str = "",
        retries: int = 3,
    ):
        """`resources` are those of a job; without an address Ray is started here.

        Raises BadRun where no cluster answers at the address, MissingPackage without ray.
        """
        self._ray = package()
        self.sized = resources.memory_mb is None
        self._setup, self._resources, self._retries = setup, resources, retries
        self._running: dict[Any, Job] = {}
        self._address = address

    def __enter__(self) -> "OnRay":
        _connect(self._ray, self._address)
        self._task = self._ray.remote(_attempt)
        return self

    def __exit__(self, *_: object) -> None:
        self._ray.shutdown()

    def give(self, job: Job) -> None:
        """Submit a job. Raises BadSetting where Ray does not accept its resources."""
        cpus = self._resources.cpus
        asked = self._resources.options(job, self._setup.out, self._largest())
        surroundings = {**SURROUNDINGS, "OMP_NUM_THREADS": str(cpus)}
        try:
            task = self._task.options(
                **asked,
                max_retries=self._retries,
                name=job.name,
                runtime_env={"env_vars": surroundings},
            )
        except ValueError as error:
            raise BadSetting(f"Ray does not accept {asked}: {error}") from error
        reference = task.remote(job, self._setup, cpus, str(Path.cwd()))
        self._running[reference] = job

    def _largest(self) -> int:
        """The most memory of a machine that has the processors of a job; 0 where none is there."""
        there = [each["Resources"] for each in self._ray.nodes() if each["Alive"]]
        fit = [each for each in there if each.get("CPU", 0) >= self._resources.cpus]
        return int(max((each.get("memory", 0) for each in fit), default=0))

    def take(self) -> tuple[Job, str]:
        """The next job that ends. A fault of ours in a task is raised here as it was there."""
        (reference, *_), _ = self._ray.wait(list(self._running), num_returns=1)
        job = self._running.pop(reference)
        errors = self._ray.exceptions
        try:
            return job, self._ray.get(reference)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            first = str(error).strip().split("\n")[0]
            return job, f"its machine or its process died {self._retries + 1} times: {first}"


def check_address(address: str) -> None:
    """Raise BadRun where nothing listens at HOST:PORT: Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdecimal() and int(port) < 1 << 16):
        return  # auto, or a name that Ray looks up
    try:
        socket.create_connection((host.strip("[]"), int(port)), SECONDS).close()
    except OSError as error:
        raise _unusable(address, error.strerror or str(error)) from error


def _connect(ray: Any, address: str) -> None:
    check_address(address)
    # The environment, as ray.init has no word for it: nothing is ever sent home.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if address:  # with one try, as every try at a dead cluster takes it a minute
        os.environ.setdefault("RAY_gcs_server_port_wait_time_s", "1")
    try:
        if address:
            ray.init(address=address, log_to_driver=False)
        else:  # not the cluster that Ray remembers: a dead one would be waited for
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:
        first = str(error).strip().split("\n")[0]
        raise _unusable(address or "this machine", first) from error


def _unusable(address: str, why: str) -> BadRun:
    return BadRun(
        f"no Ray cluster can be used at {address}: {why.rstrip('.')}. "
        "Start one with `ray start --head`; docs/cluster.md has the commands."
    )


def _attempt(job: Job, setup: Setup, threads: int, folder: str) -> str:
    """What a worker does: the job, on that many threads, where the sweep was asked for."""
    import torch

    torch.set_num_threads(threads)
    if not (setup.out / LOCK_NAME).exists():
        host = os.uname().nodename
        return f"{setup.out} is not the same folder on {host}. Choose one that all machines share."
    here = contextlib.chdir(folder) if Path(folder).is_dir() else contextlib.nullcontext()
    with here:
        return attempt(job, setup)
