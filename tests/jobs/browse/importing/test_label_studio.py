"""Marks from the CSV export of Label Studio."""

import csv
import json
from pathlib import Path

import pytest

from jobs.browse.importing.found_marks import videos_called
from jobs.browse.importing.label_studio import is_export, read_export
from jobs.browse.marks import Mark
from jobs.browse.segments import FinishedResult, open_result
from tagger.errors import InputError
from tests.jobs.browse.made_up import make_video
from tests.jobs.browse.teaching.taught_archive import make_archive
from tests.jobs.browse.teaching.test_teach import refusal, vtag
from tests.jobs.result.finished import publish_to

HEADER = ["video", "id", "videoLabels", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"]
VIDEOS = (
    "/archive/a.mp4",
    "/archive/b/a b.mp4",
    "/archive/b/x.mp4",
    "/archive/c/x.mp4",
    "s3://bucket/deep/s.mp4",
    "/v/is it?.mp4",
)


@pytest.fixture
def finished(tmp_path: Path) -> FinishedResult:
    publish_to(tmp_path / "tags.parquet", [make_video(name, [{"Biking": 1.0}] * 5) for name in VIDEOS])
    return open_result(str(tmp_path / "tags.parquet"))


def region(start: object, end: object, *labels: str) -> dict[str, object]:
    return {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}


def export(path: Path, *rows: tuple[str, object]) -> Path:
    """Writes an export with a row for each video and its regions."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(HEADER)
        for number, (video, regions) in enumerate(rows):
            cell = regions if isinstance(regions, str) else json.dumps(regions, ensure_ascii=False)
            writer.writerow([video, number, cell, "me@example.org", 7 + number, "2026-11-01", "2026-11-02", 12.5])
    return path


def test_regions_are_marks_in_seconds(finished: FinishedResult, tmp_path: Path) -> None:
    path = export(tmp_path / "e.csv", ("/archive/a.mp4", [region(1, 48, "Swing"), region(49, 60, "not Biking")]))
    assert is_export(path)
    where = f"{path}, line 2"
    assert read_export(path, finished) == [
        Mark(where, "/archive/a.mp4", 0.0, 2.0, "Swing"),
        Mark(where, "/archive/a.mp4", 2.0, 2.5, "Biking", is_denial=True),
    ]
    (first, _) = read_export(path, finished, frame_rate=12)
    assert (first.start_s, first.end_s) == (0.0, 4.0)


@pytest.mark.parametrize(
    ("written", "video"),
    [
        ("/data/upload/3/0a1b2c3d-a.mp4", "/archive/a.mp4"),
        ("/data/upload/3/a.mp4", "/archive/a.mp4"),
        ("/data/local-files/?d=b/a%20b.mp4", "/archive/b/a b.mp4"),
        ("/data/local-files/?d=archive/c/x.mp4", "/archive/c/x.mp4"),
        ("https://example.org/b/x.mp4", "/archive/b/x.mp4"),
        ("s3://bucket/deep/s.mp4", "s3://bucket/deep/s.mp4"),
        ("/archive/b/x.mp4", "/archive/b/x.mp4"),
        ("/v/is it?.mp4", "/v/is it?.mp4"),
    ],
)
def test_the_video_of_a_task_is_found_by_its_name(
    finished: FinishedResult, tmp_path: Path, written: str, video: str
) -> None:
    (found,) = read_export(export(tmp_path / "e.csv", (written, [region(1, 9, "Swing")])), finished)
    assert found.video == video


def test_a_task_without_regions_says_nothing(finished: FinishedResult, tmp_path: Path) -> None:
    path = export(tmp_path / "e.csv", ("/gone.mp4", ""), ("/gone.mp4", [{"choices": ["x"]}]))
    assert read_export(path, finished) == []


@pytest.mark.parametrize(
    ("video", "regions", "says"),
    [
        ("/gone.mp4", [region(1, 9, "Swing")], "has no video /gone.mp4; videos are found by the names of their files"),
        ("/data/upload/1/x.mp4", [region(1, 9, "Swing")], "has several videos with the name x.mp4"),
        ("a.mp4", [region(None, 9, "Swing")], "has a region without a first frame, a last frame and labels"),
        ("a.mp4", [region(9, 1, "Swing")], "has a region without a first frame, a last frame and labels"),
        ("a.mp4", [{"timelinelabels": ["Swing"]}], "has a region without a first frame, a last frame and labels"),
        ("a.mp4", ["timelinelabels"], "has a region without a first frame, a last frame and labels"),
        ("a.mp4", '[{"timelinelabels', "has regions that are no JSON; export the project from Label Studio again"),
    ],
)
def test_what_is_no_region_of_a_video_is_refused_with_its_line(
    finished: FinishedResult, tmp_path: Path, video: str, regions: object, says: str
) -> None:
    path = export(tmp_path / "e.csv", ("/archive/a.mp4", [region(1, 9, "Swing")]), (video, regions))
    with pytest.raises(InputError) as caught:
        read_export(path, finished)
    assert str(caught.value).startswith(f"{path}, line 3") and says in str(caught.value)


def test_a_list_of_moments_is_no_export(tmp_path: Path) -> None:
    (tmp_path / "m.csv").write_text("video,start_s,end_s,label\n")
    assert not is_export(tmp_path / "m.csv")


def test_vtag_teach_takes_an_export(tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    # Segments of 2 s are 60 frames.
    tasks = [
        (video, [region(60 * n + 1, 60 * n + 60, "Swing") for n, label in enumerate(shown) if label == "Swing"])
        for video, shown in archive.shown.items()
    ]
    path = export(tmp_path / "e.csv", *tasks)
    out = tmp_path / "new.safetensors"
    arguments = ("teach", archive.tags, path, "--model", archive.model, "--out", out)
    found = json.loads(vtag(*arguments, "--frame-rate", "30", "--json").stdout)
    swings = sum(shown.count("Swing") for shown in archive.shown.values())
    (swing,) = found["taught"]
    assert (swing["label"], swing["marks"], swing["segments"], swing["videos"]) == ("Swing", swings, swings, 8)
    # By 2 frames per second the regions are after the end of the videos.
    assert "is after the end of /v/0.mp4, at 14 s" in refusal(*arguments, "--frame-rate", "2")


def test_of_the_videos_of_the_result_only_those_that_are_wanted_are_kept(finished: FinishedResult) -> None:
    assert videos_called(finished, {"a.mp4", "b.mp4"}) == {"a.mp4": ["/archive/a.mp4"]}
    assert videos_called(finished, set(), {"a", "x"}) == {
        "a": ["/archive/a.mp4"],
        "x": ["/archive/b/x.mp4", "/archive/c/x.mp4"],
    }
