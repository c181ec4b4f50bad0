"""Collects the rows that come back, in any order, until a video is finished."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Failure, Version, Video
from jobs.tagging.transport import SEGMENTS_SCHEMA, end_from_json
from tagger.clips import VideoEnd


@dataclass(frozen=True)
class FinishedVideo:
    """A video whose every window is back.

    ``version`` is what was read of it, None when it could not be found. ``segments`` are rows of SEGMENTS_SCHEMA, in
    order.
    """

    video: Video
    version: Version | None
    segments: pa.Table
    end: VideoEnd
    predict_s: float

    @property
    def failure(self) -> Failure | None:
        """Why not all of the video could be read; None when it could."""
        if self.end.status == "ok" or self.end.error_kind is None:
            return None
        return Failure(self.video.path, self.end.status, self.end.error_kind, self.end.error or "unknown")


@dataclass(frozen=True)
class Spent:
    """Seconds that were spent on rows, by the clock and of CPU time, in decoding and in the model.

    Only what was done after ``since`` counts, in seconds since 1970: much is decoded while models are being loaded.
    """

    since: float = 0.0
    decode_s: float = 0.0
    decode_cpu_s: float = 0.0
    predict_s: float = 0.0
    predict_cpu_s: float = 0.0

    def with_rows(self, rows: pa.Table) -> "Spent":
        """With what was spent on rows of SEGMENTS_SCHEMA."""
        totals = {}
        for work, at in (("decode", "decoded_at"), ("predict", "predicted_at")):
            # This is done for every table, and NumPy takes the least time for so few rows.
            counts = rows[at].to_numpy() > self.since
            for name in (f"{work}_s", f"{work}_cpu_s"):
                totals[name] = getattr(self, name) + float(rows[name].to_numpy()[counts].sum())
        return Spent(self.since, **totals)


@dataclass
class _OpenVideo:
    slices: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    reached_s: float = 0.0
    end: VideoEnd | None = None
    version: Version | None = None


class Collector:
    """Gathers the rows of the videos under way; a video is finished when its end and all its windows are here.

    Rows that come a second time, because a worker died and its work was done again, are left out.
    """

    def __init__(self, videos: Sequence[Video]):
        self._videos = videos
        self._open: dict[int, _OpenVideo] = {}
        self._is_finished = bytearray(len(videos))
        self.windows = 0
        self.video_s = 0.0
        self.spent = Spent()

    def add(self, table: pa.Table) -> list[FinishedVideo]:
        """Takes rows of SEGMENTS_SCHEMA and returns the videos that they complete."""
        self.spent = self.spent.with_rows(table)
        numbers = table["video"].to_numpy()
        # Rows of one video stand together, as they were decoded.
        edges = [*np.flatnonzero(np.diff(numbers, prepend=-1)).tolist(), len(numbers)]
        finished = []
        for start, stop in pairwise(edges):
            number = int(numbers[start])
            if not self._is_finished[number] and self._add(number, table.slice(start, stop - start)):
                done = self._finish(number)
                if done is not None:
                    finished.append(done)
        return finished

    def _add(self, number: int, rows: pa.Table) -> bool:
        """Takes rows of one video; returns whether it may be complete."""
        video = self._open.setdefault(number, _OpenVideo())
        ends = rows["end"]
        if ends.null_count < len(ends):
            video.end, video.version = end_from_json(ends.drop_null()[-1].as_py())
        if rows["window"].null_count:
            rows = rows.filter(pc.is_valid(rows["window"]))
        if rows.num_rows:
            video.slices.append(rows)
            video.rows += rows.num_rows
            self.windows += rows.num_rows
            # Windows may overlap: what counts is how far the video has got.
            reached_s = rows["end_s"][-1].as_py()
            self.video_s += max(reached_s - video.reached_s, 0.0)
            video.reached_s = max(reached_s, video.reached_s)
        return video.end is not None and video.rows >= video.end.windows

    def _finish(self, number: int) -> FinishedVideo | None:
        video = self._open[number]
        assert video.end is not None
        segments = pa.concat_tables([SEGMENTS_SCHEMA.empty_table(), *video.slices])
        windows, first = np.unique(segments["window"].to_numpy(), return_index=True)
        if len(windows) != video.end.windows:
            return None
        if not np.array_equal(first, np.arange(len(segments))):
            segments = segments.take(first)
        self.windows -= video.rows - len(windows)
        del self._open[number]
        self._is_finished[number] = True
        predict_s = pc.sum(segments["predict_s"]).as_py() or 0.0
        return FinishedVideo(self._videos[number], video.version, segments, video.end, predict_s)
