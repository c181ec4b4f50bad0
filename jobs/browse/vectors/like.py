"""Searches a result for the moments that look most like examples."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from jobs.browse.best_moments import best_moments
from jobs.browse.segments import FinishedResult, Segments, read_segments
from jobs.browse.vectors.examples import Example
from jobs.browse.vectors.reading import Beside, cosines


def search_like(
    finished: FinishedResult,
    like: Sequence[Example],
    not_like: Sequence[Example] = (),
    top: int = 10,
    *,
    one_per_video: bool = True,
    max_ood: float | None = None,
) -> pa.Table:
    """Returns the ``top`` moments that look most like ``like`` and least like ``not_like``, best first.

    The columns are video, segment, start_s, end_s, label and similarity. The similarity to an example is the highest
    cosine to one of its windows. That of a moment is the mean over ``like`` minus the mean over ``not_like``. Segments
    that overlap an example in time are left out. Raises OutputError as ``computed`` and ``read_segments``.
    """
    examples = [*like, *not_like]
    wanted = np.concatenate([example.vectors for example in examples])
    begins = np.cumsum([0, *(len(example.vectors) for example in examples)])[:-1]

    def similarities(vectors: np.ndarray) -> np.ndarray:
        # Vectors that were rounded to float16 may be a little longer than 1.
        found = np.minimum(np.maximum.reduceat(cosines(vectors, wanted), begins, axis=1), 1)
        means = found[:, : len(like)].mean(axis=1)
        return means - found[:, len(like) :].mean(axis=1) if not_like else means

    beside = Beside(finished, similarities)

    def score(segments: Segments) -> np.ndarray:
        scores = beside.take(len(segments))
        scores[_overlapping(segments, examples)] = np.nan
        return scores

    portions = read_segments(finished, ood=max_ood is not None)
    found = best_moments(portions, score, top, one_per_video=one_per_video, max_ood=max_ood)
    return found.rename_columns(["similarity" if name == "score" else name for name in found.column_names])


def _overlapping(segments: Segments, examples: Sequence[Example]) -> np.ndarray:
    """Returns the rows that overlap an example in time."""
    found = [np.empty(0, np.int64)]
    for example in examples:
        place = segments.videos.index(example.video).as_py() if example.video is not None else -1
        if place >= 0:
            rows = np.arange(segments.first[place], segments.first[place + 1])
            overlaps = (segments.start_s[rows] < example.end_s) & (segments.end_s[rows] > example.start_s)
            found.append(rows[overlaps])
    return np.concatenate(found)
