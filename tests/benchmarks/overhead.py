"""Measures the overhead of a job beside decoding and the model: thousands of tiny videos and a tiny model.

    python -m tests.benchmarks.overhead [--videos N] [--pipeline-only | --tasks N]

Prints the CPU time of this process, which collects and commits, the wall time per video, and the videos per second of
each thousand. The first thousand are always faster, because many of them were decoded while the model was loading. With
--pipeline-only rows are discarded, and the CPU time of the Ray driver is printed as well. With --tasks, prints how long
the Ray driver takes to cut a chunk of made-up videos into so many tasks.
"""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
import psutil

from tests.videos import encode

if TYPE_CHECKING:
    from jobs.archive.video import Video
    from jobs.cluster.ray_driver import SendEvent
    from jobs.cluster.ray_session import RaySession
    from tagger.tagger import ModelSource

BATCH = 1000
"""Videos per reported rate. The last rate should equal the first one."""


@click.command()
@click.option("--videos", default=10_000, show_default=True)
@click.option("--pipeline-only", is_flag=True)
@click.option("--tasks", type=int, help="Only cut a chunk into this number of tasks.")
def main(videos: int, pipeline_only: bool, tasks: int | None) -> None:
    """Runs a job over links to one video of four frames."""
    if tasks is not None:
        cut_chunk(tasks)
        return
    with tempfile.TemporaryDirectory(prefix="vtag-overhead-") as name:
        folder = Path(name)
        model = make_model(folder / "model.safetensors")
        archive = make_archive(folder / "videos", videos)
        process = psutil.Process()
        before = process.cpu_times()
        began_s = time.monotonic()
        done_s = list((pipeline if pipeline_only else job)(archive, model, folder / "out.parquet"))
        wall_s = time.monotonic() - began_s
        after = process.cpu_times()
    cpu_s = after.user + after.system - before.user - before.system
    assert len(done_s) == videos, f"{len(done_s)} of {videos} videos came back"
    # The start-up ends with the first video. The rate of a batch does not count its first video.
    size = min(BATCH, videos // 3)
    batches = [done_s[start : start + size] for start in range(0, videos - size + 1, size)]
    rates = [f"{(size - 1) / (batch[-1] - batch[0]):.0f}" for batch in batches]
    print(f"this process: {1000 * cpu_s / videos:.2f} ms of CPU time for each of {videos} videos")
    print(f"wall: {1000 * wall_s / videos:.2f} ms, of which {done_s[0] - began_s:.1f} s until the first was done")
    print(f"videos per second, of each {size} videos: {', '.join(rates)}")
    print(f"memory of this process at the end: {process.memory_info().rss / 2**20:.0f} MB")


def make_archive(folder: Path, count: int) -> Path:
    """A folder of links to one tiny video."""
    folder.mkdir()
    video = encode(folder.parent / "tiny.mp4", frames=4, width=64, height=64)
    for number in range(count):
        (folder / f"{number:06d}.mp4").hardlink_to(video)
    return folder


def make_model(path: Path) -> Path:
    """Writes the smallest possible network, with 16×16 pixels of input."""
    from tagger import ModelInfo, Preprocessing, Sampling, save_model_file
    from tagger.models.registry import build_network

    options = {"filters": [1, 1, 1], "hidden": 1}
    network = build_network("cnn3d-lstm", 4, options)
    info = ModelInfo("cnn3d-lstm", ("a", "b", "c", "d"), Sampling(), Preprocessing(16, 16), options=options)
    save_model_file(path, info, network.state_dict())
    return path


def job(archive: Path, model: Path, out: Path) -> Iterator[float]:
    """Runs the whole job; yields for each video the time in seconds when it was done."""
    from jobs import RunConfig, make_plan, run_job

    done_s: list[float] = []

    def note(progress: object) -> None:
        done = progress.videos_done  # type: ignore[attr-defined]
        done_s.extend([time.monotonic()] * (done - len(done_s)))

    run_job(make_plan(RunConfig((str(archive),), out, model=str(model), device="cpu")), note)
    yield from done_s


def pipeline(archive: Path, model: Path, out: Path) -> Iterator[float]:
    """Runs the pipeline and discards its rows; yields for each video the time in seconds when it came back."""
    from jobs.archive.listing import find_videos
    from jobs.cluster.ray_driver import RayDriver
    from tagger import find_model

    # The Ray driver imports this module by its name, not as the program that was started.
    from tests.benchmarks.overhead import ends_of_videos

    with RayDriver("tagging") as driver:
        for ends in driver.events(ends_of_videos, find_videos([str(archive)]), find_model(str(model))):
            yield from [time.monotonic()] * ends
    print(f"Ray driver: {driver.result:.1f} s of CPU time, with its start")


def ends_of_videos(
    session: "RaySession", send_event: "SendEvent", videos: "Sequence[Video]", source: "ModelSource"
) -> float:
    """Sends how many videos end in each table that comes back; returns the CPU time of this process in seconds."""
    from jobs.tagging.pipeline import choose_workers, tag_videos

    workers = choose_workers(session.cpus, session.gpus, "cpu")
    for table in tag_videos(videos, source, source.info.sampling, workers, top_k=5):
        send_event(len(table) - table["end"].null_count)
    return time.process_time()


def cut_chunk(tasks: int) -> None:
    """Prints how long it takes to cut a chunk into ``tasks`` tasks."""
    from jobs.cluster.ray_driver import RayDriver
    from tests.benchmarks.overhead import seconds_of_cutting

    with RayDriver("tagging") as driver:
        list(driver.events(seconds_of_cutting, tasks))
    print(f"cutting a chunk into {tasks} tasks: {driver.result:.2f} s")


def seconds_of_cutting(session: "RaySession", send_event: "SendEvent", tasks: int) -> float:
    """Returns how long it takes to put VIDEOS_PER_TASK made-up videos into each of ``tasks`` blocks."""
    from jobs.archive.video import Video
    from jobs.tagging.tasks import VIDEOS_PER_TASK, parts_of, videos_in_blocks

    count = tasks * VIDEOS_PER_TASK
    videos = [Video(f"/archive/{number:09d}.mp4", 2**20, 1) for number in range(count)]
    began_s = time.monotonic()
    videos_in_blocks(videos, [VIDEOS_PER_TASK] * tasks, range(count), [parts_of(1)] * count)
    return time.monotonic() - began_s


if __name__ == "__main__":
    main()
