"""Merges sorted tables in bounded memory. For a video in several tables, the last one counts.

First, the names in each source are read, to divide them into ascending ranges of about the same number of rows. Then
the rows of one range after another are read, from every source with names in the range.
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
from jobs.result.columns import check_columns, fill_added_columns
from jobs.storage.location import Location
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema

RANGE_ROWS = 100_000
"""Approximate number of rows in memory at a time."""

EMBEDDED_RANGE_ROWS = 25_000
"""The same for rows with embeddings: a row has up to 1 KiB then, and a merge holds up to three copies of it."""

ROW_GROUP_ROWS = 25_000
"""Number of rows of a row group in files that will be merged again: a merge reads whole row groups."""

EMBEDDINGS_GROUP_ROWS = 5_000
"""The same for embeddings: about 5 MB."""

SEGMENT_KEY = ["video", "segment"]
"""Columns that name a segment. They are the same in the tags and the embeddings."""

READERS = 8
"""Number of files that are read at a time. In a bucket most of the time is waiting."""


@dataclass(frozen=True)
class TableFiles:
    """Parquet files about the same videos, each sorted by video: TAGS_SCHEMA and VIDEOS_SCHEMA.

    ``embeddings`` has the schema ``embeddings_schema`` and a row for each row of the tags, in the same order. It is
    None when there are no embeddings.
    """

    tags: Location
    videos: Location
    embeddings: Location | None = None

    @property
    def files(self) -> tuple[Location, ...]:
        """The files that there are."""
        return (self.tags, self.videos, *([self.embeddings] if self.embeddings is not None else []))


@dataclass(frozen=True)
class Merged:
    """The rows of a range of videos, sorted. ``sources``: for each row of ``videos``, the number of its source.

    ``embeddings`` is None when no embeddings were asked for.
    """

    videos: pa.Table
    tags: pa.Table
    sources: np.ndarray
    embeddings: pa.Table | None = None


@dataclass(frozen=True)
class _Outline:
    """The distribution of rows in a source. A mark is a name, with the number of rows since the mark before."""

    first: str
    last: str
    marks: tuple[tuple[str, int], ...]

    def may_have(self, names: pa.Array) -> bool:
        """Returns whether some of the sorted ``names`` are between the first and the last."""
        at = bisect.bisect_left(range(len(names)), self.first, key=lambda i: names[i].as_py())
        return at < len(names) and names[at].as_py() <= self.last


def merge(
    sources: Sequence[TableFiles],
    *,
    keep: pa.Array | None = None,
    drop: pa.Array | None = None,
    embedding_size: int | None = None,
    range_rows: int | None = None,
) -> Iterator[Merged]:
    """Yields the rows of ``sources`` in ascending ranges of videos. For a video in two sources, the later one counts.

    ``keep``: the names of the videos to keep; None keeps all. Ranges without any of them are not read. ``drop``: the
    names of videos to leave out.
    ``embedding_size`` is the number of values of the embeddings; None leaves them out. A range has about ``range_rows``
    rows. Raises OutputError when the tags of a source do not fit its videos, the embeddings do not fit the tags, or a
    source cannot be read.
    """
    range_rows = range_rows or (RANGE_ROWS if embedding_size is None else EMBEDDED_RANGE_ROWS)
    keep, drop = (None if names is None else _in_order(names) for names in (keep, drop))
    with ThreadPoolExecutor(READERS) as pool:
        outlines = list(pool.map(lambda source: _outline(source, range_rows // 4), sources))
        low = ""
        for high in _bounds(outlines, range_rows):
            names = None if keep is None else _names_in_range(keep, low, high)
            range_sources = [
                _SourceInRange(number, source, is_whole=low < outline.first and (high is None or outline.last <= high))
                for number, (source, outline) in enumerate(zip(sources, outlines, strict=True))
                if outline is not None and low < outline.last and (high is None or outline.first <= high)
                if names is None or outline.may_have(names)
            ]
            if range_sources:
                dropped = None if drop is None else _names_in_range(drop, low, high)
                yield _merge_range(pool, range_sources, low, high, names, dropped, embedding_size)
            low = high or low


@dataclass(frozen=True)
class _SourceInRange:
    """A source with names in a range, and its number. ``is_whole``: all its names are in the range."""

    number: int
    source: TableFiles
    is_whole: bool


def _in_order(names: pa.Array) -> pa.Array:
    """Returns ``names`` sorted. Sorted ones are not copied: they may take a gigabyte."""
    is_sorted = pc.all(pc.less_equal(names[:-1], names[1:])).as_py()
    return names if is_sorted else names.take(pc.array_sort_indices(names))


def _names_in_range(names: pa.Array, low: str, high: str | None) -> pa.Array:
    """Returns the part of the sorted ``names`` that is above ``low`` and not above ``high``.

    Looking up a range in all of ten million names would take seconds, for each range.
    """

    def up_to(bound: str) -> int:
        return bisect.bisect_right(range(len(names)), bound, key=lambda i: names[i].as_py())

    start = up_to(low)
    return names.slice(start, None if high is None else up_to(high) - start).cast(pa.string())


@contextlib.contextmanager
def _readable(file: Location) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "it is missing" if isinstance(error, FileNotFoundError) else " ".join(reason(error).split())
        raise OutputError(
            f"{file} cannot be read: {why}; finished videos are kept: run the same command again, "
            "or start over with vtag run --overwrite"
        ) from error


def _outline(source: TableFiles, mark_rows: int) -> _Outline | None:
    first = last = ""
    marks = []
    rows = 0
    with _readable(source.videos), source.videos.parquet() as file:
        check_columns(source.videos, file, VIDEOS_SCHEMA)
        for batch in file.iter_batches(columns=["video", "segments"]):
            if not batch.num_rows:
                continue
            names = batch["video"]
            first = first or names[0].as_py()
            last = names[-1].as_py()
            counted = rows + np.cumsum(1 + batch["segments"].to_numpy().astype(np.int64))
            # A mark after every ``mark_rows`` rows.
            at = np.flatnonzero(np.diff(counted // mark_rows, prepend=rows // mark_rows))
            marks += [(names[int(i)].as_py(), mark_rows) for i in at]
            rows = int(counted[-1]) % mark_rows
    return _Outline(first, last, (*marks, (last, rows))) if last else None


def _bounds(outlines: Sequence[_Outline | None], range_rows: int) -> Iterator[str | None]:
    """Yields the last name of each range; None for the last range, which is open."""
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
    pool: ThreadPoolExecutor,
    range_sources: Sequence[_SourceInRange],
    low: str,
    high: str | None,
    keep: pa.Array | None,
    drop: pa.Array | None,
    embedding_size: int | None,
) -> Merged:
    chosen = pc.field("video") > low
    if keep is not None:
        # A few videos of a range are in few row groups.
        chosen = (pc.field("video") >= keep[0]) & (pc.field("video") <= keep[-1])
    elif high is not None:
        chosen = chosen & (pc.field("video") <= high)
    videos = _read(pool, range_sources, "videos", VIDEOS_SCHEMA, chosen)
    if len(range_sources) > 1:
        videos = videos.take(pc.sort_indices(videos, [("video", "ascending"), ("source", "descending")]))
        names = videos["video"].combine_chunks()
        is_first = np.ones(len(names), bool)
        if len(names):
            is_first[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy(zero_copy_only=False)
        videos = videos.filter(pa.array(is_first))
    is_whole = keep is None
    if keep is not None:
        videos = videos.filter(pc.is_in(videos["video"], keep))
    if drop is not None and len(drop) and pc.any(is_dropped := pc.is_in(videos["video"], drop)).as_py():
        videos = videos.filter(pc.invert(is_dropped))
        is_whole = False

    def read_segments(table: Literal["tags", "embeddings"], schema: pa.Schema) -> pa.Table:
        """Returns the rows that belong to ``videos``, each from the source of its video."""
        rows = _read(pool, range_sources, table, schema, chosen)
        if len(range_sources) > 1 or not is_whole:
            at = pc.index_in(rows["video"], videos["video"].combine_chunks())
            counting = videos["source"].combine_chunks().take(at.combine_chunks())
            rows = rows.filter(pc.equal(counting, rows["source"].combine_chunks()))
        if len(range_sources) > 1:
            rows = rows.sort_by([("video", "ascending"), ("segment", "ascending")])
        return rows.select(schema.names)

    tags = read_segments("tags", TAGS_SCHEMA)
    if (pc.sum(videos["segments"]).as_py() or 0) != tags.num_rows:
        raise _misfit(range_sources, "tags", "videos")
    embeddings = None
    if embedding_size is not None:
        embeddings = read_segments("embeddings", embeddings_schema(embedding_size))
        if not embeddings.select(SEGMENT_KEY).equals(tags.select(SEGMENT_KEY)):
            raise _misfit(range_sources, "embeddings", "tags")
    return Merged(videos.select(VIDEOS_SCHEMA.names), tags, videos["source"].to_numpy(), embeddings)


def _misfit(range_sources: Sequence[_SourceInRange], table: str, beside: str) -> OutputError:
    places = ", ".join(str(getattr(found.source, table)) for found in range_sources[:3])
    return OutputError(
        f"{places}: the rows do not fit those of the {beside} table beside it; see vtag verify, or start over with "
        "vtag run --overwrite"
    )


def _read(
    pool: ThreadPoolExecutor,
    range_sources: Sequence[_SourceInRange],
    table: Literal["tags", "videos", "embeddings"],
    schema: pa.Schema,
    chosen: pc.Expression,
) -> pa.Table:
    def read(found: _SourceInRange) -> pa.Table:
        file: Location | None = getattr(found.source, table)
        if file is None:
            raise OutputError(
                f"{found.source.tags} has no embeddings beside it, and the result has; see vtag verify, or start over "
                "with vtag run --overwrite"
            )
        with _readable(file):
            if found.is_whole:
                # No filter: for small files it costs more than it saves.
                with file.parquet() as parquet:
                    check_columns(file, parquet, schema)
                    rows = fill_added_columns(parquet.read().replace_schema_metadata(), schema)
            else:
                # Reads only the row groups that it needs.
                rows = pq.read_table(
                    file.path,
                    filesystem=file.filesystem,
                    schema=schema,
                    filters=chosen,
                    page_checksum_verification=True,
                )
        return rows.append_column("source", pa.array(np.full(rows.num_rows, found.number, np.int32)))

    return pa.concat_tables(
        [schema.append(pa.field("source", pa.int32())).empty_table(), *pool.map(read, range_sources)]
    )
