"""Stretches of video that are there more than once: copies that were cut, encoded again, or uploaded again.

All pairs of segments are compared. In a large result, segments are first divided into cells of similar vectors, and
only pairs in one cell are compared; each segment is in the two nearest cells, so that few copies are missed. Then the
pairs above the lowest similarity are merged along the time: the next segment of one video with the next of the other.
"""

import itertools
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.browse.segments import FinishedResult, read_segments
from jobs.browse.vectors.clusters import centres_of
from jobs.browse.vectors.reading import computed, cosines, vector_size
from tagger.windows import TIME_TOLERANCE_S

SIMILAR_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("other", pa.string(), nullable=False),
        pa.field("other_start_s", pa.float64(), nullable=False),
        pa.field("other_end_s", pa.float64(), nullable=False),
        pa.field("similarity", pa.float32(), nullable=False),
        pa.field("segments", pa.int32(), nullable=False),
    ]
)
"""One row per stretch, by video and start. ``similarity`` is the mean over its ``segments``."""

EXACT_SEGMENTS = 50_000
"""Segments up to which all pairs are compared."""

CELL_SEGMENTS = 5_000
"""Segments in a cell, on average: the fewer, the faster, and the more pairs are missed."""

CELLS_OF_SEGMENT = 2
"""Nearest cells that a segment is in."""

BLOCK_SEGMENTS = 2048
"""Segments of both sides of a block of comparisons: 17 MB of cosines."""

MAX_PAIRS = 10_000_000
"""Pairs that are kept: 160 MB. If there are more, the weaker half is dropped, and the lowest similarity rises."""

MAX_MISSING = 1
"""Segments in a stretch, one after the other, that may be less similar."""


@dataclass(frozen=True)
class Similar:
    """Stretches as a table of SIMILAR_SCHEMA.

    ``min_similarity`` is the lowest similarity that was used. It may be higher than the wanted one if pairs were
    ``dropped``, because there were more than MAX_PAIRS.
    """

    stretches: pa.Table
    min_similarity: float
    dropped: bool


@dataclass(frozen=True)
class _Rows:
    """The segments of the whole result, in its order: ``[n]`` each, but for the names of the videos."""

    names: pa.Array
    video: np.ndarray
    segment: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray


def find_similar(
    finished: FinishedResult,
    min_similarity: float,
    min_duration_s: float = 0.0,
    *,
    within: bool = False,
) -> Similar:
    """Finds stretches of two videos that are similar; with ``within`` also of one video.

    ``min_similarity`` is the lowest cosine of two segments, ``min_duration_s`` the shortest stretch. Copies the vectors
    to a temporary file, and keeps some 30 bytes of each segment in memory. Raises OutputError as ``computed`` and
    ``read_segments``.
    """
    size = vector_size(finished)
    rows = _read_rows(finished)
    pairs = _Pairs(min_similarity)
    with tempfile.TemporaryDirectory(prefix="vtag-") as folder:
        shape = (len(rows.video), size)
        vectors = np.memmap(Path(folder, "vectors"), np.float16, "w+", shape=shape)
        begin = 0
        for block in computed(finished, lambda vectors: vectors):
            vectors[begin : begin + len(block)] = block
            begin += len(block)
        for cell in _cells(finished, vectors):
            _compare(cell, vectors, rows, pairs, within=within)
        del vectors
    stretches = _merge(rows, *pairs.arrays(), min_duration_s)
    return Similar(stretches, pairs.min_similarity, pairs.dropped)


