"""Finished parts of long videos that are not finished: kept in the run folder, so that they are not decoded again."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pyarrow as pa

from jobs.archive.video import Video, video_name
from jobs.errors import reason
from jobs.result.ledger import kept_tables
from jobs.storage.location import Location
from jobs.tagging.transport import PartEnd
from tagger.errors import OutputError

PARTS = b"vtag.parts"
"""The key of the parts in the metadata of their file: for each its video, its end, and its number of rows."""


@dataclass(frozen=True)
class FinishedPart:
    """A part of the video called ``name`` (see ``video_name``). ``rows`` are its rows of SEGMENTS_SCHEMA, in order."""

    name: str
    end: PartEnd
    rows: pa.Table


def parts_table(parts: Sequence[FinishedPart]) -> pa.Table:
    """Returns the rows of all parts as a table that says which rows are of which part."""
    described = [[part.name, part.end.to_json(), len(part.rows)] for part in parts]
    # A part without windows has no embeddings, either.
    rows = pa.concat_tables([part.rows for part in parts], promote_options="default")
    return rows.replace_schema_metadata({PARTS: json.dumps(described)})


def read_parts(folder: Location, names: Collection[str]) -> dict[str, list[FinishedPart]]:
    """Returns the parts of the videos called ``names`` that are kept in a run folder, by name. Raises OutputError."""
    found: dict[str, list[FinishedPart]] = defaultdict(list)
    for file in kept_tables(folder):
        try:
            parquet = file.parquet()
            described = json.loads(parquet.schema_arrow.metadata[PARTS])
            if not any(name in names for name, _, _ in described):
                continue
            rows, first = parquet.read(), 0
            for name, end, count in described:
                if name in names:
                    found[name].append(FinishedPart(name, PartEnd.from_json(end), rows.slice(first, count)))
                first += count
        except (OSError, ValueError, KeyError, TypeError) as error:
            why = reason(error) if isinstance(error, OSError) else "it has no list of parts"
            way_out = "if it is damaged, remove it, and its parts of videos are decoded again"
            raise OutputError(f"{file} cannot be read: {why}; {way_out}") from error
    return found


def parts_of_version(parts: Sequence[FinishedPart], video: Video) -> list[FinishedPart]:
    """Returns those of the ``parts`` of a video that are of its version, and of one way to cut it."""
    right = [
        part
        for part in parts
        if part.name == video_name(video.path)
        and part.end.version is not None
        and (part.end.version.size, part.end.version.mtime_ns) == (video.size, video.mtime_ns)
    ]
    return list({part.end.part.index: part for part in right if part.end.part.of == right[-1].end.part.of}.values())
