"""Reads what a report shows of a result into columns: its videos, its segments, and the time of each label."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.browse.report.label_times import LabelTime, LabelTimes
from jobs.browse.segments import FinishedResult, Segments, read_segments, readable
from tagger.segments import BACKGROUND

MAX_SEGMENTS = 2_000_000
"""Most segments in a page. A million takes about 15 MB of it."""

MAX_VIDEOS = 100_000
"""Most videos in a page. Browsers show no list that is higher than some 200,000 of its rows."""

OTHERS = 4
"""Labels that are kept for each segment beside its best one."""

NO_OOD = -1
"""The OOD score of a segment that has none."""

VIDEO_COLUMNS = ("video", "mtime_ns", "codec", "width", "height", "duration_s", "stream_start_s", "gaps", "status")
ERROR_COLUMNS = ("error_kind", "error")


@dataclass(frozen=True)
class SegmentColumns:
    """The ``n`` segments of a page, sorted by video and start, as integers.

    ``video`` is a number of a row of ``ReportData.videos``, ``label`` a number in ``ReportData.labels``. Times are in
    milliseconds, confidences and OOD scores in units of ``CONFIDENCE_STEP`` and ``OOD_STEP``, and NO_OOD is none.
    ``others`` and ``other_confidences`` are ``[OTHERS, n]``: the next-best labels, -1 for none.
    """

    video: np.ndarray
    start_ms: np.ndarray
    end_ms: np.ndarray
    label: np.ndarray
    confidence: np.ndarray
    ood_score: np.ndarray
    others: np.ndarray
    other_confidences: np.ndarray

    CONFIDENCE_STEP = 1e-4
    OTHER_STEP = 1e-2
    OOD_STEP = 1e-3

    def __len__(self) -> int:
        return len(self.video)


@dataclass(frozen=True)
class ReportData:
    """What a page shows of a result.

    ``videos`` is a table with VIDEO_COLUMNS and ERROR_COLUMNS, and ``labels`` are all labels of segments. ``times`` are
    those of best labels, longest first. ``left_out`` is the number of videos that did not fit.
    """

    videos: pa.Table
    labels: tuple[str, ...]
    segments: SegmentColumns
    times: tuple[LabelTime, ...]
    left_out: int = 0


def gather(finished: FinishedResult, max_segments: int = MAX_SEGMENTS, max_videos: int = MAX_VIDEOS) -> ReportData:
    """Returns what a page shows of a result. Raises OutputError when a file cannot be read.

    If the result has more than ``max_segments`` or ``max_videos``, the page has the videos with the most confident
    segments, and as many of the videos without segments as there is room for.
    """
    videos = _read_videos(finished)
    rows = np.asarray(videos["segments"])
    videos = videos.drop_columns(["segments"])
    if not rows.sum():
        return ReportData(videos[:max_videos], (), _joined([]), (), max(0, len(videos) - max_videos))
    names = videos["video"].to_pylist()
    is_shown = np.ones(len(videos), bool)
    if rows.sum() > max_segments or len(videos) > max_videos:
        best = _best(finished, {name: row for row, name in enumerate(names)})
        is_shown = _chosen(best, rows, max_segments, max_videos)
    videos = videos.filter(pa.array(is_shown))
    place = {name: row for row, name in enumerate(videos["video"].to_pylist())}
    times = LabelTimes(votes=finished.windows_overlap)
    parts: list[SegmentColumns] = []
    labels: tuple[str, ...] = ()
    for segments in read_segments(finished, top=True, ood=True, needs_ood=False):
        labels = tuple(segments.labels)
        times.add(segments)
        places = np.array([place.get(name, -1) for name in segments.videos.to_pylist()])
        video = np.repeat(places, np.diff(segments.first))
        parts.append(_columns(segments, video, np.flatnonzero(video >= 0)))
    return ReportData(videos, labels, _joined(parts), times.longest_first(), int((~is_shown).sum()))


def _read_videos(finished: FinishedResult) -> pa.Table:
    columns = [*VIDEO_COLUMNS, "segments", *ERROR_COLUMNS]
    tables = []
    for source in finished.result.sources:
        with readable(source.videos), source.videos.parquet() as file:
            present = set(file.schema_arrow.names)
            table = file.read(columns=[name for name in columns if name in present])
        for name in columns:
            if name not in present:
                table = table.append_column(name, pa.nulls(len(table)))
        tables.append(table.select(columns).replace_schema_metadata())
    return pa.concat_tables(tables, promote_options="permissive")


def _chosen(best: np.ndarray, rows: np.ndarray, max_segments: int, max_videos: int) -> np.ndarray:
    """Returns which videos fit into a page, ``[v] bool``, from their highest confidences and numbers of segments."""
    order = np.argsort(-best, kind="stable")
    # A video that is too long for a page alone leaves room for the others.
    fits = (rows[order] > 0) & (rows[order] <= max_segments)
    fits &= np.cumsum(np.where(fits, rows[order], 0)) <= max_segments
    fits &= np.cumsum(fits) <= max_videos
    chosen = np.zeros(len(rows), bool)
    chosen[order[fits]] = True
    chosen[np.flatnonzero(rows == 0)[: max_videos - chosen.sum()]] = True
    return chosen


def _best(finished: FinishedResult, number: dict[str, int]) -> np.ndarray:
    """Returns the highest confidence of each video, but for ``background``, ``[v]``. ``number`` has its place."""
    best = np.zeros(len(number))
    for segments in read_segments(finished):
        is_background = np.array([name == BACKGROUND for name in segments.labels])
        confidence = np.where(is_background[segments.label], 0, segments.confidence)
        names = [number[name] for name in segments.videos.to_pylist()]
        best[names] = np.maximum.reduceat(confidence, segments.first[:-1])
    return best


def _columns(segments: Segments, video: np.ndarray, rows: np.ndarray) -> SegmentColumns:
    """Returns the columns of the segments ``rows``. ``video`` has the number of the video of each segment."""
    assert segments.top is not None and segments.ood_score is not None
    first, last = segments.top.bounds[rows], segments.top.bounds[rows + 1]
    others = np.full((OTHERS, len(rows)), -1)
    confidences = np.full((OTHERS, len(rows)), -1)
    filled = np.zeros(len(rows), np.int64)
    for place in range(OTHERS + 1):
        entry = np.minimum(first + place, len(segments.top.label) - 1)
        label = segments.top.label[entry]
        at = np.flatnonzero((first + place < last) & (label != segments.label[rows]) & (filled < OTHERS))
        others[filled[at], at] = label[at]
        confidences[filled[at], at] = _steps(segments.top.confidence[entry[at]], SegmentColumns.OTHER_STEP)
        filled[at] += 1
    ood = segments.ood_score[rows]
    return SegmentColumns(
        video[rows],
        _steps(segments.start_s[rows], 1e-3),
        _steps(segments.end_s[rows], 1e-3),
        segments.label[rows].astype(np.int64),
        _steps(segments.confidence[rows], SegmentColumns.CONFIDENCE_STEP),
        np.where(np.isnan(ood), NO_OOD, _steps(np.nan_to_num(ood), SegmentColumns.OOD_STEP)),
        others,
        confidences,
    )


def _steps(values: np.ndarray, step: float) -> np.ndarray:
    return np.rint(values.astype(np.float64) / step).astype(np.int64)


def _joined(parts: list[SegmentColumns]) -> SegmentColumns:
    """Returns the segments of all ``parts``, sorted by video."""
    if not parts:
        none = np.zeros(0, np.int64)
        return SegmentColumns(*[none] * 6, *[np.zeros((OTHERS, 0), np.int64)] * 2)
    names = ("video", "start_ms", "end_ms", "label", "confidence", "ood_score", "others", "other_confidences")
    columns = [np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in names]
    video = columns[0]
    if (np.diff(video) < 0).any():
        order = np.argsort(video, kind="stable")
        columns = [column[..., order] for column in columns]
    return SegmentColumns(*columns)
