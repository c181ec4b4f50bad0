"""Measures time and memory of planning a run over a million videos, of which nearly all are finished.

The listing is generated, the result with its records is real. Prints seconds and the peak memory of this process.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

import jobs.tagging.plan
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
    count = parser.parse_args().videos
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(("/archive",), Path(folder, "tags.parquet"))
        write_result(config, count)
        started = time.perf_counter()
        with patch.object(jobs.tagging.plan, "find_videos", lambda *_, **__: Videos.of(map(video, range(count + NEW)))):
            plan = jobs.tagging.plan.make_plan(config)
        seconds = time.perf_counter() - started
    assert (len(plan.todo), plan.changes.unchanged) == (NEW, count)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{count:,} videos planned against {count:,} records in {seconds:.1f} s, {plan.comparing_s:.1f} s of it for "
        f"the comparison; peak {peak:.2f} GB"
    )


def video(number: int) -> Video:
    """Returns a video of the generated archive."""
    return Video(f"/archive/camera-{number // 1000:05d}/recording-{number:09d}.mp4", 10**7 + number, 10**18 + number)


def write_result(config: RunConfig, count: int) -> None:
    """Writes a result in which ``count`` videos failed, so that it has all records and no tags."""
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
                "fingerprint": pa.array([f"s1:{video.size:064x}" for video in videos]),
                "segments": pa.array(np.zeros(len(videos), np.int32)),
                "status": pa.array(["failed"] * len(videos)),
                "error_kind": pa.array(["empty"] * len(videos)),
                "decode_s": pa.array(np.zeros(len(videos))),
                "predict_s": pa.array(np.zeros(len(videos))),
            }
            writer.write_table(pa.table(columns, schema=VIDEOS_SCHEMA))
    with output.tags.writer(TAGS_SCHEMA.with_metadata(metadata)):
        pass


if __name__ == "__main__":
    main()
