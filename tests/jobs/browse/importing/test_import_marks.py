"""Marks from files of other tools."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from jobs.browse.events import Rules
from jobs.browse.exporting.exported import exported_videos
from jobs.browse.exporting.texts.datasets import activitynet_parts
from jobs.browse.exporting.texts.elan import eaf
from jobs.browse.exporting.texts.label_studio_tasks import task_parts
from jobs.browse.exporting.texts.tables import csv_parts
from jobs.browse.importing.import_marks import import_marks, marks_text, read_found
from jobs.browse.marks import Mark, read_marks
from jobs.browse.segments import FinishedResult, open_result
from tagger.errors import InputError
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import make_finished, publish_to, starting_at

ODD = "Swing, \"high\" <&> 'ه' 🚴"

BIKING, SWING = {"Biking": 0.9, ODD: 0.1}, {ODD: 0.6, "Biking": 0.4}

MARKS = [
    ("/v/2023/a b.mp4", 0.0, 2.0, "Biking"),
    ("/v/2023/a b.mp4", 2.0, 4.0, ODD),
    ("/v/2024/a b.mp4", 0.0, 2.0, ODD),
    ("s3://bucket/deep/c.mp4", 0.0, 2.0, "Biking"),
]
"""What the result shows, with times from the first frame. The first two videos begin 1.4 s after their audio."""


@pytest.fixture
def finished(tmp_path: Path) -> FinishedResult:
    first = starting_at(1.4, make_video("/v/2023/a b.mp4", [BIKING, SWING]))
    second = starting_at(1.4, make_video("/v/2024/a b.mp4", [SWING]))
    publish_to(tmp_path / "t.parquet", [first, second, make_video("s3://bucket/deep/c.mp4", [BIKING])])
    return open_result(str(tmp_path / "t.parquet"))


def imported(
    *paths: Path, finished: FinishedResult | None = None, **options: Any
) -> list[tuple[str, float, float, str]]:
    """The marks of files, as a reader of the CSV file of marks sees them."""
    found = [mark for path in paths for mark in read_found(path, **({"frame_rate": 24.0} | options))]
    text = paths[0].parent / "marks.csv"
    text.write_text(marks_text(import_marks(found, finished)[0]))
    return [(mark.video, mark.start_s, mark.end_s, mark.label) for mark in read_marks(text)]


def as_annotations(tasks: str) -> str:
    """Tasks with predictions, as Label Studio exports them after a person has accepted all of them."""
    found = json.loads(tasks)
    return json.dumps(
        [
            {"id": 1, "data": task["data"], "annotations": [{"result": task["predictions"][0]["result"]}]}
            for task in found
        ]
    )


WRITERS: dict[str, Callable[[Iterable[Any]], str]] = {
    "csv": lambda videos: "".join(csv_parts(videos)),
    "activitynet": lambda videos: "".join(activitynet_parts(videos)),
    "labelstudio": lambda videos: as_annotations("".join(task_parts(videos, "actions38", 1000.0))),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_vtag_exports_comes_back_as_marks_of_the_result(
    name: str, finished: FinishedResult, tmp_path: Path
) -> None:
    path = tmp_path / "export.txt"
    path.write_text(WRITERS[name](exported_videos(finished, Rules(), events=False)), "utf-8")
    assert imported(path, finished=finished, frame_rate=1000.0) == MARKS


def test_elan_documents_come_back_as_marks_of_the_result(finished: FinishedResult, tmp_path: Path) -> None:
    pytest.importorskip("pympi.Elan", reason="pympi-ling is of the extra export")
    paths = []
    for number, each in enumerate(exported_videos(finished, Rules(), events=False)):
        paths.append(tmp_path / f"{number}.eaf")
        paths[-1].write_text(eaf(each), "utf-8")
    assert imported(*paths, finished=finished) == MARKS
    # Without the result, names are those of the documents, and times those of players.
    assert imported(paths[0])[0] == ("/v/2023/a b.mp4", 1.4, 3.4, "Biking")
    assert imported(paths[0], tiers=["vtag"]) == imported(paths[0])
    with pytest.raises(InputError, match=r"0\.eaf has no tier 'other'; its tiers are vtag$"):
        read_found(paths[0], 24.0, ["other"])


def test_an_annotation_of_elan_without_a_value_has_the_label_of_its_tier(tmp_path: Path) -> None:
    elan = pytest.importorskip("pympi.Elan", reason="pympi-ling is of the extra export")
    document = elan.Eaf()
    document.add_tier("Rowing")
    document.add_annotation("Rowing", 500, 1500)
    document.add_annotation("default", 0, 700, " not Rowing ")
    document.add_linked_file("file:///v/sound.wav", mimetype="audio/x-wav")
    document.add_linked_file("file:///v/a%20b.mp4", mimetype="video/mp4")
    document.to_file(tmp_path / "a.eaf")
    (tmp_path / "marks.csv").write_text(marks_text(import_marks(read_found(tmp_path / "a.eaf", 24.0), None)[0]))
    first, second = read_marks(tmp_path / "marks.csv")
    assert (first.video, first.start_s, first.end_s, first.label) == ("/v/a b.mp4", 0.5, 1.5, "Rowing")
    assert (second.start_s, second.end_s, second.label, second.is_denial) == (0.0, 0.7, "Rowing", True)


def test_a_plain_list_of_marks_counts_from_the_first_frame(finished: FinishedResult, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("label;end_s;start_s;video\nnot Biking;1,5;0,5;a b.mp4\n")
    with pytest.raises(
        InputError, match=r"mine\.csv, line 2: .* has several videos with the name a b\.mp4; name its folder, too$"
    ):
        imported(path, finished=finished)
    path.write_text("label;end_s;start_s;video\nnot Biking;1,5;0,5;2023/a b.mp4\n;2;1;c.mp4\n")
    marks, left_out = import_marks(read_found(path, 24.0), finished)
    assert marks == [Mark(f"{path}, line 2", "/v/2023/a b.mp4", 0.5, 1.5, "Biking", is_denial=True)]
    assert left_out == []


@pytest.mark.parametrize("video", ["/v/100% #fight?.mp4", "/v/a%20b.mp4", "is it?.mp4"])
def test_a_path_keeps_every_character_of_its_names(video: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(f"video,start_s,end_s,label\n{video},0,2,Biking\n")
    assert imported(path) == [(video, 0.0, 2.0, "Biking")]
    path.write_text(json.dumps({"database": {video: {"annotations": [{"segment": [0, 2], "label": "Biking"}]}}}))
    assert imported(path) == [(video, 0.0, 2.0, "Biking")]


def test_videos_of_two_folders_with_one_odd_name_are_told_apart(tmp_path: Path) -> None:
    publish_to(tmp_path / "u.parquet", [make_video(f"/new/{day}/a #1.mp4", [BIKING]) for day in ("mon", "tue")])
    path = tmp_path / "mine.csv"
    path.write_text("video,start_s,end_s,label\ntue/a #1.mp4,0,2,Biking\n")
    result = open_result(str(tmp_path / "u.parquet"))
    assert imported(path, finished=result) == [("/new/tue/a #1.mp4", 0.0, 2.0, "Biking")]


def test_videos_of_activitynet_are_found_without_their_ending(finished: FinishedResult, tmp_path: Path) -> None:
    publish_to(tmp_path / "u.parquet", [make_video("/v/v_x1.mp4", [BIKING]), make_video("/v/x2.mkv", [BIKING])])
    entry = {"annotations": [{"segment": [0.5, 1], "label": "Rowing"}]}
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"database": {"x1": entry, "x2": entry, "x3": {"annotations": []}}}))
    result = open_result(str(tmp_path / "u.parquet"))
    assert imported(path, finished=result) == [("/v/v_x1.mp4", 0.5, 1.0, "Rowing"), ("/v/x2.mkv", 0.5, 1.0, "Rowing")]


REGION = {"ranges": [{"start": 1, "end": 48}], "timelinelabels": ["Rowing"]}


def test_regions_of_label_studio_as_json_and_as_json_min_are_marks(tmp_path: Path) -> None:
    result = [{"type": "timelinelabels", "value": REGION}, {"type": "choices", "value": {"choices": ["x"]}}]
    whole = {
        "data": {"video": "/data/local-files/?d=v/a.mp4"},
        "annotations": [{"result": result}, {"result": result, "was_cancelled": True}],
        "predictions": [{"result": result}],
    }
    short = {"video": "https://example.org/b.mp4", "id": 3, "videoLabels": [REGION], "annotator": 1}
    path = tmp_path / "a.json"
    for task, video in ((whole, "v/a.mp4"), (short, "https://example.org/b.mp4")):
        path.write_text(json.dumps([task]))
        assert imported(path) == [(video, 0.0, 2.0, "Rowing")]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "a.json is no JSON: "),
        ("[" * 100_000, "a.json is no JSON: "),
        ('{"video": "a.mp4"}\n{}\n', "a.json has several values of JSON; JSON Lines are not read, give CSV"),
        ('{"x": 1}', "a.json has no database of annotations, as ActivityNet's files have it"),
        (
            '{"results": {}}',
            "a.json has no database of annotations, as ActivityNet's files have it; results of a model",
        ),
        ('{"database": {"x": 1}}', "a.json, video x has an annotation without a segment of two times, and a label"),
        (
            '{"database": {"x": {"annotations": [{"segment": [2, 1], "label": "a"}]}}}',
            "a.json, video x has an annotation",
        ),
        ("[1]", "a.json, task 1 is no task of Label Studio"),
        (
            '[{"data": {}, "predictions": [{}]}]',
            "a.json has no annotations; predictions are no marks: accept or correct",
        ),
        ('[{"data": {}, "annotations": 5}]', "a.json has no annotations; predictions are no marks"),
        (
            '[{"data": [], "annotations": [{"result": 5}, {"result": [{"type": "timelinelabels"}]}]}]',
            "a.json, task 1 has a region without",
        ),
        ("<x/>", "a.json is no annotation document of ELAN, or is damaged"),
        ("<x", "a.json is no annotation document of ELAN, or is damaged"),
        ("a,b\n1,2\n", "a.json has no column 'video'; its columns are a, b"),
        ("", "a.json has no column 'video'; its columns are none"),
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(tmp_path: Path, content: str, says: str) -> None:
    if content.startswith("<"):
        pytest.importorskip("pympi.Elan", reason="pympi-ling is of the extra export")
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(InputError) as caught:
        read_found(path, 24.0)
    assert str(caught.value).startswith(f"{tmp_path}/{says}") and "\n" not in str(caught.value)


def test_marks_that_no_segment_can_have_are_left_out_and_told(tmp_path: Path) -> None:
    late = starting_at(1.4, make_video("/v/a.mp4", [BIKING, BIKING]))
    publish_to(tmp_path / "u.parquet", [late, make_finished("/v/broken.mp4", "")])
    path = tmp_path / "a.json"
    times = {"a": [[1, 1.4], [0, 2], [5.3, 99], [5.4, 6]], "broken": [[0, 1]], "other": [[0, 1]]}
    path.write_text(
        json.dumps(
            {
                "database": {
                    video: {"annotations": [{"segment": segment, "label": "Rowing"} for segment in segments]}
                    for video, segments in times.items()
                }
            }
        )
    )
    marks, left_out = import_marks(read_found(path, 24.0), open_result(str(tmp_path / "u.parquet")))
    assert [(mark.video, mark.start_s, mark.end_s) for mark in marks] == [
        ("/v/a.mp4", 0.0, 0.6),
        ("/v/a.mp4", 3.9, 97.6),
    ]
    assert [(each.has_video, each.words.removeprefix(f"{path}, video ")) for each in left_out] == [
        (True, "a is before the first frame of /v/a.mp4, at 1.4 s"),
        (True, "a is after the end of /v/a.mp4, at 5.4 s"),
        (False, f"broken: {tmp_path}/u.parquet has no segments of /v/broken.mp4"),
        (False, f"other: {tmp_path}/u.parquet has no video other; videos are found by the names of their files"),
    ]


def test_marks_are_refused_when_no_segment_can_have_any_of_them(finished: FinishedResult, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    entry = {"annotations": [{"segment": [0.5, 1], "label": "Rowing"}]}
    path.write_text(json.dumps({"database": {"/v/2023/a b.mp4": entry}}))
    with pytest.raises(InputError, match=r"is before the first frame of /v/2023/a b\.mp4, at 1\.4 s$"):
        imported(path, finished=finished)
