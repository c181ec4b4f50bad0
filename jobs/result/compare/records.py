"""The records of finished videos in a result and a run folder, as columns."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.fingerprint import CONTENT, contents_of
from jobs.archive.video import MAX_ATTEMPTS, PASSING_KINDS
from jobs.result.columns import check_columns, fill_added_columns
from jobs.result.compare.runs import find_names, joined_names, repeated_names, take_rows
from jobs.result.merge import TableFiles
from tagger.schema import VIDEOS_SCHEMA

READERS = 16
"""Number of files that are read at a time. On a network most of the time is waiting."""

BATCH_ROWS = 100_000

COLUMNS = ["video", "size", "mtime_ns", "status", "error_kind", "attempts", "segments"]
"""Columns of the videos table that are read for all videos. Fingerprints take more room than all of them."""


@dataclass(frozen=True)
class Records:
    """The records of finished videos: their columns, with the rows of all ``sources`` after each other.

    ``runs`` are the names, in sorted pieces. ``first_rows``: the number of the first row of each source. ``counts``:
    False for a row whose name a later source has, too, and for one that was forgotten.

    ``is_bad``: the video failed or was read only in part. ``is_unstable``: it changed while it was read.
    ``may_pass``: its error may pass, and it was read by fewer than MAX_ATTEMPTS runs, not by this one.
    """

    sources: tuple[TableFiles, ...]
    first_rows: np.ndarray
    runs: tuple[pa.Array, ...]
    sizes: np.ndarray
    mtimes_ns: np.ndarray
    is_bad: np.ndarray
    is_unstable: np.ndarray
    may_pass: np.ndarray
    attempts: np.ndarray
    segments: np.ndarray
    counts: np.ndarray

    def __len__(self) -> int:
        """The number of videos with a record."""
        return int(self.counts.sum())

    def find(self, names: pa.Array) -> np.ndarray:
        """Returns the row of each of the sorted ``names``; -1 for one without a record."""
        rows = find_names(names, self.runs)
        known = np.flatnonzero(rows >= 0)
        rows[known[~self.counts[rows[known]]]] = -1
        return rows

    def forget(self, names: pa.Array) -> None:
        """Forgets the records of the sorted ``names``."""
        rows = self.find(names)
        self.counts[rows[rows >= 0]] = False

    def names(self, rows: np.ndarray) -> pa.Array:
        """Returns the names in these rows, which are in ascending order, as a large_string array."""
        first_rows = np.cumsum([0, *map(len, self.runs)])
        bounds = np.searchsorted(rows, first_rows).tolist()
        pieces = zip(self.runs, first_rows.tolist(), bounds, bounds[1:], strict=False)
        return joined_names(*(take_rows(run, rows[start:stop] - first) for run, first, start, stop in pieces))

    def source_numbers(self, rows: np.ndarray) -> frozenset[int]:
        """Returns the numbers of the sources with these rows."""
        return frozenset(np.unique(self._source_of(rows)).tolist())

    def contents(self, rows: np.ndarray) -> pa.Array:
        """Returns the contents (CONTENT) in these rows, which are in ascending order. Raises OSError.

        Reads only row groups that have one of the rows.
        """
        of_source = self._source_of(rows)
        found = [pa.array([], CONTENT)]
        for number in np.unique(of_source).tolist():
            found += _contents(self.sources[number], rows[of_source == number] - self.first_rows[number])
        return pa.concat_arrays(found)

    def _source_of(self, rows: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.first_rows, rows, side="right") - 1


def read_records(sources: Sequence[TableFiles], this_run: Sequence[TableFiles] = ()) -> Records:
    """Reads the records in ``sources``, those of earlier runs, and in ``this_run``.

    A video is in one of the ``sources`` at most, and may be in several of ``this_run``: the last of all counts. A run
    tries a video once. Raises OSError.
    """
    files = (*sources, *this_run)
    with ThreadPoolExecutor(READERS) as pool:
        tables = [pa.concat_tables(pieces) for pieces in pool.map(_read, files)]
    rows = [table.num_rows for table in tables]
    runs = tuple(chunk for table in tables for chunk in table["video"].chunks if len(chunk))
    columns = pa.concat_tables([_NO_RECORDS, *tables])
    may_pass = columns["may_pass"].to_numpy()
    if this_run:
        may_pass = may_pass & (np.arange(sum(rows)) < sum(rows[: len(sources)]))
    return Records(
        files,
        np.cumsum([0, *rows])[:-1],
        runs,
        columns["size"].to_numpy(),
        columns["mtime_ns"].to_numpy(),
        columns["is_bad"].to_numpy(),
        columns["is_unstable"].to_numpy(),
        may_pass,
        columns["attempts"].to_numpy(),
        columns["segments"].to_numpy(),
        ~repeated_names(runs) if this_run else np.ones(sum(rows), bool),
    )


def _read(source: TableFiles) -> list[pa.Table]:
    """Returns what ``Records`` has of the videos of a source, in pieces."""
    pieces = []
    with source.videos.parquet() as file:
        check_columns(source.videos, file, VIDEOS_SCHEMA)
        for batch in file.iter_batches(BATCH_ROWS, columns=COLUMNS):
            pieces.append(_piece(fill_added_columns(pa.Table.from_batches([batch]), _SCHEMA)))
    return pieces or [_NO_RECORDS]


def _piece(rows: pa.Table) -> pa.Table:
    attempts = pc.fill_null(rows["attempts"], 1)
    is_bad = pc.not_equal(rows["status"], "ok")
    passing = pc.is_in(rows["error_kind"], pa.array(sorted(PASSING_KINDS)))
    return pa.table(
        {
            "video": rows["video"],
            "size": pc.fill_null(rows["size"], 0),
            "mtime_ns": pc.fill_null(rows["mtime_ns"], 0),
            "is_bad": is_bad,
            "is_unstable": pc.fill_null(pc.equal(rows["error_kind"], "changed"), False),
            "may_pass": pc.and_(pc.and_(is_bad, passing), pc.less(attempts, MAX_ATTEMPTS)),
            "attempts": attempts,
            "segments": rows["segments"],
        }
    )


_SCHEMA = pa.schema([VIDEOS_SCHEMA.field(name) for name in COLUMNS])

_NO_RECORDS = _piece(_SCHEMA.empty_table())


def _contents(source: TableFiles, rows: np.ndarray) -> list[pa.Array]:
    """Returns the contents in ascending ``rows`` of a source, in pieces."""
    found = []
    first = 0
    with source.videos.parquet() as file:
        for group in range(file.num_row_groups):
            stop = first + file.metadata.row_group(group).num_rows
            wanted = rows[slice(*np.searchsorted(rows, [first, stop]))] - first
            if len(wanted):
                column = file.read_row_group(group, columns=["fingerprint"])["fingerprint"]
                found.append(contents_of(column.take(pa.array(wanted)).to_pylist()))
            first = stop
    return found
