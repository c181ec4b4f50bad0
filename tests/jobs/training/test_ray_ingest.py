"""The actors that ingest the clips of a training."""

import gc
import threading
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import ray

import jobs.training.ray_ingest
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.training.ray_ingest import ingest_with_ray
from tagger.models.registry import ARCHITECTURES
from training.data.data_set import LabelledClip
from training.fitting.stages import layer_forms
from training.inputs.clip_cache import ClipCache


class ThreadCheck:
    """Reports, as the problem of each clip, whether all calls came in the main thread."""

    def __init__(self, *_: Any):
        self._threads = [threading.current_thread() is threading.main_thread()]

    def __call__(self, table: pa.Table) -> pa.Table:
        self._threads.append(threading.current_thread() is threading.main_thread())
        result = {"clip": 0, "key": "", "rows": 0, "problem": str(all(self._threads))}
        return pa.Table.from_pylist([{"job": job, **result} for job in table["item"].to_pylist()])


def ingest_with_thread_check(
    session: RaySession, send_event: SendEvent, clips: list[LabelledClip], folder: Path
) -> None:
    jobs.training.ray_ingest._Ingester = ThreadCheck  # type: ignore[assignment,misc]
    for *_, each in ingest_with_ray({"train": clips}, dict, ClipCache(folder, 0), session, uses_gpu=False):
        send_event(each.problem)


@pytest.mark.slow
def test_features_are_computed_in_the_main_thread_which_keeps_its_memory(shared_ray: str, tmp_path: Path) -> None:
    clips = [LabelledClip(tmp_path / f"{number}.mp4", "a", "g", "file") for number in range(3)]
    problems: list[str] = []
    run_on_ray("tagging", ingest_with_thread_check, clips, tmp_path / "cache", on_event=problems.append)
    assert problems == ["True"] * 3


def handles_after_ingesting(session: RaySession, send_event: SendEvent, clips: list[LabelledClip], folder: Path) -> int:
    """Ingests ``clips`` and returns the number of handles of actors that are left, whose cores may stay taken."""
    usual = ARCHITECTURES["cnn3d-lstm"]
    forms = partial(layer_forms, usual.samplings[0], usual.preprocessing)
    gc.disable()
    list(ingest_with_ray({"train": clips}, forms, ClipCache(folder, 0), session, uses_gpu=False))
    handles = [thing for thing in gc.get_objects() if isinstance(thing, ray.actor.ActorHandle)]
    return sum("MapWorker" in repr(handle) for handle in handles)


def test_the_actors_that_read_the_clips_leave_their_cores_to_the_training(shared_ray: str, tmp_path: Path) -> None:
    clips = [LabelledClip(tmp_path / f"{number}.mp4", "a", "g", "file") for number in range(3)]
    assert run_on_ray("training", handles_after_ingesting, clips, tmp_path / "cache") == 0
