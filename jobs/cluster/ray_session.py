"""Starts Ray, or joins a cluster, in this process; shuts it down afterwards."""

import contextlib
import logging
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.cluster import local_ray
from jobs.errors import WorkerError, without_names
from tagger.system.home import has_writable_home

CONNECT_TIMEOUT_S = 10.0
"""Seconds to wait for a cluster to accept a connection."""

_KINDS_OF_RESOURCES = ("CPU", "GPU", "MEMORY", "OBJECT_STORE_MEMORY")

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would otherwise pack the current folder with its videos when it is started by uv.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
    # A thread that still reads results while Ray is shut down must not start another Ray.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Ray gives its workers the lowest priority (nice 15): beside any other busy program they hardly run at all.
    "RAY_worker_niceness": "0",
    # Ray ends a worker that has been idle for a second, such as a decoder that waits for the models. The next task
    # starts another worker, which takes two seconds of a core, and a decoder process, which takes one.
    "RAY_idle_worker_killing_time_threshold_ms": "3600000",
    # A raylet that does not find its object store at once waits for a second before it looks again, as in 67 of 441
    # starts. With these values it looks every 50 ms, for half a minute in all.
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "600",
    # Ray Data asks for more machines while its own are busy. From then on it takes the CPUs that a machine has beside
    # those that it asked for as a whole number: on two cores it sees 1.1 CPUs, and runs one decoder at a time. The
    # number of decoders and models follows from the machines that are there, so it need not ask.
    **{f"RAY_DATA_DEFAULT_CLUSTER_SCALING_UP_{kind}_UTIL_THRESHOLD": "1000" for kind in _KINDS_OF_RESOURCES},
}


@dataclass(frozen=True)
class RaySession:
    """A running Ray: the CPUs and GPUs of all its machines together."""

    cpus: float
    gpus: float


@contextlib.contextmanager
def ray_session(address: str | None = None, *, cpus: int | None = None, verbose: bool = False) -> Iterator[RaySession]:
    """Joins the cluster at ``address`` (or RAY_ADDRESS), or starts Ray on this machine. Shuts Ray down at the end.

    ``cpus`` limits a local Ray; the default is ``jobs.cluster.local_ray.cpus``. Ray prints to the standard output and
    error of this process, so ``jobs.cluster.ray_driver`` runs this in a process whose output goes to a log file. Raises
    WorkerError when Ray cannot be started or a cluster cannot be reached.
    """
    address = cluster_address(address)
    set_environment()
    import ray

    try:
        if address:
            _check_reachable(address)
        ray.init(
            address=address or "local",
            logging_level=logging.INFO if verbose else logging.WARNING,
            **({} if address else _local_settings(cpus)),
        )
    except Exception as error:
        ray.shutdown()
        where = f"the Ray cluster at {address} cannot be joined" if address else "Ray cannot be started here"
        raise WorkerError(f"{where}: {without_names(str(error))[:300]}") from error
    try:
        yield _resources()
    finally:
        ray.shutdown()


def cluster_address(address: str | None = None) -> str | None:
    """Returns the address of the cluster to join, ``address`` or RAY_ADDRESS; None for a Ray on this machine alone."""
    address = address or os.environ.get("RAY_ADDRESS")
    return None if address == "local" else address or None


def _local_settings(cpus: int | None) -> dict[str, Any]:
    """Returns the arguments of ``ray.init`` for a Ray on this machine, and sets the environment for it."""
    folder, temporary = local_ray.temporary_folder(), tempfile.gettempdir()
    Path(folder).mkdir(parents=True, exist_ok=True)
    settings: dict[str, Any] = {
        "num_cpus": cpus or local_ray.cpus(),
        "include_dashboard": False,
        "object_store_memory": local_ray.object_store_bytes(folder),
    }
    if folder not in (os.environ.get("RAY_TMPDIR"), temporary):
        # TMPDIR is too long for sockets, but it has the room for objects that do not fit into the store.
        settings["object_spilling_directory"] = temporary
    os.environ["RAY_TMPDIR"] = folder
    if not has_writable_home():
        # Ray would keep its token there.
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    return settings


def _check_reachable(address: str) -> None:
    """Raises OSError when nothing listens at ``address``, if that is HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT_S).close()


def set_environment() -> None:
    """Sets Ray's variables that the user has not set. Ray reads them when imported and when it starts processes."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def _resources() -> RaySession:
    import ray

    resources = ray.cluster_resources()
    return RaySession(cpus=resources.get("CPU", 1.0), gpus=resources.get("GPU", 0.0))
