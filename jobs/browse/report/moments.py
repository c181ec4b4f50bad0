"""The strongest moments of the videos of a report, for thumbnails."""

import numpy as np

from jobs.browse.report.gather import ReportData
from tagger.segments import BACKGROUND

PER_VIDEO = 4
"""Most thumbnails of a video."""


def strongest_rows(data: ReportData, count: int, per_video: int = PER_VIDEO) -> np.ndarray:
    """Returns up to ``count`` rows of ``data.segments``, sorted: the most confident segments of different events.

    An event is a stretch of segments of one label; ``background`` is left out. First come the best events of all
    videos, then their second-best, up to ``per_video``; those with the highest confidence if not all fit.
    """
    segments = data.segments
    if not len(segments) or not count:
        return np.zeros(0, np.int64)
    begins = np.ones(len(segments), bool)
    begins[1:] = (np.diff(segments.video) != 0) | (np.diff(segments.label) != 0)
    event = np.cumsum(begins)
    order = np.lexsort((-segments.confidence, event))
    rows = order[np.flatnonzero(np.diff(event[order], prepend=0))]
    is_background = np.array([label == BACKGROUND for label in data.labels])
    rows = rows[~is_background[segments.label[rows]]]
    rows = rows[np.lexsort((-segments.confidence[rows], segments.video[rows]))]
    first = np.flatnonzero(np.diff(segments.video[rows], prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(first, np.diff(np.append(first, len(rows))))
    wanted = np.lexsort((-segments.confidence[rows], rank))
    wanted = wanted[rank[wanted] < per_video][:count]
    return np.sort(rows[wanted])
