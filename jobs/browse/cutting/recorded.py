"""What a result records of the videos that are cut."""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from jobs.browse.segments import FinishedResult, readable


@dataclass(frozen=True)
class Recorded:
    """The size in bytes and the duration in seconds of a video when it was tagged; None where they are not known."""

    size: int | None = None
    duration_s: float | None = None


def read_recorded(finished: FinishedResult, videos: Iterable[str]) -> dict[str, Recorded]:
    """Returns what the result records of each of ``videos``. Raises OutputError when it cannot be read."""
    wanted = pa.array(sorted(set(videos)), pa.string())
    recorded: dict[str, Recorded] = {}
    for source in finished.result.sources:
        with readable(source.videos), source.videos.parquet() as file:
            for batch in file.iter_batches(columns=["video", "size", "duration_s"]):
                rows = batch.filter(pc.is_in(batch["video"], wanted)).to_pylist()
                recorded |= {row["video"]: Recorded(row["size"], row["duration_s"]) for row in rows}
    return recorded
