"""Folds on several machines: they run at the same time, with the results and errors of a run without a cluster."""

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

import jobs.training.ray_folds
from jobs.cluster.cpu_environment import cpu_environment
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from tagger import DataSetError
from tests.training.data.test_splits import data_of
from tests.training.trees import ucf11_tree
from training import Fold, Reading, TrainConfig, leave_one_group_out, read_data_set
from training.data.data_set import DataSet
from training.fitting.recipe import starting_network

DATA = data_of({"a": [1] * 4, "b": [2] * 4})


FOLDS = leave_one_group_out(DATA)


def run_with(
    session: RaySession,
    send_event: SendEvent,
    train: Callable[[Any, Fold, TrainConfig], Any],
    data: DataSet,
    folds: Sequence[Fold],
    config: TrainConfig,
) -> Any:
    """Runs the folds with ``train`` in place of the real training."""
    jobs.training.ray_folds.train_fold_task = train
    ingests_first = config.cache is not None
    network = starting_network(config, data.labels) if ingests_first else None
    return jobs.training.ray_folds.run_folds_on_session(session, send_event, data, folds, config, network)


def meet(data: Any, fold: Fold, config: TrainConfig) -> tuple[str, str, dict[str, str]]:
    """Waits until two folds run; returns the name of this fold, its node, and its environment for CPUs."""
    import ray

    (config.out / fold.name).touch()
    deadline = time.monotonic() + 120
    while len(list(config.out.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(list(config.out.iterdir())) >= 2
    environment = {name: os.environ[name] for name in cpu_environment()}
    return fold.name, ray.get_runtime_context().get_node_id(), environment


@pytest.mark.slow
def test_folds_are_trained_on_all_machines_at_the_same_time(address: str, tmp_path: Path) -> None:
    events: list[Any] = []
    config = TrainConfig("cnn3d-lstm", tmp_path)
    results = run_on_ray("training", run_with, meet, DATA, FOLDS[:3], config, on_event=events.append, address=address)
    assert sorted(events, key=str) == sorted(results, key=str)
    assert [name for name, _, _ in results] == ["00", "01", "02"]
    assert len({node for _, node, _ in results}) == 2
    assert all(environment == cpu_environment() for _, _, environment in results)


def count_cached(data: Any, fold: Fold, config: TrainConfig) -> int:
    assert config.cache is not None
    return len(list(config.cache.glob("*.npy")))


@pytest.mark.slow
def test_clips_are_ingested_once_before_any_fold_needs_them(address: str, tmp_path: Path) -> None:
    data = read_data_set(ucf11_tree(tmp_path / "UCF11_updated_mpg", groups=3))
    events: list[Any] = []
    config = TrainConfig("cnn3d-lstm", tmp_path / "folds.json", cache=tmp_path / "cache")
    folds = leave_one_group_out(data)
    found = run_on_ray("training", run_with, count_cached, data, folds, config, on_event=events.append, address=address)
    # Clips are cached as films for training and as windows for validation; most are needed as both.
    needed = {part: len({clip for fold in folds for clip in getattr(fold.split, part)}) for part in ("train", "val")}
    assert list(found) == [sum(needed.values())] * 3
    read = [each for each in events if isinstance(each, Reading)]
    assert sorted((each.part, each.total) for each in read if each.done == each.total) == sorted(needed.items())


def fail(data: Any, fold: Fold, config: TrainConfig) -> None:
    raise DataSetError(f"none of the clips of {fold.name} could be read")


@pytest.mark.slow
def test_an_error_of_a_fold_is_the_same_as_without_a_cluster(address: str, tmp_path: Path) -> None:
    with pytest.raises(DataSetError, match=r"^none of the clips of 00 could be read$"):
        run_on_ray(
            "tagging", run_with, fail, DATA, FOLDS[:1], TrainConfig("cnn3d-lstm", tmp_path / "out"), address=address
        )
