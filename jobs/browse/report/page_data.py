"""The data of a page: what its script reads of the videos and of the segments, packed."""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.report.gather import OTHERS, ReportData
from jobs.browse.report.packed_columns import Column, pack
from tagger.errors import one_line

STATUSES = ("ok", "partial", "failed")

NO_TIME_S = -(2**34)
"""The modification time of a video that has none: no file system has times of the year 1425."""


@dataclass(frozen=True)
class Base:
    """Where a page plays videos from: a video below ``folder`` is at ``url`` and its path below the folder."""

    folder: str
    url: str


def common_folder(names: Sequence[str]) -> str:
    """Returns the folder, with its last slash, in which all ``names`` are; empty when there is none."""
    if not names:
        return ""
    # What the first and the last in order share, all share.
    folder, slash, _ = posixpath.commonprefix([min(names), max(names)]).rpartition("/")
    return folder + slash


def pack_videos(data: ReportData, facts: dict[str, Any]) -> bytes:
    """Returns the videos, with ``facts`` and the names that columns refer to by number."""
    videos = data.videos
    names = videos["video"].to_pylist()
    folder = common_folder(names)
    codecs, codec = _numbered(videos["codec"])
    kinds, kind = _numbered(videos["error_kind"])
    number = {label: place for place, label in enumerate(data.labels)}
    errors = enumerate(videos["error"].to_pylist())
    gaps = enumerate(videos["gaps"].to_pylist())
    header = {
        **facts,
        "folder": folder,
        "names": [name[len(folder) :] for name in names],
        "labels": list(data.labels),
        "ranked": [number[time.label] for time in data.times],
        "others": OTHERS,
        "codecs": codecs,
        "kinds": kinds,
        "errors": {row: one_line(error) for row, error in errors if error},
        "gaps": {
            row: [[round(gap["start_s"] * 1000), round(gap["end_s"] * 1000)] for gap in found]
            for row, found in gaps
            if found
        },
    }
    mtime_s = pc.divide(videos["mtime_ns"].cast(pa.int64()), 10**9).fill_null(NO_TIME_S)
    status = [STATUSES.index(name) for name in videos["status"].to_pylist()]
    columns = [
        Column("duration_ms", np.rint(_floats(videos["duration_s"]) * 1000)),
        Column("stream_start_ms", np.rint(_floats(videos["stream_start_s"]) * 1000)),
        Column("mtime_s", np.asarray(mtime_s)),
        Column("width", _floats(videos["width"])),
        Column("height", _floats(videos["height"])),
        Column("codec", codec),
        Column("kind", kind),
        Column("status", np.array(status, np.int64)),
        Column("segments", np.bincount(data.segments.video, minlength=len(names))),
    ]
    return pack(header, columns)


def pack_segments(data: ReportData) -> bytes:
    """Returns the segments, in the order of the videos."""
    segments = data.segments
    columns = [
        Column("start_ms", segments.start_ms, delta=True),
        Column("end_ms", segments.end_ms, delta=True),
        Column("label", segments.label),
        Column("confidence", segments.confidence),
        Column("ood_score", segments.ood_score),
    ]
    for place in range(OTHERS):
        columns.append(Column(f"other_{place}", segments.others[place] + 1))
        columns.append(Column(f"other_confidence_{place}", segments.other_confidences[place] + 1))
    return pack({}, columns)


def _floats(column: pa.ChunkedArray) -> np.ndarray:
    return np.nan_to_num(np.asarray(column.cast(pa.float64()).fill_null(0.0)), posinf=0, neginf=0)


def _numbered(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    """Returns the different values of a column, and the number of each row's value, from 1; 0 for none."""
    values = column.cast(pa.string()).to_pylist()
    number = {value: place for place, value in enumerate(dict.fromkeys(filter(None, values)))}
    return list(number), np.array([number[value] + 1 if value else 0 for value in values], np.int64)
