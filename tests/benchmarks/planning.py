"""Measures time and memory of planning a run over a million videos, of which nearly all are finished.

The listing is generated, the result with its records is real. Prints seconds and the peak memory of this process.
With ``--moved``, then runs a job whose videos are all at another mount point, with made-up fingerprints: compares them,
and publishes the result under the new names.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

import jobs.tagging.plan
import jobs.tagging.run
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.result.identity import RunIdentity, file_metadata
from jobs.result.merge import ROW_GROUP_ROWS
from jobs.result.output import choose_output
from jobs.tagging.run_config import RunConfig
from tagger import find_model
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA

NEW = 100


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--moved", action="store_true")
    options = parser.parse_args()
    count = options.videos
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(("/archive",), Path(folder, "tags.parquet"))
        write_result(config, count)
        started = time.perf_counter()
        plan = planned(config, Videos.of(map(video, range(count + NEW))))
        seconds = time.perf_counter() - started
        assert (len(plan.todo), plan.changes.unchanged) == (NEW, count)
        print(
            f"{count:,} videos planned against {count:,} records in {seconds:.1f} s, {plan.comparing_s:.1f} s of it "
            f"for the comparison; peak {peak() / 1e9:.2f} GB"
        )
        if options.moved:
            del plan
            before = peak()
            started = time.perf_counter()
            with patch.object(jobs.tagging.run, "RayDriver", MadeUpDriver):
                summary = jobs.tagging.run.run_job(
                    planned(config, Videos.of(video(number, "/mount") for number in range(count)))
                )
            assert summary.moved == count
            print(
                f"{count:,} moved videos in {time.perf_counter() - started:.1f} s, {summary.comparing_s:.1f} s of it "
                f"for the comparison and {summary.publishing_s:.1f} s for publishing; peak {peak() / 1e9:.2f} GB, "
                f"{(peak() - before) / count:.0f} bytes a video more than when they are at their places"
            )


def planned(config: RunConfig, videos: Videos) -> jobs.tagging.plan.Plan:
    """Returns the plan of a job with these videos."""
    with patch.object(jobs.tagging.plan, "find_videos", lambda *_, **__: videos):
        return jobs.tagging.plan.make_plan(config)


def peak() -> float:
    """Returns the peak memory of this process in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def video(number: int, root: str = "/archive") -> Video:
    """Returns a video of the generated archive."""
    return Video(f"{root}/camera-{number // 1000:05d}/recording-{number:09d}.mp4", 10**7 + number, 10**18 + number)


class MadeUpDriver:
    """Replaces the Ray driver: sends the fingerprints of videos that do not exist."""

    def __init__(self, *_: object, **__: object):
        pass

    def __enter__(self) -> "MadeUpDriver":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def events(self, work: object, paths: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yields the number of the first video and the fingerprints of a few."""
        for start in range(0, len(paths), 16):
            yield start, [fingerprint(int(path[-13:-4])) for path in paths[start : start + 16]]


def fingerprint(number: int) -> str:
    """Returns the fingerprint of a video of the generated archive."""
    return f"s1:{10**7 + number:064x}"


def write_result(config: RunConfig, count: int) -> None:
    """Writes a result of ``count`` videos without segments, so that it has all records and no tags."""
    output = choose_output(config.out)
    source = find_model(config.model)
    identity = RunIdentity(source.name, source.hash, source.info.sampling.to_json(), config.top_k)
    metadata = file_metadata(identity, "benchmark")
    with output.videos.writer(VIDEOS_SCHEMA.with_metadata(metadata)) as writer:
        for start in range(0, count, ROW_GROUP_ROWS):
            videos = [video(number) for number in range(start, min(start + ROW_GROUP_ROWS, count))]
            columns = {field.name: pa.nulls(len(videos), field.type) for field in VIDEOS_SCHEMA}
            columns |= {
                "video": pa.array([video.path for video in videos]),
                "size": pa.array([video.size for video in videos]),
                "mtime_ns": pa.array([video.mtime_ns for video in videos]),
                "fingerprint": pa.array([fingerprint(number) for number in range(start, start + len(videos))]),
                "segments": pa.array(np.zeros(len(videos), np.int32)),
                "status": pa.array(["ok"] * len(videos)),
                "decode_s": pa.array(np.zeros(len(videos))),
                "predict_s": pa.array(np.zeros(len(videos))),
            }
            writer.write_table(pa.table(columns, schema=VIDEOS_SCHEMA))
    with output.tags.writer(TAGS_SCHEMA.with_metadata(metadata)):
        pass


if __name__ == "__main__":
    main()
