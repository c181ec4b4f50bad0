"""Rules for the files of a folder that are videos, the same on disks and in buckets."""

import fnmatch
import os

SYSTEM_FOLDERS = frozenset({"lost+found"})
"""Folders that only an administrator may read and that hold no videos of users; they lie at the root of many disks."""


def is_skipped(name: str) -> bool:
    """Checks whether a file or folder of this name is skipped: it is hidden, or belongs to the system."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def has_extension(path: str, extensions: frozenset[str]) -> bool:
    """Checks whether ``path`` has one of ``extensions``, in upper or lower case."""
    return os.path.splitext(path)[1].lower() in extensions  # noqa: PTH122 - called for every file of an archive


def matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Checks whether the parts of a path match those of a glob."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        # As the last part, ** matches every file below.
        return len(pattern) == 1 or any(matches(names[i:], pattern[1:]) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and matches(names[1:], pattern[1:])
