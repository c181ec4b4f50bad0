"""Runs work on Ray in a process of its own, the Ray driver, and passes on the events of the work.

Ray starts threads and processes, prints to standard output and error, and ends a process that uses Ray after its
shutdown. None of this affects the process that reads the rows and commits them: the driver writes to a log file, and
closing ``RayDriver`` ends the driver and all processes below it.
"""

import contextlib
import fcntl
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
from typing import IO, Any, Concatenate, Self

from jobs.cluster.local_ray import temporary_folder
from jobs.cluster.ray_session import RaySession, cluster_address, ray_session, set_environment
from jobs.errors import JobError, WorkerError, without_names
from tagger.errors import NOTE, VtagError, work_of
from tagger.system.end_with_parent import end_with_parent
from tagger.system.home import missing_variables

SendEvent = Callable[[Any], None]
"""Sends an event, anything but None, from the driver to the process that started it."""

Work = Callable[Concatenate[RaySession, SendEvent, ...], Any]
"""A function that a driver calls while Ray is running. It sends events and returns a result."""

SHUTDOWN_TIMEOUT_S = 10.0
"""Seconds to wait for a driver to shut Ray down after its work is done."""

STOP_TIMEOUT_S = 4.0
"""Seconds to wait for a driver that is stopped in the middle of its work. After SIGTERM a job has nine in all."""


