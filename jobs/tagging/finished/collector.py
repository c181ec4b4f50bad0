"""Collects result rows, which come back in any order, until a video is finished."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Failure, Version, Video, video_name
from jobs.tagging.finished.kept_parts import FinishedPart
from jobs.tagging.transport import SEGMENTS_SCHEMA, PartEnd
from tagger.clips import VideoEnd
from tagger.windows import merged_ranges


@dataclass(frozen=True)
class FinishedVideo:
    """A video whose windows have all come back.

    ``version`` is the version of the file that was read, None when the file was not found. ``segments`` are rows of
    SEGMENTS_SCHEMA, in order, with their embeddings if the run has them. ``number`` is the number of the video in the
    job. ``attempts`` is the number of runs that have read this version of the video. ``parts`` is the number of parts
    that it was read in.
    """

    video: Video
    version: Version | None
    segments: pa.Table
    end: VideoEnd
    predict_s: float
    number: int = 0
    attempts: int = 1
    parts: int = 1

    @property
    def failure(self) -> Failure | None:
        """The reason why the video was not read completely; None when it was."""
        if self.end.status == "ok" or self.end.error_kind is None:
            return None
        return Failure(self.video.path, self.end.status, self.end.error_kind, self.end.error or "unknown")


@dataclass(frozen=True)
class TimeSpent:
    """Wall time and CPU time, in seconds, of decoding and of the model.

    Only work that ended after ``since`` (seconds since 1970) counts: many windows are decoded while the models load.
    """

    since: float = 0.0
    decode_s: float = 0.0
    decode_cpu_s: float = 0.0
    predict_s: float = 0.0
    predict_cpu_s: float = 0.0

    def with_rows(self, rows: pa.Table) -> "TimeSpent":
        """Adds the times of ``rows``, a table of SEGMENTS_SCHEMA, and returns the sum."""
        totals = {}
        for work, at in (("decode", "decoded_at"), ("predict", "predicted_at")):
            # This runs for every table; for so few rows NumPy is fastest.
            counts = rows[at].to_numpy() > self.since
            for name in (f"{work}_s", f"{work}_cpu_s"):
                totals[name] = getattr(self, name) + float(rows[name].to_numpy()[counts].sum())
        return TimeSpent(self.since, **totals)


@dataclass
class _OpenVideo:
    slices: list[pa.Table] = field(default_factory=list)
    rows: int = 0
    video_s: float = 0.0
    """The seconds of the video that are tagged, as far as it is known before it is finished."""
    reached_s: dict[int, float] = field(default_factory=dict)
    """The ends of windows that came back, by the numbers of the windows after them."""
    tagged: tuple[tuple[float, float], ...] = ()
    """The ranges of the video that came back, in seconds."""
    ends: dict[int, PartEnd] = field(default_factory=dict)
    """The ends of its parts, by their numbers."""
    kept: set[int] = field(default_factory=set)
    """The numbers of its parts that were complete."""

    @property
    def may_be_complete(self) -> bool:
        """Whether all parts have ended, and as many rows have come back as there are windows."""
        ends = list(self.ends.values())
        return bool(ends) and len(ends) == ends[0].part.of and self.rows >= sum(end.end.windows for end in ends)


class Collector:
    """Collects the rows of unfinished videos. A video is finished when its end and all its windows have come back.

    A video may be read in parts at the same time. It is finished when all parts are. Duplicate rows are dropped: when a
    worker dies, its work is repeated.
    """

    def __init__(self, videos: Sequence[Video]):
        self._videos = videos
        self._open: dict[int, _OpenVideo] = {}
        self._is_finished = bytearray(len(videos))
        self.windows = 0
        self.video_s = 0.0
        self.spent = TimeSpent()
        self._parts: list[FinishedPart] = []

    def keep(self, number: int, parts: Sequence[FinishedPart]) -> FinishedVideo | None:
        """Takes ``parts`` of a video from an interrupted run, and returns the video if they are all of it."""
        video = self._open.setdefault(number, _OpenVideo())
        for part in parts:
            video.ends[part.end.part.index] = part.end
            video.kept.add(part.end.part.index)
            self._add_rows(video, part.rows)
        return self._finish(number) if video.may_be_complete else None

    def add(self, table: pa.Table) -> list[FinishedVideo]:
        """Takes rows of SEGMENTS_SCHEMA and returns the videos that they complete."""
        self.spent = self.spent.with_rows(table)
        numbers = table["video"].to_numpy()
        # Rows of one video are adjacent, in the order of decoding.
        edges = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
        finished = []
        for start, stop in pairwise(edges if len(numbers) else ()):
            number = int(numbers[start])
            if self._is_finished[number]:
                continue
            video = self._add(number, table.slice(start, stop - start))
            done = self._finish(number) if video.may_be_complete else None
            if done is not None:
                finished.append(done)
            else:
                for index in video.ends.keys() - video.kept:
                    self._note_part(number, video, video.ends[index])
        return finished

    def take_parts(self) -> list[FinishedPart]:
        """Returns the parts that have been completed since the last call, of videos that are not finished."""
        taken, self._parts = self._parts, []
        return taken

    def _add(self, number: int, rows: pa.Table) -> _OpenVideo:
        """Takes rows of one video."""
        video = self._open.setdefault(number, _OpenVideo())
        ends = rows["end"]
        if ends.null_count < len(ends):
            for text in ends.drop_null().to_pylist():
                end = PartEnd.from_json(text)
                video.ends[end.part.index] = end
        if rows["window"].null_count:
            rows = rows.filter(pc.is_valid(rows["window"]))
        self._add_rows(video, rows)
        return video

    def _add_rows(self, video: _OpenVideo, rows: pa.Table) -> None:
        if rows.num_rows:
            video.slices.append(rows)
            video.rows += rows.num_rows
            self.windows += rows.num_rows
            self._advance(video, rows)

    def _note_part(self, number: int, video: _OpenVideo, end: PartEnd) -> None:
        """Notes a part that has ended, if all of its windows have come back."""
        if end.part.of == 1 or end.end.status != "ok":
            return
        found = []
        for rows in video.slices:
            windows = rows["window"].to_numpy()
            found.append(rows.filter(pa.array((windows >= end.first) & (windows < end.stop))))
        rows = pa.concat_tables(found) if found else SEGMENTS_SCHEMA.empty_table()
        windows, first = np.unique(rows["window"].to_numpy(), return_index=True)
        if len(windows) == end.end.windows:
            video.kept.add(end.part.index)
            self._parts.append(FinishedPart(video_name(self._videos[number].path), end, rows.take(first)))

    def _advance(self, video: _OpenVideo, rows: pa.Table) -> None:
        """Counts the seconds of consecutive rows. Windows may overlap, and rows may come back twice."""
        windows, end_s = rows["window"], rows["end_s"][-1].as_py()
        begin_s = video.reached_s.get(windows[0].as_py(), rows["start_s"][0].as_py())
        video.reached_s[windows[-1].as_py() + 1] = end_s
        video.tagged = merged_ranges([*video.tagged, (begin_s, end_s)])
        self._count(video, sum(end_s - begin_s for begin_s, end_s in video.tagged) - video.video_s)

    def _count(self, video: _OpenVideo, video_s: float) -> None:
        video.video_s += video_s
        self.video_s += video_s

    def _finish(self, number: int) -> FinishedVideo | None:
        video = self._open[number]
        segments = pa.concat_tables(video.slices) if video.slices else SEGMENTS_SCHEMA.empty_table()
        windows, first = np.unique(segments["window"].to_numpy(), return_index=True)
        ends = [video.ends[part] for part in sorted(video.ends)]
        # Parts that do not fit together may have windows twice, or none.
        if not why_not_joined(ends) and len(windows) != sum(end.end.windows for end in ends):
            return None
        if not np.array_equal(first, np.arange(len(segments))):
            segments = segments.take(first)
        if len(segments):
            self._count(video, segments["end_s"][-1].as_py() - video.video_s)
        self.windows -= video.rows - len(windows)
        del self._open[number]
        self._is_finished[number] = True
        predict_s = pc.sum(segments["predict_s"]).as_py() or 0.0
        end, version = joined(ends)
        return FinishedVideo(
            self._videos[number],
            version,
            segments,
            end,
            predict_s,
            number=number,
            parts=1 if was_read_whole(ends) else ends[0].part.of,
        )

    def forget_unfinished(self, numbers: Iterable[int]) -> list[int]:
        """Returns those of ``numbers`` whose videos are not finished, and forgets their rows."""
        unfinished = [number for number in numbers if not self._is_finished[number]]
        for number in unfinished:
            if (video := self._open.pop(number, None)) is not None:
                self.windows -= video.rows
                self.video_s -= video.video_s
        return unfinished

    def reopen(self, video: FinishedVideo) -> None:
        """Forgets the rows of a finished video, which will be read again."""
        self._is_finished[video.number] = False
        self.windows -= len(video.segments)
        if len(video.segments):
            self.video_s -= video.segments["end_s"][-1].as_py()


def joined(ends: Sequence[PartEnd]) -> tuple[VideoEnd, Version | None]:
    """Returns how a video ended that was read in parts, and the version that was read. ``ends`` are in order.

    The first part that was not read completely gives status and error: the video must be read whole then.
    """
    first = ends[0]
    if was_read_whole(ends):
        return replace(first.end, decode_s=sum(each.end.decode_s for each in ends)), first.version
    bad = next((each for each in ends if each.end.status != "ok"), first)
    end, windows = bad.end, sum(each.end.windows for each in ends)
    if end.status == "ok" and (reason := why_not_joined(ends)) is not None:
        end = replace(end, error_kind="changed", error=reason)
    if end.error_kind is not None:
        end = replace(end, status="partial" if windows else "failed")
    facts = first.end.facts
    if facts is not None:
        durations_s = [each.end.facts.duration_s or 0.0 for each in ends if each.end.facts is not None]
        facts = replace(facts, duration_s=max(durations_s))
    end = replace(
        end,
        windows=windows,
        facts=facts,
        choice=first.end.choice,
        decode_s=sum(each.end.decode_s for each in ends),
    )
    return end, first.version


def was_read_whole(ends: Sequence[PartEnd]) -> bool:
    """Returns whether the first part is the whole video, because it cannot be read in parts. ``ends`` are in order.

    A decoder that failed is not tried again with a part of a video, so that the video must be read once more then.
    """
    is_tried_again = len(ends) > 1 and ends[0].end.error_kind not in (None, "damaged")
    return not is_tried_again and all(
        each.end.positions is None and (each is ends[0] or each.end.status == "ok") for each in ends
    )


def why_not_joined(ends: Sequence[PartEnd]) -> str | None:
    """Returns why parts that were read completely are not one video; None if they are. ``ends`` are in order.

    Each part must begin in the file where the part before it ends, or earlier. Otherwise a clock that jumps back has
    misled the search for the beginning of a part. Parts from nodes or runs with different readers do not fit together
    where one reader has read the video whole, nor parts of an earlier vtag, which cut videos in another way.
    """
    if any(each.end.status != "ok" for each in ends):
        return None
    if len({each.version and (each.version.size, each.version.mtime_ns) for each in ends}) > 1:
        return "it was written to while it was read in parts"
    positions = [each.end.positions for each in ends if each.end.positions is not None]
    if positions and len(positions) < len(ends):
        return "some of its parts were read by a reader that does not read parts"
    if any(after[0] > before[1] for before, after in pairwise(positions)):
        return "its parts do not follow each other in the file"
    if any(after.first < before.stop for before, after in pairwise(each for each in ends if each.end.windows)):
        return "its parts overlap"
    return None
