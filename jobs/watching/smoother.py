"""The labels of a live picture, smoothed while it goes on as ``vtag events`` smooths a result."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from jobs.browse.events import Rules, stretch_ends, vote
from jobs.browse.segments import Segments, TopLabels
from tagger.live.watch import LiveSegment
from tagger.windows import Sampling

NO_VIDEO = pa.array(["live"])


@dataclass(frozen=True)
class Moment:
    """A stretch of a live picture, as in jobs/browse/events.py, with its label; None: no label is confident enough.

    ``index`` is that of the segment that begins it. ``started_at`` is the time at which it was seen.
    """

    index: int
    start_s: float
    end_s: float
    label: str | None
    confidence: float
    started_at: datetime


class Smoother:
    """Gives the moments of segments as they come.

    The label of a moment is known ``rules.smooth // 2`` segments later. The last moment before a part that was not seen
    is longer than it seemed, so it comes a second time if it gets another label or end.
    """

    def __init__(self, sampling: Sampling, labels: Sequence[str], rules: Rules):
        self._sampling, self._rules = sampling, rules
        self._labels = list(labels)
        self._number = {label: number for number, label in enumerate(labels)}
        self._around = rules.smooth // 2
        covering = math.ceil(sampling.window_s / sampling.effective_hop_s)
        self._recent: deque[LiveSegment] = deque(maxlen=covering + 2 * self._around + 2)
        self._given: Moment | None = None

    def push(self, segment: LiveSegment) -> list[Moment]:
        """Takes the next segment. Returns the moments whose labels are known now."""
        moments = []
        if self._recent and segment.index != self._recent[-1].index + 1:
            moments = self.finish()
        self._recent.append(segment)
        if len(self._recent) > self._around:
            moments += self._moments(
                len(self._recent) - 1 - self._around, len(self._recent) - self._around, is_end=False
            )
        return moments

    def finish(self) -> list[Moment]:
        """Returns the moments that are left at the end, or before a part that was not seen."""
        count, given = len(self._recent), self._given
        moments = self._moments(max(0, count - max(1, self._around)), count, is_end=True)
        self._recent.clear()
        if moments and moments[0] == given:
            moments = moments[1:]
        self._given = None
        return moments

    def _moments(self, begin: int, end: int, *, is_end: bool) -> list[Moment]:
        if begin >= end:
            return []
        segments = self._segments()
        until_s = stretch_ends(segments)
        if not is_end:
            # The next segment is expected to begin one hop later.
            expected_s = self._recent[-1].start_s + self._sampling.effective_hop_s
            until_s[-1] = min(until_s[-1], expected_s)
        label, confidence = vote(segments, until_s, self._rules.smooth)
        moments = []
        for row in range(begin, end):
            name: str | None = self._labels[label[row]]
            if confidence[row] < self._rules.lowest_confidence(self._labels[label[row]]):
                name = None
            segment = self._recent[row]
            started_at = segment.ended_at - timedelta(seconds=segment.end_s - segment.start_s)
            moments.append(
                Moment(segment.index, segment.start_s, float(until_s[row]), name, float(confidence[row]), started_at)
            )
        self._given = moments[-1]
        return moments

    def _segments(self) -> Segments:
        recent = list(self._recent)
        counts = [len(segment.top_labels) for segment in recent]
        top = TopLabels(
            np.concatenate([[0], np.cumsum(counts)]),
            np.array([self._number[label] for segment in recent for label in segment.top_labels], np.int32),
            np.array([value for segment in recent for value in segment.top_confidences], np.float32),
        )
        return Segments(
            videos=NO_VIDEO,
            first=np.array([0, len(recent)]),
            segment=np.array([segment.index for segment in recent], np.int32),
            start_s=np.array([segment.start_s for segment in recent]),
            end_s=np.array([segment.end_s for segment in recent]),
            labels=self._labels,
            label=np.array([self._number[segment.label] for segment in recent], np.int32),
            confidence=np.array([segment.confidence for segment in recent], np.float32),
            top=top,
        )
