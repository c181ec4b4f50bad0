"""The official lists of UCF-101 define the clips for training and for the test."""

from pathlib import Path

import pytest

from tagger import DataSetError
from tests.training.data.test_data_set import touch
from training import read_data_set, read_split_lists, split_as_given
from training.data.data_set import DataSet, LabelledClip, Part

CLASSES = {"Biking": "Biking", "HandstandPushups": "HandStandPushups"}
"""The class folders, and the class in the names of their clips: one is written in two ways."""


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Groups 1 to 8 of each class, and lists: 1, 2 and the missing 9 are for the test, and 8 is in neither list."""
    lists = tmp_path / "ucfTrainTestlist"
    lists.mkdir()
    (lists / "classInd.txt").write_text("1 Biking\n2 HandstandPushups\n")
    train, test = [], []
    for number, (folder, name) in enumerate(CLASSES.items(), start=1):
        touch(tmp_path / "UCF-101", *(f"{folder}/v_{name}_g{group:02}_c01.avi" for group in range(1, 9)))
        test += [f"{folder}/v_{name}_g{group:02}_c01.avi" for group in (1, 2, 9)]
        train += [f"{folder}/v_{folder}_g{group:02}_c01.avi {number}" for group in range(3, 8)]
    # As distributed: one list has Windows line endings.
    (lists / "trainlist01.txt").write_bytes("\r\n".join(train).encode())
    (lists / "testlist01.txt").write_text("\n".join(test) + "\n")
    return read_data_set(tmp_path / "UCF-101")


@pytest.fixture
def lists(data: DataSet) -> Path:
    return data.root.parent / "ucfTrainTestlist"


@pytest.mark.parametrize("name", ["testlist01.txt", "trainlist01.txt"])
def test_the_test_list_is_the_test_and_validation_groups_come_from_the_training_list(
    data: DataSet, lists: Path, name: str
) -> None:
    listed = read_split_lists(lists / name, data)
    assert listed.absent == 2
    split = split_as_given(data, listed.parts, seed=3)
    assert split.groups("test") == {label: ["01", "02"] for label in CLASSES}
    training = {label: sorted(split.groups("train")[label] + split.groups("val")[label]) for label in CLASSES}
    assert training == {label: ["03", "04", "05", "06", "07"] for label in CLASSES}
    assert all(len(groups) == 1 for groups in split.groups("val").values())
    assert {clip.group for clip in split.unlisted} == {"08"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le"])
def test_lists_that_were_saved_on_windows_are_the_same(data: DataSet, lists: Path, encoding: str) -> None:
    listed = read_split_lists(lists / "testlist01.txt", data)
    for name in ("trainlist01.txt", "testlist01.txt"):
        text = (lists / name).read_text().replace("/", "\\").replace("\n", "\r\n")
        (lists / name).write_bytes(text.encode(encoding))
    assert read_split_lists(lists / "testlist01.txt", data) == listed


def test_a_class_with_one_group_for_training_keeps_it(data: DataSet) -> None:
    last = {"Biking": 3, "HandstandPushups": 1}
    parts: dict[LabelledClip, Part] = {
        clip: "train" if int(clip.group) <= last[clip.label] else "test" for clip in data.clips
    }
    split = split_as_given(data, parts)
    assert split.groups("train")["HandstandPushups"] == ["01"]
    assert list(split.groups("val")) == ["Biking"]


def test_invalid_lists_are_refused(data: DataSet, lists: Path) -> None:
    def refuses(name: str, message: str) -> None:
        with pytest.raises(DataSetError, match=message):
            split_as_given(data, read_split_lists(lists / name, data).parts)

    refuses("classInd.txt", "is no official list; give a file like testlist01.txt")
    refuses("testlist02.txt", "trainlist02.txt is missing")
    (lists / "trainlist04.txt").write_bytes(b"caf\xe9")
    refuses("testlist04.txt", "trainlist04.txt is no list of clips, but neither UTF-8 nor UTF-16")
    (lists / "trainlist03.txt").write_text("Biking/v_Biking_g01_c01.avi 1\n")
    (lists / "testlist03.txt").write_text("v_Biking_g01_c01.avi\n")
    refuses("testlist03.txt", "testlist03.txt, line 1 is 'v_Biking_g01_c01.avi'; expected CLASS/CLIP.avi")
    (lists / "testlist03.txt").write_text("Biking/v_Biking_g01_c01.avi\n")
    refuses("testlist03.txt", "biking/v_biking_g01_c01 is in both lists")
    (lists / "testlist03.txt").write_text("Diving/v_Diving_g01_c01.avi\n")
    (lists / "trainlist03.txt").write_text("")
    refuses("testlist03.txt", "none of the clips of .* is in .*UCF-101; it lists diving/v_diving_g01_c01")
    touch(data.root, "Biking/v_Biking_g01_c02.avi")
    data = read_data_set(data.root)
    (lists / "trainlist03.txt").write_text("Biking/v_Biking_g01_c01.avi 1\n")
    (lists / "testlist03.txt").write_text("Biking/v_Biking_g01_c02.avi\n")
    refuses("testlist03.txt", "divides group 01 of Biking between train and test")
