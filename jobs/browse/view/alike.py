"""What looks like a segment of a result, as segments of its page."""

import numpy as np

from jobs.browse.report.gather import ReportData
from jobs.browse.segments import FinishedResult
from jobs.browse.vectors.examples import read_examples
from jobs.browse.vectors.like import search_like


def rows_alike(finished: FinishedResult, data: ReportData, row: int, top: int) -> list[tuple[int, float]]:
    """Returns the rows of ``data.segments`` that look most like ``row``, best first, each with its similarity.

    There is at most one of each video, and none of a video that is not in the page. Raises OutputError when the result
    has no embeddings.
    """
    segments = data.segments
    video = data.videos["video"][int(segments.video[row])].as_py()
    middle_s = (segments.start_ms[row] + segments.end_ms[row]) / 2000
    found = search_like(finished, read_examples(finished, [f"{video}@{middle_s}"]), top=top)
    place = {name: number for number, name in enumerate(data.videos["video"].to_pylist())}
    rows = []
    for moment in found.to_pylist():
        number = place.get(moment["video"])
        if number is not None:
            first, last = np.searchsorted(segments.video, [number, number + 1])
            at = first + np.searchsorted(segments.start_ms[first:last], round(moment["start_s"] * 1000))
            rows.append((int(at), round(moment["similarity"], 4)))
    return rows
