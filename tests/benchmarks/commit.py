"""Measures how many rows per second the driver collects and commits, and time and memory of publishing many rows.

``commit``: tables like those of the model actors go through the collector to the run folder. ``publish``: the parts of
a run become one sorted file. Each runs in a separate process, so that their peak memory is measured apart.
"""

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.archive.video import Version, Video
from jobs.result.identity import RunIdentity
from jobs.result.ledger import Ledger, committed_parts
from jobs.result.output import Output, choose_output
from jobs.result.publish import publish
from jobs.tagging.finished.collector import Collector, FinishedVideo
from jobs.tagging.finished.committer import COMMIT_ROWS, COMMIT_VIDEOS
from jobs.tagging.finished.rows import result_tables
from jobs.tagging.transport import SEGMENTS_SCHEMA, PartEnd
from tagger import Sampling
from tagger.clips import VideoEnd
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA, embeddings_schema


def identity(size: int) -> RunIdentity:
    """The identity of a run with embeddings of ``size`` values; 0: without embeddings."""
    return RunIdentity("benchmark", "0", Sampling().to_json(), 5, {"size": size} if size else None)


LABELS = ["WalkingWithDog", "Basketball", "Biking", "CliffDiving", "HandstandWalking"]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000, help="rows that are published")
    parser.add_argument("--commit-rows", type=int, default=1_000_000, help="rows that are committed")
    parser.add_argument("--per-video", type=int, default=100, help="segments of a video")
    parser.add_argument("--per-table", type=int, default=16, help="rows in a table from an actor")
    parser.add_argument("--embedding-size", type=int, default=0, help="values of an embedding; 0: no embeddings")
    options = parser.parse_args()
    in_process(commit, options)
    in_process(publish_all, options)


def in_process(measure: Callable[[argparse.Namespace], None], options: argparse.Namespace) -> None:
    """Runs ``measure`` in a new process."""
    process = multiprocessing.get_context("spawn").Process(target=measure, args=(options,))
    process.start()
    process.join()
    assert process.exitcode == 0


def name(number: int) -> str:
    """Returns a path of the generated archive."""
    return f"/archive/camera-{number // 1000:05d}/recording-{number:09d}.mp4"


