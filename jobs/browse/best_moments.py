"""The best moments: the segments with the highest scores.

A score is the confidence of a label, or any other number per segment. So each kind of search is a function from
``Segments`` to scores.
"""

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.segments import Segments

MOMENTS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("segment", pa.int32(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("score", pa.float32(), nullable=False),
    ]
)
"""``label`` is the best label of the segment."""

Score = Callable[[Segments], np.ndarray]
"""Returns the scores of segments, ``[n] float32``. A segment with NaN is no moment."""


def best_moments(
    portions: Iterable[Segments],
    score: Score,
    top: int,
    *,
    one_per_video: bool = True,
    max_ood: float | None = None,
) -> pa.Table:
    """Returns the ``top`` best moments, best first, as a table of MOMENTS_SCHEMA.

    Of each video, only the best segment is a moment; without ``one_per_video``, each segment that is not beside a
    better one. ``max_ood``: the highest OOD score of a moment. Keeps only the best moments in memory.
    """
    best = MOMENTS_SCHEMA.empty_table()
    for segments in portions:
        scores = np.asarray(score(segments), np.float32)
        scores = np.where(np.isnan(scores) | ~segments.is_within(max_ood), -np.inf, scores)
        rows = _best_of_videos(segments, scores) if one_per_video else _peaks(segments, scores)
        best = pa.concat_tables([best, _table(segments, rows, scores)])
        order = pc.sort_indices(best, [("score", "descending"), ("video", "ascending"), ("segment", "ascending")])
        best = best.take(order[:top])
    return best


def _best_of_videos(segments: Segments, scores: np.ndarray) -> np.ndarray:
    """Returns the row of the first best segment of each video that has a moment."""
    highest = np.maximum.reduceat(scores, segments.first[:-1])
    rows = np.flatnonzero(scores == np.repeat(highest, np.diff(segments.first)))
    _, firsts = np.unique(segments.video()[rows], return_index=True)
    rows = rows[firsts]
    return rows[scores[rows] > -np.inf]


def _peaks(segments: Segments, scores: np.ndarray) -> np.ndarray:
    """Returns the rows whose neighbours are not better. Of neighbours with one score, only the first is a peak."""
    follows = segments.follows()
    before = np.where(follows, np.roll(scores, 1), -np.inf)
    after = np.where(np.roll(follows, -1), np.roll(scores, -1), -np.inf)
    return np.flatnonzero((scores > before) & (scores >= after))


def _table(segments: Segments, rows: np.ndarray, scores: np.ndarray) -> pa.Table:
    columns = [
        segments.videos.take(pa.array(segments.video()[rows])),
        segments.segment[rows],
        segments.start_s[rows],
        segments.end_s[rows],
        pa.array(segments.labels, pa.string()).take(pa.array(segments.label[rows])),
        scores[rows],
    ]
    return pa.table([pa.array(column) for column in columns], schema=MOMENTS_SCHEMA)
