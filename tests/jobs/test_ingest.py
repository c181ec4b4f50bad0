"""Clips that are brought in by Ray's actors."""

import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jobs.ingest import ingest_with_ray
from jobs.ray_session import ray_session
from training.clip_cache import ClipCache
from training.data_set import LabelledClip


def test_features_are_computed_in_the_main_thread_which_keeps_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Watched:
        def __init__(self, *_: Any):
            self._threads = [threading.current_thread() is threading.main_thread()]

        def __call__(self, table: pa.Table) -> pa.Table:
            self._threads.append(threading.current_thread() is threading.main_thread())
            told = {"clip": 0, "key": "", "rows": 0, "problem": str(all(self._threads))}
            return pa.Table.from_pylist([{"job": job, **told} for job in table["item"].to_pylist()])

    monkeypatch.setattr("jobs.ingest._Ingester", Watched)
    clips = [LabelledClip(tmp_path / f"{number}.mp4", "a", "g", "file") for number in range(3)]
    with ray_session(cpus=2) as session:
        parts, cache = {"train": clips}, ClipCache(tmp_path / "cache", 0)
        found = [each for *_, each in ingest_with_ray(parts, dict, cache, session, uses_gpu=False)]
    assert [each.problem for each in found] == ["True"] * 3
