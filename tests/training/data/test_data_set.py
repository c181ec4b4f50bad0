"""Labelled data sets are read from trees of folders."""

from pathlib import Path

import pytest

from tagger import DataSetError
from training import leave_one_group_out, read_data_set


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def found(root: Path) -> list[tuple[str, str, str]]:
    return [(clip.path.relative_to(root).as_posix(), clip.label, clip.group) for clip in read_data_set(root).clips]


def test_ucf11_takes_the_label_from_the_class_folder_and_the_group_from_the_folder_inside_it(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "basketball/v_shooting_01/v_shooting_01_02.mpg",
        "basketball/v_shooting_25/v_shooting_25_01.mpg",
        "basketball/Annotation/v_shooting_01_01.mpg",
        "walking/v_walk_dog_03/v_walk_dog_03_01.mpg",
    )
    assert found(tmp_path) == [
        ("basketball/v_shooting_01/v_shooting_01_02.mpg", "basketball", "01"),
        ("basketball/v_shooting_25/v_shooting_25_01.mpg", "basketball", "25"),
        ("walking/v_walk_dog_03/v_walk_dog_03_01.mpg", "walking", "03"),
    ]
    assert read_data_set(tmp_path).grouped_by == {"folder": 3}


UCF11 = {
    "basketball": "shooting",
    "biking": "biking",
    "diving": "diving",
    "golf_swing": "golf",
    "horse_riding": "riding",
    "soccer_juggling": "juggle",
    "swing": "swing",
    "tennis_swing": "tennis",
    "trampoline_jumping": "jumping",
    "volleyball_spiking": "spiking",
    "walking": "walk_dog",
}
"""The class folders of UCF-11, and the class in the names of their clips."""


def test_all_of_ucf11_has_eleven_classes_of_25_groups_and_a_fold_for_each_group(tmp_path: Path) -> None:
    for label, name in UCF11.items():
        groups = range(1, 26)
        touch(tmp_path, *(f"{label}/v_{name}_{g:02}/v_{name}_{g:02}_{clip:02}.mpg" for g in groups for clip in (1, 2)))
        touch(tmp_path, *(f"{label}/Annotation/v_{name}_{g:02}_01.xgtf" for g in groups))
    data = read_data_set(tmp_path)
    assert data.labels == tuple(sorted(UCF11)) and len(data.clips) == 11 * 25 * 2
    folds = leave_one_group_out(data)
    assert [fold.name for fold in folds] == [f"{group:02}" for group in range(1, 26)]
    for fold in folds:
        assert fold.split.groups("test") == {label: [fold.name] for label in UCF11}
        assert set(fold.split.groups("val")) == set(fold.split.groups("train")) == set(UCF11)


def test_without_groups_none_can_be_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.mp4", "cat/b.mp4", "dog/a.mov", "dog/b.mov")
    with pytest.raises(DataSetError, match="has no groups to leave out"):
        leave_one_group_out(read_data_set(tmp_path))


def test_ucf101_takes_the_group_from_the_file_name(tmp_path: Path) -> None:
    touch(tmp_path, "Biking/v_Biking_g07_c02.avi", "HorseRiding/v_HorseRiding_g25_c11.avi")
    assert found(tmp_path) == [
        ("Biking/v_Biking_g07_c02.avi", "Biking", "07"),
        ("HorseRiding/v_HorseRiding_g25_c11.avi", "HorseRiding", "25"),
    ]
    assert read_data_set(tmp_path).grouped_by == {"name": 2}


def test_a_plain_tree_makes_each_file_its_own_group_and_says_so(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.mp4", "dog/a.mov", "dog/notes.txt", "dog/.hidden.mp4", "stray.mp4")
    assert found(tmp_path) == [("cat/a.mp4", "cat", "a.mp4"), ("dog/a.mov", "dog", "a.mov")]
    assert read_data_set(tmp_path).grouped_by == {"file": 2}


def test_folders_inside_the_class_folders_are_groups(tmp_path: Path) -> None:
    touch(tmp_path, "cat/home/a.mp4", "cat/home/b.mp4", "dog/park/a.mp4")
    assert [group for *_, group in found(tmp_path)] == ["home", "home", "park"]


def test_a_file_without_a_group_does_not_change_the_groups_of_the_others(tmp_path: Path) -> None:
    touch(tmp_path, "Biking/v_Biking_g07_c02.avi", "Biking/extra.avi", "Diving/v_Diving_g01_c01.avi")
    assert [group for *_, group in found(tmp_path)] == ["extra.avi", "07", "01"]
    assert read_data_set(tmp_path).grouped_by == {"file": 1, "name": 2}


def test_class_folders_may_be_symbolic_links_and_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/1.mp4", "data/cat/1.mp4")
    (tmp_path / "data/dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/cat/loop").symlink_to(tmp_path / "data")
    assert found(tmp_path / "data") == [("cat/1.mp4", "cat", "1.mp4"), ("dog/1.mp4", "dog", "1.mp4")]


def test_labels_are_sorted_whatever_the_order_on_disk(tmp_path: Path) -> None:
    touch(tmp_path, "b/1.mp4", "a/1.mp4", "c/1.mp4")
    assert read_data_set(tmp_path).labels == ("a", "b", "c")


@pytest.mark.parametrize(
    ("files", "message"),
    [((), "holds no video"), (("clip.mp4",), "holds no video"), (("cat/a.mp4", "cat/b.mp4"), "one class only")],
)
def test_a_tree_without_clips_of_two_classes_is_refused(tmp_path: Path, files: tuple[str, ...], message: str) -> None:
    touch(tmp_path, *files)
    with pytest.raises(DataSetError, match=message):
        read_data_set(tmp_path)
    with pytest.raises(DataSetError, match="is not a folder"):
        read_data_set(tmp_path / "nowhere")


def test_a_class_called_background_in_any_case_becomes_the_label_background(tmp_path: Path) -> None:
    touch(tmp_path, "tree/Background/a.mp4", "tree/dog/a.mp4", "tree/Backgrounds/a.mp4")
    assert read_data_set(tmp_path / "tree").labels == ("Backgrounds", "background", "dog")
    touch(tmp_path, "split/train/BACKGROUND/a.mp4", "split/train/dog/a.mp4", "split/test/BackGround/b.mp4")
    assert read_data_set(tmp_path / "split").labels == ("background", "dog")
    manifest = tmp_path / "clips.csv"
    manifest.write_text("path,label\na.mp4,Background\nb.mp4,background\nc.mp4,dog\n")
    assert read_data_set(manifest).labels == ("background", "dog")
