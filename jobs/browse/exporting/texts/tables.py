"""Spans as CSV (RFC 4180) and as JSON lines (https://jsonlines.org), one row for each."""

import csv
import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from jobs.browse.exporting.exported import ExportedVideo

COLUMNS = ("video", "start_s", "end_s", "label", "confidence", "stream_start_s")
"""``stream_start_s`` is part of both times: without it, they count from the first frame, as in the result. Readers of
marks subtract it (``jobs.browse.marks``). It is empty where the result does not record it."""


def csv_parts(videos: Iterable[ExportedVideo]) -> Iterator[str]:
    """Yields a header, then the rows of each video."""
    yield _lines([COLUMNS])
    for video in videos:
        yield _lines(row.values() for row in _rows(video))


def json_lines_parts(videos: Iterable[ExportedVideo]) -> Iterator[str]:
    """Yields the rows of each video, an object in each line."""
    for video in videos:
        yield "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in _rows(video))


def _rows(video: ExportedVideo) -> Iterator[dict[str, Any]]:
    for span in video.spans:
        values = (video.video, span.start_s, span.end_s, span.label, span.confidence, video.recorded.stream_start_s)
        yield dict(zip(COLUMNS, values, strict=True))


def _lines(rows: Iterable[Iterable[object]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
