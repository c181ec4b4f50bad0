"""Rules for the files of a folder that are videos, the same on disks and in buckets."""

import fnmatch
import os
from dataclasses import dataclass

from tagger.video.extensions import VIDEO_EXTENSIONS

SYSTEM_FOLDERS = frozenset(
    (
        *("lost+found", "system volume information", "$recycle.bin"),
        # Thumbnails and deleted files on network storage of Synology and QNAP.
        *("@eadir", "#recycle", "@recycle"),
    )
)
"""Folders that hold no videos of users, but copies, thumbnails and deleted files; in lower case."""


def is_skipped(name: str) -> bool:
    """Checks whether a file or folder of this name is skipped: it is hidden, or belongs to the system."""
    return name.startswith(".") or name.lower() in SYSTEM_FOLDERS


@dataclass(frozen=True)
class Rules:
    """The rules of one listing.

    ``extensions`` are those of videos, in lower case with their dot. Files and folders that match one of ``exclude``
    are left out, besides hidden and system ones; those that match one of ``include`` never are. A pattern with a slash
    is compared with the whole path or address, any other with the name alone.
    """

    extensions: frozenset[str] = VIDEO_EXTENSIONS
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def leave_out(self, folder: str, name: str) -> bool:
        """Checks whether the file or folder ``name`` in ``folder`` is left out."""
        return (is_skipped(name) and not _fits(self.include, folder, name)) or self.is_excluded(folder, name)

    def is_excluded(self, folder: str, name: str) -> bool:
        """Checks whether the file or folder is left out by a pattern. A glob may name hidden ones on purpose."""
        return _fits(self.exclude, folder, name) and not _fits(self.include, folder, name)

    def is_video(self, name: str) -> bool:
        """Checks whether a file of this name has one of the extensions, in upper or lower case."""
        return extension_of(name) in self.extensions


def extension_of(name: str) -> str:
    """Returns the extension of a file in lower case, with its dot."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - called for every file of an archive


def _fits(patterns: tuple[str, ...], folder: str, name: str) -> bool:
    if not patterns:
        return False
    path = f"{folder}/{name}"
    # As in other tools, a slash at the end of a pattern means a folder.
    return any(fnmatch.fnmatchcase(path if "/" in p.rstrip("/") else name, p.rstrip("/")) for p in patterns)


def matches(names: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Checks whether the parts of a path match those of a glob."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        # As the last part, ** matches every file below.
        return len(pattern) == 1 or any(matches(names[i:], pattern[1:]) for i in range(len(names)))
    return bool(names) and fnmatch.fnmatchcase(names[0], pattern[0]) and matches(names[1:], pattern[1:])