class _Pairs:
    """Pairs of segments, by their numbers in the result, the lower first, with their cosines."""

    def __init__(self, min_similarity: float):
        self.min_similarity = min_similarity
        self.dropped = False
        self._parts: list[tuple[np.ndarray, ...]] = []
        self._count = 0

    def add(self, first: np.ndarray, second: np.ndarray, cosine: np.ndarray) -> None:
        self._parts.append((first.astype(np.uint32), second.astype(np.uint32), cosine))
        self._count += len(first)
        if self._count > MAX_PAIRS:
            first, second, cosine = self.arrays()
            if len(first) > MAX_PAIRS // 2:
                best = np.argpartition(-cosine, MAX_PAIRS // 2)[: MAX_PAIRS // 2]
                first, second, cosine = first[best], second[best], cosine[best]
                self.min_similarity, self.dropped = float(cosine.min()), True
            self._parts, self._count = [(first, second, cosine)], len(first)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the columns of all pairs. A pair that was found in two cells is there once."""
        if not self._parts:
            return np.empty(0, np.uint32), np.empty(0, np.uint32), np.empty(0, np.float32)
        first, second, cosine = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        _, once = np.unique(first.astype(np.uint64) << np.uint64(32) | second, return_index=True)
        return first[once], second[once], cosine[once]


def _read_rows(finished: FinishedResult) -> _Rows:
    names, columns, videos = [], [], 0
    for portion in read_segments(finished):
        names.append(portion.videos)
        columns.append(((portion.video() + videos).astype(np.int32), portion.segment, portion.start_s, portion.end_s))
        videos += len(portion.videos)
    return _Rows(pa.concat_arrays(names), *(np.concatenate(column) for column in zip(*columns, strict=True)))


def _cells(finished: FinishedResult, vectors: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the numbers of the segments in each cell, sorted."""
    count = len(vectors)
    if count <= EXACT_SEGMENTS:
        yield np.arange(count)
        return
    centres = centres_of(finished, -(-CELLS_OF_SEGMENT * count // CELL_SEGMENTS))
    found = np.empty((count, CELLS_OF_SEGMENT), np.int32)
    for begin in range(0, count, BLOCK_SEGMENTS):
        block = slice(begin, begin + BLOCK_SEGMENTS)
        near = cosines(vectors[block], centres)
        found[block] = np.argpartition(-near, CELLS_OF_SEGMENT - 1, axis=1)[:, :CELLS_OF_SEGMENT]
    order = np.argsort(found.ravel(), kind="stable")
    bounds = np.searchsorted(found.ravel()[order], np.arange(len(centres) + 1))
    for low, high in itertools.pairwise(bounds):
        yield order[low:high] // CELLS_OF_SEGMENT


def _compare(cell: np.ndarray, vectors: np.ndarray, rows: _Rows, pairs: _Pairs, *, within: bool) -> None:
    """Adds the similar pairs of segments in ``cell``."""
    blocks = [cell[begin : begin + BLOCK_SEGMENTS] for begin in range(0, len(cell), BLOCK_SEGMENTS)]
    for number, left in enumerate(blocks):
        wanted = vectors[left].astype(np.float32)
        for right in blocks[number:]:
            near = cosines(vectors[right], wanted)
            at_right, at_left = np.nonzero(near >= pairs.min_similarity)
            first, second = left[at_left], right[at_right]
            same = rows.video[first] == rows.video[second]
            apart = rows.start_s[second] >= rows.end_s[first] - TIME_TOLERANCE_S
            kept = np.flatnonzero((first < second) & (~same | (apart if within else False)))
            pairs.add(first[kept], second[kept], near[at_right[kept], at_left[kept]])


def _merge(rows: _Rows, first: np.ndarray, second: np.ndarray, cosine: np.ndarray, min_duration_s: float) -> pa.Table:
    """Merges pairs of segments into stretches, a table of SIMILAR_SCHEMA."""
    if not len(first):
        return SIMILAR_SCHEMA.empty_table()
    video, other = rows.video[first], rows.video[second]
    shift = rows.segment[second] - rows.segment[first]
    order = np.lexsort((rows.segment[first], shift, other, video))
    first, second, cosine = first[order], second[order], cosine[order]
    video, other, shift = video[order], other[order], shift[order]
    begins_new = np.ones(len(first), bool)
    begins_new[1:] = (
        (np.diff(video) != 0)
        | (np.diff(other) != 0)
        | (np.diff(shift) != 0)
        | (np.diff(rows.segment[first]) > MAX_MISSING + 1)
    )
    begins = np.flatnonzero(begins_new)
    lasts = np.append(begins[1:], len(first)) - 1
    counts = lasts - begins + 1
    # Vectors that were rounded to float16 may be a little longer than 1.
    similarity = np.minimum(np.add.reduceat(cosine.astype(np.float64), begins) / counts, 1).astype(np.float32)
    start_s, end_s = rows.start_s[first[begins]], rows.end_s[first[lasts]]
    other_start_s, other_end_s = rows.start_s[second[begins]], rows.end_s[second[lasts]]
    long = np.minimum(end_s - start_s, other_end_s - other_start_s) >= min_duration_s - TIME_TOLERANCE_S
    columns = video[begins], start_s, end_s, other[begins], other_start_s, other_end_s, similarity, counts
    table = [column[long] for column in columns]
    kept = _without_weaker(table)
    video, start_s, end_s, other, other_start_s, other_end_s, similarity, counts = (column[kept] for column in table)
    names = (rows.names.take(pa.array(column)) for column in (video, other))
    arrays = next(names), start_s, end_s, next(names), other_start_s, other_end_s, similarity, counts.astype(np.int32)
    return pa.table([pa.array(array) for array in arrays], schema=SIMILAR_SCHEMA)


def _without_weaker(columns: list[np.ndarray]) -> np.ndarray:
    """Returns the rows of stretches that do not overlap a better one in both videos, by video and start.

    The better one has more segments, or as many and a higher similarity, or as high a one and nearer times. In a scene
    in which nothing moves, each segment is similar to all others, also at other times.
    """
    video, start_s, end_s, other, other_start_s, other_end_s, similarity, counts = columns
    order = np.lexsort((np.abs(other_start_s - start_s), -similarity.round(3), -counts, other, video))
    kept: list[int] = []
    pair, of_pair = (-1, -1), list[int]()
    for row in order.tolist():
        if (video[row], other[row]) != pair:
            pair, of_pair = (video[row], other[row]), []
        better = np.array(of_pair, np.int64)
        overlaps = (
            (start_s[better] < end_s[row])
            & (end_s[better] > start_s[row])
            & (other_start_s[better] < other_end_s[row])
            & (other_end_s[better] > other_start_s[row])
        )
        if not overlaps.any():
            of_pair.append(row)
            kept.append(row)
    found = np.array(kept, np.int64)
    return found[np.lexsort((other_start_s[found], other[found], start_s[found], video[found]))]
