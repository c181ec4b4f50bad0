"""Local copies of remote videos, or of some of their blocks, kept while they are decoded.

A decoding worker copies one video at a time and removes the copy before the next, so a machine holds at most one copy
per decoding worker.

A part of a video is not copied. Its blocks are fetched when they are read, to a file of limited size, which takes room
as a copy does. Videos for which there is no room are read in the same way, also those that are not read in parts.
"""

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pyarrow import fs

from jobs.errors import reason
from jobs.storage.address import is_address
from jobs.storage.file_systems import StorageError
from jobs.storage.location import download, locate
from jobs.storage.remote_blocks import BLOCK_BYTES, RemoteBlocks, slots_for
from jobs.storage.room import FULL, Room, TooLargeError, own_folder
from tagger.errors import VideoError, one_line
from tagger.video.fetched_file import BlockCache, Blocks


@dataclass(frozen=True)
class StagedVideo:
    """A video called ``name``, a path or an address, that can be opened at the local ``path``.

    ``original_version`` is the size and the modification time in nanoseconds of the original; None when ``path`` is no
    copy. With ``blocks``, the file at ``path`` is empty, and its bytes are read from these blocks.
    """

    name: str
    path: str
    original_version: tuple[int, int] | None = None
    blocks: Blocks | None = None
    check_unchanged: Callable[[], None] = lambda: None
    """Raises VideoError when the original is not the file any more whose blocks were fetched."""

    def with_original_name(self, text: str) -> str:
        """Replaces the path of the copy in ``text`` with the name of the video."""
        return text if self.original_version is None else text.replace(one_line(self.path), one_line(self.name))


@contextlib.contextmanager
def staged(name: str, of: int | None = None) -> Iterator[StagedVideo]:
    """Yields the video called ``name`` with a local path: its own, or that of a copy, removed when the block ends.

    ``of`` is given by a caller who can read ``blocks``, and reads one of so many parts of the video. If there are
    several parts, or there is no room for a copy, the video has blocks. Waits while copies of other workers leave no
    room for this one.

    Raises VideoError for a video that cannot be copied: ``missing``, ``permission``, ``changed`` (while it was copied),
    ``io``, or ``unreachable``, also when it is larger than the whole disk: a single video does not stop a job. Raises
    JobError when the disk has no room for a single copy, because other videos would find none either.
    """
    if not is_address(name):
        yield StagedVideo(name, name)
        return
    with own_folder() as folder:
        # The copy keeps the ending, since the container is recognised by ending and content.
        path = folder / f"video{PurePosixPath(name).suffix[:16]}"
        info = None
        if of is None or of == 1:
            try:
                with _translated_errors(name):
                    info = _copy(name, path)
            except TooLargeError:
                if of is None:
                    raise
        if info is not None:
            yield StagedVideo(name, str(path), (info.size, info.mtime_ns or 0))
            return
        with _in_blocks(name, path, of or 1) as video:
            yield video


def _copy(name: str, path: Path) -> fs.FileInfo:
    """Downloads a video when there is room. When the disk is full all the same, tries again as the only copy."""
    location, room = locate(name), Room(name, path)
    try:
        return download(location, path, room.wait_for)
    except OSError as error:
        if error.errno not in FULL:
            raise
    with room.as_only_copy() as note_size:
        return download(location, path, note_size)


@contextlib.contextmanager
def _in_blocks(name: str, path: Path, of: int) -> Iterator[StagedVideo]:
    cache = path.with_name("blocks")

    def fetch(block: int, slot: int) -> None:
        with _translated_errors(name):
            blocks.fetch(block, slot)

    def check_unchanged() -> None:
        with _translated_errors(name):
            blocks.check_unchanged()

    with _translated_errors(name):
        location = locate(name)
        info = location.info()
        if info.type != fs.FileType.File:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
        slots = slots_for(info.size, of)
        with cache.open("wb") as file:
            try:
                Room(name, cache).wait_for(file.fileno(), min(slots * BLOCK_BYTES, info.size))
            except TooLargeError:
                slots = slots_for(info.size, 1)  # Blocks that are read twice are then fetched twice.
                Room(name, cache).wait_for(file.fileno(), min(slots * BLOCK_BYTES, info.size))
        # In a folder of its own, because its size is no promise to take room.
        path = path.parent / "whole" / path.name
        path.parent.mkdir()
        path.touch()
        os.truncate(path, info.size)
    blocks = RemoteBlocks(location, info, cache)
    with contextlib.closing(blocks):
        kept = Blocks(BlockCache(str(cache), slots, BLOCK_BYTES), fetch)
        yield StagedVideo(name, str(path), (info.size, info.mtime_ns or 0), kept, check_unchanged)


@contextlib.contextmanager
def _translated_errors(name: str) -> Iterator[None]:
    """Raises the errors of a storage as those of a video that cannot be read, after all retries."""
    try:
        yield
    except (OSError, StorageError) as error:
        raise _translate_error(name, error) from error


def _translate_error(name: str, error: OSError | StorageError) -> VideoError:
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
            return VideoError("unreachable", f"{name} cannot be read: the disk of {tempfile.gettempdir()} is full")
        case errno.EIO | errno.ETIMEDOUT | errno.ECONNRESET | errno.ECONNABORTED | errno.EPIPE:
            return VideoError("io", f"{name} cannot be read: {reason(error)}")
    return VideoError("unreachable", f"{name} cannot be read: {reason(error)}")
