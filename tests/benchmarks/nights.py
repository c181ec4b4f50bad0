"""Measures what a year of nightly runs costs: a result in a folder with a small part for each night.

    python -m tests.benchmarks.nights [--videos N] [--nights N] [--per-night N]

Publishes a first run of many videos, and then a small run for each night. ``vtag compact`` merges the parts of a copy.
Then measures, of the one and of the other in turns: comparing a list of videos with the records, a query by DuckDB over
all segments, a night that finds nothing new, and publishing one more night. Prints seconds and megabytes read, medians
of nine rounds after one that does not count, and numbers of parts.
"""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click
import duckdb
import numpy as np
import pyarrow as pa

from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.result.compare.changes import find_changes
from jobs.result.compare.records import read_records
from jobs.result.identity import RunIdentity
from jobs.result.ledger import Ledger, committed_parts, remove
from jobs.result.output import Output, choose_output
from jobs.result.publish import count_result, publish
from jobs.result.published import Result, read_result
from jobs.result.rewrite.compact import compact
from tagger import Sampling
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

IDENTITY = RunIdentity("benchmark", "0", Sampling().to_json(), 5)
SEGMENTS = 10
"""Number of segments of a video."""

ROUNDS = 9


@click.command()
@click.option("--videos", default=100_000, show_default=True, help="Videos of the first run.")
@click.option("--nights", default=365, show_default=True)
@click.option("--per-night", default=100, show_default=True, help="Videos of each night.")
def main(videos: int, nights: int, per_night: int) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory() as folder:
        output = choose_output(Path(folder, "tags"))
        _night(output, range(videos))
        known = videos
        for _ in range(nights):
            _night(output, range(known, known + per_night))
            known += per_night
        compacted = choose_output(Path(folder, "compacted"))
        shutil.copytree(output.out.path, compacted.out.path)
        compact(str(compacted.out.path))
        outputs = (output, compacted)
        print("parts: {}, and {} after compact".format(*(len(_result(one).parts) for one in outputs)))
        print(f"{videos:,} videos and {nights} nights of {per_night}: seconds and MB read, and the same after compact")
        for name, step in _steps(known, per_night).items():
            before, after = _medians(step, outputs)
            print(
                f"{name:13} {before.seconds:7.3f} s {before.megabytes:7.1f} MB  {after.seconds:7.3f} s "
                f"{after.megabytes:7.1f} MB  {before.seconds / after.seconds:5.2f} times"
            )


def _steps(known: int, per_night: int) -> dict[str, Callable[[Output, int], None]]:
    """Returns the steps that are measured, by name. They take the result and the number of the round."""
    listing = Videos.of(map(_video, range(known + per_night)))

    def compare(output: Output, number: int) -> None:
        changes, _ = find_changes(listing, read_records(_result(output).sources))
        assert len(changes.new) == per_night

    def query(output: Output, number: int) -> None:
        sql = f"SELECT label, count(*) FROM '{output.tags.path}/*.parquet' GROUP BY label"
        assert sum(count for _, count in duckdb.sql(sql).fetchall()) == known * SEGMENTS

    def nothing_new(output: Output, number: int) -> None:
        assert count_result(_result(output)).videos == known

    def publish_night(output: Output, number: int) -> None:
        first = known + number * per_night
        _night(output, range(first, first + per_night))

    return {step.__name__: step for step in (compare, query, nothing_new, publish_night)}


@dataclass(frozen=True)
class Measured:
    """The seconds of a step, and the megabytes that it reads, also from files in memory."""

    seconds: float
    megabytes: float


def _medians(step: Callable[[Output, int], None], outputs: Sequence[Output]) -> list[Measured]:
    """Returns the medians of a step for each of the outputs, which take turns: the speed of a machine changes."""
    measured: list[list[Measured]] = [[] for _ in outputs]
    for number in range(ROUNDS + 1):
        for output, found in zip(outputs, measured, strict=True):
            begun_s, before = time.perf_counter(), _bytes_read()
            step(output, number)
            found.append(Measured(time.perf_counter() - begun_s, (_bytes_read() - before) / 1e6))
    return [
        Measured(
            statistics.median(one.seconds for one in found[1:]), statistics.median(one.megabytes for one in found[1:])
        )
        for found in measured
    ]


def _bytes_read() -> int:
    """Returns the number of bytes that this process has read from files."""
    return int(Path("/proc/self/io").read_text().split()[1])


def _result(output: Output) -> Result:
    result = read_result(output)
    assert result is not None
    return result


def _video(number: int) -> Video:
    # Cameras record every night, so the names of a night lie among those of all others.
    return Video(f"/archive/camera-{number % 97:02d}/recording-{number:09d}.mp4", 10**7 + number, 10**18 + number)


def _night(output: Output, numbers: range) -> None:
    """Publishes a run that tagged the videos with these numbers."""
    ledger = Ledger.open(output.run_folder, IDENTITY)
    for first in range(numbers.start, numbers.stop, 10_000):
        ledger.commit(*_tables(range(first, min(first + 10_000, numbers.stop))))
    # The comparison has found that all videos are new.
    new = committed_parts(output.run_folder)
    publish(output, IDENTITY, ledger.run_id, read_result(output), new, replaced=())
    remove(output.run_folder)
    output.run_folder.delete_empty_folder()


def _tables(numbers: range) -> tuple[pa.Table, pa.Table]:
    """Returns the rows of finished videos with these numbers: a row for each, and SEGMENTS rows of segments."""
    videos = Videos.of(map(_video, numbers))
    count, segments = len(videos), len(videos) * SEGMENTS
    columns = {field.name: pa.nulls(count, field.type) for field in VIDEOS_SCHEMA}
    columns |= {
        "video": videos.names.cast(pa.string()),
        "size": pa.array(videos.sizes),
        "mtime_ns": pa.array(videos.mtimes_ns),
        "fingerprint": pa.array([f"s1:{size:064x}" for size in videos.sizes.tolist()]),
        "segments": pa.array(np.full(count, SEGMENTS, np.int32)),
        "status": pa.array(["ok"] * count),
        "attempts": pa.array(np.ones(count, np.int32)),
        "duration_s": pa.array(np.full(count, 2.0 * SEGMENTS)),
        "decode_s": pa.array(np.zeros(count)),
        "predict_s": pa.array(np.zeros(count)),
    }
    starts_s = np.tile(np.arange(SEGMENTS) * 2.0, count)
    labels = pa.array([f"label {number % 40}" for number in range(segments)])
    offsets = pa.array(np.arange(segments + 1, dtype=np.int32))
    confidences = pa.array(np.full(segments, 0.5, np.float32))
    tags = {
        "video": columns["video"].take(pa.array(np.repeat(np.arange(count), SEGMENTS))),
        "segment": pa.array(np.tile(np.arange(SEGMENTS, dtype=np.int32), count)),
        "start_s": pa.array(starts_s),
        "end_s": pa.array(starts_s + 2),
        "label": labels,
        "confidence": confidences,
        "ood_score": confidences,
        "top_labels": pa.ListArray.from_arrays(offsets, labels),
        "top_confidences": pa.ListArray.from_arrays(offsets, confidences),
    }
    return (
        pa.table([columns[field.name] for field in VIDEOS_SCHEMA], schema=VIDEOS_SCHEMA),
        pa.table([tags[field.name] for field in TAGS_SCHEMA], names=TAGS_SCHEMA.names).cast(TAGS_SCHEMA),
    )


if __name__ == "__main__":
    main()
