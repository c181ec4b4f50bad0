"""Turns finished videos into rows of the result."""

import os
from collections.abc import Iterable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import video_name
from jobs.tagging.collector import FinishedVideo
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

FACT_COLUMNS = ("container", "codec", "width", "height", "fps", "duration_s")
"""Columns of VIDEOS_SCHEMA that are copied from VideoFacts."""


def result_tables(videos: Iterable[FinishedVideo]) -> tuple[pa.Table, pa.Table]:
    """Returns the rows of VIDEOS_SCHEMA and of TAGS_SCHEMA for finished videos, both sorted by video."""
    finished = list(videos)
    return videos_table(finished), tags_table(finished)


def tags_table(videos: Iterable[FinishedVideo]) -> pa.Table:
    """Returns the segments of finished videos, as rows of TAGS_SCHEMA sorted by video and start."""
    finished = _sorted(videos)
    names = pa.array([video_name(one.video.path) for one in finished], pa.string())
    numbers = np.repeat(np.arange(len(finished)), [len(one.segments) for one in finished])
    rows = pa.concat_tables([SEGMENTS_SCHEMA.empty_table(), *(one.segments for one in finished)])
    columns = {
        "video": names.take(pa.array(numbers)),
        "segment": rows["window"],
        "start_s": rows["start_s"],
        "end_s": rows["end_s"],
        "label": pc.list_element(rows["top_labels"], 0),
        "confidence": pc.list_element(rows["top_confidences"], 0),
        "ood_score": rows["ood_score"],
        "top_labels": rows["top_labels"],
        "top_confidences": rows["top_confidences"],
    }
    return pa.table([columns[name] for name in TAGS_SCHEMA.names], schema=TAGS_SCHEMA)


def videos_table(videos: Iterable[FinishedVideo]) -> pa.Table:
    """Returns one row of VIDEOS_SCHEMA for each finished video, sorted by video."""
    rows = []
    for one in _sorted(videos):
        end, facts = one.end, one.end.facts
        row = {
            "video": video_name(one.video.path),
            "segments": len(one.segments),
            "status": end.status,
            "error_kind": end.error_kind,
            "error": None if end.error is None else os.fsencode(end.error).decode("utf-8", "backslashreplace"),
            "decode_s": end.decode_s,
            "predict_s": one.predict_s,
        }
        if one.version is not None:
            row |= {
                "size": one.version.size,
                # Whole microseconds: a float of seconds would not hold them.
                "mtime": one.version.mtime_ns // 1000,
                "mtime_ns": one.version.mtime_ns,
                "fingerprint": one.version.fingerprint,
            }
        if facts is not None:
            row |= {name: getattr(facts, name) for name in FACT_COLUMNS}
        if end.choice is not None:
            row |= {"decoder": end.choice.decoder, "decoder_reason": end.choice.reason}
        rows.append(row)
    return pa.Table.from_pylist(rows, VIDEOS_SCHEMA)


def with_times(videos: pa.Table, mtimes_ns: Sequence[int]) -> pa.Table:
    """Returns rows of VIDEOS_SCHEMA with new modification times."""
    for name, values in (("mtime", [time_ns // 1000 for time_ns in mtimes_ns]), ("mtime_ns", mtimes_ns)):
        at = videos.schema.get_field_index(name)
        field = videos.schema.field(at)
        videos = videos.set_column(at, field, pa.array(values, field.type))
    return videos


def _sorted(videos: Iterable[FinishedVideo]) -> list[FinishedVideo]:
    return sorted(videos, key=lambda one: video_name(one.video.path))
