"""Runs work on Ray in a process of its own, the Ray driver, and passes on what it yields.

Ray starts threads and processes, prints to standard output and error, and ends a process that uses it after its
shutdown. None of this reaches the process that reads the rows and commits them: the driver writes to a log file, and it
and all processes below it are gone when ``RayDriver`` is closed.
"""

import contextlib
import importlib
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Self

from jobs.job import JobError, WorkerError
from jobs.ray_session import RaySession, ray_session, set_environment
from tagger.errors import VtagError
from tagger.lifeline import end_with_parent

Tell = Callable[[Any], None]
"""Sends an event, anything but None, from the driver to the process that started it."""

Work = Callable[Concatenate[RaySession, Tell, ...], Any]
"""What a driver does, with Ray running: it tells events and returns a result."""

SHUTDOWN_S = 10.0
"""Seconds that a driver may take to shut Ray down after its work is done."""

STOP_S = 4.0
"""Seconds that a driver may take when it is stopped in the middle of its work: after SIGTERM a job has nine in all."""

TAIL_LINES = 20
TAIL_BYTES = 8000
"""How much of the log is shown when Ray or a worker fails."""


class RayDriver:
    """A process that imports Ray as soon as it is entered, and starts Ray, or joins a cluster, when it gets work.

    ``address``, ``cpus`` and ``verbose`` are those of ``ray_session``; with ``verbose`` everything that Ray prints goes
    to standard error instead of a log file. When this process has a running Ray of its own, the driver joins it.
    """

    def __init__(self, *, address: str | None = None, cpus: int | None = None, verbose: bool = False):
        self.result: Any = None
        """What the work returned, once ``events`` has come to its end."""
        self._settings = {"address": address or _address_of_this_process(), "cpus": cpus, "verbose": verbose}
        self._verbose = verbose
        self._is_done = False

    def __enter__(self) -> Self:
        handle, name = tempfile.mkstemp(prefix="vtag-ray-", suffix=".log")
        self.log = Path(name)
        """Where Ray, its workers and native code write."""
        self._connection, connection = Pipe()
        self._lifeline, lifeline = socket.socketpair()
        fds = [connection.fileno(), lifeline.fileno()]
        output = 2 if self._verbose else handle
        with connection, lifeline:
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "jobs.ray_driver", *map(str, fds)],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # The driver sees the modules that this process sees, whatever the current folder holds.
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
                    # Ctrl-C on the terminal is for this process alone, and all processes of Ray can be found later.
                    start_new_session=True,
                )
            except OSError as error:
                self.log.unlink()
                raise JobError(f"a process for Ray cannot be started: {error.strerror or error}") from error
            finally:
                os.close(handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._connection.close()
            if not self._is_done:
                self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(SHUTDOWN_S if self._is_done else STOP_S)
        finally:
            self._process.kill()
            self._process.wait()
            _kill_session(self._process.pid)
            self._lifeline.close()
            if not isinstance(error, WorkerError):
                self.log.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def events(self, work: Work, *arguments: Any, timeout_s: float | None = None) -> Iterator[Any]:
        """Calls ``work(session, tell, *arguments)`` in the driver and yields what it tells, until it returns.

        ``work`` is a function of a module, and all that travels can be pickled. Yields None whenever nothing was told
        for ``timeout_s``. Raises the VtagError that ``work`` raised, and WorkerError for anything else that went wrong.
        """
        try:
            _send(self._connection, self._settings)
            _send(self._connection, (work, arguments))
            while True:
                if not self._connection.poll(timeout_s):
                    yield None
                    continue
                kind, value = _receive(self._connection)
                if kind == "event":
                    yield value
                    continue
                self._is_done = True
                if kind == "result":
                    self.result = value
                    return
                raise self._with_log(value)
        except (EOFError, ConnectionError):
            raise self._with_log(WorkerError(f"the process that runs Ray ended: {self._how_it_ended()}")) from None

    def _how_it_ended(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(STOP_S)
            if status >= 0:
                return f"exit status {status}"
            with contextlib.suppress(ValueError):
                return signal.Signals(-status).name
        return "it does not answer"

    def _with_log(self, error: VtagError) -> VtagError:
        if isinstance(error, WorkerError) and not self._verbose:
            error.log, error.log_tail = self.log, _tail(self.log)
        return error


def run_on_ray(
    work: Work,
    *arguments: Any,
    on_event: Callable[[Any], None] = lambda event: None,
    address: str | None = None,
    cpus: int | None = None,
    verbose: bool = False,
) -> Any:
    """What ``work`` returns, called in a ``RayDriver``; ``on_event`` gets what it tells."""
    with RayDriver(address=address, cpus=cpus, verbose=verbose) as driver:
        for event in driver.events(work, *arguments):
            on_event(event)
        return driver.result


def explain(error: BaseException, work: str = "tagging") -> VtagError:
    """One line for whatever went wrong in Ray at ``work``, from what the worker raised when that is known."""
    from ray.exceptions import RayError

    cause = error
    # Ray wraps what a worker raised, in a class that is also of the kind raised but speaks in tracebacks.
    while isinstance(cause, RayError) and isinstance(inner := getattr(cause, "cause", None), BaseException):
        cause = inner
    if isinstance(cause, VtagError) and not isinstance(cause, RayError):
        return cause
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    # The last line of a traceback is what happened.
    reason = lines[-1] if any("Traceback" in line or "ray::" in line for line in lines) else lines[0]
    if not isinstance(cause, RayError):
        reason = f"{type(cause).__name__}: {reason}"
    if reason.startswith("tagger.errors."):
        # An actor that failed to start tells only its traceback; the project's own errors need no introduction.
        return JobError(reason.split(": ", 1)[1])
    hint = "; try a smaller --batch-size" if "out of memory" in str(cause).lower() else ""
    return WorkerError(f"{work} stopped: {reason[:300]}{hint}")


def _address_of_this_process() -> str | None:
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().gcs_address if ray is not None and ray.is_initialized() else None


def _kill_session(session: int) -> None:
    """Kills what is left of the processes below a driver, Ray's and others, which all have its session (setsid)."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:
                process.kill()


def _tail(log: Path) -> tuple[str, ...]:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = [line.rstrip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return tuple(lines[-TAIL_LINES:])
    return ()


def _send(connection: Connection, value: Any) -> None:
    # Not Connection.send: it pickles tensors as references to memory of this process.
    connection.send_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


def _receive(connection: Connection) -> Any:
    return pickle.loads(connection.recv_bytes())


class _HungUp(BaseException):
    """Nobody waits for the work any more."""


def main() -> None:
    """The driver's side. Its arguments: file descriptors of the connection and of the lifeline."""
    connection_fd, lifeline = map(int, sys.argv[1:])
    end_with_parent(lifeline)
    # Importing Ray takes two seconds, in which the parent may find out what there is to do.
    threading.Thread(target=_import, args=["ray.data"], name="vtag-import", daemon=True).start()
    with Connection(connection_fd) as connection, contextlib.suppress(_HungUp):
        _serve(connection)


def _import(module: str) -> None:
    # The code that needs the module imports it again, and says what is wrong.
    with contextlib.suppress(Exception):
        set_environment()
        importlib.import_module(module)


def _serve(connection: Connection) -> None:
    def send(kind: str, value: Any) -> None:
        try:
            _send(connection, (kind, value))
        except ConnectionError:
            raise _HungUp from None

    try:
        settings = _receive(connection)
        work, arguments = _receive(connection)
    except EOFError:
        raise _HungUp from None
    with contextlib.ExitStack() as stack:
        try:
            session = stack.enter_context(ray_session(**settings))
            send("result", work(session, partial(send, "event"), *arguments))
        except Exception as error:
            traceback.print_exc()
            send("error", explain(error))


if __name__ == "__main__":
    main()