class RayDriver:
    """The child process for Ray. It imports Ray at once, and starts Ray or joins a cluster with its first work.

    ``activity`` is the name of the work in messages, such as "tagging". ``address``, ``cpus`` and ``verbose`` are those
    of ``ray_session``. With ``verbose``, everything that Ray prints goes to standard error instead of a log file. If
    this process has a running Ray of its own, the driver joins it.
    """

    def __init__(
        self, activity: str, *, address: str | None = None, cpus: int | None = None, verbose: bool = False
    ) -> None:
        self.result: Any = None
        """The result of the last work, set when ``events`` ends."""
        self._address = address or _address_of_this_process()
        self._settings = activity, {"address": self._address, "cpus": cpus, "verbose": verbose}
        self._verbose = verbose
        self._is_working = False
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        if self._process is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Starts the process, as entering the context does. Raises JobError."""
        if cluster_address(self._address) is None:
            # Raises before the work begins if Ray cannot have a folder.
            temporary_folder()
        with contextlib.ExitStack() as parent, contextlib.ExitStack() as child:
            # The log file has no name, so that no file is left however this process ends.
            self._log: IO[bytes] = parent.enter_context(tempfile.TemporaryFile(prefix="vtag-ray-"))
            pipe, lifelines = Pipe(), socket.socketpair()
            self._connection = parent.enter_context(pipe[0])
            # The driver ends when this socket closes.
            parent.enter_context(lifelines[0])
            for each in (pipe[1], lifelines[1]):
                child.enter_context(each)
            # Descriptors from 3 on: the child needs 0 to 2 for its standard streams.
            fds = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD_CLOEXEC, 3) for each in (pipe[1], lifelines[1])]
            for fd in fds:
                child.callback(os.close, fd)
            output = sys.__stderr__ if self._verbose and sys.__stderr__ else self._log
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "jobs.cluster.ray_driver", *map(str, fds)],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    # The driver imports the same modules as this process, whatever the current folder holds.
                    env=os.environ
                    | missing_variables()
                    | {"PYTHONPATH": os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)},
                    # Ctrl-C on the terminal reaches this process alone, and the session identifies Ray's processes.
                    start_new_session=True,
                )
            except OSError as error:
                raise JobError(f"a process for Ray cannot be started: {error.strerror or error}") from error
            self._files = parent.pop_all()
        self._send(self._settings)

    def close(self) -> None:
        """Ends the process and all processes below it. May be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            # A driver without work ends when the connection is closed.
            self._connection.close()
            if self._is_working:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S if self._is_working else SHUTDOWN_TIMEOUT_S)
        finally:
            process.kill()
            process.wait()
            _kill_session(process.pid)
            self._files.close()

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._process is not None
        return self._process.pid

    def events(self, work: Work, *arguments: Any, timeout_s: float | None = None) -> Iterator[Any]:
        """Calls ``work(session, send_event, *arguments)`` in the driver and yields its events, until it returns.

        ``work`` is a function of a module; its arguments, events and result must be picklable. Yields None after every
        ``timeout_s`` without an event. Raises vtag's own errors as ``work`` raised them, and WorkerError for any other
        failure. May be called again afterwards: Ray keeps running.
        """
        self._is_working = True
        self._send((work, arguments))
        while True:
            try:
                if not self._connection.poll(timeout_s):
                    yield None
                    continue
                data = self._connection.recv_bytes()
            except (EOFError, OSError):
                # OSError, too: the process may end in the middle of a message.
                raise self._with_log(WorkerError(f"the process that runs Ray ended: {self._how_it_ended()}")) from None
            kind, value = pickle.loads(data)
            if kind == "event":
                yield value
                continue
            self._is_working = False
            if kind == "error":
                raise self._with_log(value)
            self.result = value
            return

    def _send(self, value: Any) -> None:
        # If the process has ended, ``events`` reports it when nothing more can be received.
        with contextlib.suppress(OSError):
            _send(self._connection, value)

    def _how_it_ended(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(STOP_TIMEOUT_S)
            if status >= 0:
                return f"exit status {status}"
            with contextlib.suppress(ValueError):
                return signal.Signals(-status).name
        return "it does not answer"

    def _with_log(self, error: Exception) -> Exception:
        """Returns ``error``; a WorkerError gets the log."""
        if isinstance(error, WorkerError) and not self._verbose:
            self._log.seek(0)
            error.log = self._log.read().decode(errors="replace")
        return error


def run_on_ray(
    activity: str,
    work: Work,
    *arguments: Any,
    on_event: Callable[[Any], None] = lambda event: None,
    address: str | None = None,
    cpus: int | None = None,
    verbose: bool = False,
) -> Any:
    """Runs ``work`` in a ``RayDriver`` and returns its result; ``on_event`` gets its events."""
    with RayDriver(activity, address=address, cpus=cpus, verbose=verbose) as driver:
        for event in driver.events(work, *arguments):
            on_event(event)
        return driver.result


def explain(error: BaseException, activity: str) -> Exception:
    """Returns an error of one line for a failure in Ray, from the error of the worker when that is known."""
    from ray.exceptions import RayError, UserCodeException

    cause = error
    # Ray wraps the error of a worker in a subclass of its class, with a traceback as the message.
    while isinstance(cause, RayError) and isinstance(inner := getattr(cause, "cause", None), BaseException):
        cause = inner
    if isinstance(cause, VtagError) and not isinstance(cause, RayError):
        return cause
    if isinstance(cause, OSError) and cause.filename and cause.strerror:
        return cause
    is_memory = "out of memory" in str(error).lower()
    hint = "; try a smaller --batch-size" if is_memory and activity == "tagging" else ""
    work = work_of(cause)
    if isinstance(cause, UserCodeException):
        # Ray Data hides the error of a task: it is only in the traceback, which is the text of the outer error.
        lines = [line.strip() for line in str(error).splitlines()]
        own = [line for line in lines if line.startswith(("tagger.errors.", "jobs.errors.")) and ": " in line]
        if own:
            return JobError(own[0].partition(": ")[2])
        notes = [line for line in lines if line.startswith(NOTE)]
        work = notes[0].removeprefix(NOTE) if notes else None
    elif isinstance(cause, RayError):
        lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
        if not any("Traceback" in line or "ray::" in line for line in lines):
            words = without_names(lines[0]) if lines else "Ray gives no reason"
            return WorkerError(f"{activity} stopped: {words[:300]}{hint}")
        # An actor that failed to start gives only a traceback, which ends with the error and its notes.
        notes = [line.removeprefix(NOTE) for line in lines if line.startswith(NOTE)]
        work = notes[0] if notes else None
        name, _, words = [line for line in lines if not line.startswith(NOTE)][-1].partition(": ")
        if name.startswith(("tagger.errors.", "jobs.errors.")):
            return JobError(words)
    why = f": out of memory{hint}" if is_memory else " by an unexpected error"
    unexpected = WorkerError(f"{activity} stopped{why}{f' while {work}' if work else ''}")
    unexpected.is_unexpected = not is_memory
    return unexpected


def _address_of_this_process() -> str | None:
    ray = sys.modules.get("ray")
    return ray.get_runtime_context().gcs_address if ray is not None and ray.is_initialized() else None


def _kill_session(session: int) -> None:
    """Kills the remaining processes below a driver, Ray's and others: all have its session (setsid)."""
    import psutil

    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == session:
                process.kill()


def _send(connection: Connection, value: Any) -> None:
    # Not Connection.send: it pickles tensors as references to memory of this process.
    connection.send_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


class _Disconnected(BaseException):
    """The parent no longer waits for the work."""


def main() -> None:
    """Runs the driver. The arguments are the file descriptors of the connection and of the lifeline."""
    connection_fd, lifeline = map(int, sys.argv[1:])
    end_with_parent(lifeline)
    try:
        Path.cwd()
    except FileNotFoundError:
        # The current folder was removed. Ray and its workers need one.
        os.chdir("/")
    # Importing Ray takes two seconds. The parent can prepare the work in that time.
    threading.Thread(target=_import, args=["ray.data"], name="vtag-import", daemon=True).start()
    with Connection(connection_fd) as connection, contextlib.suppress(_Disconnected):
        _serve(connection)


def _import(module: str) -> None:
    # Errors are left to the code that needs the module: it imports it again.
    with contextlib.suppress(Exception):
        set_environment()
        importlib.import_module(module)


def _serve(connection: Connection) -> None:
    def send(kind: str, value: Any) -> None:
        try:
            _send(connection, (kind, value))
        except ConnectionError:
            raise _Disconnected from None

    def receive() -> Any:
        try:
            return pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            raise _Disconnected from None

    activity, settings = receive()
    with contextlib.ExitStack() as stack:
        session: RaySession | None = None
        while True:
            work, arguments = receive()
            try:
                session = session or stack.enter_context(ray_session(**settings))
                send("result", work(session, partial(send, "event"), *arguments))
            except Exception as error:
                traceback.print_exc()
                send("error", explain(error, activity))


if __name__ == "__main__":
    main()
