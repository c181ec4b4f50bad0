import heapq
import math
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import jobs.tagging.pipeline
from jobs.archive.listing import find_videos
from jobs.archive.video import Video
from jobs.cluster.ray_driver import RayDriver, SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.tagging.finished.collector import Collector
from jobs.tagging.pipeline import choose_workers, tag_videos, windows_per_call
from jobs.tagging.prediction import Predictor
from jobs.tagging.tasks import (
    MAX_PART_BYTES,
    MIN_PART_BYTES,
    TASKS_PER_DECODER,
    VIDEOS_PER_TASK,
    chunk_size,
    numbers_of_parts,
    parts_of,
    task_sizes,
    threads_of_decoder,
    videos_in_blocks,
)
from tagger import Sampling, find_model
from tagger.errors import VtagError
from tagger.models.registry import ARCHITECTURES
from tagger.tagger import ModelSource
from tagger.windows import Part


@given(
    cpus=st.floats(1, 512),
    gpus=st.integers(0, 16),
    device=st.sampled_from(["auto", "cpu"]),
    actors=st.none() | st.integers(1, 600),
    nvdec=st.booleans(),
)
def test_actors_and_decoders_always_fit_together(
    cpus: float, gpus: int, device: str, actors: int | None, nvdec: bool
) -> None:
    workers = choose_workers(cpus, gpus, device, actors, nvdec=nvdec and gpus > 0)
    assert workers.actors * workers.actor_cpus + workers.decoders * workers.decoder_cpus <= cpus
    assert workers.actor_cpus > 0
    assert workers.decoder_cpus > 0
    if workers.device == "cuda":
        # An actor's share of a GPU is never spread over two.
        assert workers.actors <= gpus * int(1 / workers.actor_gpus)
    if nvdec and gpus:
        # Beside the models each GPU has room for its decoders: one per core, at most 16 per GPU.
        free = 1 - (math.ceil(workers.actors / gpus) * workers.actor_gpus if workers.device == "cuda" else 0)
        # Ray counts in steps of 1/10,000.
        fit = round(10_000 * free) // round(10_000 * workers.decoder_gpus)
        assert gpus * fit >= min(workers.decoders, 16 * gpus)
    assert workers.threads >= 1
    assert workers.actors == actors or actors is None


def test_without_a_gpu_every_core_has_a_model_of_one_thread() -> None:
    workers = choose_workers(cpus=8, gpus=0)
    assert (workers.device, workers.actors, workers.threads) == ("cpu", 8, 1)


def test_fewer_actors_get_more_threads() -> None:
    assert choose_workers(cpus=8, gpus=0, actors=2).threads == 4


def test_with_gpus_every_gpu_has_two_models() -> None:
    workers = choose_workers(cpus=16, gpus=2)
    assert (workers.device, workers.actors, workers.actor_gpus, workers.decoders) == ("cuda", 4, 0.5, 16)


def test_a_call_has_few_windows_when_each_takes_long() -> None:
    i3d, builtin = ARCHITECTURES["i3d-kinetics400"].info(), find_model().info
    assert (windows_per_call(i3d, "cpu"), windows_per_call(i3d, "cuda")) == (4, 32)
    # Three crops of a frame are three pictures to classify.
    three = replace(builtin, preprocessing=replace(builtin.preprocessing, view="three"))
    assert windows_per_call(three, "cpu") == 4 < windows_per_call(builtin, "cpu")
    assert windows_per_call(three, "cuda") == 10


def test_many_actors_on_gpus_take_larger_calls_because_each_call_costs_the_driver_the_same() -> None:
    i3d = ARCHITECTURES["i3d-kinetics400"].info()
    assert [windows_per_call(i3d, "cuda", actors) for actors in (2, 31, 32, 48, 200)] == [32, 32, 64, 96, 128]
    assert windows_per_call(i3d, "cpu", 200) == 4


