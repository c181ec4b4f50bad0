import math
import os
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.job import Video
from jobs.listing import find_videos
from jobs.pipeline import _cut, _in_blocks, choose_workers, tag_videos, windows_per_call
from jobs.prediction import Predictor
from jobs.ray_session import ray_session
from jobs.results import Collector
from tagger import find_model
from tagger.errors import VtagError


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
        # On each GPU as many decoders fit beside the models as make one for each core, up to 16 for a GPU.
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


def test_a_call_is_of_few_windows_where_each_takes_long() -> None:
    assert windows_per_call("i3d-kinetics400", "cpu") == 4
    assert windows_per_call("i3d-lite-lstm", "cpu") == 8
    assert windows_per_call("i3d-kinetics400", "cuda") == 32


def test_asking_for_gpus_that_are_not_there_is_an_error() -> None:
    with pytest.raises(VtagError, match="no GPU"):
        choose_workers(cpus=8, gpus=0, device="cuda")


@pytest.mark.parametrize(("actors", "share"), [(1, 1), (2, 1), (3, 0.5), (4, 0.5), (5, 0.3333), (20, 0.1)])
def test_more_actors_than_gpus_share_them(actors: int, share: float) -> None:
    workers = choose_workers(cpus=16, gpus=2, actors=actors)
    assert (workers.device, workers.actors, workers.actor_gpus) == ("cuda", actors, share)


@pytest.mark.slow
@pytest.mark.parametrize("actors", [None, 3])
def test_one_cpu_is_enough_for_decoding_and_model_together(archive: Path, model_file: Path, actors: int | None) -> None:
    videos = find_videos([str(archive)])
    source = find_model(str(model_file))
    collector = Collector(videos)
    with ray_session(cpus=1) as session:
        workers = choose_workers(session.cpus, session.gpus, "cpu", actors)
        tables = tag_videos(videos, source, source.info.sampling, workers, top_k=1)
        finished = [done for table in tables for done in collector.add(table)]
    assert sorted(done.video.path for done in finished) == [video.path for video in videos]


@pytest.mark.usefixtures("two_cpus")
def test_the_model_computes_in_the_main_thread_which_keeps_its_memory(
    archive: Path, model_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched(Predictor):
        def __init__(self, **settings: Any):
            super().__init__(**settings)
            self._threads = [threading.current_thread() is threading.main_thread()]

        def __call__(self, table: pa.Table) -> pa.Table:
            rows = super().__call__(table)
            self._threads.append(threading.current_thread() is threading.main_thread())
            told = pa.array([str(self._threads)] * len(rows), pa.string())
            return rows.set_column(rows.schema.get_field_index("end"), "end", told)

    monkeypatch.setattr("jobs.pipeline.Predictor", Watched)
    videos, source = find_videos([str(archive)]), find_model(str(model_file))
    tables = list(tag_videos(videos, source, source.info.sampling, choose_workers(2, 0), top_k=1))
    told = {text for table in tables for text in table["end"].to_pylist()}
    assert told and all("False" not in text for text in told)


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize(("count", "is_cut_by_a_task"), [(8, False), (9, False), (10, True)])
def test_a_long_list_of_videos_is_cut_into_tasks_by_another_process(
    count: int, is_cut_by_a_task: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut: list[int] = []
    monkeypatch.setattr("jobs.pipeline._cut", lambda dataset, rows: cut.append(rows) or _cut(dataset, rows))
    monkeypatch.setattr("jobs.pipeline.FEW_TASKS", 3)
    monkeypatch.setattr("jobs.pipeline.VIDEOS_PER_BLOCK", 6)
    # Names are bytes to the file system, and these are not UTF-8.
    videos = [Video(f"{number}\udcff.mp4", 1, 1) for number in range(count)]
    blocks = _in_blocks(videos, 3).iter_batches(batch_size=None, batch_format="pyarrow")
    found = sorted((block["video"].to_pylist(), block["path"].to_pylist()) for block in blocks)
    tasks = [list(range(start, min(start + 3, count))) for start in range(0, count, 3)]
    assert found == [(task, [os.fsencode(videos[number].path) for number in task]) for task in tasks]
    assert cut == [3] * is_cut_by_a_task
