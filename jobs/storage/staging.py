"""Videos that are not on a local disk are copied to one while they are decoded.

A decoding worker stages one video at a time and removes it before the next, so there are never more copies on a machine
than workers that decode. A copy lies in a folder of its own, which its worker holds a lock on. The system releases the
lock however the worker ends, and before its first copy every worker removes the folders that are not locked.
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
"""Begins the names of the folders, in the folder for temporary files (``TMPDIR``)."""


@dataclass(frozen=True)
class StagedVideo:
    """A video called ``name``, a path or an address, that can be opened at the local ``path``.

    ``stored`` is the size and modification time in nanoseconds of what was copied; None when ``path`` is no copy.
    """

    name: str
    path: str
    stored: tuple[int, int] | None = None

    def in_its_name(self, text: str) -> str:
        """``text`` with the video called what its user calls it, where it speaks of the copy."""
        return text if self.stored is None else text.replace(one_line(self.path), one_line(self.name))


@contextlib.contextmanager
def staged(name: str) -> Iterator[StagedVideo]:
    """Gives the video called ``name`` a local path: itself, or that of a copy that is removed when the block ends.

    Raises VideoError for a video that cannot be copied: ``missing``, ``permission``, ``changed`` (while it was copied),
    or ``unreachable``. Raises JobError when this machine has no room for it, for then it has none for others.
    """
    if not is_address(name):
        yield StagedVideo(name, name)
        return
    with _folder() as folder:
        # It keeps its ending, which is looked at together with the content.
        path = folder / f"video{PurePosixPath(name).suffix[:16]}"
        try:
            info = download(locate(name), path)
        except (OSError, StorageError) as error:
            raise _explained(name, error) from error
        yield StagedVideo(name, str(path), (info.size, info.mtime_ns or 0))


def _explained(name: str, error: OSError | StorageError) -> VideoError | JobError:
    """What it means that a video could not be copied, after all that was tried to copy it."""
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
    return VideoError("unreachable", f"{name} cannot be read: {reason(error)}")


def _no_room(what: str, error: OSError) -> JobError:
    return JobError(
        f"{socket.gethostname()} has no room for {what} in {tempfile.gettempdir()} ({reason(error)}); "
        "make room there, or set TMPDIR to a folder that has it"
    )


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """A folder of this worker's own, for as long as the block lasts or the worker lives."""
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
        # Waits for another worker that just takes it for abandoned and removes it.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if folder.exists():
            return folder, lock
        os.close(lock)


@cache
def _remove_abandoned() -> None:
    """Removes, once for each process, the folders of workers that are dead."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        # What other users have there is theirs.
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
