"""A clip cache keeps to its size limit, and measures its size only a few times."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tagger import Sampling
from tagger.models.registry import CNN3D_PREPROCESSING
from tests.training.trees import write_clip
from training.data.data_set import LabelledClip
from training.inputs.clip_cache import SIZE_CHECKS, ClipCache, remove_outdated
from training.inputs.forms import Windows
from training.inputs.ingest import ClipStore

ARRAY = np.zeros(10_000, np.uint8)
SIZE = 10_128
"""Bytes of a file of ``ARRAY``: its data, and a header of 128 bytes."""


def keys(number: int) -> Iterator[str]:
    return (f"{i:032x}" for i in range(number))


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.npy"))


def test_a_cache_is_filled_to_its_limit_and_not_further(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path, max_bytes=20 * SIZE)
    assert [cache.save(key, ARRAY) for key in keys(22)] == [True] * 20 + [False] * 2
    assert used(tmp_path) == 20 * SIZE
    # Another process finds it full.
    assert not ClipCache(tmp_path, max_bytes=20 * SIZE).save("f" * 32, ARRAY)


def test_processes_that_fill_a_cache_together_exceed_its_limit_by_a_hundredth_each_at_most(tmp_path: Path) -> None:
    limit = 1000 * SIZE
    caches = [ClipCache(tmp_path, limit) for _ in range(4)]
    for i, key in enumerate(keys(1200)):
        caches[i % len(caches)].save(key, ARRAY)
    assert limit - SIZE < used(tmp_path) <= limit * (1 + len(caches) / SIZE_CHECKS) + len(caches) * SIZE


def test_filling_a_cache_measures_its_size_a_hundred_times_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr("training.inputs.clip_cache.os.scandir", lambda folder: scans.append(folder) or scandir(folder))
    cache = ClipCache(tmp_path, 1000 * SIZE)
    for key in keys(1100):
        cache.save(key, ARRAY)
    assert 1 < len(scans) <= SIZE_CHECKS


def test_the_key_of_a_clip_is_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [LabelledClip(write_clip(tmp_path / "a.mp4", "Down", 1), "Down", "1", "file", start_s=s) for s in (0, 0.5)]
    asked: list[LabelledClip] = []
    key = ClipCache.key
    monkeypatch.setattr(ClipCache, "key", lambda cache, clip, form: asked.append(clip) or key(cache, clip, form))
    ClipStore(clips, Windows(Sampling(), CNN3D_PREPROCESSING), ClipCache(tmp_path / "cache"))
    assert asked == clips


def test_arrays_of_another_pixel_version_are_not_read_and_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "0" * 32
    with monkeypatch.context() as older:
        older.setattr("training.inputs.clip_cache.ENDING", ".pixels1.npy")
        assert ClipCache(tmp_path, max_bytes=2 * SIZE).save(key, ARRAY)
    cache = ClipCache(tmp_path, max_bytes=SIZE)
    assert cache.load(key) is None and not cache.save(key, ARRAY)
    assert remove_outdated(tmp_path) == 1
    cache = ClipCache(tmp_path, max_bytes=SIZE)
    assert cache.save(key, ARRAY) and cache.load(key) is not None
    assert remove_outdated(tmp_path) == 0
    assert remove_outdated(tmp_path / "missing") == 0


def test_other_files_in_the_folder_of_a_cache_stay_and_take_no_room(tmp_path: Path) -> None:
    names = ("mine.npy", "notes.txt", f"{'0' * 32}.npy", f"{'0' * 32}.pixels1.npy.bak")
    for name in names:
        (tmp_path / name).write_bytes(bytes(SIZE))
    assert remove_outdated(tmp_path) == 0
    assert ClipCache(tmp_path, max_bytes=SIZE).save("1" * 32, ARRAY)
    assert all((tmp_path / name).exists() for name in names)
