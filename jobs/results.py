"""From rows that come back in any order to finished videos, and from finished videos to the columns of the result."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from jobs.job import Failure, Video
from jobs.transport import end_from_json
from tagger.clips import VideoEnd
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

FACT_COLUMNS = ("container", "codec", "width", "height", "fps", "duration_s")
"""Columns of VIDEOS_SCHEMA that are taken over from VideoFacts."""


@dataclass(frozen=True)
class FinishedVideo:
    """A video whose every window is back. ``segments`` are rows of SEGMENTS_SCHEMA, in order."""

    video: Video
    segments: tuple[dict, ...]
    end: VideoEnd
    predict_s: float

    @property
    def failure(self) -> Failure | None:
        """Why not all of the video could be read; None when it could."""
        if self.end.status == "ok" or self.end.error_kind is None:
            return None
        return Failure(self.video.path, self.end.status, self.end.error_kind, self.end.error or "unknown")


@dataclass
class _OpenVideo:
    segments: dict[int, dict] = field(default_factory=dict)
    reached_s: float = 0.0
    end: VideoEnd | None = None


class Collector:
    """Gathers the rows of the videos under way; a video is finished when its end and all its windows are here."""

    def __init__(self, videos: Sequence[Video]):
        self._videos = videos
        self._open: dict[int, _OpenVideo] = {}
        self.windows = 0
        self.video_s = 0.0
        self.decode_s = 0.0
        self.predict_s = 0.0

    def add(self, table: pa.Table) -> list[FinishedVideo]:
        """Takes rows of SEGMENTS_SCHEMA and returns the videos that they complete."""
        finished = []
        for row in table.to_pylist():
            number = row["video"]
            video = self._open.setdefault(number, _OpenVideo())
            self.decode_s += row["decode_s"]
            self.predict_s += row["predict_s"]
            if row["window"] is not None:
                self.windows += 1
                # Windows may overlap: what counts is how far the video has got.
                self.video_s += max(row["end_s"] - video.reached_s, 0.0)
                video.reached_s = max(row["end_s"], video.reached_s)
                video.segments[row["window"]] = row
            if row["end"] is not None:
                video.end = end_from_json(row["end"])
            if video.end is not None and len(video.segments) == video.end.windows:
                del self._open[number]
                segments = tuple(video.segments[i] for i in sorted(video.segments))
                predict_s = sum(segment["predict_s"] for segment in segments)
                finished.append(FinishedVideo(self._videos[number], segments, video.end, predict_s))
        return finished


def video_name(path: str) -> str:
    """A path as the ``video`` column holds it: itself, or as a ``file:`` address when its bytes are not UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(path).as_uri()
    return path


def tags_table(videos: Iterable[FinishedVideo]) -> pa.Table:
    """The segments of finished videos, as rows of TAGS_SCHEMA sorted by video and start."""
    rows = [
        {
            "video": video_name(done.video.path),
            "segment": segment["window"],
            "start_s": segment["start_s"],
            "end_s": segment["end_s"],
            "label": segment["top_labels"][0],
            "confidence": segment["top_confidences"][0],
            "top_labels": segment["top_labels"],
            "top_confidences": segment["top_confidences"],
        }
        for done in _sorted(videos)
        for segment in done.segments
    ]
    return pa.Table.from_pylist(rows, TAGS_SCHEMA)


def videos_table(videos: Iterable[FinishedVideo]) -> pa.Table:
    """One row of VIDEOS_SCHEMA for each finished video, sorted by video."""
    rows = []
    for done in _sorted(videos):
        end, facts = done.end, done.end.facts
        row = {
            "video": video_name(done.video.path),
            "size": done.video.size,
            # Whole microseconds: a float of seconds would not hold them.
            "mtime": done.video.mtime_ns // 1000,
            "segments": len(done.segments),
            "status": end.status,
            "error_kind": end.error_kind,
            "error": None if end.error is None else os.fsencode(end.error).decode("utf-8", "backslashreplace"),
            "decode_s": end.decode_s,
            "predict_s": done.predict_s,
        }
        if facts is not None:
            row |= {name: getattr(facts, name) for name in FACT_COLUMNS}
        if end.choice is not None:
            row |= {"decoder": end.choice.decoder, "decoder_reason": end.choice.reason}
        rows.append(row)
    return pa.Table.from_pylist(rows, VIDEOS_SCHEMA)


def _sorted(videos: Iterable[FinishedVideo]) -> list[FinishedVideo]:
    return sorted(videos, key=lambda done: video_name(done.video.path))
