"""Finds videos that are certainly gone, and not only out of reach.

A missing file proves nothing: its disk may not be mounted, its folder may not be readable, its server may not answer. A
video is gone only if this run has listed its folder without an error and the folder has no entry of that name. The same
rule decides whether a folder is gone.
"""

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pyarrow import fs

from jobs.archive.folders import Folders
from jobs.archive.video import video_path
from jobs.storage.address import is_address
from jobs.storage.file_systems import StorageError
from jobs.storage.location import locate

CONCURRENT_LOOKS = 16
"""Number of files that are looked for at a time. On a network most of the time is waiting."""


def find_gone(names: Iterable[str], folders: Folders) -> list[str]:
    """Returns those of ``names``, names of videos in a result, that are certainly gone."""
    gone_folders: dict[str, bool] = {}

    def is_gone_folder(folder: str) -> bool:
        if folder not in gone_folders:
            gone_folders[folder] = is_gone(folder)
        return gone_folders[folder]

    def is_gone(path: str) -> bool:
        parent = _parent(path)
        if parent is None or not (parent in folders.listed or is_gone_folder(parent)):
            return False
        return _is_absent(path)

    found = list(names)
    with ThreadPoolExecutor(CONCURRENT_LOOKS) as pool:
        return [name for name, gone in zip(found, pool.map(is_gone, map(video_path, found)), strict=True) if gone]


def _parent(path: str) -> str | None:
    """Returns the folder of a path or an address; None for the root of a disk or a bucket."""
    parent = path.rpartition("/")[0] if is_address(path) else os.path.dirname(path)  # noqa: PTH120 - a str is needed
    return None if parent == path or parent.endswith(":/") or not parent else parent


def _is_absent(path: str) -> bool:
    """Checks whether there is no entry at ``path``. A dangling link is an entry, and an error proves nothing."""
    if not is_address(path):
        try:
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
