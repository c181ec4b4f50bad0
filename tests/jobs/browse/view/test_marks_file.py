"""The file in which a served page keeps its marks."""

from pathlib import Path

import pytest

from jobs.browse.view.marks_file import EMPTY, MarksFile, OtherVersionError
from tagger.errors import InputError, OutputError

ONE = "video,start_s,end_s,label\n/v/a.mp4,0,2,Biking\n"


def test_a_save_replaces_the_version_that_it_names(tmp_path: Path) -> None:
    file = MarksFile(tmp_path / "marks.csv")
    text, version = file.read()
    assert text == EMPTY
    saved = file.save(ONE, version)
    assert file.read() == (ONE, saved)
    assert (tmp_path / "marks.csv").read_text() == ONE


def test_a_save_that_another_page_has_overtaken_changes_nothing(tmp_path: Path) -> None:
    file = MarksFile(tmp_path / "marks.csv")
    _, version = file.read()
    file.save(ONE, version)
    for other in (version, None):
        with pytest.raises(OtherVersionError):
            file.save(EMPTY, other)
    assert file.read()[0] == ONE


@pytest.mark.parametrize("text", ["video,start_s\n", "video,start_s,end_s,label\n/v/a.mp4,5,2,Biking\n"])
def test_what_is_no_list_of_marks_is_not_saved(tmp_path: Path, text: str) -> None:
    file = MarksFile(tmp_path / "marks.csv")
    with pytest.raises(InputError, match=r"/marks\.csv"):
        file.save(text, file.read()[1])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("video,start_s,end_s,label,guess\n/v/a.mp4,0,2,Biking,Swing\n", "has other columns than"),
        ("video,start_s,end_s,label\n/v/a.mp4,0,2,\n", "has 1 rows without a label"),
        (f"{ONE}/v/a.mp4,1,3,Swing\n", "marks.csv, line 3 overlaps a mark with another label"),
        (f"{ONE}/v/a.mp4,0,2,not Swing\n", "marks.csv, line 3 overlaps a mark with another label"),
        (f"{ONE}/v/a.mp4,0.5,1,Biking\n/v/a.mp4,1.5,3,Swing\n", "line 4 overlaps a mark with another label"),
    ],
)
def test_a_file_that_a_save_would_shorten_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "marks.csv").write_text(text)
    with pytest.raises(OutputError, match=words):
        MarksFile(tmp_path / "marks.csv")
    assert (tmp_path / "marks.csv").read_text() == text


def test_marks_of_one_label_of_other_videos_and_one_after_the_other_are_taken(tmp_path: Path) -> None:
    text = f"{ONE}/v/a.mp4,1,3,Biking\n/v/b.mp4,0,2,Swing\n/v/a.mp4,2.9995,5,Swing\n"
    (tmp_path / "marks.csv").write_text(text)
    assert MarksFile(tmp_path / "marks.csv").read()[0] == text


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"the folder .*/missing does not exist"):
        MarksFile(tmp_path / "missing" / "marks.csv")
