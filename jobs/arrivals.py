"""Rows as they come back from Ray: taken in a thread, so that the main thread can always be interrupted."""

import queue
import threading
from collections.abc import Generator, Iterator

import pyarrow as pa

from jobs.job import JobError
from tagger.errors import VtagError


def polled(tables: Generator[pa.Table], timeout_s: float) -> Iterator[pa.Table | None]:
    """Yields ``tables``, and None whenever none has come for ``timeout_s``.

    They are read in a thread, so that the main thread can always be interrupted.
    """
    arrived: queue.Queue[pa.Table | BaseException | None] = queue.Queue(maxsize=64)
    stopped = threading.Event()

    def read() -> None:
        try:
            for table in tables:
                arrived.put(table)
                if stopped.is_set():
                    break
            tables.close()
            arrived.put(None)
        except BaseException as error:
            arrived.put(error)

    threading.Thread(target=read, name="vtag-rows", daemon=True).start()
    try:
        while True:
            try:
                item = arrived.get(timeout=timeout_s)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise explain(item) from item
            yield item
    finally:
        # Whoever stops early ends the pipeline, too: the thread is let past a full queue and sees the flag.
        stopped.set()
        while not arrived.empty():
            arrived.get_nowait()


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
    return JobError(f"{work} stopped: {reason[:300]}{hint}")
