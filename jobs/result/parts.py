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

from jobs.result.merge import TableFiles
from jobs.result.output import Output
from jobs.result.totals import Totals
from jobs.storage.location import Location
from jobs.storage.replace import give_second_name

SHOWN_NAME = re.compile(r"part-(\d{5,})\.parquet")
"""The name of a part file for readers of ``*.parquet``."""

LISTED_NAME = re.compile(r"part-(\d{5,})\.(?:tags|videos|embeddings)\.parquet")
"""The name of a part file in the manifest."""


FEW_PARTS = 8
"""Number of parts from which on small ones are merged with new ones."""


@dataclass(frozen=True)
class Part:
    """Part files of a folder, one for each table, about the same videos. ``number`` is in their names.

    ``totals`` is None when an older version of vtag wrote the manifest.
    """

    number: int
    videos: int
    segments: int
    has_embeddings: bool = False
    totals: Totals | None = None

    @property
    def rows(self) -> int:
        """The number of videos and segments: those that failed have no segments."""
        return self.videos + self.segments

    @property
    def name(self) -> str:
        """The name of the files for readers of ``*.parquet``: one in ``tags/``, one in ``videos/``, and so on."""
        return f"part-{self.number:05d}.parquet"

    def listed(self, output: Output) -> TableFiles:
        """Returns the files under the names that are in the manifest."""
        stem = f"part-{self.number:05d}"
        return TableFiles(
            output.parts.child(f"{stem}.tags.parquet"),
            output.parts.child(f"{stem}.videos.parquet"),
            output.parts.child(f"{stem}.embeddings.parquet") if self.has_embeddings else None,
        )

    def shown(self, output: Output) -> TableFiles:
        """Returns the files under the names for readers of ``*.parquet``."""
        return TableFiles(
            output.tags.child(self.name),
            output.videos.child(self.name),
            output.embeddings.child(self.name) if self.has_embeddings else None,
        )


def without_small(parts: Sequence[Part], rows: int, limit: int) -> tuple[list[Part], list[Part]]:
    """Divides ``parts`` into those that stay and those to be merged with a new part of so many ``rows``.

    Few parts stay as they are. Of FEW_PARTS or more, those of less than twice the size of the new part are merged with
    it, the smallest first, up to ``limit`` rows. So the number of parts grows with the logarithm of the number of
    runs, and so does the number of times that a row is written again.
    """
    small: list[Part] = []
    is_many = rows and len(parts) >= FEW_PARTS
    for part in sorted(parts, key=lambda part: part.rows) if is_many else ():
        if part.rows >= 2 * rows or rows + part.rows > limit:
            break
        small.append(part)
        rows += part.rows
    return [part for part in parts if part not in small], small


def shown_folders(output: Output) -> tuple[Location, ...]:
    """Returns the folders with the part files that readers of ``*.parquet`` see, one for each table.

    That of the embeddings need not be there.
    """
    return output.tags, output.videos, output.embeddings


def next_number(output: Output, listed: Collection[int]) -> int:
    """Returns the number of the next part: above all ``listed`` numbers and those of all files that are there."""
    names = [name for folder in (output.parts, *shown_folders(output)) for name in folder.names()]
    found = [match for name in names if (match := LISTED_NAME.fullmatch(name) or SHOWN_NAME.fullmatch(name))]
    return 1 + max((*listed, *(int(match[1]) for match in found)), default=-1)


def shown_names(folder: Location) -> set[str]:
    """Returns the names of the part files that readers of ``*.parquet`` see in ``folder``."""
    return {name for name in folder.names() if SHOWN_NAME.fullmatch(name)}


def show(output: Output, parts: Sequence[Part], below: int | None = None) -> None:
    """Makes readers of ``*.parquet`` see ``parts`` and no other part, or no other with a number under ``below``."""
    names = {folder.name: folder.names() for folder in shown_folders(output)}
    for part in parts:
        for listed, shown in zip(part.listed(output).files, part.shown(output).files, strict=True):
            if part.name not in names[shown.parent.name]:
                give_second_name(listed, shown)
    numbers = {part.number for part in parts}
    with_embeddings = {part.number for part in parts if part.has_embeddings}
    _remove(output.tags, names["tags"], SHOWN_NAME, numbers, below)
    _remove(output.videos, names["videos"], SHOWN_NAME, numbers, below)
    _remove(output.embeddings, names["embeddings"], SHOWN_NAME, with_embeddings, below)
    if not with_embeddings:
        output.embeddings.delete_empty_folder()


def remove_left_overs(output: Output, numbers: Collection[int], below: int) -> None:
    """Removes the files in ``parts/`` whose numbers are under ``below`` and not among ``numbers``."""
    _remove(output.parts, output.parts.names(), LISTED_NAME, numbers, below)


def _remove(
    folder: Location, names: Sequence[str], pattern: re.Pattern[str], numbers: Collection[int], below: int | None
) -> None:
    """Removes part files, except those with ``numbers``, and unfinished files. Files of other programs stay."""
    for name in names:
        match = pattern.fullmatch(name)
        is_left_over = match and int(match[1]) not in numbers and (below is None or int(match[1]) < below)
        if is_left_over or name.endswith(".tmp"):
            folder.child(name).delete()
