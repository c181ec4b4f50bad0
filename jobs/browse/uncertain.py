"""Finds the moments whose marks would teach a model most: those about which it is least certain, all of them different.

The margin of a segment is the difference of its two highest confidences. Of each event, neighbouring segments of one
label, only the segment with the smallest margin counts.
"""

import numpy as np
import pyarrow as pa

from jobs.browse.segments import FinishedResult, Segments, read_segments
from jobs.browse.vectors.reading import vectors_at

UNCERTAIN_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("guess", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("second_guess", pa.string()),
        pa.field("margin", pa.float32(), nullable=False),
    ]
)
"""One row per moment. ``label`` is empty: it is for a person to fill in."""

CANDIDATES, SHARE = 10, 0.25
"""Moments that differ are chosen among so many times the wanted number, but only among this share of all moments, the
least certain."""


def uncertain_moments(finished: FinishedResult, top: int, *, max_ood: float | None = None) -> pa.Table:
    """Returns up to ``top`` moments, in the order of their use, as a table of UNCERTAIN_SCHEMA.

    The first is the least certain. If the result has embeddings, the next is the one that is most unlike those before
    it, among the least certain (greedy k-centre; Sener and Savarese, 2018). Without embeddings, the least certain come
    first. ``max_ood``: the highest OOD score of a moment. Raises OutputError as ``read_segments``.
    """
    has_embeddings = finished.result.identity.embedding_size is not None
    count = top * CANDIDATES if has_embeddings else top
    found = UNCERTAIN_SCHEMA.append(pa.field("row", pa.int64())).empty_table()
    begin = moments = 0
    for segments in read_segments(finished, top=True, ood=max_ood is not None):
        candidates = _candidates(segments, begin, max_ood)
        moments += len(candidates)
        found = pa.concat_tables([found, candidates])
        found = found.sort_by([("margin", "ascending"), ("row", "ascending")]).slice(0, count)
        begin += len(segments)
    found = found.slice(0, max(top, int(SHARE * moments)))
    if has_embeddings and len(found):
        rows = np.asarray(found["row"])
        order = np.argsort(rows)
        vectors = np.empty((len(rows), finished.result.identity.embedding_size or 0), np.float32)
        vectors[order] = vectors_at(finished, rows[order])
        found = found.take(pa.array(farthest(vectors, top)))
    return found.drop_columns(["row"])


def farthest(vectors: np.ndarray, count: int) -> np.ndarray:
    """Returns the numbers of up to ``count`` of ``[n, D]`` vectors of length 1: the first, then always the one that is
    farthest from the nearest of those before it.
    """
    chosen = [0]
    nearest = vectors @ vectors[0]
    while len(chosen) < min(count, len(vectors)):
        nearest[chosen[-1]] = np.inf
        chosen.append(int(nearest.argmin()))
        nearest = np.maximum(nearest, vectors @ vectors[chosen[-1]])
    return np.array(chosen)


def _candidates(segments: Segments, begin: int, max_ood: float | None) -> pa.Table:
    """Returns the least certain segment of each event. ``begin`` is the number of the first segment in the result."""
    assert segments.top is not None
    first, stored = segments.top.bounds[:-1], np.diff(segments.top.bounds)
    has_second = stored > 1
    second = np.where(has_second, first + 1, first)
    second_confidence = np.where(has_second, segments.top.confidence[second], 0)
    margin = (segments.confidence - second_confidence).astype(np.float32)
    margin[~segments.is_within(max_ood)] = np.inf
    continues = segments.follows()
    continues[1:] &= segments.label[1:] == segments.label[:-1]
    event = np.cumsum(~continues)
    order = np.lexsort((margin, event))
    rows = order[np.flatnonzero(np.diff(event[order], prepend=0))]
    rows = rows[np.isfinite(margin[rows])]
    names = pa.array(segments.labels, pa.string())
    columns = [
        segments.videos.take(pa.array(segments.video()[rows])),
        segments.start_s[rows],
        segments.end_s[rows],
        [""] * len(rows),
        names.take(pa.array(segments.label[rows])),
        segments.confidence[rows],
        names.take(pa.array(segments.top.label[second[rows]], mask=~has_second[rows])),
        margin[rows],
        begin + rows,
    ]
    schema = UNCERTAIN_SCHEMA.append(pa.field("row", pa.int64()))
    return pa.table([pa.array(column) for column in columns], schema=schema)
