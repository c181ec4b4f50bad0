"""A cache of clips keeps to its bound, and does not spend its time on finding out how large it is."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tagger import Sampling
from tagger.models.registry import CNN3D_PREPROCESSING
from tests.training.trees import write_clip
from training.data.data_set import LabelledClip
from training.inputs.clip_cache import LOOKS, ClipCache
from training.inputs.forms import Windows
from training.inputs.ingest import ClipStore

ARRAY = np.zeros(10_000, np.uint8)
SIZE = 10_128
"""What the file of an array takes: its bytes, and a header of 128."""


def keys(number: int) -> Iterator[str]:
    return (f"{i:05}" for i in range(number))


def used(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.npy"))


def test_a_cache_is_filled_to_its_bound_and_not_further(tmp_path: Path) -> None:
    cache = ClipCache(tmp_path, max_bytes=20 * SIZE)
    assert [cache.save(key, ARRAY) for key in keys(22)] == [True] * 20 + [False] * 2
    assert used(tmp_path) == 20 * SIZE
    # Another process finds it full.
    assert not ClipCache(tmp_path, max_bytes=20 * SIZE).save("more", ARRAY)


def test_processes_that_fill_a_cache_together_exceed_its_bound_by_a_hundredth_each_at_most(tmp_path: Path) -> None:
    bound = 1000 * SIZE
    caches = [ClipCache(tmp_path, bound) for _ in range(4)]
    for i, key in enumerate(keys(1200)):
        caches[i % len(caches)].save(key, ARRAY)
    assert bound - SIZE < used(tmp_path) <= bound * (1 + len(caches) / LOOKS) + len(caches) * SIZE


def test_filling_a_cache_looks_through_it_a_hundred_times_at_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []
    scandir = os.scandir
    monkeypatch.setattr("training.inputs.clip_cache.os.scandir", lambda folder: looks.append(folder) or scandir(folder))
    cache = ClipCache(tmp_path, 1000 * SIZE)
    for key in keys(1100):
        cache.save(key, ARRAY)
    assert 1 < len(looks) <= LOOKS


def test_the_version_of_a_file_is_asked_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [LabelledClip(write_clip(tmp_path / "a.mp4", "Down", 1), "Down", "1", "file", start_s=s) for s in (0, 0.5)]
    asked: list[LabelledClip] = []
    key = ClipCache.key
    monkeypatch.setattr(ClipCache, "key", lambda cache, clip, form: asked.append(clip) or key(cache, clip, form))
    ClipStore(clips, Windows(Sampling(), CNN3D_PREPROCESSING), ClipCache(tmp_path / "cache"))
    assert asked == clips