def commit(options: argparse.Namespace) -> None:
    """Prints rows per second from the actors' tables to the disk."""
    count = options.commit_rows // options.per_video
    videos = [Video(name(number), 10**7, 10**18) for number in range(count)]
    tables = list(actors_tables(videos[:1000], options.per_video, options.per_table, options.embedding_size))
    with tempfile.TemporaryDirectory() as folder:
        run_folder = choose_output(Path(folder, "tags.parquet")).run_folder
        ledger = Ledger.open(run_folder, identity(options.embedding_size))
        collector = Collector(videos)
        waiting: list[FinishedVideo] = []
        seconds = 0.0
        rows = 0
        for first in range(0, count, 1000):
            batch = [with_numbers(table, first) for table in tables]
            started = time.perf_counter()
            for table in batch:
                waiting += collector.add(table)
                if len(waiting) >= min(COMMIT_VIDEOS, COMMIT_ROWS // options.per_video):
                    ledger.commit(*result_tables(waiting, options.embedding_size or None))
                    rows += sum(len(video.segments) for video in waiting)
                    waiting = []
            seconds += time.perf_counter() - started
    print(f"commit: {rows:,} rows in {seconds:.1f} s, {rows / seconds:,.0f} rows/s, in tables of {options.per_table}")


def vectors(count: int, size: int) -> pa.Array:
    """Returns random embeddings."""
    values = np.random.default_rng(0).standard_normal((count, size), np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return pa.FixedSizeListArray.from_arrays(pa.array(values.astype(np.float16).reshape(-1)), size)


def actors_tables(videos: list[Video], per_video: int, per_table: int, size: int) -> Iterator[pa.Table]:
    """Yields rows of ``videos`` in tables like those of the actors."""
    end = VideoEnd("ok", per_video, decode_s=1.0)
    version = Version(10**7, 10**18, "s1:" + "0" * 64)
    last = PartEnd(end, version).to_json()
    for number in range(len(videos)):
        windows = np.arange(per_video, dtype=np.int32)
        columns = {
            "video": pa.array(np.full(per_video, number)),
            "window": pa.array(windows),
            "start_s": pa.array(windows * 2.0),
            "end_s": pa.array(windows * 2.0 + 2),
            "decode_s": pa.array(np.full(per_video, 0.01)),
            "decode_cpu_s": pa.array(np.full(per_video, 0.01)),
            "decoded_at": pa.array(np.full(per_video, 1e9)),
            "end": pa.array([None] * (per_video - 1) + [last], pa.string()),
            "predict_s": pa.array(np.full(per_video, 0.01)),
            "predict_cpu_s": pa.array(np.full(per_video, 0.01)),
            "predicted_at": pa.array(np.full(per_video, 1e9)),
            "ood_score": pa.array(np.full(per_video, 0.5, np.float32)),
            "top_labels": pa.array([LABELS] * per_video),
            "top_confidences": pa.array([[0.5, 0.2, 0.1, 0.1, 0.1]] * per_video, pa.list_(pa.float32())),
        }
        table = pa.table([columns[field.name] for field in SEGMENTS_SCHEMA], schema=SEGMENTS_SCHEMA)
        if size:
            table = table.append_column("embedding", vectors(per_video, size))
        for start in range(0, per_video, per_table):
            yield table.slice(start, per_table)


def with_numbers(table: pa.Table, first: int) -> pa.Table:
    """Returns ``table`` with ``first`` added to the numbers of the videos."""
    numbers = pa.array(table["video"].to_numpy() + first)
    return table.set_column(0, SEGMENTS_SCHEMA.field("video"), numbers)


def publish_all(options: argparse.Namespace) -> None:
    """Prints the time and the peak memory of publishing."""
    with tempfile.TemporaryDirectory() as folder:
        output = choose_output(Path(folder, "tags.parquet"))
        in_process_parts(output, options)
        started = time.perf_counter()
        run = identity(options.embedding_size)
        found = publish(output, run, "benchmark", None, committed_parts(output.run_folder))
        seconds = time.perf_counter() - started
        size = sum(path.stat().st_size for path in Path(folder).glob("*.parquet")) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"publish: {found.segments:,} rows of {found.videos:,} videos in {seconds:.0f} s "
        f"({found.segments / seconds:,.0f} rows/s), peak {peak:.2f} GB, {size:.0f} MB on disk"
    )


def in_process_parts(output: Output, options: argparse.Namespace) -> None:
    """Writes the parts in another process, whose memory does not count."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(
        target=write_parts, args=(output, options.rows, options.per_video, options.embedding_size)
    )
    process.start()
    process.join()


def write_parts(output: Output, rows: int, per_video: int, size: int) -> None:
    """Writes a run folder with ``rows`` segments, in slightly overlapping parts of the size that a job commits."""
    ledger = Ledger.open(output.run_folder, identity(size))
    per_part = COMMIT_ROWS // per_video
    embeddings = vectors(COMMIT_ROWS, size) if size else None
    order = np.arange(rows // per_video)
    # Videos are finished nearly in order.
    order = order[np.argsort(order + np.random.default_rng(0).normal(0, 200, len(order)))]
    for start in range(0, len(order), per_part):
        numbers = np.sort(order[start : start + per_part])
        count = len(numbers)
        names = pa.array([name(number) for number in numbers])
        total = count * per_video
        confidences = np.random.default_rng(start).random(5 * total).astype(np.float32)
        offsets = pa.array(np.arange(0, 5 * total + 1, 5, dtype=np.int32))
        tags = {
            "video": names.take(pa.array(np.repeat(np.arange(count), per_video))),
            "segment": pa.array(np.tile(np.arange(per_video, dtype=np.int32), count)),
            "start_s": pa.array(np.tile(np.arange(per_video) * 2.0, count)),
            "end_s": pa.array(np.tile(np.arange(per_video) * 2.0 + 2, count)),
            "label": pa.array(LABELS * (total // 5)),
            "confidence": pa.array(confidences[::5]),
            "ood_score": pa.array(confidences[::5]),
            "top_labels": pa.ListArray.from_arrays(offsets, pa.array(LABELS * total)),
            "top_confidences": pa.ListArray.from_arrays(offsets, pa.array(confidences)),
        }
        columns = {field.name: pa.nulls(count, field.type) for field in VIDEOS_SCHEMA}
        columns |= {
            "video": names,
            "segments": pa.array(np.full(count, per_video, np.int32)),
            "status": pa.array(["ok"] * count),
            "duration_s": pa.array(np.full(count, 2.0 * per_video)),
            "decode_s": pa.array(np.zeros(count)),
            "predict_s": pa.array(np.zeros(count)),
        }
        table = pa.table([tags[field.name] for field in TAGS_SCHEMA], names=TAGS_SCHEMA.names).cast(TAGS_SCHEMA)
        embedded = None
        if embeddings is not None:
            key = [table["video"], table["segment"]]
            embedded = pa.table([*key, embeddings.slice(0, total)], schema=embeddings_schema(size))
        ledger.commit(pa.table(columns, schema=VIDEOS_SCHEMA), table, embedded)


if __name__ == "__main__":
    main()
