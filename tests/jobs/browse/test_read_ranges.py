"""Ranges of videos in CSV and Parquet files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.archive.video import VideoRanges
from jobs.browse import marks
from jobs.browse.events import EVENTS_SCHEMA
from jobs.browse.marks import read_ranges
from tagger.errors import InputError
from tests.jobs.result.finished import make_finished, publish_to


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_the_csv_of_events_gives_ranges_by_video_merged(tmp_path: Path) -> None:
    rows = ("/v/b.mp4,5,6,x", "/v/a.mp4,0,2.5,x", "/v/b.mp4,0,1,y", "/v/b.mp4,1,2,x")
    text = "\n".join(("video,start_s,end_s,label", *rows))
    expected = {"/v/b.mp4": ((0.0, 2.0), (5.0, 6.0)), "/v/a.mp4": ((0.0, 2.5),)}
    assert read_ranges(write(tmp_path / "events.csv", text)) == expected
    # As spreadsheets write it.
    assert read_ranges(write(tmp_path / "e.csv", text.replace(",", ";").replace("2.5", "2,5"))) == expected


def test_a_result_is_a_file_of_ranges(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_finished("/v/a.mp4", "abc"), make_finished("/v/b.mp4", "a")])
    assert read_ranges(str(tmp_path / "t.parquet")) == {"/v/a.mp4": ((0.0, 6.0),), "/v/b.mp4": ((0.0, 2.0),)}


def test_the_parquet_and_the_csv_of_the_same_events_give_the_same_ranges(tmp_path: Path) -> None:
    columns = [["/v/a.mp4"] * 2, [2 * 64 / 30, 7.1], [3 * 64 / 30, 8.2], ["x", "y"], [1, 1], [1, 1], [1, 1]]
    pq.write_table(pa.table([pa.array(c) for c in columns], EVENTS_SCHEMA.names), tmp_path / "events.parquet")
    text = "video,start_s,end_s\n/v/a.mp4,4.266667,6.4\n/v/a.mp4,7.1,8.2\n"
    assert read_ranges(str(tmp_path / "events.parquet")) == read_ranges(write(tmp_path / "events.csv", text))


def test_files_of_vtag_export_have_the_times_of_players(tmp_path: Path) -> None:
    expected: VideoRanges = {"/v/a.mp4": ((0.6, 1.6),), "/v/b.mp4": ((2.0, 3.0),)}
    text = "video,start_s,end_s,stream_start_s\n/v/a.mp4,2,3,1.4\n/v/b.mp4,2,3,\n"
    assert read_ranges(write(tmp_path / "e.csv", text)) == expected
    table = {"video": ["/v/a.mp4", "/v/b.mp4"], "start_s": [2, 2], "end_s": [3, 3], "stream_start_s": [1.4, None]}
    pq.write_table(pa.table(table), tmp_path / "e.parquet")
    assert read_ranges(str(tmp_path / "e.parquet")) == expected


@pytest.mark.parametrize(
    "row", ["/v/a.mp4,2,1", "/v/a.mp4,1,1", "/v/a.mp4,-1,1", "/v/a.mp4,x,1", ",0,1", "/v/a.mp4,0,inf"]
)
def test_a_row_that_is_no_range_is_named(row: str, tmp_path: Path) -> None:
    path = write(tmp_path / "e.csv", f"video,start_s,end_s\n/v/a.mp4,0,1\n{row}\n")
    with pytest.raises(InputError, match=r"e\.csv, line 3 is no moment: give a video, start_s, and an end_s after it"):
        read_ranges(path)


@pytest.mark.parametrize("row", [("/v/a.mp4", 2.0, 1.0), (None, 0.0, 1.0), ("/v/a.mp4", None, 1.0)])
def test_a_row_of_parquet_that_is_no_range_is_named(row: tuple[str, float, float], tmp_path: Path) -> None:
    columns = zip(("/v/a.mp4", 0.0, 1.0), row, strict=True)
    pq.write_table(pa.table([pa.array(column) for column in columns], marks.COLUMNS), tmp_path / "e.parquet")
    with pytest.raises(InputError, match=r"e\.parquet, row 2 is no moment: give a video"):
        read_ranges(str(tmp_path / "e.parquet"))


def test_a_file_that_cannot_give_ranges_ends_in_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"video": ["a"], "start_s": [0.0]}), tmp_path / "lacks.parquet")
    pq.write_table(pa.table({"video": ["a"], "start_s": ["x"], "end_s": [1.0]}), tmp_path / "text.parquet")
    pq.write_table(pa.table({"video": [["a"]], "start_s": [0.0], "end_s": [1.0]}), tmp_path / "list.parquet")
    pq.write_table(pa.table({name: pa.array([], pa.string()) for name in marks.COLUMNS}), tmp_path / "empty.parquet")
    for file, words in {
        str(tmp_path / "lacks.parquet"): "lacks.parquet has no column 'end_s'; its columns are video, start_s",
        str(tmp_path / "text.parquet"): "text.parquet cannot be read: its name or its columns are of another kind",
        str(tmp_path / "list.parquet"): "list.parquet cannot be read: its name or its columns are of another kind",
        str(tmp_path / "empty.parquet"): "empty.parquet has no moments: it needs rows with video, start_s and end_s",
        str(tmp_path / "none.parquet"): "none.parquet cannot be read: no such file",
        write(tmp_path / "lacks.csv", "video,start_s\na,0\n"): "lacks.csv has no column 'end_s'",
        write(tmp_path / "empty.csv", "video,start_s,end_s\n"): "empty.csv has no moments",
        "s3://bucket/e.csv": "s3://bucket/e.csv: only Parquet files are read from an address",
        "": "the file of ranges is empty",
        str(
            tmp_path
        ): f"{tmp_path} is a folder; give a file, such as `vtag events {tmp_path} --csv` prints for a result",
    }.items():
        with pytest.raises(InputError) as error:
            read_ranges(file)
        assert words in str(error.value)
        assert "\n" not in str(error.value)


def test_more_ranges_of_a_video_than_a_message_holds_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(marks, "MAX_RANGES", 2)
    rows = "".join(f"/v/a.mp4,{i},{i + 0.5}\n" for i in range(3))
    with pytest.raises(InputError, match=r"has 3 ranges of /v/a\.mp4; at most 2 are taken"):
        read_ranges(write(tmp_path / "e.csv", f"video,start_s,end_s\n{rows}"))
