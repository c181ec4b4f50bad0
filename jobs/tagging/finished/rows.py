"""Turns finished videos into rows of the result."""

import bisect
import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.archive.video import Version, video_name
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger.errors import one_line
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema

FACT_COLUMNS = ("container", "codec", "width", "height", "fps", "duration_s", "stream_start_s")
"""Columns of VIDEOS_SCHEMA that are copied from VideoFacts."""


Rows = tuple[pa.Table, pa.Table, pa.Table | None]
"""Rows of VIDEOS_SCHEMA, of TAGS_SCHEMA and of embeddings about the same videos, each sorted by video. The last is None
without embeddings."""


def result_tables(videos: Iterable[FinishedVideo], embedding_size: int | None = None) -> Rows:
    """Returns the rows for finished videos. ``embedding_size`` is the number of values of their embeddings, if any."""
    finished = list(videos)
    embeddings = None if embedding_size is None else embeddings_table(finished, embedding_size)
    return videos_table(finished), tags_table(finished), embeddings


def tags_table(videos: Iterable[FinishedVideo]) -> pa.Table:
    """Returns the segments of finished videos, as rows of TAGS_SCHEMA sorted by video and start."""
    finished = _sorted(videos)
    names = pa.array([video_name(one.video.path) for one in finished], pa.string())
    numbers = np.repeat(np.arange(len(finished)), [len(one.segments) for one in finished])
    rows = pa.concat_tables(
        [SEGMENTS_SCHEMA.empty_table(), *(one.segments.select(SEGMENTS_SCHEMA.names) for one in finished)]
    )
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


def embeddings_table(videos: Iterable[FinishedVideo], size: int) -> pa.Table:
    """Returns the embeddings of finished videos, with a row for each row of ``tags_table``, in the same order."""
    schema = embeddings_schema(size)
    tables = [schema.empty_table()]
    for one in _sorted(videos):
        if len(one.segments):
            names = pa.array([video_name(one.video.path)] * len(one.segments))
            tables.append(pa.table([names, one.segments["window"], one.segments["embedding"]], schema=schema))
    return pa.concat_tables(tables)


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
class Revisions:
    """New values in the rows of videos that are not read again, as columns. None leaves a column as it is.

    ``old_names``, those in the rows, are sorted. ``mtimes_ns`` are in nanoseconds.
    """

    old_names: pa.Array
    names: pa.Array
    mtimes_ns: np.ndarray | None = None
    attempts: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.old_names)

    def of(self, names: pa.Array) -> "Revisions":
        """Returns the revisions of some videos, by their old names, which are sorted."""
        if not len(names):
            return Revisions(names, names)
        numbers = range(len(self))
        # A table of all names would be made anew with each call.
        start = bisect.bisect_left(numbers, names[0].as_py(), key=lambda at: self.old_names[at].as_py())
        stop = bisect.bisect_right(numbers, names[-1].as_py(), start, key=lambda at: self.old_names[at].as_py())
        known = self.old_names[start:stop].cast(pa.string())
        rows = start + pc.index_in(names, value_set=known).to_numpy()
        values = [None if column is None else column[rows] for column in (self.mtimes_ns, self.attempts)]
        return Revisions(names, self.names.take(pa.array(rows)), *values)


def revised(videos: pa.Table, tags: pa.Table, embeddings: pa.Table | None, revisions: Revisions) -> Rows:
    """Returns rows with the ``revisions`` of their videos, sorted by video."""
    found = revisions.of(videos["video"].combine_chunks())
    names = found.names.cast(pa.string())
    columns = {"video": names}
    if found.mtimes_ns is not None:
        columns |= {"mtime": pa.array(found.mtimes_ns // 1000), "mtime_ns": pa.array(found.mtimes_ns)}
    if found.attempts is not None:
        columns |= {"attempts": pa.array(found.attempts)}
    table = videos
    for name in ("error", "decoder_reason"):
        columns[name] = _renamed(videos[name].to_pylist(), found)
    for name, values in columns.items():
        table = _with_column(table, name, values.cast(videos.schema.field(name).type))

    def rename(segments: pa.Table) -> pa.Table:
        renamed = names.take(pc.index_in(segments["video"], videos["video"].combine_chunks()))
        return _with_column(segments, "video", renamed).sort_by([("video", "ascending"), ("segment", "ascending")])

    return table.sort_by("video"), rename(tags), None if embeddings is None else rename(embeddings)


def _renamed(texts: list[str | None], revisions: Revisions) -> pa.Array:
    """Returns the texts about videos with their new names."""
    for row, text in enumerate(texts):
        if text is not None:
            old_name, name = revisions.old_names[row].as_py(), revisions.names[row].as_py()
            texts[row] = text.replace(one_line(old_name), one_line(name))
    return pa.array(texts, pa.string())


def _with_column(table: pa.Table, name: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    at = table.schema.get_field_index(name)
    return table.set_column(at, table.schema.field(at), values)


def _sorted(videos: Iterable[FinishedVideo]) -> list[FinishedVideo]:
    return sorted(videos, key=lambda one: video_name(one.video.path))
