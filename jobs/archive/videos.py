"""Many videos as columns. A video takes about 70 bytes and its name, an object four times as much."""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Video, VideoRanges, video_name, video_path

COLUMNS = pa.schema([("video", pa.large_string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])
"""The columns of a list of videos. ``video`` has the names (see ``video_name``)."""

BATCH = 10_000
"""Number of objects that exist at the same time."""


class Videos(Sequence[Video]):
    """Videos, sorted by name, each name once. A ``Video`` is made whenever one is asked for.

    ``ranges`` are those that are to be tagged, by name; None if whole videos are.
    """

    def __init__(self, table: pa.Table | None = None, ranges: VideoRanges | None = None):
        """Takes a table with COLUMNS, sorted."""
        self._table = COLUMNS.empty_table() if table is None else table.combine_chunks()
        self.ranges = ranges

    @classmethod
    def of(cls, videos: Iterable[Video]) -> "Videos":
        """Returns ``videos``, in any order, as columns. Their ranges are left out."""
        collected = CollectedVideos()
        for video in videos:
            collected.add(video)
        return collected.sorted()

    @property
    def names(self) -> pa.Array:
        """The names, as a large_string array."""
        return self._column("video")

    @property
    def sizes(self) -> np.ndarray:
        """The sizes in bytes."""
        return self._column("size").to_numpy()

    @property
    def mtimes_ns(self) -> np.ndarray:
        """The modification times in nanoseconds."""
        return self._column("mtime_ns").to_numpy()

    def filter(self, mask: np.ndarray) -> "Videos":
        """Returns the videos that a mask chooses."""
        if mask.all():
            return self
        return Videos(self._table.filter(pa.array(mask)), self.ranges)

    def take(self, rows: Sequence[int]) -> "Videos":
        """Returns the videos in these rows, which are in ascending order."""
        return Videos(self._table.take(pa.array(rows, pa.int64())), self.ranges)

    def with_ranges(self, ranges: VideoRanges) -> "Videos":
        """Returns the same videos with these ranges. Each of them must have some."""
        return Videos(self._table, ranges)

    def joined(self, *others: "Videos") -> "Videos":
        """Returns these videos and ``others``, none of which is among these."""
        tables = [videos._table for videos in (self, *others) if len(videos)]
        return Videos(_sorted(pa.concat_tables(tables)), self.ranges) if tables else self

    def _column(self, name: str) -> pa.Array:
        column = self._table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _video(self, name: str, size: int, mtime_ns: int) -> Video:
        return Video(video_path(name), size, mtime_ns, None if self.ranges is None else self.ranges[name])

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Video: ...

    @overload
    def __getitem__(self, index: slice) -> "Videos": ...

    def __getitem__(self, index: int | slice) -> "Video | Videos":
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        return self._video(*(self._table[name][index].as_py() for name in COLUMNS.names))

    def __iter__(self) -> Iterator[Video]:
        for batch in self._table.to_batches(BATCH):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield self._video(*row)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Videos):
            return NotImplemented
        return bool(self._table.equals(other._table)) and self.ranges == other.ranges

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} videos>"


class CollectedVideos:
    """Videos in the order in which they are found, some of them perhaps twice."""

    def __init__(self) -> None:
        self._tables: list[pa.Table] = []
        self._batch: list[Video] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, video: Video) -> None:
        """Takes a video."""
        self._batch.append(video)
        self._count += 1
        if len(self._batch) == BATCH:
            self._flush()

    def sorted(self) -> Videos:
        """Returns all videos, and forgets them."""
        self._flush()
        tables, self._tables, self._count = self._tables, [], 0
        table = pa.concat_tables([COLUMNS.empty_table(), *tables])
        del tables
        return Videos(_sorted(table))

    def _flush(self) -> None:
        videos, self._batch = self._batch, []
        columns = (
            [video_name(video.path) for video in videos],
            [video.size for video in videos],
            [video.mtime_ns for video in videos],
        )
        self._tables.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, COLUMNS, strict=True)], COLUMNS))


def _sorted(table: pa.Table) -> pa.Table:
    """Returns rows of COLUMNS sorted by name, each name once: of several rows with the same name, the first."""
    table = table.combine_chunks()
    names = table["video"]
    if table.num_rows < 2 or pc.all(pc.less(names[:-1], names[1:])).as_py():
        return table
    table = table.take(pc.sort_indices(names)).combine_chunks()
    names = table["video"]
    is_first = np.ones(table.num_rows, bool)
    is_first[1:] = pc.not_equal(names[1:], names[:-1]).to_numpy()
    return table if is_first.all() else table.filter(pa.array(is_first)).combine_chunks()
