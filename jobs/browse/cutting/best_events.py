"""The best events of labels, as moments to cut out."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.events import Rules, find_events
from jobs.browse.moment import Moment
from jobs.browse.segments import FinishedResult


def best_events(finished: FinishedResult, labels: Sequence[str], min_confidence: float, top: int) -> list[Moment]:
    """Returns the ``top`` events of each of ``labels`` with the highest peaks, best first.

    The confidence of a moment is the peak of its event. Raises OutputError as ``read_segments``.
    """
    rules = Rules(min_confidence=min_confidence, only=frozenset(labels))
    best: dict[str, pa.Table] = {}
    for events in find_events(finished, rules):
        for label in labels:
            of_label = events.filter(pc.equal(events["label"], label))
            if not len(of_label):
                continue
            known = [best[label], of_label] if label in best else [of_label]
            order = [("peak_confidence", "descending"), ("video", "ascending"), ("start_s", "ascending")]
            best[label] = pa.concat_tables(known).sort_by(order).slice(0, top)
    return [
        Moment(row["video"], row["start_s"], row["end_s"], row["label"], row["peak_confidence"])
        for label in labels
        if label in best
        for row in best[label].to_pylist()
    ]
