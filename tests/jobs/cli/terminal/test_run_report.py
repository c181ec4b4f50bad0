"""The summary of a job. The queries that it prints are executed."""

import io
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from jobs.archive.folders import FolderProblem
from jobs.archive.selection import Selection
from jobs.archive.video import Failure
from jobs.cli.terminal.run_report import (
    duckdb_query,
    failures_query,
    pandas_line,
    print_summary,
    shell_line,
    summary_json,
)
from jobs.cli.terminal.wording import amount, clock, count, percent, significant
from jobs.result.publish import LabelCount
from jobs.tagging.summary import Efficiency, Summary
from tests.jobs.cli.summaries import GOOD

SUMMARY = replace(
    GOOD,
    out="tags.parquet",
    videos_out="tags.videos.parquet",
    videos=1964,
    ok=1950,
    partial=4,
    failed=10,
    new=1964,
    video_s=6720,
    segments=3200,
    tagged_s=6720,
    windows_done=3200,
    elapsed_s=330,
    tagging_s=320,
    failures=tuple(
        Failure(f"/v/bad{i}.mp4", "failed", "empty", f"/v/bad{i}.mp4 is empty (0 bytes)") for i in range(14)
    ),
    top_labels=(LabelCount("Basketball", 1600, 3412.0), LabelCount("Walking [x]", 32, 68.2)),
)


