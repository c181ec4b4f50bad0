"""The videos of buckets and of other places with addresses: objects, folders and globs.

Several folders are listed at a time, and their videos are yielded as they arrive, so only the listings of a few folders
are in memory. pyarrow returns the listing of a folder as a whole: a million objects take 0.7 GB in a single folder, and
half of that in folders of 10,000.
"""

import glob
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from fnmatch import fnmatchcase

from pyarrow import fs

from jobs.archive.folders import Folders
from jobs.archive.local import local_videos, videos_of_line
from jobs.archive.rules import Rules, is_skipped, matches
from jobs.archive.video import Video, stored_time_ns
from jobs.errors import reason
from jobs.storage.file_systems import StorageError, translate_errors
from jobs.storage.location import Location, locate, whole_seconds
from tagger.errors import InputError

CONCURRENT_REQUESTS = 16
"""Number of requests in flight at a time. A page of 1000 objects takes 50 to 100 ms, most of it waiting."""

LIST_BATCH_LINES = 1000
"""Number of lines of a list that are looked up in one batch."""


def remote_videos(address: str, rules: Rules, folders: Folders) -> Iterator[Video]:
    """Yields the videos of an object, a folder or a glob, and records the folders. Raises InputError.

    A folder below the input that cannot be listed is recorded as a problem and left out.
    """
    try:
        location = locate(address)
        if location.is_local:  # file://
            yield from local_videos(location.path, rules, folders)
            return
        found = location.info()
        # "clip[1].mp4" may be the name of an object.
        if found.type == fs.FileType.NotFound and glob.has_magic(location.address):
            yield from _glob_matches(location, rules, folders)
        elif found.type == fs.FileType.File and not address.endswith("/"):
            yield _video(location.address, found)
        elif found.type == fs.FileType.NotFound:
            raise InputError(f"{address} cannot be read: {_missing_reason(location)}")
        else:
            yield from _walk(location, rules, folders)
    except OSError as error:
        raise InputError(f"{address} cannot be read: {reason(error)}") from error
    except StorageError as error:
        raise InputError(str(error)) from error


def videos_of_lines(addresses: Sequence[str], rules: Rules, folders: Folders) -> Iterator[Video]:
    """Yields the videos of lines of a list: objects, which need not exist, and videos of folders. Raises InputError."""
    with ThreadPoolExecutor(CONCURRENT_REQUESTS) as pool:
        for start in range(0, len(addresses), LIST_BATCH_LINES):
            for location, found in pool.map(_look_up, addresses[start : start + LIST_BATCH_LINES]):
                if location.is_local:
                    yield from videos_of_line(location.path, rules, folders)
                elif found.type == fs.FileType.Directory:
                    yield from _walk(location, rules, folders, required=False)
                else:
                    yield _video(location.address, found)


def read_remote_list(address: str) -> bytes:
    """Returns the content of a list. Raises InputError."""
    try:
        return b"".join(locate(address).chunks())
    except OSError as error:
        raise InputError(f"the list {address} cannot be read: {reason(error)}") from error
    except StorageError as error:
        raise InputError(str(error)) from error


def _look_up(address: str) -> tuple[Location, fs.FileInfo]:
    try:
        location = locate(address)
        try:
            return location, location.info()
        except PermissionError:
            # A service may deny access to an object that does not exist. The job reports it by name.
            return location, fs.FileInfo(location.path, fs.FileType.NotFound)
    except OSError as error:
        raise InputError(f"{address} cannot be read: {reason(error)}") from error
    except StorageError as error:
        raise InputError(str(error)) from error


def _missing_reason(location: Location) -> str:
    bucket = location.path.partition("/")[0]
    if location.is_in_bucket and location.filesystem.get_file_info(bucket).type == fs.FileType.NotFound:
        return f"there is no bucket {bucket}"
    return "no such file or directory"


