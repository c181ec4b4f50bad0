"""Room on the disk for local copies of remote videos.

Each copy has a folder of its own, on which its worker holds a lock. The system releases the lock when the worker ends
or is killed. Before each copy, a worker removes the folders without a lock.

The workers of a machine look for room one after the other. A worker that finds none waits until other copies are
removed, and the workers behind it wait, too. So a full disk holds fewer copies at a time, down to a single one.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobError, reason
from tagger.errors import VideoError

PREFIX = "vtag-staged-"
"""Prefix of the names of these folders, which are in the folder for temporary files (``TMPDIR``)."""

RESERVE_BYTES = 1 << 30
"""Bytes of the disk that copies leave free, or a twentieth of a small disk. A single copy may fill the disk."""

WAIT_S = 1.0
"""Seconds between two looks for room."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk."""

MAKE_ROOM = "make room there, or set TMPDIR to a folder that has it"


class TooLargeError(VideoError):
    """There is no room for a copy of a video, even if it is the only one. There may be room for other videos."""


def _no_room(what: str, why: str) -> JobError:
    return JobError(f"{socket.gethostname()} has no room for {what} in {tempfile.gettempdir()} ({why}); {MAKE_ROOM}")


@dataclass
class Room:
    """The room for a copy at ``path`` of the video called ``name``. The copy takes ``size`` bytes."""

    name: str
    path: Path
    size: int = 0

    def wait_for(self, descriptor: int, size: int) -> None:
        """Waits until there is room for ``size`` bytes of the copy, an empty file that is open.

        Raises TooLargeError or JobError when there will be none.
        """
        with _in_turn():
            while not self._is_there(size):
                time.sleep(WAIT_S)
            self._note_size(descriptor, size)

    @contextlib.contextmanager
    def as_only_copy(self) -> Iterator[Callable[[int, int], None]]:
        """Waits until there is no other copy, and lets none begin before the block ends.

        Yields what to call instead of ``wait_for``. When the disk is full all the same, raises JobError.
        """
        self.path.unlink(missing_ok=True)
        with _in_turn():
            while _other_copies(self.path.parent):
                time.sleep(WAIT_S)
            try:
                yield self._note_size
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self.path.unlink(missing_ok=True)
                disk = disk_of_copies()
                raise self._no_room(f"{reason(error)}; ", disk.f_bavail * disk.f_frsize) from error

    def _is_there(self, size: int) -> bool:
        """Checks whether there is room beside the other copies. Raises the errors of a disk that is too small."""
        self.size = size
        others = _other_copies(self.path.parent)
        disk = disk_of_copies()
        total = disk.f_blocks * disk.f_frsize
        if not total:
            return True  # This file system does not tell.
        if size > total:
            raise TooLargeError(
                "unreachable",
                f"{self.name} needs {_in_words(size)} for its copy, and the whole disk of {tempfile.gettempdir()} on "
                f"{socket.gethostname()} has {_in_words(total)}; set TMPDIR to a folder on a larger disk",
            )
        if not others:
            # With the share of the disk that is kept for root: if it is kept from this user, the disk says so.
            free = disk.f_bfree * disk.f_frsize
            if size > free and free >= min(RESERVE_BYTES, total // 20):
                # Other videos may find room.
                raise TooLargeError(
                    "unreachable", f"{self.name} {self._needs(free)} in {tempfile.gettempdir()}; {MAKE_ROOM}"
                )
            if size > free:
                raise self._no_room("", free)
            return True
        # The other copies are perhaps not complete yet.
        promised = sum(max(0, copy.st_size - copy.st_blocks * 512) for copy in others)
        return size + promised + min(RESERVE_BYTES, total // 20) <= disk.f_bavail * disk.f_frsize

    def _note_size(self, descriptor: int, size: int) -> None:
        """Gives the empty file of the copy its final size. It takes no room yet, but shows others what it will take."""
        self.size = size
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, size)

    def _needs(self, free: int) -> str:
        return f"needs {_in_words(self.size)}, and {_in_words(free)} are free"

    def _no_room(self, why: str, free: int) -> JobError:
        return _no_room(f"a copy of {self.name}", f"{why}it {self._needs(free)}")


def disk_of_copies() -> os.statvfs_result:
    """Returns the size and the free space of the disk that holds the copies."""
    return os.statvfs(tempfile.gettempdir())


def _in_words(size: int) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


@contextlib.contextmanager
def _in_turn() -> Iterator[None]:
    """Makes the other workers of this machine wait that come here until the block ends."""
    with contextlib.ExitStack() as stack:
        # Network disks have no locks for folders. Their workers are not put in order.
        with contextlib.suppress(OSError):
            descriptor = os.open(tempfile.gettempdir(), os.O_RDONLY)
            stack.callback(os.close, descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Yields a new, locked folder. It is removed when the block ends, or by another worker after this one's death."""
    try:
        folder, lock = _folder_when_there_is_room()
    except OSError as error:
        raise _no_room("copies of videos", reason(error)) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _folder_when_there_is_room() -> tuple[Path, int]:
    while True:
        others = _other_copies()
        try:
            return _locked_folder()
        except OSError as error:
            if error.errno not in FULL or not others:
                raise
        time.sleep(WAIT_S)


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        try:
            lock = os.open(folder, os.O_RDONLY)
        except FileNotFoundError:
            continue  # Another worker has just removed the folder as abandoned.
        # Waits if another worker has just locked the folder, to remove it as abandoned.
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


def _other_copies(own: Path | None = None) -> list[os.stat_result]:
    """Returns the status of the copies of living workers, except the one in the folder ``own``.

    Removes the folders of dead workers.
    """
    found = []
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        if folder == own:
            continue
        # Folders of other users cannot be opened or removed, and stay.
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                # The file of a worker that waits for room is empty.
                found += [status for file in folder.iterdir() if (status := file.stat()).st_size]
            finally:
                os.close(lock)
    return found
