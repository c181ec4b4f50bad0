"""Runs work on Ray in a process of its own, the Ray driver, and passes on what it tells.

Ray starts threads and processes, prints to standard output and error, and ends a process that uses it after its
shutdown. None of this reaches the process that reads the rows and commits them: the driver writes to a log file, and it
and all processes below it are gone when ``RayDriver`` is closed.
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

from jobs.cluster.ray_session import RaySession, ray_session, set_environment
from jobs.errors import JobError, WorkerError
from tagger.end_with_parent import end_with_parent
from tagger.errors import VtagError

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
    """A process that imports Ray when it is started, and starts Ray, or joins a cluster, when it gets its first work.

    ``doing`` is what the work is called in messages, such as "tagging". ``address``, ``cpus`` and ``verbose`` are those
    of ``ray_session``; with ``verbose`` everything that Ray prints goes to standard error instead of a log file. When
    this process has a running Ray of its own, the driver joins it.
    """

    def __init__(
        self, doing: str, *, address: str | None = None, cpus: int | None = None, verbose: bool = False
    ) -> None:
        self.result: Any = None
        """What the last work returned, once ``events`` has come to its end."""
        self._settings = doing, {"address": address or _address_of_this_process(), "cpus": cpus, "verbose": verbose}
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
        """Starts the process; entering does so, too. Raises JobError."""
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            # It has no name, so that nothing stays behind however this process ends.
            self._log: IO[bytes] = ours.enter_context(tempfile.TemporaryFile(prefix="vtag-ray-"))
            pipe, lifelines = Pipe(), socket.socketpair()
            self._connection = ours.enter_context(pipe[0])
            ours.enter_context(lifelines[0])
            for each in (pipe[1], lifelines[1]):
                theirs.enter_context(each)
            # Standard streams may be closed here, and the child has its own under the numbers below 3.
            fds = [fcntl.fcntl(each.fileno(), fcntl.F_DUPFD_CLOEXEC, 3) for each in (pipe[1], lifelines[1])]
            for fd in fds:
                theirs.callback(os.close, fd)
            output = sys.__stderr__ if self._verbose and sys.__stderr__ else self._log
            try:
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "jobs.cluster.ray_driver", *map(str, fds)],
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
                raise JobError(f"a process for Ray cannot be started: {error.strerror or error}") from error
            self._files = ours.pop_all()
        self._send(self._settings)

    def close(self) -> None:
        """Ends the process and all processes below it. May be called again."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            # Without work it ends by itself when the connection does.
            self._connection.close()
            if self._is_working:
                process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S if self._is_working else SHUTDOWN_S)
        finally:
            process.kill()
            process.wait()
            _kill_session(process.pid)
            self._files.close()

    @property
    def pid(self) -> int:
        """The number of the process."""
        assert self._process is not None
        return self._process.pid

    def events(self, work: Work, *arguments: Any, timeout_s: float | None = None) -> Iterator[Any]:
        """Calls ``work(session, tell, *arguments)`` in the driver and yields what it tells, until it returns.

        ``work`` is a function of a module, and all that travels can be pickled. Yields None whenever nothing was told
        for ``timeout_s``. Raises what ``work`` raised of vtag's own errors, and WorkerError for anything else that went
        wrong. May be called again afterwards: Ray keeps running.
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
                # An OSError, too: the end may come in the middle of a message.
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
        # What an end of the process means is known when nothing can be received any more.
        with contextlib.suppress(OSError):
            _send(self._connection, value)

    def _how_it_ended(self) -> str:
        assert self._process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            status = self._process.wait(STOP_S)
            if status >= 0:
                return f"exit status {status}"
            with contextlib.suppress(ValueError):
                return signal.Signals(-status).name
        return "it does not answer"

    def _with_log(self, error: Exception) -> Exception:
        """``error``; a WorkerError with the last lines of the log, all of which is then kept in a file."""
        if isinstance(error, WorkerError) and not self._verbose:
            self._log.seek(0)
            content = self._log.read()
            lines = [line.rstrip() for line in content[-TAIL_BYTES:].decode(errors="replace").splitlines()]
            error.log_tail = tuple([line for line in lines if line][-TAIL_LINES:])
            with contextlib.suppress(OSError):
                with tempfile.NamedTemporaryFile(prefix="vtag-ray-", suffix=".log", delete=False) as file:
                    file.write(content)
                error.log = Path(file.name)
        return error


def run_on_ray(
    doing: str,
    work: Work,
    *arguments: Any,
    on_event: Callable[[Any], None] = lambda event: None,
    address: str | None = None,
    cpus: int | None = None,
    verbose: bool = False,
) -> Any:
    """What ``work`` returns, called in a ``RayDriver``; ``on_event`` gets what it tells."""
    with RayDriver(doing, address=address, cpus=cpus, verbose=verbose) as driver:
        for event in driver.events(work, *arguments):
            on_event(event)
        return driver.result


def explain(error: BaseException, doing: str) -> Exception:
    """One line for whatever went wrong in Ray, from what the worker raised when that is known."""
    from ray.exceptions import RayError

    cause = error
    # Ray wraps what a worker raised, in a class that is also of the kind raised but speaks in tracebacks.
    while isinstance(cause, RayError) and isinstance(inner := getattr(cause, "cause", None), BaseException):
        cause = inner
    if isinstance(cause, VtagError) and not isinstance(cause, RayError):
        return cause
    if isinstance(cause, OSError) and cause.filename and cause.strerror:
        return cause
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()] or [type(cause).__name__]
    # The last line of a traceback is what happened.
    reason = lines[-1] if any("Traceback" in line or "ray::" in line for line in lines) else lines[0]
    if not isinstance(cause, RayError):
        reason = f"{type(cause).__name__}: {reason}"
    if reason.startswith("tagger.errors."):
        # An actor that failed to start tells only its traceback; the project's own errors need no introduction.
        return JobError(reason.split(": ", 1)[1])
    is_memory = doing == "tagging" and "out of memory" in str(cause).lower()
    return WorkerError(f"{doing} stopped: {reason[:300]}{'; try a smaller --batch-size' if is_memory else ''}")


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


def _send(connection: Connection, value: Any) -> None:
    # Not Connection.send: it pickles tensors as references to memory of this process.
    connection.send_bytes(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


class _HungUp(BaseException):
    """The parent does not wait for the work any more."""


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

    def receive() -> Any:
        try:
            return pickle.loads(connection.recv_bytes())
        except (EOFError, ConnectionError):
            raise _HungUp from None

    doing, settings = receive()
    with contextlib.ExitStack() as stack:
        session: RaySession | None = None
        while True:
            work, arguments = receive()
            try:
                session = session or stack.enter_context(ray_session(**settings))
                send("result", work(session, partial(send, "event"), *arguments))
            except Exception as error:
                traceback.print_exc()
                send("error", explain(error, doing))


if __name__ == "__main__":
    main()