def test_the_windows_of_a_call_follow_from_the_options_of_the_model() -> None:
    builtin = find_model().info
    assert windows_per_call(builtin, "cpu") == 5
    assert windows_per_call(replace(builtin, options={**builtin.options, "order": False}), "cpu") == 8


def test_asking_for_missing_gpus_is_an_error() -> None:
    with pytest.raises(VtagError, match="no GPU"):
        choose_workers(cpus=8, gpus=0, device="cuda")


@pytest.mark.parametrize(("actors", "share"), [(1, 1), (2, 1), (3, 0.5), (4, 0.5), (5, 0.3333), (20, 0.1)])
def test_more_actors_than_gpus_share_them(actors: int, share: float) -> None:
    workers = choose_workers(cpus=16, gpus=2, actors=actors)
    assert (workers.device, workers.actors, workers.actor_gpus) == ("cuda", actors, share)


def collect_with_actors(
    session: RaySession, send_event: SendEvent, videos: list[Video], source: ModelSource, actors: int | None
) -> None:
    collector = Collector(videos)
    workers = choose_workers(session.cpus, session.gpus, "cpu", actors)
    for table in tag_videos(videos, source, source.info.sampling, workers, top_k=1):
        for done in collector.add(table):
            send_event(done.video.path)


@pytest.mark.slow
@pytest.mark.parametrize("actors", [None, 3])
def test_one_cpu_is_enough_for_decoding_and_model_together(archive: Path, model_file: Path, actors: int | None) -> None:
    videos = find_videos([str(archive)])
    finished: list[str] = []
    with RayDriver("tagging", cpus=1) as driver:
        finished += driver.events(collect_with_actors, videos, find_model(str(model_file)), actors)
    assert sorted(finished) == [video.path for video in videos]


