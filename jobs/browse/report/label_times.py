"""The time of each label in a result: the lengths of its events."""

from collections import Counter
from dataclasses import dataclass, replace

import pyarrow.compute as pc

from jobs.browse.events import Rules, events_of
from jobs.browse.segments import Segments


@dataclass(frozen=True)
class LabelTime:
    """A label of a result: the seconds of its events, their number, and the number of videos that have one."""

    label: str
    seconds: float
    events: int
    videos: int


class LabelTimes:
    """Adds up the events of segments, which are those of ``vtag events`` without options.

    ``votes``: the windows overlap, so they vote, and ``Segments.top`` is needed.
    """

    def __init__(self, *, votes: bool) -> None:
        self._votes = votes
        self._seconds: Counter[str] = Counter()
        self._events: Counter[str] = Counter()
        self._videos: Counter[str] = Counter()

    def add(self, segments: Segments) -> None:
        """Adds the segments of whole videos."""
        events = events_of(segments if self._votes else replace(segments, top=None), Rules())
        events = events.append_column("seconds", pc.subtract(events["end_s"], events["start_s"]))
        sums = events.group_by("label").aggregate(
            [("seconds", "sum"), ("seconds", "count"), ("video", "count_distinct")]
        )
        for row in sums.to_pylist():
            self._seconds[row["label"]] += row["seconds_sum"]
            self._events[row["label"]] += row["seconds_count"]
            self._videos[row["label"]] += row["video_count_distinct"]

    def longest_first(self) -> tuple[LabelTime, ...]:
        """Returns the labels that have an event."""
        found = [
            LabelTime(label, seconds, self._events[label], self._videos[label])
            for label, seconds in self._seconds.items()
        ]
        return tuple(sorted(found, key=lambda time: (-time.seconds, time.label)))
