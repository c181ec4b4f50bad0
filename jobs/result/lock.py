"""The lock of an output, so that one job at a time writes to it. The lock file in the run folder names the holder.

On a local disk the operating system holds the lock (flock). It releases the lock when the process ends or is killed.
The holder also writes a heartbeat to the lock file. Where flock does not work (in a bucket, or on a network disk that
does not share locks), a lock without a heartbeat is taken over.
"""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import IO, Any

from jobs.storage.location import Location
from tagger.errors import OutputError

HEARTBEAT_S = 10.0
"""Seconds between two heartbeats. A lock without a heartbeat for three times as long is stale."""


class Lock:
    """A lock that this process holds."""

    def __init__(self, file: Location, descriptor: IO[str] | None):
        self._file = file
        self._descriptor = descriptor
        self._holder: dict[str, Any] = {
            "host": socket.gethostname(),
            "process": os.getpid(),
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "token": uuid.uuid4().hex,
            "heartbeat": 0,
        }
        self._lost: str | None = None
        self._released = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._beat, name="vtag-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises OutputError when another job has taken the lock over."""
        if self._lost is not None:
            raise OutputError(self._lost)

    def release(self) -> None:
        """Releases the lock."""
        self._released.set()
        self._thread.join()
        if self._lost is None:
            with contextlib.suppress(OSError):
                self._file.delete()
        if self._descriptor is not None:
            self._descriptor.close()

    def is_ours(self) -> bool:
        """Checks whether the lock file still names this job as the holder."""
        found = _read_holder(self._file)
        return found is not None and found.get("token") == self._holder["token"]

    def _write(self) -> None:
        text = json.dumps(self._holder) + "\n"
        if self._descriptor is None:
            self._file.write_text(text)
        else:
            # In place: the operating system's lock belongs to the file, not to its name.
            self._descriptor.seek(0)
            self._descriptor.write(text)
            self._descriptor.truncate()
            self._descriptor.flush()

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            # A heartbeat that cannot be written is tried again. If the disk or bucket fails, the next commit raises.
            with contextlib.suppress(OSError):
                holder = _read_holder(self._file)
                if holder is not None and holder.get("token") != self._holder["token"]:
                    self._lost = (
                        f"{self._file.beside('')}: another job has taken over this output ({_describe(holder)})"
                    )
                    return
                self._holder["heartbeat"] += 1
                self._write()


@contextlib.contextmanager
def locked(folder: Location) -> Iterator[Lock]:
    """Holds the lock of a run folder. Creates the folder if there is none.

    Raises OutputError when another job holds it, OSError when it cannot be written.
    """
    folder.create_folder()
    file = folder.child("lock.json")
    descriptor = _lock_local_file(folder, file) if file.is_local else None
    try:
        _wait_until_stale(file)
        lock = Lock(file, descriptor)
    except BaseException:
        if descriptor is not None:
            descriptor.close()
        raise
    try:
        if descriptor is None:
            # Of two jobs that saw no lock, the one that wrote later holds it.
            time.sleep(1.0)
            if not lock.is_ours():
                raise _refused(file, _read_holder(file))
        yield lock
    finally:
        lock.release()


def _lock_local_file(folder: Location, file: Location) -> IO[str]:
    while True:
        try:
            descriptor = open(os.open(file.path, os.O_RDWR | os.O_CREAT, 0o666), "r+", encoding="utf-8")  # noqa: PTH123, SIM115
        except FileNotFoundError:
            # The last holder has just removed the folder. If it cannot be created again, that raises an OSError.
            folder.create_folder()
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The last holder may have removed the file after it was opened here.
            if os.path.samestat(os.fstat(descriptor.fileno()), os.stat(file.path)):  # noqa: PTH116
                return descriptor
        except BlockingIOError:
            descriptor.close()
            raise _refused(file, _read_holder(file)) from None
        except FileNotFoundError:
            pass
        descriptor.close()


def _wait_until_stale(file: Location) -> None:
    """Returns when the lock is free or stale. Raises OutputError when its holder writes a heartbeat."""
    holder = _read_holder(file)
    if holder is None or _has_ended(holder, file):
        return
    until = time.monotonic() + 3 * HEARTBEAT_S
    while time.monotonic() < until:
        time.sleep(min(1.0, HEARTBEAT_S / 4))
        now = _read_holder(file)
        if now is None:
            return
        if now != holder:
            raise _refused(file, now)


def _has_ended(holder: dict[str, Any], file: Location) -> bool:
    """Checks whether the holder was a process of this machine that has ended."""
    if holder.get("host") != socket.gethostname():
        return False
    if file.is_local:
        return True  # The operating system has just given us the lock that it held.
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, ValueError):
        return False
    return False


def _read_holder(file: Location) -> dict[str, Any] | None:
    """Reads the lock file; None when there is no file, or no holder in it."""
    try:
        holder = json.loads(file.read_text())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return holder if isinstance(holder, dict) else None


def _refused(file: Location, holder: dict[str, Any] | None) -> OutputError:
    out = str(file.beside("")).rstrip("/").removesuffix(".run")
    return OutputError(
        f"{out} is being written by another vtag run ({_describe(holder)}); wait for it, or choose another --out"
    )


def _describe(holder: dict[str, Any] | None) -> str:
    if holder is None:
        return "unknown host and process"
    return f"host {holder.get('host')}, process {holder.get('process')}, started {holder.get('started')}"