def _glob_matches(location: Location, rules: Rules, folders: Folders) -> Iterator[Video]:
    """Yields the videos that match a glob; ``**`` matches any folders, as in the shell."""
    parts = location.path.split("/")
    fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    if fixed == 0 and location.is_in_bucket:
        raise InputError(f"{location} cannot be read: a bucket is called by its name, not by a pattern")
    pattern = tuple(parts[fixed:])
    root = location
    for _ in pattern:
        root = root.parent
    if root.info().type == fs.FileType.NotFound:
        raise InputError(f"{location} cannot be read: {_missing_reason(root)}")
    if "**" in pattern:
        start = len(root.address) + 1
        yield from (v for v in _walk(root, rules, folders) if matches(tuple(v.path[start:].split("/")), pattern))
        return
    parents = [root]
    for part in pattern[:-1]:
        parents = [
            parent.child(name)
            for parent in parents
            for name, found in _matching_entries(parent, part, rules)
            if found.type == fs.FileType.Directory
        ]
    found_folders: list[Location] = []
    for parent in parents:
        for name, found in _matching_entries(parent, pattern[-1], rules):
            if found.type == fs.FileType.Directory:
                found_folders.append(parent.child(name))
            elif rules.is_video(name):
                yield _video(parent.child(name).address, found)
            else:
                folders.leave_out(name)
    for folder in found_folders:
        yield from _walk(folder, rules, folders, required=False)


def _matching_entries(folder: Location, part: str, rules: Rules) -> Iterator[tuple[str, fs.FileInfo]]:
    """Yields the names and infos of the entries of a folder that match one part of a glob."""
    for name, found in _entries(folder):
        is_hidden = is_skipped(name) and not part.startswith(".")
        if fnmatchcase(name, part) and not is_hidden and not rules.is_excluded(folder.address, name):
            yield name, found


def _walk(root: Location, rules: Rules, folders: Folders, *, required: bool = True) -> Iterator[Video]:
    """Yields the files with a known extension under ``root``."""
    # File systems written in Python may not be thread-safe.
    at_a_time = 1 if isinstance(root.filesystem, fs.PyFileSystem) else CONCURRENT_REQUESTS
    waiting = [root]
    with ThreadPoolExecutor(at_a_time) as pool:
        listings: dict[Future[Iterator[tuple[str, fs.FileInfo]]], Location] = {}
        while waiting or listings:
            while waiting and len(listings) < at_a_time:
                folder = waiting.pop()
                listings[pool.submit(_entries, folder)] = folder
            done, _ = wait(listings, return_when=FIRST_COMPLETED)
            for answer in done:
                folder = listings.pop(answer)
                try:
                    entries = answer.result()
                except (OSError, StorageError) as error:
                    if folder == root and required:
                        raise
                    folders.fail(folder.address, reason(error) if isinstance(error, OSError) else str(error))
                    continue
                is_first = folders.enter(folder.address)
                for name, found in entries:
                    if rules.leave_out(folder.address, name):
                        continue
                    if found.type == fs.FileType.Directory:
                        waiting.append(folder.child(name))
                    elif rules.is_video(name):
                        folders.with_videos.add(folder.address)
                        yield _video(f"{folder.address}/{name}", found)
                    elif is_first:
                        folders.leave_out(name)


def _entries(folder: Location) -> Iterator[tuple[str, fs.FileInfo]]:
    """Returns the names and infos of the entries of a folder; empty when the folder does not exist any more."""
    base = folder.path.strip("/")
    start = len(base) + 1 if base else 0

    def get_infos(*, recursive: bool) -> list[fs.FileInfo]:
        selector = fs.FileSelector(folder.path, allow_not_found=True, recursive=recursive)
        with translate_errors(folder.filesystem, folder.address):
            return folder.filesystem.get_file_info(selector)

    def name(info: fs.FileInfo) -> str:
        # Some file systems of fsspec begin paths with a slash.
        return info.path.lstrip("/")[start:]

    def named(infos: list[fs.FileInfo]) -> Iterator[tuple[str, fs.FileInfo]]:
        # Each info is freed once it is yielded: a folder may hold a million.
        infos.reverse()
        while infos:
            info = infos.pop()
            yield name(info), info

    found = get_infos(recursive=False)
    if not all(map(name, found)):
        # A key such as "a//b.mp4" is in a folder without a name, which pyarrow neither lists nor opens. Such keys are
        # added to the listing, so that the job reports that they cannot be read.
        odd = [info for info in get_infos(recursive=True) if info.is_file and name(info).startswith("/")]
        found = [info for info in found if name(info)] + odd
    return named(found)


def _video(address: str, found: fs.FileInfo) -> Video:
    return Video(address, found.size or 0, stored_time_ns(whole_seconds(found.mtime_ns or 0)))
