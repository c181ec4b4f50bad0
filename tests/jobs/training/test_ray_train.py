"""Training in several workers on Ray: on two machines, with a lost worker, and after the whole training was killed."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from jobs.cluster.cpu_environment import cpu_environment
from jobs.cluster.ray_driver import SendEvent, run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.errors import JobError
from jobs.training.board import open_board
from jobs.training.ray_train import train_with_ray
from tagger import DataSetError, load_model, read_model_info
from tagger.model_file import read_weights
from tests.child_processes import children_with
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
from training.fitting.run_folder import read_metrics

# Each test starts Ray Train once or twice, which takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(900)

EPOCHS = 12
"""Enough epochs to stop a training twice before it ends."""

LOOP = LoopSettings(epochs=EPOCHS, batch_size=2, patience=0, seed=3)
FRAMES = 4
"""Frames of a random view: a quarter of the usual number, for a quarter of the arithmetic."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """UCF-11 with a clip that cannot be read."""
    root = ucf11_tree(tmp_path_factory.mktemp("data") / "UCF11_updated_mpg", groups=5)
    next(root.glob("across/v_across_01/*.mpg")).write_bytes(b"not a video")
    return root


def train_at(address: str, tree: Path, folder: Path, watch: Watch | None = None) -> TrainResult:
    data = read_data_set(tree)
    config = TrainConfig(
        "cnn3d-lstm", folder / "m.safetensors", train_frames=FRAMES, loop=LOOP, run_folder=folder / "m.run"
    )
    split = split_by_group(data, seed=LOOP.seed)
    return train_with_ray(data, split, config, workers=2, address=address, watch=watch)


@dataclass(frozen=True)
class CompleteTraining:
    """An undisturbed training, its events, and the environment of one of its workers."""

    result: TrainResult
    read: list[Reading]
    epochs: list[Epoch]
    worker_environment: bytes


@pytest.fixture(scope="module")
def whole(address: str, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> CompleteTraining:
    read: list[Reading] = []
    epochs: list[Epoch] = []
    environments: list[bytes] = []

    def on_epoch(epoch: Epoch) -> None:
        epochs.append(epoch)
        if epoch.number == 1:
            environments.append(Path(f"/proc/{_worker_pid()}/environ").read_bytes())

    result = train_at(address, tree, tmp_path_factory.mktemp("whole"), Watch(read.append, on_epoch=on_epoch))
    return CompleteTraining(result, read, epochs, environments[0])


def assert_same(out: Path, whole: CompleteTraining) -> None:
    """The model file at ``out`` has the weights of the ``whole`` training, and its run folder the same epochs."""
    assert read_metrics(out.with_suffix(".run")) == whole.result.epochs
    expected = read_weights(whole.result.out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read_weights(out).items())


@pytest.mark.slow
def test_two_machines_train_one_model_and_it_tags(whole: CompleteTraining, tree: Path) -> None:
    out, run = whole.result.out, whole.result.out.with_suffix(".run")
    assert tuple(whole.epochs) == whole.result.epochs == read_metrics(run)
    unreadable = [reading.unreadable for reading in whole.read if reading.unreadable]
    assert unreadable and all("v_across_01_01.mpg" in problem for problem in unreadable)
    segments = load_model(str(out)).tag(next(tree.glob("*/*/*_04_01.mpg")))
    assert segments and {segment.label for segment in segments} <= {"across", "down"}
    assert not {"checkpoints", "cache", "ray"} & {path.name for path in run.iterdir()}


@pytest.mark.slow
def test_a_worker_keeps_the_memory_that_any_thread_frees_and_its_threads_sleep_while_they_wait(
    whole: CompleteTraining,
) -> None:
    """Ray Train trains in a thread that is not the main thread (tests/jobs/cluster/test_memory.py)."""
    expected = {f"{name}={value}".encode() for name, value in cpu_environment().items()}
    assert expected <= set(whole.worker_environment.split(b"\0"))


@pytest.mark.slow
def test_when_a_worker_is_lost_training_continues_from_the_last_checkpoint(
    address: str, tree: Path, whole: CompleteTraining, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill(epoch: Epoch) -> None:
        if epoch.number == 2 and not killed:
            killed.append(_worker_pid())
            os.kill(killed[0], signal.SIGKILL)

    resumed: list[Epoch] = []
    lost = train_at(address, tree, tmp_path, Watch(on_epoch=kill, on_resume=resumed.append))
    assert killed and resumed[0].number >= 2
    assert lost.epochs == whole.result.epochs
    assert_same(lost.out, whole)


def _worker_pid() -> int:
    """Returns the process id of one of the workers of Ray Train."""
    return next(process.pid for process in children_with("RayTrainWorker"))


@pytest.mark.slow
def test_missing_resources_are_an_error_before_the_training(address: str, tree: Path, tmp_path: Path) -> None:
    data = read_data_set(tree)
    config = TrainConfig("cnn3d-lstm", tmp_path / "m.safetensors", loop=LOOP, run_folder=tmp_path / "m.run")
    split = split_by_group(data, seed=1)
    with pytest.raises(JobError, match="--workers 3: there are 2 cores for them, and each needs one"):
        train_with_ray(data, split, config, workers=3, address=address)
    with pytest.raises(JobError, match="--gpus 1: there are 0 GPUs here"):
        train_with_ray(data, split, config, gpus=1, address=address)


def machines_of_boards(session: RaySession, send_event: SendEvent) -> tuple[set[str], str]:
    import ray

    # By default Ray would place half of the actors on the other node.
    boards = [open_board() for _ in range(4)]
    nodes = [board.__ray_call__.remote(lambda _: ray.get_runtime_context().get_node_id()) for board in boards]
    return set(ray.get(nodes)), ray.get_runtime_context().get_node_id()


@pytest.mark.slow
def test_the_board_is_on_the_machine_that_started_the_training(address: str) -> None:
    machines, here = run_on_ray("training", machines_of_boards, address=address)
    assert machines == {here}


@pytest.mark.slow
def test_an_error_of_the_clips_is_the_same_as_without_a_cluster(address: str, tmp_path: Path) -> None:
    tree = ucf101_tree(tmp_path / "clips", groups=3)
    for clip in tree.rglob("*.mp4"):
        clip.write_bytes(b"not a video")
    with pytest.raises(DataSetError, match=r"^none of the clips could be read$"):
        train_at(address, tree, tmp_path)


@pytest.mark.slow
def test_a_command_that_is_interrupted_and_then_killed_continues_to_the_same_model(
    address: str, tree: Path, whole: CompleteTraining, tmp_path: Path
) -> None:
    out = tmp_path / "m.safetensors"
    command = [sys.executable, "-c", "from jobs.cli import main; main()", "train", str(tree), "--out", str(out)]
    command += ["--model", "cnn3d-lstm", "--epochs", str(EPOCHS), "--patience", "0", "--batch-size", "2"]
    command += ["--train-frames", str(FRAMES), "--seed", str(LOOP.seed), "--workers", "2", "--address", address]
    code, output = end_after(1, signal.SIGINT, command, tmp_path)
    assert code == 130 and "The same command continues" in output, output
    done = len(read_metrics(tmp_path / "m.run"))
    code, output = end_after(min(done + 1, EPOCHS), signal.SIGKILL, command, tmp_path)
    assert code == -signal.SIGKILL, output
    assert not out.exists()
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Continuing after epoch" in ended.stdout
    report = tmp_path / "m.run" / "report"
    assert f"Report: {report / 'report.html'}" in ended.stdout and (report / "curves.png").is_file()
    # The curves have the epochs from before the interruptions, too.
    assert len(read_model_info(out).training["epochs"]) == EPOCHS
    assert_same(out, whole)


def end_after(epochs: int, how: signal.Signals, command: list[str], folder: Path) -> tuple[int, str]:
    """Sends a signal to ``command`` once its run folder has so many epochs. Returns its exit status and its output."""
    # In a process group of its own, as a shell does it.
    started = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    metrics = folder / "m.run" / "metrics.jsonl"
    deadline = time.monotonic() + 240
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= epochs):
        if started.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.02)
    started.send_signal(how)
    output, _ = started.communicate(timeout=60)
    return started.returncode, output
