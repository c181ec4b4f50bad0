"""Training in several workers on Ray: on two machines, with a worker lost, and killed as a whole."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from jobs.board import open_board
from jobs.job import JobError
from jobs.ray_session import ray_session
from jobs.team import train_with_ray
from tagger import DataSetError, load_model
from tagger.model_file import read_weights
from tests.training.trees import ucf11_tree, ucf101_tree
from training import (
    Epoch,
    LoopSettings,
    Reading,
    TrainConfig,
    TrainResult,
    Watch,
    read_data_set,
    split_by_group,
)
from training.run_folder import read_metrics

# Each starts Ray Train once or twice, which a busy machine takes minutes for.
pytestmark = pytest.mark.timeout(900)

LOOP = LoopSettings(epochs=4, batch_size=2, seed=3)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=6)


def train_at(address: str, tree: Path, folder: Path, watch: Watch | None = None) -> TrainResult:
    data = read_data_set(tree)
    config = TrainConfig("cnn3d-lstm", folder / "m.safetensors", loop=LOOP, run_folder=folder / "m.run")
    return train_with_ray(data, split_by_group(data, seed=1), config, workers=2, address=address, watch=watch)


@pytest.mark.slow
def test_two_machines_train_one_model_and_it_tags(address: str, tmp_path: Path) -> None:
    tree = ucf11_tree(tmp_path / "UCF11_updated_mpg", groups=5)
    broken = next(tree.glob("across/v_across_01/*.mpg"))
    broken.write_bytes(b"not a video")
    read: list[Reading] = []
    told: list[Epoch] = []
    result = train_at(address, tree, tmp_path, Watch(read.append, on_epoch=told.append))
    assert tuple(told) == result.epochs == read_metrics(tmp_path / "m.run")
    assert [reading.unreadable for reading in read if reading.unreadable] == [
        reading.unreadable for reading in read if broken.name in (reading.unreadable or "")
    ]
    assert any(reading.unreadable for reading in read)
    assert {segment.label for segment in load_model(str(result.out)).tag(next(tree.glob("*/*/*_04_01.mpg")))} <= {
        "across",
        "down",
    }
    assert not {"checkpoints", "cache", "ray"} & {path.name for path in (tmp_path / "m.run").iterdir()}


@pytest.mark.slow
def test_when_a_worker_is_lost_training_goes_on_from_the_last_checkpoint(
    address: str, tree: Path, tmp_path: Path
) -> None:
    for name in ("whole", "lost"):
        (tmp_path / name).mkdir()
    whole = train_at(address, tree, tmp_path / "whole")
    killed: list[int] = []

    def kill(epoch: Epoch) -> None:
        if epoch.number == 2 and not killed:
            killed.append(_a_worker())
            os.kill(killed[0], signal.SIGKILL)

    resumed: list[Epoch] = []
    lost = train_at(address, tree, tmp_path / "lost", Watch(on_epoch=kill, on_resume=resumed.append))
    assert killed and resumed[0].number >= 2
    assert lost.epochs == whole.epochs
    expected = read_weights(whole.out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read_weights(lost.out).items())


def _a_worker() -> int:
    """The process of one of the workers that Ray Train has started."""
    import psutil

    here = psutil.Process().children(recursive=True)
    return next(process.pid for process in here if "RayTrainWorker" in " ".join(process.cmdline()))


def test_what_cannot_be_had_is_said_at_once(address: str, tree: Path, tmp_path: Path) -> None:
    data = read_data_set(tree)
    config = TrainConfig("cnn3d-lstm", tmp_path / "m.safetensors", loop=LOOP, run_folder=tmp_path / "m.run")
    split = split_by_group(data, seed=1)
    with pytest.raises(JobError, match="--workers 3: there are 2 cores for them, and each needs one"):
        train_with_ray(data, split, config, workers=3, address=address)
    with pytest.raises(JobError, match="--gpus 1: there are 0 GPUs here"):
        train_with_ray(data, split, config, gpus=1, address=address)


def test_what_workers_tell_is_gathered_on_the_machine_that_asked_for_the_training(address: str) -> None:
    import ray

    with ray_session(address):
        # Left alone, one in two would be elsewhere.
        boards = [open_board() for _ in range(4)]
        nodes = [board.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for board in boards]
        assert set(ray.get(nodes)) == {ray.get_runtime_context().get_node_id()}


@pytest.mark.slow
def test_what_is_wrong_with_the_clips_is_told_as_it_would_be_at_home(address: str, tmp_path: Path) -> None:
    tree = ucf101_tree(tmp_path / "clips", groups=3)
    for clip in tree.rglob("*.mp4"):
        clip.write_bytes(b"not a video")
    with pytest.raises(DataSetError, match=r"^none of the clips could be read$"):
        train_at(address, tree, tmp_path)


@pytest.mark.slow
def test_a_command_that_is_interrupted_and_then_killed_goes_on_and_comes_to_the_same_model(
    tree: Path, tmp_path: Path
) -> None:
    weights = []
    for name in ("whole", "ended"):
        folder = tmp_path / name
        folder.mkdir()
        command = [sys.executable, "-c", "from jobs.cli import main; main()", "train", str(tree)]
        command += ["--model", "cnn3d-lstm", "--epochs", "40", "--patience", "0", "--batch-size", "2"]
        command += ["--out", str(folder / "m.safetensors")]
        said = ""
        if name == "ended":
            code, said = end_after(2, signal.SIGINT, command, folder)
            assert code == 130 and "The same command goes on" in said
            code, said = end_after(len(read_metrics(folder / "m.run")) + 2, signal.SIGKILL, command, folder)
            assert code == -signal.SIGKILL
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert "Epoch 40/40" in done.stdout
        assert ("Going on after epoch" in done.stdout) == (name == "ended")
        weights.append(read_weights(folder / "m.safetensors"))
        assert [epoch.number for epoch in read_metrics(folder / "m.run")] == list(range(1, 41))
    assert all(torch.equal(tensor, weights[0][name]) for name, tensor in weights[1].items())


def end_after(epochs: int, how: signal.Signals, command: list[str], folder: Path) -> tuple[int, str]:
    """Sends a signal to ``command`` once its run folder has that many epochs; how it ended, and what it had said."""
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    metrics = folder / "m.run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= epochs):
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    started.send_signal(how)
    said, _ = started.communicate(timeout=60)
    return started.returncode, said
