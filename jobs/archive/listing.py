"""Turns files, folders, globs, lists and addresses into the sorted list of a job's videos."""

import os
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.archive.folders import Folders
from jobs.archive.lists import names_in_list
from jobs.archive.local import local_videos, videos_of_line
from jobs.archive.rules import Rules
from jobs.archive.video import Video
from jobs.archive.videos import CollectedVideos, Videos
from jobs.errors import reason
from jobs.storage.address import is_address
from tagger.errors import InputError, doing
from tagger.video.extensions import VIDEO_EXTENSIONS

REPORT_EVERY = 1000
"""Number of videos found between two progress reports."""


@dataclass(frozen=True)
class Listing:
    """The videos of a job's inputs, sorted by name, the folders that were listed, and the seconds that this took."""

    videos: Videos
    folders: Folders
    seconds: float = 0.0


def find_videos(
    inputs: Iterable[str],
    extensions: Sequence[str] = (),
    on_found: Callable[[int], None] = lambda found: None,
    folders: Folders | None = None,
    *,
    null: bool = False,
    exclude: Sequence[str] = (),
    include: Sequence[str] = (),
    may_be_empty: bool = False,
) -> Videos:
    """Returns the videos of ``inputs``, sorted by name (see ``video_name``), each once.

    An input is a file, a folder (searched recursively) or a glob, as a path or as an address such as
    ``s3://bucket/videos``; or it is a list: ``@list.txt``, or ``-`` for standard input. Folders and globs give files
    with a known extension or one of ``extensions``, but no hidden files. A file named explicitly or in a list may have
    any extension. Raises InputError for an input that is missing or matches nothing. A missing path in a list is kept,
    with size and time 0, so that the job reports it by name. ``on_found`` gets the number of videos found so far.
    ``folders`` is filled with the folders below the inputs; without it, a folder that cannot be listed is an
    InputError. ``null`` is that of ``names_in_list``, ``exclude`` and ``include`` are those of ``Rules``. With
    ``may_be_empty``, an input that can be read may be without videos.
    """
    more = {"." + extension.lower().lstrip(".") for extension in extensions}
    rules = Rules(VIDEO_EXTENSIONS | more, tuple(exclude), tuple(include))
    record = Folders() if folders is None else folders
    found = CollectedVideos()
    for text in inputs:
        before = len(found)
        with doing("listing", _name(text)):
            for video in _videos(text, rules, record, null):
                found.add(video)
                if len(found) % REPORT_EVERY == 0:
                    on_found(len(found))
        problems = record.problems
        if problems and (folders is None or (len(found) == before and not may_be_empty)):
            raise InputError(f"{problems[0].path} cannot be listed: {problems[0].reason}")
        if len(found) == before and not may_be_empty:
            raise InputError(
                f"{_name(text)} holds no videos; files with an unusual ending are found with --ext, as in --ext .bin"
            )
    videos = found.sorted()
    on_found(len(videos))
    return videos


def _videos(text: str, rules: Rules, folders: Folders, null: bool) -> Iterator[Video]:
    """Yields the videos of one input."""
    if text in ("", "@"):
        # os.path.abspath would make it the current folder.
        raise InputError(f"an INPUT is empty ({text!r}), as from a variable of the shell that is not set; give a path")
    if text == "-":
        yield from _listed(sys.stdin.buffer.read(), "standard input", rules, folders, null)
    elif text.startswith("@") and not os.path.lexists(text):
        yield from _listed(_read_list(text[1:]), text[1:], rules, folders, null)
    elif not is_address(text):
        yield from local_videos(text, rules, folders)
    else:
        from jobs.archive.remote import remote_videos

        yield from remote_videos(text, rules, folders)


def _read_list(name: str) -> bytes:
    if is_address(name):
        from jobs.archive.remote import read_remote_list

        return read_remote_list(name)
    try:
        with Path(name).open("rb") as file:
            if stat.S_ISCHR(os.fstat(file.fileno()).st_mode) and not file.isatty() and name != os.devnull:
                raise InputError(f"the list {name} is a device; give a file")
            return file.read()
    except OSError as error:
        raise InputError(f"the list {name} cannot be read: {reason(error)}") from None
    except ValueError:
        raise InputError(f"the list {name} cannot be read: its name has a NUL byte") from None


def _listed(content: bytes, name: str, rules: Rules, folders: Folders, null: bool) -> Iterator[Video]:
    addresses = []
    for text in names_in_list(content, name, null=null):
        if is_address(text):
            addresses.append(text)
        else:
            yield from videos_of_line(text, rules, folders)
    if addresses:
        from jobs.archive.remote import videos_of_lines

        yield from videos_of_lines(addresses, rules, folders)


def _name(text: str) -> str:
    return "standard input" if text == "-" else text
