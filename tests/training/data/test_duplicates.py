"""Copies of files are found, and are never in two parts of a split."""

from pathlib import Path

import pytest

from tests.training.data.test_data_set import touch
from training import find_identical, read_data_set, split_as_given, split_by_group
from training.data.data_set import DataSet, LabelledClip
from training.data.scenes import find_folds, find_scenes


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of six groups, in which no two clips have the same content."""
    for label in ("cat", "dog"):
        for group in range(1, 7):
            touch(tmp_path, name := f"{label}/v_{label}_g{group:02}_c01.mp4")
            (tmp_path / name).write_text(name)
    return tmp_path


def copy(root: Path, source: str, target: str) -> None:
    (root / target).write_bytes((root / source).read_bytes())


def identical(root: Path) -> list[list[str]]:
    return [[path.name for path in paths] for paths in find_identical(read_data_set(root)).identical]


def test_copies_in_another_group_or_class_are_found(root: Path) -> None:
    assert identical(root) == []
    copy(root, "cat/v_cat_g01_c01.mp4", "cat/v_cat_g05_c01.mp4")
    copy(root, "cat/v_cat_g01_c01.mp4", "dog/v_dog_g02_c01.mp4")
    assert identical(root) == [["v_cat_g01_c01.mp4", "v_cat_g05_c01.mp4", "v_dog_g02_c01.mp4"]]


def test_copies_within_a_group_empty_files_and_unreadable_files_are_ignored(root: Path) -> None:
    copy(root, "cat/v_cat_g01_c01.mp4", "cat/v_cat_g01_c02.mp4")
    (root / "cat/v_cat_g02_c01.mp4").write_bytes(b"")
    (root / "dog/v_dog_g03_c01.mp4").write_bytes(b"")
    assert identical(root) == []
    data = read_data_set(root)
    (root / "dog/v_dog_g04_c01.mp4").unlink()
    assert find_identical(data).identical == ()


def test_only_files_of_the_same_size_are_read(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number, path in enumerate(sorted(root.rglob("*.mp4"))):
        path.write_bytes(b"x" * (1 + number // 2))
    (root / "cat/v_cat_g01_c01.mp4").write_bytes(b"x" * 1000)
    read: list[str] = []
    monkeypatch.setattr("training.data.duplicates.file_hash", lambda path: read.append(path.name) or path.name)
    assert find_identical(read_data_set(root)).identical == ()
    assert "v_cat_g01_c01.mp4" not in read and "v_cat_g02_c01.mp4" not in read and len(read) == 10


def test_groups_that_share_a_file_are_in_one_part_with_every_seed(root: Path) -> None:
    copy(root, "cat/v_cat_g01_c01.mp4", "cat/v_cat_g05_c01.mp4")
    copy(root, "cat/v_cat_g01_c01.mp4", "dog/v_dog_g02_c01.mp4")
    data = find_identical(read_data_set(root))
    for seed in range(30):
        split = split_by_group(data, seed=seed)
        parts = [{clip.key for clip in part} for part in (split.train, split.val, split.test)]
        together = {("cat", "01"), ("cat", "05"), ("dog", "02")}
        assert sum(together <= part for part in parts) == 1 and sum(bool(together & part) for part in parts) == 1
        assert split.dropped_copies == ()
    assert ("01", "02", "05") in find_folds(data) and len(find_folds(data)) == 4


def test_when_the_split_is_given_a_copy_of_a_judged_clip_is_left_out_of_training(root: Path) -> None:
    copy(root, "cat/v_cat_g01_c01.mp4", "cat/v_cat_g05_c01.mp4")
    data = find_identical(read_data_set(root))
    split = split_by_group(data, val_groups=["04"], test_groups=["05"])
    assert [clip.path.name for clip in split.dropped_copies] == ["v_cat_g01_c01.mp4"]
    assert split.dropped_copies[0] not in split.train and len(split.train) == 7 and len(split.test) == 2
    parts = {clip: "test" if clip.group == "05" else "train" for clip in data.clips}
    given = split_as_given(data, parts)
    assert split.dropped_copies[0] in given.dropped_copies
    assert {clip.group for clip in given.test} == {"05"}


def test_clips_of_one_file_and_groups_that_a_manifest_names_alike_belong_together() -> None:
    def clip(path: str, label: str, group: str, by: str) -> LabelledClip:
        return LabelledClip(Path(path), label, group, by)  # type: ignore[arg-type]

    data = DataSet(
        Path("m.csv"),
        (
            clip("a.mp4", "run", "a.mp4", "file"),
            clip("a.mp4", "walk", "a.mp4", "file"),
            clip("b.mp4", "run", "garden", "manifest"),
            clip("c.mp4", "walk", "garden", "manifest"),
            clip("d.mp4", "walk", "street", "manifest"),
        ),
    )
    assert set(find_scenes(data).values()) == {
        (("run", "a.mp4"), ("walk", "a.mp4")),
        (("run", "garden"), ("walk", "garden")),
        (("walk", "street"),),
    }
    # UCF-101 numbers the groups of each class: group 1 of one class is not group 1 of another.
    tree = DataSet(Path("t"), (clip("x.mp4", "run", "01", "name"), clip("y.mp4", "walk", "01", "name")))
    assert len(set(find_scenes(tree).values())) == 2
