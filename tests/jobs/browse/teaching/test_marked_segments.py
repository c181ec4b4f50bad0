"""Which segments a mark speaks about, and which unmarked segments are a sample of the rest."""

from pathlib import Path

import numpy as np
import pytest

from jobs.browse import segments
from jobs.browse.marks import Mark, read_marks
from jobs.browse.segments import FinishedResult, open_result
from jobs.browse.teaching import marked_segments
from jobs.browse.teaching.marked_segments import MarkedResult, find_marked, with_known_labels
from tagger.errors import InputError
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import publish_to


@pytest.fixture
def finished(tmp_path: Path) -> FinishedResult:
    """Two videos of five segments of 2 s, and one whose windows overlap."""
    videos = [make_video(f"/v/{name}.mp4", [{"Biking": 1.0}] * 5) for name in "ab"]
    videos.append(make_video("/v/c.mp4", [{"Biking": 1.0}] * 5, hop_s=1.0))
    publish_to(tmp_path / "tags.parquet", videos)
    return open_result(str(tmp_path / "tags.parquet"))


def mark(start_s: float, end_s: float, label: str = "Swing", video: str = "/v/b.mp4", line: int = 2) -> Mark:
    is_denial = label.startswith("not ")
    return Mark(f"m.csv, line {line}", video, start_s, end_s, label.removeprefix("not "), is_denial)


def rows(found: MarkedResult) -> list[tuple[int, str | None, set[str]]]:
    return [(each.row, each.shown, set(each.denied)) for each in found.segments]


@pytest.mark.parametrize(
    ("start_s", "end_s", "video", "expected"),
    [
        (2, 6, "/v/b.mp4", [6, 7]),
        # More than half of the first, and less than half of the last.
        (0.9, 6.9, "/v/b.mp4", [5, 6, 7]),
        (2, 7.1, "/v/b.mp4", [6, 7, 8]),
        # Half is not more than half.
        (1, 5, "/v/b.mp4", [6]),
        # A short mark speaks about the segment that it is in, and one of two halves about the first.
        (4.2, 4.4, "/v/b.mp4", [7]),
        (3.5, 4.4, "/v/b.mp4", [6]),
        (3, 5, "/v/b.mp4", [6]),
        (9.5, 60, "/v/b.mp4", [9]),
        (0, 100, "/v/b.mp4", [5, 6, 7, 8, 9]),
        (1, 4, "/v/c.mp4", [11, 12]),
    ],
)
def test_a_mark_speaks_about_the_segments_that_lie_in_it(
    finished: FinishedResult, start_s: float, end_s: float, video: str, expected: list[int]
) -> None:
    found = find_marked(finished, [mark(start_s, end_s, video=video)])
    assert rows(found) == [(row, "Swing", set()) for row in expected]
    assert {each.video for each in found.segments} == {1 if video == "/v/b.mp4" else 2}


def test_small_portions_of_the_result_give_the_same(finished: FinishedResult, monkeypatch: pytest.MonkeyPatch) -> None:
    marks = [mark(2, 6), mark(1, 4, "not Biking", "/v/c.mp4")]
    whole = find_marked(finished, marks)
    monkeypatch.setattr(segments, "BATCH_ROWS", 2)
    found = find_marked(finished, marks)
    assert (
        rows(found)
        == rows(whole)
        == [(row, "Swing", set()) for row in (6, 7)] + [(row, None, {"Biking"}) for row in (11, 12)]
    )
    np.testing.assert_array_equal(found.sample, whole.sample)
    np.testing.assert_array_equal(found.sample_video, whole.sample_video)


def test_the_sample_has_the_segments_that_no_mark_touches(finished: FinishedResult) -> None:
    found = find_marked(finished, [mark(1.5, 6.5), mark(2, 4, "not Diving", "/v/a.mp4")])
    assert found.sample.tolist() == [0, 2, 3, 4, 9, *range(10, 15)]
    assert found.sample_video.tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 2, 2]


def test_a_large_result_gives_a_random_sample_that_is_always_the_same(
    finished: FinishedResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marked_segments, "SAMPLE", 6)
    first = find_marked(finished, [mark(2, 4)])
    assert len(first.sample) == 6 and 6 not in first.sample
    np.testing.assert_array_equal(find_marked(finished, [mark(2, 4)]).sample, first.sample)