def shown(summary: Summary, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_summary(summary, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_the_summary_shows_counts_speed_and_labels(width: int) -> None:
    text = shown(SUMMARY, width)
    for part in (
        "1,964: 1,950 read to the end, 4 in part, 10 failed",
        "1.87 h",
        "3,200",
        "10.0 windows/s · 21.0× real time · 5:30 in all",
        "actions38, windows of 16×4 @ 30 fps",
        "Basketball",
        "50 %",
        "56.9 min",
        "Walking [x]",
    ):
        assert part in text, part


def test_failures_are_grouped_by_kind_the_most_frequent_first() -> None:
    damaged = Failure("/v/cut.mp4", "partial", "damaged", "/v/cut.mp4 is cut off after 3.00 s")
    text = shown(replace(SUMMARY, failures=(damaged, *SUMMARY.failures)))
    lines = [line.split() for line in text.splitlines() if "empty" in line or "cut" in line]
    assert lines[0][:3] == ["empty", "14", "bad0.mp4"] and lines[3][:3] == ["damaged", "1", "cut.mp4"]


def test_a_few_failures_of_each_kind_are_named_and_a_query_lists_all() -> None:
    text = shown(SUMMARY)
    assert text.count("is empty (0 bytes)") == 3
    assert f"all of them: {shell_line(failures_query('tags.videos.parquet'))}" in text
    few = shown(replace(SUMMARY, partial=0, failed=1, failures=SUMMARY.failures[:1]))
    assert "all of them" not in few


def test_without_failures_there_is_no_table_of_failures() -> None:
    text = shown(replace(SUMMARY, ok=1964, partial=0, failed=0, failures=()))
    assert "1,964, all read to the end" in text
    assert "Failed or partial" not in text


def test_a_run_that_extends_a_result_reports_its_own_counts_and_speed() -> None:
    grown = replace(SUMMARY, new=5, changed=1, kept=1958, touched=3, gone=2, tagged_s=640)
    text = " ".join(shown(grown).split())
    assert "5 new, 1 changed, 1,955 kept, 3 kept with a new modification time but the same content" in text
    assert "2 videos no longer in the inputs, still in the result (--prune removes them)" in text
    assert "2.00× real time" in text
    pruned = " ".join(shown(replace(grown, pruned=1, unknown=1)).split())
    assert "2 videos no longer in the inputs: 1 removed from the result; 1 not certainly gone, still in the" in pruned


def test_files_with_other_extensions_are_counted_in_one_line() -> None:
    left_out = {".jpg": 1200, "": 4, ".txt": 3, ".a": 2, ".b": 2, ".c": 1}
    text = " ".join(shown(replace(SUMMARY, left_out=left_out)).split())
    assert "Left out 1,212 files that are not videos (.jpg 1,200, none 4, .txt 3, .a 2, .b 2, ...)" in text
    text = " ".join(shown(replace(SUMMARY, left_out={".jpg": 1})).split())
    assert "Left out 1 file that is not a video (.jpg 1)" in text


def test_folders_that_cannot_be_listed_are_counted_and_the_first_are_named() -> None:
    problems = tuple(FolderProblem(f"/videos/{number}", "permission denied") for number in range(7))
    text = " ".join(shown(replace(SUMMARY, unlisted=problems)).split())
    assert "7 folders cannot be listed /videos/0: permission denied" in text
    assert "/videos/4: permission denied and 2 more" in text


def test_lines_to_copy_are_never_wrapped() -> None:
    out = "/a/rather/long/path/" + "x" * 100 + "/tags.parquet"
    lines = shown(replace(SUMMARY, out=out)).splitlines()
    assert f"DuckDB    {shell_line(duckdb_query(out))}" in lines
    assert f"pandas    {pandas_line(out)}" in lines
    assert "Embeddings" not in shown(SUMMARY)
    embedded = shown(replace(SUMMARY, embeddings_out="tags.embeddings.parquet")).splitlines()
    assert "Videos      tags.videos.parquet" in embedded and "Embeddings  tags.embeddings.parquet" in embedded


@pytest.mark.parametrize("name", ["tags.parquet", 'it\'s $HOME "here".parquet', "parts"])
def test_the_queries_run(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    rows = pa.table({"label": ["Swing", "Biking", "Biking"], "start_s": [0.0, 0.0, 2.0], "end_s": [2.0, 2.0, 3.0]})
    videos = pa.table({"video": ["/a", "/b"], "status": ["ok", "failed"], "error": [None, "/b is empty"]})
    if out.suffix != ".parquet":
        out.mkdir()
    pq.write_table(rows, out if out.suffix else out / "part-0.parquet")
    pq.write_table(videos, tmp_path / "v.parquet")
    line = shell_line(duckdb_query(str(out)))
    # The SQL that DuckDB gets when the line is pasted into a shell.
    pasted = subprocess.run(["sh", "-c", line.replace("duckdb -c", "printf %s")], capture_output=True, check=True)
    assert duckdb.sql(pasted.stdout.decode()).fetchall() == [("Biking", 2), ("Swing", 1)]
    failures = duckdb.sql(failures_query(str(tmp_path / "v.parquet"))).fetchall()
    assert failures == [("/b", "failed", "/b is empty")]
    assert len(eval(pandas_line(str(out)), {"pandas": pandas})) == 3


def test_the_json_has_all_values_and_a_query() -> None:
    values = summary_json(SUMMARY)
    assert values["segments"] == 3200
    assert len(values["failures"]) == 14
    assert values["duckdb"] == duckdb_query("tags.parquet")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (count(1, "video"), "1 video"),
        (count(12345, "video"), "12,345 videos"),
        (clock(7.4), "0:07"),
        (clock(3723), "1:02:03"),
        (amount(59.4), "59.4 s"),
        (amount(6720), "1.87 h"),
        (amount(90000 * 3600), "90,000 h"),
        (significant(0.534), "0.53"),
        (significant(14.23), "14.2"),
        (significant(99.96), "100"),
        (percent(0.434), "43 %"),
    ],
)
def test_numbers_are_written_for_people(written: str, expected: str) -> None:
    assert written == expected


def test_the_summary_shows_the_efficiency() -> None:
    assert "Efficiency" not in shown(SUMMARY)
    cpu = Efficiency(cores=2, decode=0.21, model=0.72)
    assert "Efficiency  93 %: decoding took 21 % of the time of 2 cores, the model 72 %" in shown(
        replace(SUMMARY, efficiency=cpu), 100
    )
    gpu = Efficiency(cores=16, decode=0.4, model=0.05, gpu=0.9)
    assert "90 %: the model was at work 90 % of the time, decoding 40 % of the time of 16 cores" in shown(
        replace(SUMMARY, efficiency=gpu), 120
    )
    starved = Efficiency(cores=4, decode=0.9, model=0.05, gpu=0.3)
    assert starved.total == pytest.approx(0.95)


def test_background_is_a_share_of_its_own_and_not_among_the_most_frequent_labels() -> None:
    assert "Background" not in shown(SUMMARY)
    background = LabelCount("background", 2400, 5040.0)
    others = tuple(LabelCount(f"Action {number}", 10, 20.0) for number in range(9))
    some = replace(SUMMARY, top_labels=(background, *others), background=background)
    lines = [line.rstrip() for line in shown(some).splitlines()]
    assert "Background  75 % of the segments, 1.40 h: none of the model's classes" in lines
    # As many other labels as without background.
    assert [line.split()[:2] for line in lines if line.split()[:1] == ["Action"]] == [
        ["Action", str(number)] for number in range(8)
    ]
    assert not any(line.split()[:1] == ["background"] for line in lines)
    values = summary_json(some)
    assert values["top_labels"][0] == values["background"] == {"label": "background", "segments": 2400, "seconds": 5040}
    assert "Most frequent labels" not in shown(replace(some, top_labels=(background,)))


def test_the_summary_says_what_ranges_choose() -> None:
    chosen = Selection(videos=2, ranges=3, left_out=1200, missing=1, first_missing="/v/x.mp4")
    text = " ".join(shown(replace(SUMMARY, only=chosen), 120).split())
    assert "Ranges 3 ranges of 2 videos; 1,200 other videos left out; 1 video not in the inputs" in text
    assert summary_json(replace(SUMMARY, only=chosen))["only"] == asdict(chosen)
    text = " ".join(shown(replace(SUMMARY, only=Selection(1, 1, 0, 0, None)), 120).split())
    assert "Ranges 1 range of 1 video Video time" in text
    assert "Ranges" not in shown(SUMMARY)


def test_the_summary_says_where_the_time_went() -> None:
    some = replace(SUMMARY, listing_s=1.25, comparing_s=0.04, publishing_s=12.0)
    assert "Time        listing 1.2 s · comparing 0.0 s · tagging 320.0 s · publishing 12.0 s" in shown(some, 120)
