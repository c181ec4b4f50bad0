"""Local copies of remote videos, kept while they are decoded.

A decoding worker copies one video at a time and removes the copy before the next, so a machine holds at most one copy
per decoding worker. Each copy has a folder of its own, on which its worker holds a lock. The system releases the lock
when the worker ends or is killed. Before each copy, a worker removes the folders without a lock.

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
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyarrow import fs

from jobs.errors import JobError, reason
from jobs.storage.address import is_address
from jobs.storage.file_systems import StorageError
from jobs.storage.location import download, locate
from tagger.errors import VideoError, one_line

PREFIX = "vtag-staged-"
"""Prefix of the names of these folders, which are in the folder for temporary files (``TMPDIR``)."""

RESERVE_BYTES = 1 << 30
"""Bytes of the disk that copies leave free, or a twentieth of a small disk. A single copy may fill the disk."""

WAIT_S = 1.0
"""Seconds between two looks for room."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""The errors of a full disk."""


@dataclass(frozen=True)
class StagedVideo:
    """A video called ``name``, a path or an address, that can be opened at the local ``path``.

    ``original_version`` is the size and the modification time in nanoseconds of the original; None when ``path`` is no
    copy.
    """

    name: str
    path: str
    original_version: tuple[int, int] | None = None

    def with_original_name(self, text: str) -> str:
        """Replaces the path of the copy in ``text`` with the name of the video."""
        return text if self.original_version is None else text.replace(one_line(self.path), one_line(self.name))


@contextlib.contextmanager
def staged(name: str) -> Iterator[StagedVideo]:
    """Yields the video called ``name`` with a local path: its own, or that of a copy, removed when the block ends.

    Waits while copies of other workers leave no room for this one.

    Raises VideoError for a video that cannot be copied: ``missing``, ``permission``, ``changed`` (while it was copied),
    ``io``, or ``unreachable``, also when it is larger than the whole disk: a single video does not stop a job. Raises
    JobError when the disk has no room for a single copy, because other videos would find none either.
    """
    if not is_address(name):
        yield StagedVideo(name, name)
        return
    with _folder() as folder:
        # The copy keeps the ending, since the container is recognised by ending and content.
        path = folder / f"video{PurePosixPath(name).suffix[:16]}"
        try:
            info = _Copy(name, path).download()
        except (OSError, StorageError) as error:
            raise _translate_error(name, error) from error
        yield StagedVideo(name, str(path), (info.size, info.mtime_ns or 0))


def _translate_error(name: str, error: OSError | StorageError) -> VideoError:
    """Returns the error of a video that could not be copied, after all retries."""
    if isinstance(error, StorageError):
        return VideoError("unreachable", str(error))
    match error.errno:
        case errno.ENOENT:
            return VideoError("missing", f"{name} does not exist")
        case errno.EACCES | errno.EPERM:
            return VideoError("permission", f"{name} cannot be read: {reason(error)}")
        case errno.EAGAIN:
            return VideoError("changed", f"{name} was written to while it was read")
        case errno.EIO | errno.ETIMEDOUT | errno.ECONNRESET | errno.ECONNABORTED | errno.EPIPE:
            return VideoError("io", f"{name} cannot be read: {reason(error)}")
    return VideoError("unreachable", f"{name} cannot be read: {reason(error)}")


MAKE_ROOM = "make room there, or set TMPDIR to a folder that has it"


def _no_room(what: str, why: str) -> JobError:
    return JobError(f"{socket.gethostname()} has no room for {what} in {tempfile.gettempdir()} ({why}); {MAKE_ROOM}")


@dataclass
class _Copy:
    """A copy at ``path`` of the video called ``name``, which has ``size`` bytes."""

    name: str
    path: Path
    size: int = 0

    def download(self) -> fs.FileInfo:
        """Downloads the video when there is room. When the disk is full all the same, tries again as the only copy."""
        location = locate(self.name)
        try:
            return download(location, self.path, self._wait_for_room)
        except OSError as error:
            if error.errno not in FULL:
                raise
        self.path.unlink(missing_ok=True)
        with _in_turn():
            while _other_copies(self.path.parent):
                time.sleep(WAIT_S)
            try:
                return download(location, self.path, self._note_size)
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self.path.unlink(missing_ok=True)
                disk = _disk()
                raise self._no_room(f"{reason(error)}; ", disk.f_bavail * disk.f_frsize) from error

    def _wait_for_room(self, descriptor: int, size: int) -> None:
        with _in_turn():
            while not self._has_room(size):
                time.sleep(WAIT_S)
            self._note_size(descriptor, size)

    def _has_room(self, size: int) -> bool:
        """Checks whether there is room beside the other copies. Raises the errors of a disk that is too small."""
        self.size = size
        others = _other_copies(self.path.parent)
        disk = _disk()
        total = disk.f_blocks * disk.f_frsize
        if not total:
            return True  # This file system does not tell.
        if size > total:
            raise VideoError(
                "unreachable",
                f"{self.name} needs {_in_words(size)} for its copy, and the whole disk of {tempfile.gettempdir()} on "
                f"{socket.gethostname()} has {_in_words(total)}; set TMPDIR to a folder on a larger disk",
            )
        if not others:
            # With the share of the disk that is kept for root: if it is kept from this user, the disk says so.
            free = disk.f_bfree * disk.f_frsize
            if size > free and free >= min(RESERVE_BYTES, total // 20):
                # Other videos may find room.
                raise VideoError(
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


def _disk() -> os.statvfs_result:
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
def _folder() -> Iterator[Path]:
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
