"""What is exported of a result: for each video its segments or events, with the times of players."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.browse.events import Rules, find_events
from jobs.browse.recorded import Recorded, recorded_in_order
from jobs.browse.segments import FinishedResult, Segments, read_segments

DECIMALS = 6
"""Decimals of times and confidences."""

USUAL_FPS = 25.0
"""Frames per second of a video that declares none."""


@dataclass(frozen=True)
class Span:
    """A segment or an event. Its times are those of players: in seconds from the start of the file."""

    start_s: float
    end_s: float
    label: str
    confidence: float


@dataclass(frozen=True)
class ExportedVideo:
    """A video, named as in the result, what is recorded of it, and its spans by start."""

    video: str
    recorded: Recorded
    spans: Sequence[Span]

    @property
    def fps(self) -> float:
        """Its frames per second, on average; USUAL_FPS if it declares none."""
        return self.recorded.fps or USUAL_FPS

    @property
    def labels(self) -> list[str]:
        """Its labels, each of them once, in the order of their first spans."""
        return list(dict.fromkeys(span.label for span in self.spans))


def exported_videos(finished: FinishedResult, rules: Rules, *, events: bool) -> Iterator[ExportedVideo]:
    """Yields the videos that have segments, or events, by the ``rules``.

    For segments, only the labels and confidences of the rules count. Where the result does not record the start of the
    video's stream, times count from the first frame. Raises OutputError as ``read_segments``.
    """
    tables = find_events(finished, rules) if events else (segments_of(each, rules) for each in read_segments(finished))
    # Both tables of a result have the same order, so an archive need not fit into memory.
    recorded = itertools.chain.from_iterable(recorded_in_order(source.videos) for source in finished.result.sources)
    for table in tables:
        for name, rows in itertools.groupby(table.to_pylist(), lambda row: row["video"]):
            about = next((about for video, about in recorded if video == name), Recorded())
            shift_s = about.stream_start_s or 0.0
            yield ExportedVideo(name, about, [_span(row, shift_s) for row in rows])


def segments_of(segments: Segments, rules: Rules) -> pa.Table:
    """Returns the segments that the labels and confidences of the ``rules`` leave."""
    lowest = np.array([rules.lowest_confidence(name) for name in segments.labels], np.float32)
    rows = np.flatnonzero(segments.confidence >= lowest[segments.label])
    return pa.table(
        {
            "video": segments.videos.take(pa.array(segments.video()[rows])),
            "start_s": segments.start_s[rows],
            "end_s": segments.end_s[rows],
            "label": pa.array(segments.labels, pa.string()).take(pa.array(segments.label[rows])),
            "confidence": segments.confidence[rows],
        }
    )


def _span(row: dict[str, Any], shift_s: float) -> Span:
    start_s, end_s = (round(row[name] + shift_s, DECIMALS) for name in ("start_s", "end_s"))
    return Span(start_s, end_s, row["label"], round(row["confidence"], DECIMALS))
