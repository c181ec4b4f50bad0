"""Local copies of remote videos, kept while they are decoded.

A decoding worker copies one video at a time and removes the copy before the next, so a machine holds at most one copy
per decoding worker. Each copy has a folder of its own, on which its worker holds a lock. The system releases the lock
when the worker ends or is killed. Before its first copy, every worker removes the folders without a lock.
"""

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePosixPath

from jobs.errors import JobError, reason
from jobs.storage.address import is_address
from jobs.storage.file_systems import StorageError
from jobs.storage.location import download, locate
from tagger.errors import VideoError, one_line

PREFIX = "vtag-staged-"
"""Prefix of the names of these folders, which are in the folder for temporary files (``TMPDIR``)."""


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

    Raises VideoError for a video that cannot be copied: ``missing``, ``permission``, ``changed`` (while it was copied),
    or ``unreachable``. Raises JobError when this machine has no room for the copy: other copies would fail, too.
    """
    if not is_address(name):
        yield StagedVideo(name, name)
        return
    with _folder() as folder:
        # The copy keeps the ending, since the container is recognised by ending and content.
        path = folder / f"video{PurePosixPath(name).suffix[:16]}"
        try:
            info = download(locate(name), path)
        except (OSError, StorageError) as error:
            raise _translate_error(name, error) from error
        yield StagedVideo(name, str(path), (info.size, info.mtime_ns or 0))


def _translate_error(name: str, error: OSError | StorageError) -> VideoError | JobError:
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
        case errno.ENOSPC | errno.EDQUOT:
            return _no_room(f"a copy of {name}", error)
        case errno.EIO | errno.ETIMEDOUT | errno.ECONNRESET | errno.ECONNABORTED | errno.EPIPE:
            return VideoError("io", f"{name} cannot be read: {reason(error)}")
    return VideoError("unreachable", f"{name} cannot be read: {reason(error)}")


def _no_room(what: str, error: OSError) -> JobError:
    return JobError(
        f"{socket.gethostname()} has no room for {what} in {tempfile.gettempdir()} ({reason(error)}); "
        "make room there, or set TMPDIR to a folder that has it"
    )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Yields a new, locked folder. It is removed when the block ends, or by another worker after this one's death."""
    try:
        _remove_abandoned()
        folder, lock = _locked_folder()
    except OSError as error:
        raise _no_room("copies of videos", error) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _locked_folder() -> tuple[Path, int]:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=PREFIX))
        lock = os.open(folder, os.O_RDONLY)
        # Waits if another worker has just locked the folder, to remove it as abandoned.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


@cache
def _remove_abandoned() -> None:
    """Removes the folders of dead workers, once in each process."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # Folders of other users cannot be opened or removed, and stay.
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
