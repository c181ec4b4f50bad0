"""Folds on several machines: at the same time, each with its result, and a failure is told as it would be at home."""

import time
from pathlib import Path
from typing import Any

import pytest

from jobs.folds import run_folds
from tagger import DataSetError
from tests.training.test_splits import data_of
from tests.training.trees import ucf11_tree
from training import Fold, Reading, TrainConfig, leave_one_group_out, read_data_set

DATA = data_of({"a": [1] * 4, "b": [2] * 4})


def run(address: str, folds: int) -> list[Any]:
    done: list[Any] = []
    config = TrainConfig("cnn3d-lstm", Path("out"))
    results = run_folds(DATA, leave_one_group_out(DATA)[:folds], config, address=address, on_fold=done.append)
    assert sorted(done) == sorted(results)
    return list(results)


@pytest.mark.slow
def test_folds_are_trained_on_all_machines_at_the_same_time(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(data: object, fold: Fold, config: object) -> tuple[str, str]:
        import ray

        # Nobody gets further before two are here.
        (tmp_path / fold.name).touch()
        deadline = time.monotonic() + 120
        while len(list(tmp_path.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert len(list(tmp_path.iterdir())) >= 2
        return fold.name, ray.get_runtime_context().get_node_id()

    monkeypatch.setattr("jobs.folds.train_fold", train)
    results = run(address, folds=3)
    assert [name for name, _ in results] == ["00", "01", "02"]
    assert len({node for _, node in results}) == 2


@pytest.mark.slow
def test_clips_are_brought_in_once_before_any_fold_needs_them(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data_set(ucf11_tree(tmp_path / "UCF11_updated_mpg", groups=3))
    cache = tmp_path / "cache"

    def train(data: object, fold: Fold, config: object) -> int:
        return len(list(cache.glob("*.npy")))

    monkeypatch.setattr("jobs.folds.train_fold", train)
    read: list[Reading] = []
    config = TrainConfig("cnn3d-lstm", tmp_path / "folds.json", cache=cache)
    folds = leave_one_group_out(data)
    found = run_folds(data, folds, config, address=address, on_reading=read.append)
    # As films to train on, and as windows to validate on; most clips are both, in one fold or another.
    needed = {part: len({clip for fold in folds for clip in getattr(fold.split, part)}) for part in ("train", "val")}
    assert list(found) == [sum(needed.values())] * 3
    assert sorted((each.part, each.total) for each in read if each.done == each.total) == sorted(needed.items())


@pytest.mark.slow
def test_what_is_wrong_with_a_fold_is_told_as_it_would_be_at_home(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(data: object, fold: Fold, config: object) -> None:
        raise DataSetError(f"none of the clips of {fold.name} could be read")

    monkeypatch.setattr("jobs.folds.train_fold", fail)
    with pytest.raises(DataSetError, match=r"^none of the clips of 00 could be read$"):
        run(address, folds=1)