def test_the_sample_of_a_large_result_is_from_a_few_blocks(
    finished: FinishedResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marked_segments, "BLOCK_ROWS", 4)
    monkeypatch.setattr(marked_segments, "SAMPLE_BLOCKS", 2)
    found = find_marked(finished, [mark(2, 4)])
    assert 3 <= len(found.sample) <= 8 and len({row // 4 for row in found.sample.tolist()}) == 2
    assert found.sample.max() < 15 and 6 not in found.sample
    np.testing.assert_array_equal(found.sample_video, found.sample // 5)


def test_several_marks_of_a_segment_add_up(finished: FinishedResult) -> None:
    found = find_marked(finished, [mark(2, 4), mark(2, 4), mark(2, 4, "not Biking"), mark(2, 4, "not Diving")])
    assert rows(found) == [(6, "Swing", {"Biking", "Diving"})]


@pytest.mark.parametrize(("first", "second"), [("Swing", "Diving"), ("Swing", "not Swing"), ("not Swing", "Swing")])
def test_marks_that_contradict_each_other_are_refused(finished: FinishedResult, first: str, second: str) -> None:
    with pytest.raises(InputError) as caught:
        find_marked(finished, [mark(2, 4, first), mark(2.5, 4.5, second, line=3)])
    assert str(caught.value) == (
        f"m.csv, line 3: the segment from 2 s to 4 s of /v/b.mp4 is marked {second} here and {first} in m.csv, line 2; "
        "a segment has one label"
    )


def test_marks_that_meet_in_the_middle_of_a_segment_do_not_contradict_each_other(finished: FinishedResult) -> None:
    found = find_marked(finished, [mark(0, 3, "Swing"), mark(3, 6, "Diving")])
    assert rows(found) == [(5, "Swing", set()), (7, "Diving", set())]


def test_a_mark_of_no_segment_is_refused_with_its_line(finished: FinishedResult) -> None:
    with pytest.raises(InputError) as caught:
        find_marked(finished, [mark(2, 4), mark(10, 12, line=3)])
    assert str(caught.value) == (
        "m.csv, line 3: /v/b.mp4 has no segment from 10 s to 12 s; its segments are from 0 s to 10 s"
    )
    with pytest.raises(InputError) as caught:
        find_marked(finished, [mark(2, 4), mark(2, 4, video="/v/d.mp4", line=4)])
    assert str(caught.value) == (
        f"m.csv, line 4: {finished.path} has no segments of a video '/v/d.mp4'; give its path or address as in the "
        "result"
    )


def test_a_relative_path_names_a_video_of_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    publish_to("tags.parquet", [make_video(f"{tmp_path}/a.mp4", [{"Biking": 1.0}] * 2)])
    assert rows(find_marked(open_result("tags.parquet"), [mark(0, 2, video="a.mp4")])) == [(0, "Swing", set())]


def test_labels_are_spelled_as_the_model_spells_them() -> None:
    marks = [mark(0, 1, label) for label in ("high jump", "Swing set", "swing-set", "not HIGHJUMP", "not swingset")]
    found = with_known_labels(marks, ["HighJump", "Biking"])
    assert [each.label for each in found] == ["HighJump", "Swing set", "Swing set", "HighJump", "Swing set"]
    assert [each.is_denial for each in found] == [False] * 3 + [True] * 2


def test_labels_of_the_model_that_differ_in_case_only_stay_two() -> None:
    marks = [mark(0, 1, label) for label in ("biking", "Biking", "BIKING")]
    assert [each.label for each in with_known_labels(marks, ["Biking", "biking"])] == ["biking", "Biking", "Biking"]


def test_the_denial_of_an_unknown_label_is_refused() -> None:
    with pytest.raises(InputError, match=r"^m\.csv, line 2: the taught model has no label 'Bikin'"):
        with_known_labels([mark(0, 1, "not Bikin")], ["Diving", "HighJump"])
    with pytest.raises(InputError, match="did you mean Swing"):
        with_known_labels([mark(0, 1), mark(0, 1, "not Swign")], ["Diving"])


def test_marks_are_read_with_their_lines_and_rows_without_a_label_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "m.csv"
    file.write_text(
        "video,start_s,end_s,label,guess\na.mp4,0,2,Swing,\na.mp4,2,4,,Biking\na.mp4,4,6, Not  Biking ,\n"
        "a.mp4,6,8,not knots,\n"
    )
    found = read_marks(file, ["not knots"])
    assert [(each.where.rpartition(", ")[2], each.label, each.is_denial) for each in found] == [
        ("line 2", "Swing", False),
        ("line 4", "Biking", True),
        ("line 5", "not knots", False),
    ]


@pytest.mark.parametrize("row", [",0,2,Swing", "a.mp4,2,2,Swing", "a.mp4,x,2,Swing", "a.mp4,0,nan,Swing", "a.mp4"])
def test_a_row_that_is_no_moment_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    file = tmp_path / "m.csv"
    file.write_text(f"video,start_s,end_s,label\na.mp4,0,2,Swing\n{row}\n")
    with pytest.raises(InputError, match=r"m\.csv, line 3 is no moment: give a video"):
        read_marks(file)
