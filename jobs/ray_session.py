"""Starts Ray, or joins a cluster, quietly; ends what it started."""

import contextlib
import importlib
import io
import logging
import os
import shutil
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.lean_ray import do_nothing, put_aside, with_workers, without_delay, without_helpers, without_services
from tagger.errors import VtagError

if TYPE_CHECKING:
    import psutil

OBJECT_STORE_BYTES = 2 * 2**30
OBJECT_STORE_BYTES_PER_CORE = 256 * 2**20
"""Memory that a local Ray may use for frames on their way: the larger of the two, but never over a quarter of all."""

EXECUTORS_S = 5.5
"""Time in seconds that Ray Data's planning threads may take to stop: after SIGTERM there are nine in all."""

AGENTS_S = 0.5
"""Time in seconds that Ray's processes may take to end after their raylet."""

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would otherwise pack up the current folder, videos and all, when started by uv.
    "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
}


_WORKERS = {
    # Ray gives its workers the lowest priority (nice 15): beside any other busy program they hardly run at all.
    "RAY_worker_niceness": "0",
    # It ends one that has had nothing to do for a second, as happens to decoders that wait for the models. The next
    # task starts another, which takes two seconds of a core, and a decoder process, which takes one.
    "RAY_idle_worker_killing_time_threshold_ms": "3600000",
}

_CONNECTIONS = {
    # A raylet that finds its object store not yet there looks again after a second: 67 of 441 did. Half a minute in
    # all.
    "RAY_raylet_client_connect_timeout_milliseconds": "50",
    "RAY_raylet_client_num_connect_attempts": "600",
}

_PRELOADED = {"RAY_preload_python_modules": "jobs.worker_start"}


@dataclass(frozen=True)
class RaySession:
    """A running Ray and what it has, over all of its nodes."""

    cpus: float
    gpus: float


