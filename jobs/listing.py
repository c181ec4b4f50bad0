"""Which videos a job is about: files, folders, globs and lists of paths become a sorted list of videos."""

import fnmatch
import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from jobs.job import Video
from tagger.errors import InputError
from tagger.video.extensions import VIDEO_EXTENSIONS

SYSTEM_FOLDERS = frozenset({"lost+found"})
"""Folders that only an administrator may read and that hold nobody's videos; they lie at the root of many disks."""


def find_videos(inputs: Iterable[str], extensions: Sequence[str] = ()) -> list[Video]:
    """The videos of ``inputs``, sorted by path, each path once.

    An input is a file, a folder (searched to the bottom), a glob, ``@list.txt``, or ``-`` for a list on standard input.
    Folders and globs give files with a known ending or one of ``extensions``, hidden ones skipped; a file named
    explicitly or in a list is taken whatever its ending. Raises InputError for an input that is missing or matches
    nothing. A listed path that is missing is kept, with size and time 0, so that the job reports it by name.
    """
    endings = VIDEO_EXTENSIONS | {"." + ending.lower().lstrip(".") for ending in extensions}
    found: dict[str, Video] = {}
    for text in inputs:
        is_empty = True
        for path in _paths(text, endings):
            is_empty = False
            if path not in found:
                found[path] = _video(path)
        if is_empty:
            raise InputError(
                f"{_name(text)} holds no videos; files with an unusual ending are found with --ext, as in --ext .bin"
            )
    return [found[path] for path in sorted(found, key=os.fsencode)]


def _paths(text: str, endings: frozenset[str]) -> Iterator[str]:
    """Absolute paths of one input."""
    if text == "-":
        yield from _listed(sys.stdin.buffer.read(), "standard input", endings)
    elif text.startswith("@") and not os.path.lexists(text):
        yield from _listed(_read_list(text[1:]), text[1:], endings)
    elif os.path.lexists(text) or not glob.has_magic(text):
        yield from _named(text, endings)
    else:
        yield from _globbed(text, endings)


def _named(text: str, endings: frozenset[str]) -> Iterator[str]:
    path = os.path.abspath(text)  # noqa: PTH100 - Path.absolute keeps ".."
    try:
        mode = Path(path).stat().st_mode
    except OSError as error:
        raise InputError(f"{text} cannot be read: {(error.strerror or str(error)).lower()}") from None
    if stat.S_ISDIR(mode):
        yield from _walk(path, endings)
    elif stat.S_ISREG(mode):
        yield path
    else:
        raise InputError(f"{text} is neither a file nor a folder")


def _read_list(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except OSError as error:
        raise InputError(f"the list {name} cannot be read: {(error.strerror or str(error)).lower()}") from None


def _listed(content: bytes, name: str, endings: frozenset[str]) -> Iterator[str]:
    # File names need not be text; fsdecode keeps every byte.
    lines = [os.fsdecode(line).strip() for line in content.splitlines()]
    paths = [line for line in lines if line and not line.startswith("#")]
    if not paths:
        raise InputError(f"the list {name} names no videos; it takes one path on a line")
    for path in paths:
        absolute = os.path.abspath(path)  # noqa: PTH100
        if Path(absolute).is_dir():
            yield from _walk(absolute, endings)
        else:
            yield absolute


def _globbed(pattern: str, endings: frozenset[str]) -> Iterator[str]:
    """Matches of a glob; ``**`` matches any folders, as in the shell."""
    if "**" not in Path(pattern).parts:
        matches: Iterable[str] = glob.iglob(pattern)  # noqa: PTH207 - Path.glob also matches hidden files
    else:
        # glob follows every symbolic link under a **, loops included, so the folders are walked here.
        parts = Path(os.path.abspath(pattern)).parts  # noqa: PTH100
        fixed = next(i for i, part in enumerate(parts) if glob.has_magic(part))
        root = str(Path(*parts[:fixed]))
        matches = (path for path in _walk(root, endings) if _matches(Path(path).parts[fixed:], parts[fixed:]))
    for match in matches:
        path = os.path.abspath(match)  # noqa: PTH100
        if Path(path).is_dir():
            yield from _walk(path, endings)
        elif _has_ending(path, endings):
            yield path


def _matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a glob."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        # As the last part it matches every file below.
        return len(pattern) == 1 or any(_matches(names[i:], pattern[1:]) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and _matches(names[1:], pattern[1:])


def _walk(root: str, endings: frozenset[str]) -> Iterator[str]:
    """Files with a known ending under ``root``. Each folder is visited once, by its real path before any link to it."""
    folders = [root]
    links: list[str] = []
    visited: set[tuple[int, int]] = set()
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        try:
            status = Path(folder).stat()
            if (status.st_dev, status.st_ino) in visited:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except FileNotFoundError:
            continue  # Removed while the job looks around.
        except OSError as error:
            raise InputError(
                f"the folder {folder} cannot be listed: {(error.strerror or str(error)).lower()}"
            ) from None
        for entry in entries:
            if entry.name.startswith(".") or entry.name in SYSTEM_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            elif entry.is_symlink() and entry.is_dir():
                links.append(entry.path)
            elif _has_ending(entry.name, endings) and (entry.is_file() or entry.is_symlink()):
                # Pipes and devices are left out; a link that leads nowhere is kept and reported as missing.
                yield entry.path


def _has_ending(path: str, endings: frozenset[str]) -> bool:
    return os.path.splitext(path)[1].lower() in endings  # noqa: PTH122 - called for every file of an archive


def _video(path: str) -> Video:
    try:
        status = Path(path).stat()
    except OSError:
        return Video(path, 0, 0)
    return Video(path, status.st_size, status.st_mtime_ns)


def _name(text: str) -> str:
    return "standard input" if text == "-" else text
