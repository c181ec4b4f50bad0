"""Finds videos that are certainly gone, and not only out of reach.

A missing file proves nothing: its disk may not be mounted, its folder may not be readable, its server may not answer.
A video is gone only if this run has listed its folder without an error, the folder gave another video, and it has no
entry of that name. So the videos of a folder that is empty, or not there, are never gone: it may be the mount point of
a disk.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa
from pyarrow import fs

from jobs.archive.folders import Folders
from jobs.archive.video import video_path
from jobs.storage.address import is_address
from jobs.storage.file_systems import StorageError
from jobs.storage.location import locate

CONCURRENT_LOOKS = 16
"""Number of files that are looked for at a time. On a network most of the time is waiting."""

PIECES = 8
"""Number of pieces of a long list of names for each thread that looks for them."""

BATCH = 10_000
"""Number of names that are objects at the same time."""


def chosen_names(names: pa.Array, choose: Callable[[list[str]], list[str]]) -> pa.Array:
    """Returns those of a column of names that ``choose`` returns, which gets them in batches."""
    chosen = [
        pa.array(choose(names[start : start + BATCH].to_pylist()), names.type) for start in range(0, len(names), BATCH)
    ]
    return names if sum(map(len, chosen)) == len(names) else pa.concat_arrays(chosen)


def find_gone(names: Iterable[str], folders: Folders) -> list[str]:
    """Returns those of ``names``, names of videos in a result, that are certainly gone."""
    return still_gone(name for name in names if _folder(video_path(name)) in folders.with_videos)


def still_gone(names: Iterable[str]) -> list[str]:
    """Returns those of ``names`` that are not at their place now, although their folder is there."""
    return _absent(names, is_gone=True)


def find_absent(names: Iterable[str]) -> list[str]:
    """Returns those of ``names`` that are not at their place now. Their folder, or their disk, may be absent, too."""
    return _absent(names, is_gone=False)


def _absent(names: Iterable[str], *, is_gone: bool) -> list[str]:
    found = list(names)
    # Looking for a local file takes less time than giving it to a thread.
    step = 1 + len(found) // (CONCURRENT_LOOKS * PIECES)

    def absent(start: int) -> list[str]:
        return [name for name in found[start : start + step] if _is_absent(video_path(name), is_gone=is_gone)]

    with ThreadPoolExecutor(CONCURRENT_LOOKS) as pool:
        return [name for piece in pool.map(absent, range(0, len(found), step)) for name in piece]


def was_deleted(path: str) -> bool:
    """Checks that a video, seen before, is not there now, although its folder is there and holds something."""
    if not _is_absent(path, is_gone=True):
        return False
    if is_address(path):
        return True
    try:
        with os.scandir(_folder(path)) as entries:
            return any(True for _ in entries)
    except OSError:
        return False


def can_be_opened(path: str) -> bool:
    """Checks that the storage of a file answers: the file at a path or address is there and can be opened."""
    try:
        if is_address(path):
            return bool(locate(path).info().type == fs.FileType.File)
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
    except (OSError, ValueError, StorageError):
        return False
    return True


def _folder(path: str) -> str:
    return path.rpartition("/")[0] if is_address(path) else os.path.dirname(path)  # noqa: PTH120 - a str is needed


def _is_absent(path: str, *, is_gone: bool) -> bool:
    """Checks whether there is no entry at ``path``. A dangling link is an entry, and an error proves nothing.

    ``is_gone``: its folder must be there.
    """
    if not is_address(path):
        try:
            if is_gone and not os.path.isdir(_folder(path)):  # noqa: PTH112
                return False
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return True
        except (OSError, ValueError):
            return False
        return False
    try:
        return bool(locate(path).info().type == fs.FileType.NotFound)
    except (OSError, StorageError):
        return False
