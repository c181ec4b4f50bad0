"""Turns finished videos into rows of the result."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Version, video_name
from jobs.tagging.collector import FinishedVideo
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger.errors import one_line
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
            "attempts": one.attempts,
            "gaps": [{"start_s": start_s, "end_s": end_s} for start_s, end_s in end.gaps],
            "decode_s": end.decode_s,
            "predict_s": one.predict_s,
        }
        # The version of a file that could not be read is the listed one, so that the next run recognises it.
        version = one.version or Version(one.video.size, one.video.mtime_ns, None)
        if one.version is not None or version.size or version.mtime_ns:
            row |= {
                "size": version.size,
                # Whole microseconds: a float of seconds would not hold them.
                "mtime": version.mtime_ns // 1000,
                "mtime_ns": version.mtime_ns,
                "fingerprint": version.fingerprint,
            }
        if facts is not None:
            row |= {name: getattr(facts, name) for name in FACT_COLUMNS}
            lost_s = sum(end_s - start_s for start_s, end_s in end.gaps)
            row["read_s"] = max(0.0, (facts.duration_s or 0.0) - lost_s) if end.windows else 0.0
        if end.choice is not None:
            row |= {"decoder": end.choice.decoder, "decoder_reason": end.choice.reason}
        rows.append(row)
    return pa.Table.from_pylist(rows, VIDEOS_SCHEMA)


@dataclass(frozen=True)
class Revision:
    """New values in the rows of a video that is not read again. None leaves a value as it is."""

    name: str
    mtime_ns: int | None = None
    attempts: int | None = None


def revised(videos: pa.Table, tags: pa.Table, revisions: Mapping[str, Revision]) -> tuple[pa.Table, pa.Table]:
    """Returns rows of VIDEOS_SCHEMA and of TAGS_SCHEMA with the ``revisions`` of their videos, sorted by video."""
    rows = videos.to_pylist()
    for row in rows:
        old_name = row["video"]
        revision = revisions[old_name]
        row["video"] = revision.name
        if revision.mtime_ns is not None:
            row |= {"mtime": revision.mtime_ns // 1000, "mtime_ns": revision.mtime_ns}
        if revision.attempts is not None:
            row["attempts"] = revision.attempts
        for column in ("error", "decoder_reason"):
            if row[column] is not None:
                row[column] = row[column].replace(one_line(old_name), one_line(revision.name))
    names = pa.array([revisions[name].name for name in videos["video"].to_pylist()], pa.string())
    at = tags.schema.get_field_index("video")
    renamed = names.take(pc.index_in(tags["video"], videos["video"].combine_chunks()))
    tags = tags.set_column(at, tags.schema.field(at), renamed)
    return (
        pa.Table.from_pylist(rows, VIDEOS_SCHEMA).sort_by("video"),
        tags.sort_by([("video", "ascending"), ("segment", "ascending")]),
    )


def _sorted(videos: Iterable[FinishedVideo]) -> list[FinishedVideo]:
    return sorted(videos, key=lambda one: video_name(one.video.path))
