"""The part files of a result that is a folder. Each file has two names.

``parts/part-00000.tags.parquet`` is the name in the manifest. When a newer manifest drops it, the file stays until the
next publication, so a program that has read the older manifest still finds it.
``tags/part-00000.parquet`` is for readers of ``tags/*.parquet``, who must not see a video twice. So it is removed as
soon as the manifest drops the part. No single name could serve both.

Both are one file on a disk with hard links, else two copies. A number is not used again while a file with it is there,
so a file with a listed number is the right one.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jobs.result.merge import TablePair
from jobs.result.output import Output
from jobs.storage.location import Location
from jobs.storage.replace import give_second_name

SHOWN_NAME = re.compile(r"part-(\d{5,})\.parquet")
"""The name of a part file for readers of ``*.parquet``."""

LISTED_NAME = re.compile(r"part-(\d{5,})\.(?:tags|videos)\.parquet")
"""The name of a part file in the manifest."""


@dataclass(frozen=True)
class Part:
    """A pair of part files of a folder, about the same videos. ``number`` is in their names."""

    number: int
    videos: int
    segments: int

    @property
    def name(self) -> str:
        """The name of both files for readers of ``*.parquet``, one in ``tags/``, one in ``videos/``."""
        return f"part-{self.number:05d}.parquet"

    def listed(self, output: Output) -> TablePair:
        """Returns the two files under the names that are in the manifest."""
        stem = f"part-{self.number:05d}"
        return TablePair(output.parts.child(f"{stem}.tags.parquet"), output.parts.child(f"{stem}.videos.parquet"))

    def shown(self, output: Output) -> TablePair:
        """Returns the two files under the names for readers of ``*.parquet``."""
        return TablePair(output.tags.child(self.name), output.videos.child(self.name))


def next_number(output: Output, listed: Collection[int]) -> int:
    """Returns the number of the next part: above all ``listed`` numbers and those of all files that are there."""
    numbers = [*listed, *_numbers(output.parts, LISTED_NAME)]
    for folder in (output.tags, output.videos):
        numbers += _numbers(folder, SHOWN_NAME)
    return 1 + max(numbers, default=-1)


def _numbers(folder: Location, pattern: re.Pattern[str]) -> list[int]:
    return [int(match[1]) for name in folder.names() if (match := pattern.fullmatch(name))]


def shown_names(folder: Location) -> set[str]:
    """Returns the names of the part files that readers of ``*.parquet`` see in ``folder``."""
    return {name for name in folder.names() if SHOWN_NAME.fullmatch(name)}


def show(output: Output, parts: Sequence[Part]) -> None:
    """Makes readers of ``*.parquet`` see ``parts`` and nothing else."""
    tags, videos = set(output.tags.names()), set(output.videos.names())
    for part in parts:
        listed, shown = part.listed(output), part.shown(output)
        if part.name not in tags:
            give_second_name(listed.tags, shown.tags)
        if part.name not in videos:
            give_second_name(listed.videos, shown.videos)
    names = {part.name for part in parts}
    _remove(output.tags, tags - names, SHOWN_NAME)
    _remove(output.videos, videos - names, SHOWN_NAME)


def remove_left_overs(output: Output, numbers: Collection[int]) -> None:
    """Removes all files from ``parts/`` whose numbers are not among ``numbers``."""
    left_over = [
        name
        for name in output.parts.names()
        if (match := LISTED_NAME.fullmatch(name)) is None or int(match[1]) not in numbers
    ]
    _remove(output.parts, left_over, LISTED_NAME)


def _remove(folder: Location, names: Collection[str], pattern: re.Pattern[str]) -> None:
    """Removes part files and unfinished files. Files that vtag did not write stay."""
    for name in sorted(names):
        if pattern.fullmatch(name) or name.endswith(".tmp"):
            folder.child(name).delete()
