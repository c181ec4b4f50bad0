"""Which files of a folder are videos to look at: rules that hold for disks and buckets alike."""

import fnmatch
import os

SYSTEM_FOLDERS = frozenset({"lost+found"})
"""Folders that only an administrator may read and that hold no videos of users; they lie at the root of many disks."""


def is_skipped(name: str) -> bool:
    """Whether a file or folder of this name is passed over: it is hidden, or the system's."""
    return name.startswith(".") or name in SYSTEM_FOLDERS


def has_ending(path: str, endings: frozenset[str]) -> bool:
    """Whether ``path`` ends in one of ``endings``, in any case."""
    return os.path.splitext(path)[1].lower() in endings  # noqa: PTH122 - called for every file of an archive


def matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether the parts of a path match those of a glob."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        # As the last part it matches every file below.
        return len(pattern) == 1 or any(matches(names[i:], pattern[1:]) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and matches(names[1:], pattern[1:])