class ThreadCheck(Predictor):
    """Reports in the column ``end`` whether all of its calls came in the main thread."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        self._threads = [threading.current_thread() is threading.main_thread()]

    def __call__(self, table: pa.Table) -> pa.Table:
        rows = super().__call__(table)
        self._threads.append(threading.current_thread() is threading.main_thread())
        in_main_thread = pa.array([str(all(self._threads))] * len(rows), pa.string())
        return rows.set_column(rows.schema.get_field_index("end"), "end", in_main_thread)


def tag_with_thread_check(session: RaySession, send_event: SendEvent, videos: list[Video], source: ModelSource) -> None:
    jobs.tagging.pipeline.Predictor = ThreadCheck  # type: ignore[misc]
    for table in tag_videos(videos, source, source.info.sampling, choose_workers(2, 0), top_k=1):
        send_event(table["end"].to_pylist())


@pytest.mark.slow
def test_the_model_computes_in_the_main_thread_which_keeps_its_memory(
    shared_ray: str, archive: Path, model_file: Path
) -> None:
    reported: list[list[str]] = []
    run_on_ray(
        "tagging",
        tag_with_thread_check,
        find_videos([str(archive)]),
        find_model(str(model_file)),
        on_event=reported.append,
    )
    assert {text for texts in reported for text in texts} == {"True"}


@given(videos=st.integers(0, 100_000), decoders=st.integers(1, 10_000))
def test_tasks_hold_every_video_once_and_become_smaller(videos: int, decoders: int) -> None:
    sizes = list(task_sizes(videos, decoders))
    assert sum(sizes) == videos
    assert sizes == sorted(sizes, reverse=True)
    assert all(1 <= size <= VIDEOS_PER_TASK for size in sizes)
    # No decoder has much more to do at the end than the others.
    assert sizes[-decoders:] == [1] * min(decoders, len(sizes))


@pytest.mark.parametrize(("decoders", "seconds"), [(2, 3), (64, 5), (1_600, 90)])
def test_the_tasks_of_a_part_of_an_archive_start_in_bounded_time(decoders: int, seconds: float) -> None:
    tasks = sum(1 for _ in task_sizes(chunk_size(decoders), decoders))
    assert 0.0015 * tasks <= seconds  # A task costs up to 1.5 ms.


def names_of_blocks(
    session: RaySession, send_event: SendEvent, videos: list[Video], sizes: list[int], counts: list[int]
) -> None:
    for block in videos_in_blocks(videos, sizes, range(10, 10 + len(videos)), list(map(parts_of, counts))).iter_batches(
        batch_size=None, batch_format="pyarrow"
    ):
        send_event([block[name].to_pylist() for name in ("video", "path", "was_listed", "part", "parts")])


def test_names_that_are_not_utf8_are_kept_and_blocks_have_the_sizes_of_the_tasks(shared_ray: str) -> None:
    videos = [Video(f"{number}\udcff.mp4", number, 0) for number in range(6)]
    found: list[Any] = []
    run_on_ray("tagging", names_of_blocks, videos, [3, 2, 1], [1, 2, 1, 1, 1, 3], on_event=found.append)
    names = [os.fsencode(video.path) for video in videos]
    assert sorted(found) == [
        [[10, 12], [names[0], names[2]], [False, True], [0, 0], [1, 1]],
        *([[11], [names[1]], [True], [part], [2]] for part in range(2)),
        [[13, 14], names[3:5], [True, True], [0, 0], [1, 1]],
        *([[15], [names[5]], [True], [part], [3]] for part in range(3)),
    ]


SIZES = st.lists(st.integers(0, 2**40), max_size=50)


@given(SIZES, st.integers(1, 1000))
def test_parts_are_large_and_no_task_has_more_than_its_share_of_what_remains(sizes: list[int], decoders: int) -> None:
    counts = numbers_of_parts([Video(f"{number}.mp4", size, 1) for number, size in enumerate(sizes)], decoders)
    for at, (size, count) in enumerate(zip(sizes, counts, strict=True)):
        assert count == 1 or size / count >= MIN_PART_BYTES
        if decoders > 1:
            share = sum(sizes[at:]) / (TASKS_PER_DECODER * decoders)
            assert size / count < 2 * max(MIN_PART_BYTES, min(share, MAX_PART_BYTES))


def test_the_last_long_videos_are_cut_finely_so_that_all_decoders_work_to_the_end() -> None:
    gigabytes = [Video(f"{number}.mp4", 2**30, 1) for number in range(20)]
    assert numbers_of_parts(gigabytes, 2) == [1] * 16 + [2, 2, 4, 8]
    assert numbers_of_parts(gigabytes[:1], 16) == [32]


@given(windows=st.integers(1000, 100_000), decoders=st.integers(2, 16))
def test_decoders_of_a_single_long_video_finish_together(windows: int, decoders: int) -> None:
    (of,) = numbers_of_parts([Video("a.mp4", 2**31, 1)], decoders)
    busy = [0] * decoders
    for index in range(of):
        part = Part(index, of).windows(Sampling(), windows * Sampling().window_s)
        heapq.heapreplace(busy, busy[0] + min(part.stop, windows) - part.start)
    assert max(busy) - min(busy) <= 0.12 * windows / decoders + 2


def test_only_a_job_with_fewer_videos_than_cores_decodes_with_several_threads() -> None:
    assert [threads_of_decoder(videos, decoders=16) for videos in (1, 3, 8, 9, 16, 1000)] == [16, 5, 2, 1, 1, 1]
    assert threads_of_decoder(1, decoders=1) == 1


@pytest.mark.parametrize("path", ["s3://bucket/a.mp4", "/a.mp4"])
def test_a_single_core_reads_a_video_whole_and_so_does_each_one_whose_size_is_unknown(path: str) -> None:
    assert numbers_of_parts([Video(path, 2**40, 1)], 8) == [1024]
    assert numbers_of_parts([Video(path, 2**40, 1)], 1) == numbers_of_parts([Video(path, 0, 0)], 8) == [1]
