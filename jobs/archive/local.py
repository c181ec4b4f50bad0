"""The videos of local folders and globs."""

import fnmatch
import glob
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobs.archive.folders import Folders
from jobs.archive.rules import Rules, extension_of, matches
from jobs.archive.sniff import is_other_file
from jobs.archive.video import Video, stored_time_ns
from jobs.errors import reason
from tagger.errors import InputError

READERS = 16
"""Number of files that are looked at at the same time. On a network disk most of the time is waiting."""

PATHS_PER_CALL = 32
"""Number of files that a thread looks at in one call: on a local disk a call takes as long as looking at ten files."""


def local_videos(text: str, rules: Rules, folders: Folders) -> Iterator[Video]:
    """Yields the videos of a file, a folder or a glob, and records the folders. Raises InputError.

    A folder below the input that cannot be listed is recorded as a problem and left out.
    """
    if os.path.lexists(text) or not glob.has_magic(text):
        yield from _file_or_folder(text, rules, folders)
    else:
        yield from _glob_matches(text, rules, folders)


def videos_of_line(text: str, rules: Rules, folders: Folders) -> Iterator[Video]:
    """Yields the videos of a line of a list: a file, which need not exist, or the videos of a folder."""
    path = absolute(text)
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises PermissionError
        yield from _walk(path, rules, folders, required=False)
    else:
        yield _video(path)


def absolute(path: str) -> str:
    """Returns an absolute path. Raises InputError for a relative one when the current folder was removed."""
    try:
        return os.path.abspath(path)  # noqa: PTH100 - Path.absolute keeps ".."
    except FileNotFoundError:
        raise InputError(f"{path} cannot be found: the current folder was removed; give an absolute path") from None


def _file_or_folder(text: str, rules: Rules, folders: Folders) -> Iterator[Video]:
    path = absolute(text)
    try:
        status = Path(path).stat()
    except OSError as error:
        raise InputError(f"{text if text.strip() else repr(text)} cannot be read: {reason(error)}") from None
    except ValueError:
        raise InputError(f"{text} cannot be read: its name has a NUL byte") from None
    if stat.S_ISDIR(status.st_mode):
        yield from _walk(path, rules, folders)
    elif stat.S_ISREG(status.st_mode):
        yield Video(path, status.st_size, stored_time_ns(status.st_mtime_ns))
    else:
        raise InputError(f"{text} is neither a file nor a folder")


def _glob_matches(pattern: str, rules: Rules, folders: Folders) -> Iterator[Video]:
    """Yields the videos that match a glob; ``**`` matches any folders, as in the shell."""
    if "**" in Path(pattern).parts:
        # glob follows every symbolic link under a **, loops included, so the folders are walked here.
        parts = Path(absolute(pattern)).parts
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = str(Path(*parts[:fixed]))
        yield from (v for v in _walk(root, rules, folders) if matches(Path(v.path).parts[fixed:], parts[fixed:]))
        return
    for match in _expanded("", Path(pattern).parts, folders):
        path = absolute(match)
        folder, name = os.path.split(path)
        if rules.is_excluded(folder, name):
            continue
        if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises PermissionError
            yield from _walk(path, rules, folders, required=False)
        elif _is_video(path, name, rules):
            yield _video(path)
        else:
            folders.leave_out(name)


def _expanded(folder: str, parts: Sequence[str], folders: Folders) -> Iterator[str]:
    """Yields the paths below ``folder`` that match the ``parts`` of a glob, as in the shell.

    The standard library's ``glob`` passes silently over folders that cannot be listed.
    """
    if not parts:
        yield folder
    elif not glob.has_magic(parts[0]):
        path = os.path.join(folder, parts[0])  # noqa: PTH118 - a str is needed
        if os.path.lexists(path):
            yield from _expanded(path, parts[1:], folders)
    else:
        try:
            with os.scandir(folder or ".") as entries:
                names = sorted(entry.name for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            folders.fail(absolute(folder or "."), reason(error))
            return
        for name in fnmatch.filter(names, parts[0]):
            if parts[0].startswith(".") or not name.startswith("."):
                yield from _expanded(os.path.join(folder, name), parts[1:], folders)  # noqa: PTH118


def _walk(root: str, rules: Rules, folders: Folders, *, required: bool = True) -> Iterator[Video]:
    """Yields the files with a known extension under ``root``. Visits each folder once; real paths go before links.

    Raises InputError when ``root`` cannot be listed and is ``required``. All other such folders are recorded.
    """
    real = [root]
    links: list[str] = []
    visited: set[tuple[int, int]] = set()
    with ThreadPoolExecutor(READERS) as pool:
        while real or links:
            folder = real.pop() if real else links.pop(0)
            try:
                status = Path(folder).stat()
                if (status.st_dev, status.st_ino) in visited:
                    continue
                visited.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as scan:
                    entries = sorted(scan, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue  # Removed during the walk.
            except OSError as error:
                if folder == root and required:
                    raise InputError(f"the folder {folder} cannot be listed: {reason(error)}") from None
                folders.fail(folder, reason(error))
                continue
            is_first = folders.enter(folder)
            found: list[str] = []
            for entry in entries:
                if rules.leave_out(folder, entry.name):
                    continue
                try:
                    is_folder, is_link = entry.is_dir(follow_symlinks=False), entry.is_symlink()
                    # Pipes and devices are left out. A broken link is kept and reported as missing.
                    is_file = is_link or entry.is_file(follow_symlinks=False)
                except OSError as error:
                    # Some file systems tell the kind of an entry only when asked for it.
                    folders.fail(entry.path, reason(error))
                    continue
                if is_folder:
                    real.append(entry.path)
                elif is_link and os.path.isdir(entry.path):  # noqa: PTH112 - called for every link
                    links.append(entry.path)
                elif is_file and _is_video(entry.path, entry.name, rules):
                    folders.with_videos.add(folder)
                    found.append(entry.path)
                elif is_file and is_first:
                    folders.leave_out(entry.name)
            yield from _videos(found, pool)


def _is_video(path: str, name: str, rules: Rules) -> bool:
    return rules.is_video(name) and not is_other_file(path, extension_of(name))


def _videos(paths: Sequence[str], pool: ThreadPoolExecutor) -> Iterator[Video]:
    """Yields the videos at ``paths``, in order. Those of a large folder are looked at by several threads."""
    if len(paths) <= PATHS_PER_CALL:
        yield from map(_video, paths)
        return
    calls = [paths[first : first + PATHS_PER_CALL] for first in range(0, len(paths), PATHS_PER_CALL)]
    for videos in pool.map(lambda call: list(map(_video, call)), calls):
        yield from videos


def _video(path: str) -> Video:
    try:
        status = os.stat(path)  # noqa: PTH116 - called for every file of an archive
    except OSError:
        return Video(path, 0, 0)
    return Video(path, status.st_size, stored_time_ns(status.st_mtime_ns))
