"""The Ray connection: the cluster that is named, or a local one with nothing but pip."""

import logging
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import pydantic

from boldstream.config import Config
from boldstream.errors import ConfigError
from boldstream.logs import log_format
from boldstream.machine import available_memory

if TYPE_CHECKING:
    from ray.job_config import JobConfig

MINIMUM_LOCAL_CPUS = 4
"""With fewer logical CPUs, Ray Data plans with several operators starve and hang (measured with Ray 2.60)."""

STORE_SHARE, SMALLEST_STORE, LARGEST_STORE = 0.1, 0.3e9, 20e9
"""Blocks of scans pass through the store and none stays, so it need not be large; its pages are never given back."""

IDLE_WORKER_MS = 60_000
"""How long a local Ray keeps a worker that has no task. Of those that are idle for a second (its own default) it keeps
no more than there are free CPUs: none while a training holds them. Their operators then start others, each of which
takes 2 s of CPU until its first task."""

READING = [{"CPU": 1.0}] * 2
"""What any job needs: a reader and a worker."""

WAIT_STEP_S, WAIT_TOLD_S = 1.0, 30.0

logger = logging.getLogger(__name__)


Gpu = Annotated[
    Literal["auto", "yes", "no"],
    pydantic.BeforeValidator(lambda told: {True: "yes", False: "no"}.get(told, told) if type(told) is bool else told),
]
"""Whether to compute on GPUs; YAML reads a plain yes and no as true and false."""


class ClusterConfig(Config):
    """Where to run. It does not change the result."""

    address: str | None = None
    """Address of a running Ray cluster; empty: the RAY_ADDRESS of the environment, else a local Ray of our own."""

    object_store_gb: float | None = pydantic.Field(default=None, gt=0)
    """Size of a local Ray's object store, in GB; none: a tenth of the free memory (a running cluster has its own)."""

    wait_minutes: float = pydantic.Field(default=0.0, ge=0)
    """How long to wait for nodes that an autoscaler starts for the job, where the cluster has none that it needs."""

    @property
    def object_store_bytes(self) -> int:
        """Size of a local object store on this machine: as told, or a tenth of its free memory within bounds."""
        if self.object_store_gb is not None:
            return int(self.object_store_gb * 1e9)
        return int(min(LARGEST_STORE, max(SMALLEST_STORE, STORE_SHARE * available_memory())))


def connect(config: ClusterConfig) -> None:
    """Connect this process to Ray, once; later calls keep the connection.

    Raises
    ------
    ConfigError
        If no cluster answers at the address.
    """
    # Before Ray is imported: a thread of Ray Data that outlives a failed run by a second would otherwise connect anew
    # while the process ends, and hold it up for ever.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if not ray.is_initialized():
        address = config.address or os.environ.get("RAY_ADDRESS")
        if address:
            try:
                ray.init(
                    address=address,
                    job_config=_job_config(),
                    log_to_driver=log_format() == "text",  # what Ray puts before a worker's line is no JSON
                    logging_level=logging.WARNING,
                )
            except ConnectionError as error:
                raise ConfigError(
                    f"no Ray cluster answers at {address!r} ({error}); start one with `ray start --head`, or leave "
                    "cluster.address and RAY_ADDRESS empty for a local one"
                ) from None
        else:
            # Ray announces that it keeps its default, token authentication: nothing for a person to act upon.
            logging.getLogger("ray._private.authentication").setLevel(logging.ERROR)
            os.environ.setdefault("RAY_idle_worker_killing_time_threshold_ms", str(IDLE_WORKER_MS))
            # "local": without an address Ray would join whatever cluster somebody runs on this machine
            ray.init(
                address="local",
                num_cpus=max(MINIMUM_LOCAL_CPUS, os.cpu_count() or 1),
                object_store_memory=config.object_store_bytes,
                include_dashboard=False,
                job_config=_job_config(),
                log_to_driver=False,
                logging_level=logging.WARNING,
            )
    _configure_data()
    if config.wait_minutes and count_cpus() < len(READING):
        await_room(config, READING)


def await_room(config: ClusterConfig, bundles: Sequence[Mapping[str, float]], placement: str = "PACK") -> None:
    """Wait until the cluster has room for bundles of resources, one a worker, as long as `config` says.

    What is waited for is a placement group, which an autoscaler sees and which goes with this process however it ends.

    Raises
    ------
    ConfigError
        If there is no room by then.
    """
    import ray

    needed = Counter[str]()
    for bundle in bundles:
        needed.update(bundle)
    wanted = " and ".join(f"{amount:g} {name}" for name, amount in needed.items())
    group = ray.util.placement_group([dict(bundle) for bundle in bundles], strategy=placement)
    begun, told = time.monotonic(), 0.0
    try:
        while not group.wait(WAIT_STEP_S):
            waited = time.monotonic() - begun
            if waited > 60 * config.wait_minutes:
                raise ConfigError(
                    f"the cluster has no room for {wanted} (it has {count_cpus()} CPU and {count_gpus()} GPU), after "
                    f"{waited:.0f} s; let its autoscaler start more nodes, wait for other jobs, or raise "
                    "cluster.wait_minutes"
                )
            if waited >= told:
                logger.info("waiting for nodes with %s, %.0f of %g minutes", wanted, waited / 60, config.wait_minutes)
                told = waited + WAIT_TOLD_S
    finally:
        ray.util.remove_placement_group(group)


def _job_config() -> "JobConfig | None":
    """Let workers write JSON lines too, into their own log files, where the environment asks for them."""
    if log_format() == "text":
        return None
    from ray.job_config import JobConfig

    from ray import LoggingConfig

    config = JobConfig()
    config.set_py_logging_config(LoggingConfig(encoding="JSON", log_level="WARNING"))
    return config


def _configure_data() -> None:
    """Read Parquet a file a block, and let the rooms' own progress lines speak instead of Ray Data's bars."""
    import ray.data

    context = ray.data.DataContext.get_current()
    # Ray's newer reader packs files into blocks of 128 MB: progress, resuming and the spread over actors all want a
    # file a block (measured on 12 files of 9 MB: one task, one block, nothing committed before the end).
    context.use_datasource_v2 = False
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def count_cpus() -> int:
    """Return the number of logical CPUs of the connected cluster."""
    import ray

    return int(ray.cluster_resources().get("CPU", 0))


def count_gpus() -> int:
    """Return the number of GPUs of the connected cluster."""
    import ray

    return int(ray.cluster_resources().get("GPU", 0))