@contextlib.contextmanager
def ray_session(
    address: str | None = None,
    *,
    cpus: int | None = None,
    lean: bool = False,
    workers: Callable[[float, float], int] | None = None,
    verbose: bool = False,
) -> Iterator[RaySession]:
    """Joins the cluster at ``address`` (or RAY_ADDRESS), or starts a Ray of this machine alone and ends it afterwards.

    ``cpus`` limits a local Ray. With ``lean`` it starts faster and with fewer processes; not for Ray Train, nor for two
    data sets of Ray Data at a time. ``workers`` is then how many of its workers will be needed on so many CPUs and
    GPUs. A Ray that already runs in this process is used as it is, and left running. Raises VtagError when a cluster
    cannot be reached, and what ``workers`` raises.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    is_joined = bool(address and address != "local")
    # A thread that still reads results while Ray is shut down must not start another one.
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")
    for name, value in (_WORKERS if verbose else _WORKERS | _QUIET).items():
        os.environ.setdefault(name, value)
    if not is_joined and not _CONNECTIONS.keys() & os.environ.keys():
        os.environ.update(_CONNECTIONS)
    import ray

    if ray.is_initialized():
        with _silenced(verbose), _silent_loggers(verbose):
            yield _resources()
        return
    quiet: dict[str, Any] = {} if verbose else {"logging_level": logging.CRITICAL, "log_to_driver": False}
    keep = None if is_joined else _raylets()
    # Whoever wants to see what Ray does gets all of it.
    lean = lean and not is_joined and not verbose
    with contextlib.ExitStack() as stack:
        stack.enter_context(_silenced(verbose))
        try:
            with _ray_data_imported():
                if is_joined:
                    ray.init(address=address, **quiet)
                else:
                    with without_delay(), _lean_start(workers) if lean else contextlib.nullcontext():
                        ray.init(
                            address="local",
                            num_cpus=cpus,
                            include_dashboard=False,
                            object_store_memory=_object_store_bytes(),
                            **quiet,
                        )
            stack.enter_context(_silent_loggers(verbose))
            if lean:
                stack.enter_context(without_helpers())
        except BaseException as error:
            # Also when interrupted: a half-started Ray has processes already.
            _shut_down(keep)
            if not isinstance(error, Exception) or isinstance(error, VtagError):
                raise
            where = f"the Ray cluster at {address} cannot be joined" if address else "Ray cannot be started here"
            raise VtagError(f"{where}: {' '.join(str(error).split())[:300]}") from error
        try:
            yield _resources()
        finally:
            try:
                _stop_executors()
            finally:
                _shut_down(keep)


@contextlib.contextmanager
def _lean_start(workers: Callable[[float, float], int] | None) -> Iterator[None]:
    """While ``ray.init`` starts a Ray: a lean one. Workers of no other Ray import what its workers do."""
    before = {name: os.environ.get(name) for name in _PRELOADED}
    os.environ.update(_PRELOADED)
    try:
        with without_services(), with_workers(workers) if workers else contextlib.nullcontext():
            yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _shut_down(keep: list["psutil.Process"] | None) -> None:
    """Ends Ray, with all processes of a Ray that the session started; the raylets to ``keep`` were there before.

    With None for ``keep`` a cluster was joined, which goes on. Ray gives its raylet a second to end, then kills it. On
    a busy machine that happens, and the raylet's agents would stay for another minute, as they try to report its death
    to a Ray that has gone. A raylet that is still starting is not ended by Ray at all.
    """
    import psutil
    import ray

    started: list[psutil.Process] = []
    try:
        for raylet in [] if keep is None else [found for found in _raylets() if found not in keep]:
            started.append(raylet)
            with contextlib.suppress(psutil.Error):
                started += raylet.children(recursive=True)
    finally:
        try:
            ray.shutdown()
            deadline_s = time.monotonic() + AGENTS_S
            while any(map(_lives, started)) and time.monotonic() < deadline_s:
                time.sleep(0.02)
        finally:
            for process in started:
                # Most have ended. One whose number another process has got since is left alone.
                with contextlib.suppress(psutil.Error):
                    process.kill()


def _raylets() -> list["psutil.Process"]:
    """The raylets that this process has started."""
    import psutil

    found = []
    for child in psutil.Process().children():
        # It may end meanwhile.
        with contextlib.suppress(psutil.Error):
            if child.name() == "raylet":
                found.append(child)
    return found


def _lives(process: "psutil.Process") -> bool:
    import psutil

    # Some containers have nobody who takes note of processes that have ended.
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def _stop_executors() -> None:
    """Stops the threads that plan Ray Data's work, and waits for them.

    Ray Data itself waits for two seconds. On a busy machine that is not enough, and a thread that asks Ray for anything
    after its shutdown ends the whole process at once, with exit status 1 and without a word.
    """
    deadline_s = time.monotonic() + EXECUTORS_S
    for thread in threading.enumerate():
        if type(thread).__name__ == "StreamingExecutor":
            with contextlib.suppress(Exception):
                # Does nothing where the one who takes the rows has stopped it before.
                thread.shutdown(force=False)  # type: ignore[attr-defined]
            thread.join(max(0.0, deadline_s - time.monotonic()))


def _resources() -> RaySession:
    import ray

    resources = ray.cluster_resources()
    return RaySession(cpus=resources.get("CPU", 1.0), gpus=resources.get("GPU", 0.0))


def _object_store_bytes() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    size = min(max(OBJECT_STORE_BYTES, OBJECT_STORE_BYTES_PER_CORE * (os.cpu_count() or 1)), memory // 4)
    shared = Path("/dev/shm")
    if shared.is_dir():
        # Containers often have 64 MB here; Ray then goes to the temporary folder and warns, which is right.
        free = shutil.disk_usage(shared).free
        size = min(size, int(free * 0.9)) if free > 2**29 else size
    return size


@contextlib.contextmanager
def _ray_data_imported() -> Iterator[None]:
    """Imports Ray Data meanwhile, which takes as long as ``ray.init`` waits for its processes."""

    def load() -> None:
        # Whoever needs it imports it again, and says what is wrong.
        with contextlib.suppress(Exception):
            importlib.import_module("ray.data")

    thread = threading.Thread(target=load, name="vtag-import")
    thread.start()
    try:
        yield
    finally:
        thread.join()


@contextlib.contextmanager
def _silenced(verbose: bool) -> Iterator[None]:
    """Keeps what Ray prints off the terminal."""
    if verbose:
        yield
        return
    from ray._private import worker

    _quiet_threads_of_ray()
    with (
        _stderr_of_python_only(),
        # The tracebacks of workers would go to standard output, where the job's JSON goes. The driver gets them as
        # exceptions as well.
        put_aside(worker, print_to_stdstream=do_nothing),
        warnings.catch_warnings(),
    ):
        warnings.filterwarnings("ignore", module=r"ray\.")
        # Ray 2.60 announces that retries will be set in another way, but has no other way yet.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        yield


@contextlib.contextmanager
def _silent_loggers(verbose: bool) -> Iterator[None]:
    """Keeps what Ray and Ray Data log off the terminal. Their log files keep everything."""
    if verbose:
        yield
        return
    # Ray Data sets up its logger, with a handler to the terminal, when it is imported.
    import ray.data

    ray.data.DataContext.get_current()
    handlers = [
        handler
        for name in ("ray", "ray.data")
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)
    ]
    for handler in handlers:
        handler.addFilter(_show_nothing)
    try:
        yield
    finally:
        for handler in handlers:
            handler.removeFilter(_show_nothing)


def _quiet_threads_of_ray() -> None:
    """Keeps the tracebacks of Ray Data's own threads off the terminal, for good.

    Its prefetching thread fails when Ray is shut down under it, which may be after the session has ended. Exceptions
    of all other threads are shown as before.
    """
    shown = threading.excepthook

    def show(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is None or not failed.thread.name.startswith("ray-data"):
            shown(failed)

    threading.excepthook = show


def _show_nothing(record: logging.LogRecord) -> bool:
    return False


@contextlib.contextmanager
def _stderr_of_python_only() -> Iterator[None]:
    """Lets ``sys.stderr`` through and nothing else that is written to standard error.

    Ray's C++ part logs to file descriptor 2, and no setting stops it without a line that says so. The descriptor is
    turned away meanwhile, and the file object of ``sys.stderr``, which others may hold, is moved to a copy of it.
    """
    buffer = getattr(sys.stderr, "buffer", None)
    # With PYTHONUNBUFFERED there is no buffer in between.
    raw = getattr(buffer, "raw", buffer)
    if not isinstance(raw, io.FileIO) or raw.fileno() != 2:
        yield
        return
    copy = os.dup(2)
    with open(os.devnull, "wb") as nowhere:  # noqa: PTH123
        sys.stderr.flush()
        raw.__init__(copy, "wb", closefd=False)  # type: ignore[misc]
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(copy, 2)
        raw.__init__(2, "wb", closefd=False)  # type: ignore[misc]
        os.close(copy)
