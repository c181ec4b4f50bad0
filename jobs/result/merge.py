"""Merges sorted tables, each video from the last of them that has it, in memory that does not grow with their rows.

The sources are outlined first, by the names that stand in them; then the rows are read in ascending ranges of names,
from every source that reaches into the range.
"""

import bisect
import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.errors import reason
from jobs.result.columns import completed
from jobs.storage.location import Location
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

RANGE_ROWS = 100_000
"""About how many rows are in memory at a time."""

ROW_GROUP_ROWS = 25_000
"""Rows of a row group in files that will be merged again: what is read of a file is a multiple of it."""

READERS = 8
"""Files that are read at a time. In a bucket most of the time is waiting."""


@dataclass(frozen=True)
class Source:
    """Two Parquet files about the same videos, each sorted by video: TAGS_SCHEMA and VIDEOS_SCHEMA."""

    tags: Location
    videos: Location


@dataclass(frozen=True)
class Merged:
    """The rows of a range of videos, sorted. ``sources``: for each row of ``videos``, the number of its source."""

    videos: pa.Table
    tags: pa.Table
    sources: np.ndarray


@dataclass(frozen=True)
class _Outline:
    """Where the rows of a source are: at each mark, a name and the rows between it and the mark before."""

    first: str
    last: str
    marks: tuple[tuple[str, int], ...]


def merge(sources: Sequence[Source], *, keep: pa.Array | None = None, range_rows: int = RANGE_ROWS) -> Iterator[Merged]:
    """The rows of ``sources`` in ascending ranges of videos; where two have a video, the later one counts.

    ``keep``: names of videos; those of others are left out. Raises OutputError when a source has not the tags that its
    videos should have, or cannot be read.
    """
    if keep is not None:
        keep = keep.take(pc.array_sort_indices(keep))
    with ThreadPoolExecutor(READERS) as pool:
        outlines = list(pool.map(lambda source: _outline(source, range_rows // 4), sources))
        low = ""
        for high in _bounds(outlines, range_rows):
            reaching = [
                _Reaching(number, source, is_whole=low < outline.first and (high is None or outline.last <= high))
                for number, (source, outline) in enumerate(zip(sources, outlines, strict=True))
                if outline is not None and low < outline.last and (high is None or outline.first <= high)
            ]
            yield _merge_range(pool, reaching, low, high, None if keep is None else _between(keep, low, high))
            low = high or low


@dataclass(frozen=True)
class _Reaching:
    """A source, and its number, that reaches into a range, or lies in it as a whole."""

    number: int
    source: Source
    is_whole: bool


def _between(names: pa.Array, low: str, high: str | None) -> pa.Array:
    """Those of sorted names that are above ``low`` and not above ``high``.

    To look among all of ten million names for those of a range takes seconds, for each range.
    """

    def up_to(bound: str) -> int:
        return bisect.bisect_right(range(len(names)), bound, key=lambda i: names[i].as_py())

    start = up_to(low)
    return names.slice(start, None if high is None else up_to(high) - start)


@contextlib.contextmanager
def _readable(file: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(reason(error).split())
        raise OutputError(
            f"{file} cannot be read: {why}; what is finished is kept: run the same command again, "
            "or start over with --overwrite"
        ) from error


def _outline(source: Source, quantum: int) -> _Outline | None:
    first = last = ""
    marks = []
    rows = 0
    with _readable(source.videos), source.videos.parquet() as file:
        for batch in file.iter_batches(columns=["video", "segments"]):
            if not batch.num_rows:
                continue
            names = batch["video"]
            first = first or names[0].as_py()
            last = names[-1].as_py()
            counted = rows + np.cumsum(1 + batch["segments"].to_numpy().astype(np.int64))
            # The last name of each full quantum.
            at = np.flatnonzero(np.diff(counted // quantum, prepend=rows // quantum))
            marks += [(names[int(i)].as_py(), quantum) for i in at]
            rows = int(counted[-1]) % quantum
    return _Outline(first, last, (*marks, (last, rows))) if last else None


def _bounds(outlines: Sequence[_Outline | None], range_rows: int) -> Iterator[str | None]:
    """The last name of each range but the last, which is open."""
    marks = sorted(mark for outline in outlines if outline is not None for mark in outline.marks)
    rows = 0
    bound = ""
    for name, count in marks:
        rows += count
        if rows >= range_rows and name > bound:
            yield name
            bound, rows = name, 0
    if marks:
        yield None


def _merge_range(
    pool: ThreadPoolExecutor, reaching: Sequence[_Reaching], low: str, high: str | None, keep: pa.Array | None
) -> Merged:
    chosen = pc.field("video") > low
    if high is not None:
        chosen = chosen & (pc.field("video") <= high)
    videos = _read(pool, reaching, "videos", VIDEOS_SCHEMA, chosen)
    tags = _read(pool, reaching, "tags", TAGS_SCHEMA, chosen)
    if len(reaching) > 1:
        videos = videos.take(pc.sort_indices(videos, [("video", "ascending"), ("source", "descending")]))
        names = videos["video"].combine_chunks()
        is_first = np.ones(len(names), bool)
        if len(names):
            is_first[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        videos = videos.filter(pa.array(is_first))
    if keep is not None:
        videos = videos.filter(pc.is_in(videos["video"], keep))
    if len(reaching) > 1 or keep is not None:
        at = pc.index_in(tags["video"], videos["video"].combine_chunks())
        counting = videos["source"].combine_chunks().take(at.combine_chunks())
        tags = tags.filter(pc.equal(counting, tags["source"].combine_chunks()))
    if len(reaching) > 1:
        tags = tags.sort_by([("video", "ascending"), ("segment", "ascending")])
    if (pc.sum(videos["segments"]).as_py() or 0) != tags.num_rows:
        places = ", ".join(str(found.source.tags) for found in reaching[:3])
        raise OutputError(
            f"{places}: not the rows that the videos beside it should have; vtag verify says more, and --overwrite "
            "starts over"
        )
    return Merged(videos.select(VIDEOS_SCHEMA.names), tags.select(TAGS_SCHEMA.names), videos["source"].to_numpy())


def _read(
    pool: ThreadPoolExecutor,
    reaching: Sequence[_Reaching],
    table: Literal["tags", "videos"],
    schema: pa.Schema,
    chosen: pc.Expression,
) -> pa.Table:
    def read(found: _Reaching) -> pa.Table:
        file: Location = getattr(found.source, table)
        with _readable(file):
            if found.is_whole:
                # Without the cost of a filter, of which the small parts of a run have most.
                with file.parquet() as parquet:
                    rows = completed(parquet.read().replace_schema_metadata(), schema)
            else:
                # Reads no more than the groups of rows that it needs.
                rows = pq.read_table(
                    file.path,
                    filesystem=file.filesystem,
                    schema=schema,
                    filters=chosen,
                    page_checksum_verification=True,
                )
        return rows.append_column("source", pa.array(np.full(rows.num_rows, found.number, np.int32)))

    return pa.concat_tables([schema.append(pa.field("source", pa.int32())).empty_table(), *pool.map(read, reaching)])
