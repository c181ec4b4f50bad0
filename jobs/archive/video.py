"""A video of the archive: where it is, which version of it was read, and why it could not be read."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote_to_bytes

from tagger.errors import ErrorKind
from tagger.windows import Ranges

MAX_TIME_NS = (2**63 - 1) // 1000 * 1000
"""The last time that both tables and their readers can hold, in nanoseconds since 1970: in April 2262. The first is as
long before 1970: in September 1677. In whole microseconds, as the column ``mtime`` has it."""


def stored_time_ns(time_ns: int) -> int:
    """Returns a modification time of a file system, which may be any, as the nearest one that the tables can hold."""
    return max(-MAX_TIME_NS, min(time_ns, MAX_TIME_NS))


PASSING_KINDS: frozenset[ErrorKind] = frozenset(
    {"missing", "permission", "unreachable", "io", "timeout", "crashed", "memory"}
)
"""Errors that may pass: the next runs read such a video again, up to MAX_ATTEMPTS times in all."""

STORAGE_KINDS: frozenset[ErrorKind] = frozenset({"missing", "permission", "unreachable", "io"})
"""Errors of the storage, which say nothing about the content of the video."""

MAX_ATTEMPTS = 3
"""Number of runs that read a video with an error that may pass."""


@dataclass(frozen=True, slots=True)
class Video:
    """A video of the archive at the time of listing: an absolute path or an address, and its size in bytes.

    ``mtime_ns`` is the modification time in nanoseconds since 1970. Size and time are 0 when there was no such file.
    ``only`` are the ranges of it that are to be tagged, None if all of it is.
    """

    path: str
    size: int
    mtime_ns: int
    only: Ranges | None = None


VideoRanges = Mapping[str, Ranges]
"""The ranges of videos, by their paths or addresses."""


@dataclass(frozen=True, slots=True)
class Version:
    """The version of a video that was read: size in bytes, modification time in nanoseconds, fingerprint.

    ``fingerprint`` is None when the content could not be read.
    """

    size: int
    mtime_ns: int
    fingerprint: str | None


@dataclass(frozen=True)
class Failure:
    """A video that failed or was read only in part. ``path`` is its path or address."""

    path: str
    status: Literal["partial", "failed"]
    kind: ErrorKind
    reason: str


def existing_paths(videos: Iterable[Video]) -> Iterator[str]:
    """Yields the paths of the videos that existed at the time of listing."""
    return (video.path for video in videos if video.size)


def video_name(path: str) -> str:
    """Returns a path as in the ``video`` column: unchanged, or as a ``file:`` address when its bytes are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def video_path(name: str) -> str:
    """Returns the path or address of a name in the ``video`` column. Inverse of ``video_name``."""
    prefix = "file://"
    return os.fsdecode(unquote_to_bytes(name[len(prefix) :])) if name.startswith(prefix) else name
