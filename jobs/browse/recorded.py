"""What a result records of videos, beside their segments."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.segments import FinishedResult, readable
from jobs.storage.location import Location


@dataclass(frozen=True)
class Recorded:
    """A video when it was tagged; None is unknown.

    ``size`` is in bytes. ``stream_start_s`` is the time of the first frame as players count it. ``segments`` is their
    number.
    """

    size: int | None = None
    duration_s: float | None = None
    stream_start_s: float | None = None
    fps: float | None = None
    width: int | None = None
    height: int | None = None
    segments: int | None = None


COLUMNS = [field.name for field in fields(Recorded)]


def read_recorded(finished: FinishedResult, videos: Iterable[str]) -> dict[str, Recorded]:
    """Returns what the result records of each of ``videos``. Raises OutputError when it cannot be read."""
    wanted = pa.array(sorted(set(videos)), pa.string())
    recorded: dict[str, Recorded] = {}
    for source in finished.result.sources:
        for batch in _batches(source.videos, ["video", *COLUMNS]):
            rows = batch.filter(pc.is_in(batch["video"], wanted)).to_pylist()
            recorded |= {row["video"]: _recorded(row) for row in rows}
    return recorded


def recorded_in_order(file: Location) -> Iterator[tuple[str, Recorded]]:
    """Yields the name of each video in a table of videos, in its order, and what is recorded of it."""
    for batch in _batches(file, ["video", *COLUMNS]):
        for row in batch.to_pylist():
            yield row["video"], _recorded(row)


def video_names(finished: FinishedResult) -> Iterator[str]:
    """Yields the names of all videos of a result, also of those without segments."""
    for source in finished.result.sources:
        for batch in _batches(source.videos, ["video"]):
            yield from batch.column(0).to_pylist()


def _batches(file: Location, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with readable(file), file.parquet() as opened:
        # Results of older versions lack some columns.
        present = set(opened.schema_arrow.names)
        yield from opened.iter_batches(columns=[name for name in columns if name in present])


def _recorded(row: dict[str, Any]) -> Recorded:
    return Recorded(**{name: row.get(name) for name in COLUMNS})
