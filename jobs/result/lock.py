"""The lock of an output, so that one job at a time writes to it. The lock file in the run folder names the holder.

The holder writes a heartbeat to the lock file. A lock is taken over when its holder is a process of this machine and
PID namespace that has ended, or when the heartbeat stands still. A job that was paused for so long reads the lock file
before it commits or publishes, and stops.

On a disk, local or mounted, the lock file is made complete under another name and then linked to its own name. Of
several jobs, only one can link, also on NFS. On a local disk, the holder also has the operating system's lock (flock)
of the run folder, so that a paused job is not taken over. The flock alone would not do: NFS has none for folders, and
other mounted disks have one that other machines do not see. A flock of the lock file would keep others from reading it
on SMB.

In a bucket, and on a disk without links, the last of several jobs to write the lock file holds the lock.
"""

import contextlib
import errno
import fcntl
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from jobs.errors import reason
from jobs.result.holder import Holder, describe, has_ended, parse, this_process
from jobs.storage.location import Location
from tagger.errors import OutputError

HEARTBEAT_S = 10.0
"""Seconds between two heartbeats. A lock without a heartbeat for three times as long is stale."""

SETTLE_S = 1.0
"""Seconds after which a job without links looks whether another job has written the lock file after it."""

TRIES = 10
"""How often a job looks at a lock file that is missing or cannot be read, or tries to take a lock that others take."""

TRY_AGAIN_S = 0.3
"""Seconds between two tries."""

RECORD_BYTES = 1024
"""Bytes that are written at each heartbeat. The file keeps its length, so no reader finds it cut off."""


class InUseError(OutputError):
    """An output that another job is writing. ``problem`` is the message without what a user can do."""

    def __init__(self, problem: str):
        super().__init__(f"{problem}; wait for it, or choose another --out")
        self.problem = problem


class Lock:
    """A lock that this process holds."""

    def __init__(self, file: Location, holder: Holder, descriptor: int | None):
        self._file = file
        self._holder = holder
        self._descriptor = descriptor
        self._folder = _flocked_folder(file) if file.is_local else None
        self._lost: str | None = None
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="vtag-lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raises OutputError when another job has taken the lock over, or when the lock file cannot be read."""
        problem = "its lock file is gone, so another job may have written this output; run the same command again"
        for attempt in range(TRIES):
            if attempt:
                time.sleep(TRY_AGAIN_S)
            try:
                if self.is_ours():
                    return
            except OSError as error:
                problem = f"its lock file cannot be read: {reason(error)}; run the same command again"
            if self._lost is not None:
                raise OutputError(self._lost)
        raise OutputError(f"{_output_name(self._file)}: {problem}")

    def is_ours(self) -> bool:
        """Reads the lock file and checks whether it names this job. Raises OSError when it cannot be read."""
        holder = parse(_read(self._file) or "")
        if holder is not None and holder.get("token") != self._holder["token"]:
            self._lost = f"{_output_name(self._file)}: another job has taken over this output ({describe(holder)})"
        return holder is not None and self._lost is None

    def release(self) -> None:
        """Releases the lock."""
        self._released.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            if self.is_ours():
                self._file.delete()
        for descriptor in (self._descriptor, self._folder):
            if descriptor is not None:
                os.close(descriptor)

    def _beat(self) -> None:
        while self._lost is None and not self._released.wait(HEARTBEAT_S):
            # A heartbeat that cannot be written is tried again. A job that has no lock file any more writes none:
            # another job may have taken over and finished.
            with contextlib.suppress(OSError):
                if self.is_ours():
                    self._holder["heartbeat"] += 1
                    _write(self._file, self._holder, self._descriptor)


@contextlib.contextmanager
def locked(folder: Location) -> Iterator[Lock]:
    """Holds the lock of a run folder. Creates the folder if there is none.

    Raises OutputError when another job holds it, OSError when it cannot be written.
    """
    lock = _acquire(folder, folder.child("lock.json"))
    try:
        yield lock
    finally:
        lock.release()


def check_free(folder: Location) -> None:
    """Raises InUseError when another job holds the lock of a run folder, OSError when that cannot be read."""
    _wait_until_free(folder.child("lock.json"))


def _acquire(folder: Location, file: Location) -> Lock:
    holder = this_process()
    tries = 0
    while True:
        folder.create_folder()
        try:
            if (lock := _take(file, holder)) is not None:
                return lock
        except (FileExistsError, FileNotFoundError):
            # Another job was faster, or the last holder has just removed the folder.
            tries += 1
            if tries == TRIES:
                raise
        time.sleep(TRY_AGAIN_S)


def _take(file: Location, holder: Holder) -> Lock | None:
    """Takes the lock when it is free. Returns None, or raises FileExistsError, when another job was faster."""
    stale = _wait_until_free(file)
    if file.is_local:
        with contextlib.suppress(_NoLinksError):
            return Lock(file, holder, _link(file, holder, stale))
    return Lock(file, holder, None) if _rewrite(file, holder, stale) else None


def _wait_until_free(file: Location) -> str | None:
    """Waits until the lock is free or stale. Returns the text of the stale lock file; None when there is none.

    Raises OutputError when the holder lives.
    """
    current, text = _current(file)
    if text is None:
        return None
    holder = parse(text)
    if holder is not None and has_ended(holder):
        return text
    if file.is_local and _is_folder_flocked(file):
        raise _refused(file, holder)
    until = time.monotonic() + 3 * HEARTBEAT_S
    while time.monotonic() < until:
        time.sleep(min(1.0, HEARTBEAT_S / 4))
        now = _current(file)
        if now[1] is None:
            return None
        if now != (current, text):
            raise _refused(file, parse(now[1]))
    return text


