"""A tree with ``train``, ``val`` and ``test`` folders is read as a split of its classes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from jobs.cli import main
from tagger import DataSetError
from tests.click_runner import CliRunner
from tests.training.data.test_data_set import touch
from tests.training.trees import write_clip
from training import Split, read_data_set
from training.data.part_folders import part_named
from training.data.training_plan import plan_training, read_labelled


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments], terminal_width=120)


def write(root: Path, *names: str) -> Path:
    """Makes files, none of which is a copy of another."""
    touch(root, *names)
    for name in names:
        (root / name).write_text(str(root / name))
    return root


def clips(*folders: str, count: int = 4) -> list[str]:
    """The names of ``count`` clips of each of the classes run and walk, the same names in each of ``folders``."""
    return [f"{folder}/{label}/{n}.mp4" for folder in folders for label in ("run", "walk") for n in range(count)]


def split_of(root: Path) -> Split:
    split = plan_training(read_labelled(root)).split
    assert split is not None
    return split


def names(split: Split, root: Path) -> dict[str, set[str]]:
    """The part folder of the clips of each part."""
    return {
        part: {clip.path.relative_to(root).parts[0] for clip in getattr(split, part)}
        for part in ("train", "val", "test")
    }


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "VALID", "Testing"),
        ("training", "validation", "test"),
        ("training_set", "dev", "eval"),
        ("train data", "val-set", "testset"),
    ],
)
def test_folders_that_are_called_like_parts_are_the_split(tmp_path: Path, train: str, val: str, test: str) -> None:
    root = write(tmp_path, *clips(train, val, test))
    data = read_data_set(root)
    assert data.labels == ("run", "walk") and len(data.clips) == 24
    assert data.given_split == f"the folders {train}, {val}, {test}"
    assert names(split_of(root), root) == {"train": {train}, "val": {val}, "test": {test}}
    assert split_of(root).drawn == ()


@pytest.mark.parametrize("name", ["trains", "training camp", "retest", "devil", "value", "set", ""])
def test_a_name_that_only_begins_like_a_part_is_a_class(name: str) -> None:
    assert part_named(name) is None


def test_parts_inside_the_class_folders_are_the_split_too(tmp_path: Path) -> None:
    root = write(
        tmp_path, *(f"{label}/{part}/{n}.mp4" for label in "ab" for part in ("test", "train") for n in range(3))
    )
    data = read_data_set(root)
    assert data.labels == ("a", "b") and data.part_folders == ("train", "test")
    split = split_of(root)
    assert {clip.path.parent.name for clip in split.test} == {"test"} and len(split.test) == 6
    assert {clip.path.parent.name for clip in (*split.train, *split.val)} == {"train"}


@pytest.mark.parametrize(
    "files",
    [
        ("test/a.mp4", "run/a.mp4", "walk/a.mp4"),
        ("test/garden/a.mp4", "run/garden/a.mp4", "train/a.mp4"),
        ("train/oslo/a.mp4", "train/rome/a.mp4", "plane/oslo/a.mp4"),
        ("test/v_test_01/v_test_01_01.mpg", "run/v_run_01/v_run_01_01.mpg"),
        ("run/test/a.mp4", "run/garden/a.mp4", "walk/train/a.mp4"),
        ("run/test/a.mp4", "walk/test/a.mp4"),
    ],
)
def test_a_class_or_a_group_may_be_called_like_a_part(tmp_path: Path, files: tuple[str, ...]) -> None:
    data = read_data_set(touch(tmp_path, *files))
    assert data.labels == tuple(sorted({file.split("/")[0] for file in files})) and data.given_split is None


def test_a_folder_beside_the_parts_of_a_split_is_asked_about(tmp_path: Path) -> None:
    write(tmp_path, *clips("train", "test"), "extra/a.mp4")
    with pytest.raises(DataSetError, match=r"has the folders test, train of a split, and beside them extra; move what"):
        read_data_set(tmp_path)
    shutil.rmtree(tmp_path / "extra")
    write(tmp_path, "__MACOSX/train/run/._0.mp4", "labels/classes.txt", "stray.mp4")
    assert read_data_set(tmp_path).part_folders == ("train", "test")


def test_without_val_it_is_drawn_from_train_by_groups_and_nothing_in_test_is_trained_on(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "test", count=6))
    split = split_of(root)
    assert names(split, root) == {"train": {"train"}, "val": {"train"}, "test": {"test"}}
    assert split.drawn == ("val",) and len(split.test) == 12
    assert len(split.val) == 2 and {clip.label for clip in split.val} == {"run", "walk"}


def test_without_test_it_is_drawn_from_train_so_that_scores_are_of_clips_that_chose_no_epoch(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "val", count=6))
    split = split_of(root)
    assert names(split, root) == {"train": {"train"}, "val": {"val"}, "test": {"train"}}
    assert split.drawn == ("test",) and len(split.train) == 10 and len(split.test) == 2


def test_train_alone_gives_all_three_parts(tmp_path: Path) -> None:
    split = split_of(write(tmp_path, *clips("train", count=10)))
    assert [len(part) for part in (split.train, split.val, split.test)] == [12, 4, 4] and split.drawn == ("test", "val")


def test_a_class_with_two_groups_keeps_them_for_training_when_two_parts_are_drawn(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", count=5), "train/rare/0.mp4", "train/rare/1.mp4")
    split = split_of(root)
    assert split.groups("train")["rare"] and "rare" not in split.groups("test")


def test_clips_of_one_name_in_two_parts_are_different_clips(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "val", "test"))
    split = split_of(root)
    assert split.groups("val")["run"] == [f"val/{n}.mp4" for n in range(4)]
    assert split.groups("test")["run"] == [f"test/{n}.mp4" for n in range(4)]


def test_a_copy_of_a_clip_in_val_or_test_is_left_out_of_training(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "val", "test"))
    shutil.copy(root / "test/run/0.mp4", root / "train/run/other.mp4")
    shutil.copy(root / "val/walk/0.mp4", root / "train/walk/other.mp4")
    shutil.copy(root / "test/walk/0.mp4", root / "val/walk/other.mp4")
    split = split_of(root)
    assert {clip.path.relative_to(root).as_posix() for clip in split.dropped_copies} == {
        "train/run/other.mp4",
        "train/walk/other.mp4",
        "val/walk/other.mp4",
    }
    assert not set(split.dropped_copies) & {*split.train, *split.val, *split.test}
    result = vtag("train", root, "--dry-run")
    assert "3 clips left out: the same file is also in validation or test." in result.output
    assert "these groups stay together" not in result.output


@pytest.mark.parametrize("name", ["v_run_g07_c0{}.mp4", "garden/{}.mp4", "v_run_07/v_run_07_0{}.mpg"])
def test_a_group_in_two_parts_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    root = write(tmp_path, *clips("train", "val"), f"train/run/{name.format(1)}", f"val/run/{name.format(2)}")
    result = vtag("train", root, "--out", tmp_path / "m.safetensors")
    (line,) = result.output.splitlines()
    assert result.exit_code == 1
    group = "garden" if "garden" in name else "07"
    assert f"the split divides group {group} of run between train and val; keep each group in one part" in line


def test_a_class_without_clips_for_training_is_named_with_what_to_do(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "test"), "test/swim/0.mp4")
    result = vtag("train", root, "--out", tmp_path / "m.safetensors")
    (line,) = result.output.splitlines()
    assert line.endswith(
        "class 'swim' has clips for test, but none for train; add some, or leave the class out with --leave-out"
    )
    split = plan_training(read_labelled(root, without=["swim"])).split
    assert split is not None and len(split.test) == 8


def test_a_class_without_clips_for_validation_or_test_is_named(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "val", "test"), "train/swim/0.mp4", "train/jump/0.mp4", "val/jump/0.mp4")
    assert len(split_of(root).train) == 10
    output = vtag("train", root, "--dry-run").output
    assert "No clips for val of swim." in output and "No clips for test of jump, swim." in output


def test_videos_in_no_class_folder_are_left_out_and_counted(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train"), "test/1.mp4", "test/2.mp4")
    data = read_labelled(root, without=[])
    assert len(data.clips) == 8 and [path.name for path in data.unlabelled] == ["1.mp4", "2.mp4"]
    result = vtag("train", root, "--dry-run")
    assert "2 videos left out: in no class folder, such as test/1.mp4." in result.output
    assert "No clips for test and val are given: groups for training were drawn instead." in result.output
    assert "never trained on" not in result.output


def test_parts_without_class_folders_are_refused(tmp_path: Path) -> None:
    root = write(tmp_path / "kaggle", "train/1.mp4", "test/2.mp4")
    with pytest.raises(
        DataSetError, match=r"have no class folders; expected kaggle/train/CLASS/CLIP.mp4, or a manifest"
    ):
        read_data_set(root)


def test_a_dry_run_says_what_is_trained_on(tmp_path: Path) -> None:
    root = write(tmp_path, *clips("train", "Valid", "test"))
    result = vtag("train", root, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "24 clips of 2 classes, in 24 groups." in result.output
    assert "Split as in the folders train, Valid, test: 8 training, 8 validation, 8 test clips." in result.output
    assert "Clips in test are never trained on." in result.output


@pytest.mark.parametrize("option", ["--val-groups", "--test-groups"])
@pytest.mark.parametrize("make", [lambda root: root, lambda root: manifest_of(root)], ids=["tree", "manifest"])
def test_groups_are_not_drawn_beside_a_split_that_is_given(
    tmp_path: Path, make: Callable[[Path], Path], option: str
) -> None:
    data = make(write(tmp_path, *clips("train", "val", "test")))
    result = vtag("train", data, "--out", tmp_path / "m.safetensors", option, "train/1.mp4")
    (line,) = result.output.splitlines()
    assert result.exit_code == 1 and "is split already, as in" in line and "--split holdout" in line


@pytest.mark.parametrize("make", [lambda root: root, lambda root: manifest_of(root)], ids=["tree", "manifest"])
def test_another_split_is_drawn_only_when_it_is_asked_for_and_says_so(
    tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    data = make(write(tmp_path, *clips("train", "val", "test")))
    result = vtag("train", data, "--dry-run", "--split", "holdout")
    assert f"Not used: the split of {read_data_set(data).given_split}. All clips are split anew." in result.output
    assert "Split by group: " in result.output and "never trained on" not in result.output
    assert "Not used" not in vtag("train", data, "--dry-run").output


def manifest_of(root: Path) -> Path:
    rows = [f"{clip.path.relative_to(root)},{clip.label},{clip.part}" for clip in read_data_set(root).clips]
    path = root / "clips.csv"
    path.write_text("\n".join(["path,label,split", *rows]))
    return path


def test_background_videos_do_not_stand_for_the_parts_that_are_missing(tmp_path: Path) -> None:
    root = write(tmp_path / "tree", *clips("train", "test"))
    for number in range(5):
        write_clip(tmp_path / "footage" / f"{number}.mp4", "Down", number, frames=6)
    split = plan_training(read_labelled(root, background=tmp_path / "footage")).split
    assert split is not None and split.drawn == ("val",)
    assert all(split.groups(part).keys() == {"background", "run", "walk"} for part in ("train", "val", "test"))
