"""Events: neighbouring segments of one label, merged.

The time of a video is divided into *stretches*, one for each segment: from its start to the start of the next segment,
or to its own end if that is earlier. Without overlap of the windows a stretch is its segment. With overlap, the windows
that cover the middle of a stretch vote: its label is the one with the highest mean of their probabilities.
``Rules.smooth`` adds windows on both sides to this mean. Labels outside of the stored ``top_labels`` count as 0.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.browse.segments import FinishedResult, Segments, TopLabels, read_segments
from tagger.segments import BACKGROUND
from tagger.windows import TIME_TOLERANCE_S

EVENTS_SCHEMA = pa.schema(
    [
        pa.field("video", pa.string(), nullable=False),
        pa.field("start_s", pa.float64(), nullable=False),
        pa.field("end_s", pa.float64(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("confidence", pa.float32(), nullable=False),
        pa.field("peak_confidence", pa.float32(), nullable=False),
        pa.field("segments", pa.int32(), nullable=False),
    ]
)
"""One row per event, by video and start. ``confidence`` is the mean over its ``segments``, ``peak_confidence`` the
highest of them."""

VOTE_NUMBERS = 1 << 17
"""Probabilities, of stretches and labels, that are averaged at a time: 1 MB, which the cache of a core holds."""


@dataclass(frozen=True)
class Rules:
    """Which segments become events, and how they are merged.

    ``smooth``: the number of windows, odd, over which probabilities are averaged. ``min_confidence``: the lowest
    confidence of a segment; ``label_confidences`` has that of labels with another one. ``min_duration_s``: the shortest
    event. ``max_gap_s``: the longest gap over which two events of one label are merged. ``background``: whether there
    are events of the label ``background``. ``only``: the labels of the events; None: all.
    """

    smooth: int = 1
    min_confidence: float = 0.0
    label_confidences: Mapping[str, float] = field(default_factory=dict)
    min_duration_s: float = 0.0
    max_gap_s: float = 0.0
    background: bool = True
    only: Collection[str] | None = None

    def lowest_confidence(self, label: str) -> float:
        """Returns the lowest confidence of segments with this label; infinity if none of them counts."""
        is_wanted = self.only is None or label in self.only
        if not is_wanted or (label == BACKGROUND and not self.background):
            return np.inf
        return self.label_confidences.get(label, self.min_confidence)


def find_events(finished: FinishedResult, rules: Rules) -> Iterator[pa.Table]:
    """Yields the events of a result as tables of EVENTS_SCHEMA. Raises OutputError as ``read_segments``."""
    needs_votes = rules.smooth > 1 or finished.windows_overlap
    for segments in read_segments(finished, top=needs_votes):
        yield events_of(segments, rules)


def events_of(segments: Segments, rules: Rules) -> pa.Table:
    """Returns the events of whole videos as a table of EVENTS_SCHEMA. Votes and smoothing need ``segments.top``."""
    video = segments.video()
    until_s = stretch_ends(segments)
    label, confidence = segments.label, segments.confidence
    if segments.top is not None:
        label, confidence = vote(segments, until_s, rules.smooth)
    lowest = np.array([rules.lowest_confidence(name) for name in segments.labels], np.float32)
    rows = np.flatnonzero(confidence >= lowest[label])
    events = _Events(
        video[rows],
        label[rows],
        segments.start_s[rows],
        until_s[rows],
        np.ones(len(rows), np.int64),
        confidence[rows].astype(np.float64),
        confidence[rows],
    ).merged(TIME_TOLERANCE_S)
    if rules.max_gap_s > 0:
        by_label = np.lexsort((events.start_s, events.label, events.video))
        events = events.take(by_label).merged(rules.max_gap_s + TIME_TOLERANCE_S)
        events = events.take(np.lexsort((events.start_s, events.video)))
    events = events.take(np.flatnonzero(events.end_s - events.start_s >= rules.min_duration_s - TIME_TOLERANCE_S))
    return events.table(segments)


@dataclass(frozen=True)
class _Events:
    """Columns of events, all of one length. ``label`` and ``video`` are numbers; ``total`` is a sum of confidences."""

    video: np.ndarray
    label: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    segments: np.ndarray
    total: np.ndarray
    peak: np.ndarray

    def take(self, rows: np.ndarray) -> "_Events":
        return _Events(*(column[rows] for column in self._columns()))

    def merged(self, max_gap_s: float) -> "_Events":
        """Merges each event with the one before it if both have one video and label and the gap is short enough."""
        if not len(self.video):
            return self
        starts_new = np.ones(len(self.video), bool)
        starts_new[1:] = (
            (np.diff(self.video) != 0) | (np.diff(self.label) != 0) | (self.start_s[1:] - self.end_s[:-1] > max_gap_s)
        )
        begins = np.flatnonzero(starts_new)
        ends = np.append(begins[1:], len(self.video)) - 1
        return _Events(
            self.video[begins],
            self.label[begins],
            self.start_s[begins],
            self.end_s[ends],
            np.add.reduceat(self.segments, begins),
            np.add.reduceat(self.total, begins),
            np.maximum.reduceat(self.peak, begins),
        )

    def table(self, segments: Segments) -> pa.Table:
        """Returns a table of EVENTS_SCHEMA."""
        columns = [
            segments.videos.take(pa.array(self.video)),
            self.start_s,
            self.end_s,
            pa.array(segments.labels, pa.string()).take(pa.array(self.label)),
            (self.total / self.segments).astype(np.float32),
            self.peak,
            self.segments.astype(np.int32),
        ]
        return pa.table([pa.array(column) for column in columns], schema=EVENTS_SCHEMA)

    def _columns(self) -> tuple[Any, ...]:
        return (self.video, self.label, self.start_s, self.end_s, self.segments, self.total, self.peak)


def vote(segments: Segments, until_s: np.ndarray, smooth: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the label of each stretch and its mean probability, ``[n]`` each. ``until_s`` are the ends of stretches.

    ``smooth`` is as in ``Rules``. The segments have their best labels.
    """
    assert segments.top is not None
    first, last = _voters(segments, until_s, smooth // 2)
    return _vote(segments.top, first, last, len(segments.labels))


def stretch_ends(segments: Segments) -> np.ndarray:
    """Returns the end of the stretch of each segment in seconds, ``[n] float64``."""
    until_s = segments.end_s.copy()
    next_s = np.append(segments.start_s[1:], np.inf)
    next_s[segments.first[1:] - 1] = np.inf
    return np.minimum(until_s, next_s)


def _voters(segments: Segments, until_s: np.ndarray, around: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the first and the last segment that vote on each stretch, ``[n]`` each.

    They are the segments that cover the middle of the stretch, and ``around`` more on both sides. Segments of another
    video, and those behind a part that could not be read, do not vote.
    """
    rows = np.arange(len(segments))
    begins = np.flatnonzero(~segments.follows())
    lengths = np.diff(np.append(begins, len(rows)))
    earliest, latest = np.repeat(begins, lengths), np.repeat(begins + lengths - 1, lengths)
    middle_s = (segments.start_s + until_s) / 2
    first = rows.copy()
    while True:
        before = first - 1
        covers = (before >= earliest) & (segments.end_s[before] > middle_s)
        if not covers.any():
            break
        first -= covers
    return np.maximum(first - around, earliest), np.minimum(rows + around, latest)


def _vote(top: TopLabels, first: np.ndarray, last: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the label with the highest mean probability over the segments ``first`` to ``last``, and that mean."""
    label, confidence = np.empty(len(first), np.int32), np.empty(len(first), np.float32)
    step = max(1, VOTE_NUMBERS // labels)
    for begin in range(0, len(first), step):
        rows = slice(begin, begin + step)
        low, high = first[rows], last[rows] + 1
        start, end = low[0], high[-1]
        entries = slice(top.bounds[start], top.bounds[end])
        numbers = top.label[entries]
        occurs = np.zeros(labels, bool)
        occurs[numbers] = True
        found = np.flatnonzero(occurs)
        column = np.cumsum(occurs) - 1
        sums = np.zeros((end - start + 1, len(found)))
        row = np.repeat(np.arange(1, end - start + 1), np.diff(top.bounds[start : end + 1]))
        sums[row, column[numbers]] = top.confidence[entries]
        np.cumsum(sums, axis=0, out=sums)
        means = (sums[high - start] - sums[low - start]) / (high - low)[:, None]
        best = means.argmax(axis=1)
        label[rows] = found[best]
        confidence[rows] = means[np.arange(len(best)), best]
    return label, confidence