class _NoLinksError(Exception):
    """A disk on which a file cannot have a second name."""


def _link(file: Location, holder: Holder, stale: str | None) -> int:
    """Makes the lock file, and returns its descriptor. Raises FileExistsError when another job was faster.

    To take over a stale lock, a job first makes a file named after the token of the last holder. Only one job can, and
    from then on it is the holder. It then renames its file to the name of the lock file.
    """
    own = _own_path(file, holder)
    target = file if stale is None else _successor(file, stale)
    descriptor = os.open(own, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _write(file, holder, descriptor)
        try:
            os.link(own, target.path)
        except FileNotFoundError:
            raise
        except FileExistsError:
            # When the answer of an NFS server is lost, the request is repeated, and meets the first one's file.
            if not _is_same_file(own, Path(target.path)):
                raise
        except OSError as error:
            raise _NoLinksError from error
        if target is not file:
            if _current(file)[0] != target:
                # The lock was taken over and the file named after the token removed, while this job waited.
                target.delete()
                raise FileExistsError
            Path(target.path).replace(file.path)
    except BaseException:
        os.close(descriptor)
        raise
    finally:
        own.unlink(missing_ok=True)
    return descriptor


def _is_same_file(own: Path, other: Path) -> bool:
    try:
        return own.samefile(other)
    except FileNotFoundError:
        return False


def _rewrite(file: Location, holder: Holder, stale: str | None) -> bool:
    """Replaces the lock file, and waits for jobs that do the same. Returns False when it has changed before.

    Raises OutputError when another job replaced the file later.
    """
    if not file.is_in_bucket:
        # While the holder replaces its lock file, other file systems may show none for a moment.
        time.sleep(SETTLE_S / 2)
    looked_s = time.monotonic()
    if _read(file) != stale:
        return False
    _write(file, holder, None)
    # A slow write may have replaced the file of a job that holds the lock already. That job gets time to notice.
    is_quick = time.monotonic() - looked_s < SETTLE_S / 2
    time.sleep(SETTLE_S if is_quick else SETTLE_S + 1.5 * HEARTBEAT_S)
    found = parse(_read(file) or "")
    if found is None or found.get("token") != holder["token"]:
        raise _refused(file, found)
    return True


def _current(file: Location) -> tuple[Location, str | None]:
    """Returns the file of the present holder and its text; None when there is no holder.

    It is the lock file, or the file of a job that takes it over right now.
    """
    lock_file = file
    text = _read(file)
    while text is not None:
        successor = _successor(file, text)
        if successor == file:
            raise OutputError(f"{file} is damaged; remove it when no vtag run writes there")
        following = _read(successor)
        if following is not None:
            file, text = successor, following
        elif _read(file) == text:
            break
        else:
            # Between the two looks, the successor has become the lock file, or the holder has written a heartbeat.
            file, text = lock_file, _read(lock_file)
    return file, text


def _successor(file: Location, text: str) -> Location:
    """Returns the name of the file of the job that takes the lock over from the holder in ``text``."""
    token = (parse(text) or {}).get("token")
    return file.beside(f".lock-after-{token if isinstance(token, str) and token.isalnum() else 'unknown'}.tmp")


def _own_path(file: Location, holder: Holder) -> Path:
    return Path(file.beside(f".lock-{holder['token']}.tmp").path)


def _read(file: Location) -> str | None:
    """Reads a lock file; None when there is none. Opens it each time, so that NFS asks the server."""
    try:
        return b"".join(file.chunks()).decode("utf-8", "replace")
    except (FileNotFoundError, NotADirectoryError):
        return None


def _write(file: Location, holder: Holder, descriptor: int | None) -> None:
    """Writes the holder to disk: in place to the file ``descriptor``, else by replacing the file."""
    data = json.dumps(holder).encode().ljust(RECORD_BYTES - 1) + b"\n"
    if descriptor is not None:
        if os.pwrite(descriptor, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
        os.fsync(descriptor)
    elif file.is_local:
        own = _own_path(file, holder)
        with own.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        own.replace(file.path)
    else:
        file.write_text(data.decode())


def _flocked_folder(file: Location) -> int:
    """Takes the operating system's lock of the run folder, if it has one. Returns the descriptor that holds it."""
    descriptor = os.open(Path(file.path).parent, os.O_RDONLY)
    for _ in range(TRIES):
        if _flock(descriptor, fcntl.LOCK_EX):
            break
        # Another job holds it for the moment of its look.
        time.sleep(0.01)
    return descriptor


def _is_folder_flocked(file: Location) -> bool:
    """Checks whether a process of this machine holds the operating system's lock of the run folder."""
    descriptor = os.open(Path(file.path).parent, os.O_RDONLY)
    try:
        return not _flock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, mode: int) -> bool:
    """Takes the operating system's lock of a file or folder. Returns False when another process holds it."""
    try:
        fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # This file system has no such lock.
    return True


def _output_name(file: Location) -> str:
    """Names the output of a lock file, as a user types it."""
    return file.parent.address.removesuffix(".run")


def _refused(file: Location, holder: Holder | None) -> InUseError:
    return InUseError(f"{_output_name(file)} is being written by another vtag run ({describe(holder)})")
