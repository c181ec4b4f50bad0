"""Measures what a year of nightly runs costs: a result in a folder with a small part for each night.

    python -m tests.benchmarks.nights [--videos N] [--nights N] [--per-night N]

Publishes a first run of many videos, and then a small run for each night. Then measures: comparing a list of videos
with the records, a query by DuckDB over all segments, a night that finds nothing new, and publishing one more night.
``vtag compact`` merges the parts, and the same is measured again. Prints seconds, medians of three, and numbers of
parts.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import click
import duckdb
import numpy as np
import pyarrow as pa

from jobs.archive.video import Version, Video
from jobs.result.changes import find_changes, read_records
from jobs.result.identity import RunIdentity
from jobs.result.ledger import Ledger, committed_parts, remove
from jobs.result.output import Output, choose_output
from jobs.result.publish import count_result, publish
from jobs.result.published import Result, read_result
from jobs.result.rewrite.compact import compact
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.finished.rows import result_tables
from jobs.tagging.transport import SEGMENTS_SCHEMA
from tagger import Sampling
from tagger.clips import VideoEnd

IDENTITY = RunIdentity("benchmark", "0", Sampling().to_json(), 5)
SEGMENTS = 10
"""Number of segments of a video."""


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
        before = _measure(output, known, per_night)
        compact(str(output.out.path))
        after = _measure(output, known + 3 * per_night, per_night)
    print(f"parts: {before.pop('parts'):.0f}, and {after.pop('parts'):.0f} after compact")
    print(
        f"{videos:,} videos and {nights} nights of {per_night}: seconds with a part for each night, and after compact"
    )
    for step, seconds in before.items():
        print(f"{step:12} {seconds:7.3f} {after[step]:7.3f}  {seconds / after[step]:5.2f} times")


def _measure(output: Output, known: int, per_night: int) -> dict[str, float]:
    listing = [_video(number) for number in range(known + per_night)]

    def compare() -> None:
        changes = find_changes(listing, read_records(_result(output).sources))
        assert len(changes.new) == per_night

    def query() -> None:
        sql = f"SELECT label, count(*) FROM '{output.tags.path}/*.parquet' GROUP BY label"
        assert sum(count for _, count in duckdb.sql(sql).fetchall()) == known * SEGMENTS

    def nothing_new() -> None:
        assert count_result(_result(output)).videos == known

    parts = len(_result(output).parts)
    seconds = {step.__name__: _median(step) for step in (compare, query, nothing_new)}
    nights = iter(range(known, known + 3 * per_night, per_night))

    def publish_night() -> None:
        first = next(nights)
        _night(output, range(first, first + per_night))

    return {**seconds, "publish": _median(publish_night), "parts": parts}


def _median(step: Callable[[], None]) -> float:
    seconds = []
    for _ in range(3):
        begun_s = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begun_s)
    return statistics.median(seconds)


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
        finished = [_finished(number) for number in range(first, min(first + 10_000, numbers.stop))]
        ledger.commit(*result_tables(finished))
    publish(output, IDENTITY, ledger.run_id, read_result(output), committed_parts(output.run_folder))
    remove(output.run_folder)
    output.run_folder.delete_empty_folder()


def _finished(number: int) -> FinishedVideo:
    video, starts_s = _video(number), np.arange(SEGMENTS) * 2.0
    segments = pa.table(
        {
            **{name: pa.nulls(SEGMENTS, SEGMENTS_SCHEMA.field(name).type) for name in SEGMENTS_SCHEMA.names},
            "window": pa.array(np.arange(SEGMENTS, dtype=np.int32)),
            "start_s": pa.array(starts_s),
            "end_s": pa.array(starts_s + 2),
            "top_labels": pa.array([[f"label {(number + i) % 40}"] for i in range(SEGMENTS)]),
            "top_confidences": pa.array([[0.5]] * SEGMENTS, pa.list_(pa.float32())),
        },
        schema=SEGMENTS_SCHEMA,
    )
    version = Version(video.size, video.mtime_ns, f"s1:{number:064x}")
    return FinishedVideo(video, version, segments, VideoEnd("ok", SEGMENTS), 0.1)


if __name__ == "__main__":
    main()
