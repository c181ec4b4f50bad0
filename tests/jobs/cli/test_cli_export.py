"""``vtag export`` and ``vtag import``, run from the command line."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest
from click.testing import Result

from jobs.browse.exporting.formats import FORMATS, OneFile
from jobs.cli import main
from jobs.cli.questions.export import A_FILE_PER_VIDEO, IN_ONE_FILE
from jobs.tagging.finished.collector import FinishedVideo
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video
from tests.jobs.browse.teaching.taught_archive import make_archive
from tests.jobs.result.finished import publish_to, starting_at
from tests.jobs.s3_server import Bucket
from tests.videos import encode, encode_late

BIKING, SWING, NOTHING = (
    {"Biking": 0.9, "Swing": 0.1},
    {"Swing": 0.6, "Biking": 0.4},
    {"background": 0.8, "Biking": 0.2},
)


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def tagged(path: Path, *shown: dict[str, float], stream_start_s: float = 0.0) -> FinishedVideo:
    """A video of an archive, with the size of its file."""
    video = starting_at(stream_start_s, make_video(str(path), list(shown)))
    assert video.version is not None
    return replace(video, version=replace(video.version, size=path.stat().st_size))


@pytest.fixture
def tags(tmp_path: Path) -> Path:
    """The result of two videos of one name in two folders, the first with late video, and of one that is gone."""
    for folder in ("2023", "2024"):
        (tmp_path / "v" / folder).mkdir(parents=True)
    late = encode_late(tmp_path / "v/2023/a.mp4", after_s=1.4, seconds=6)
    other = encode(tmp_path / "v/2024/a.mp4", seconds=4, rate=10)
    gone = make_video(str(tmp_path / "v/gone.mp4"), [SWING])
    videos = [tagged(late, BIKING, BIKING, SWING, stream_start_s=1.4), tagged(other, NOTHING, SWING), gone]
    publish_to(tmp_path / "tags.parquet", videos)
    return tmp_path / "tags.parquet"


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_formats_of_the_command_are_those_that_there_are() -> None:
    assert {name for name, kind in FORMATS.items() if isinstance(kind, OneFile)} == set(IN_ONE_FILE)
    assert FORMATS.keys() == {*IN_ONE_FILE, *A_FILE_PER_VIDEO}


def test_one_file_is_printed_or_written(tags: Path, tmp_path: Path) -> None:
    done = vtag("export", tags, "--format", "csv", "--events", "--no-background")
    assert (done.exit_code, done.stderr) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(Path(row["video"]).parent.name, row["start_s"], row["end_s"], row["label"]) for row in rows] == [
        ("2023", "1.4", "5.4", "Biking"),
        ("2023", "5.4", "7.4", "Swing"),
        ("2024", "2.0", "4.0", "Swing"),
        ("v", "0.0", "2.0", "Swing"),
    ]
    out = tmp_path / "a.json"
    done = vtag("export", tags, "--format", "activitynet", "--label", "swi", "--out", out)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{out}: 3 videos, 3 segments\n", "")
    assert len(json.loads(out.read_text())["database"]) == 3
    done = vtag("export", tags, "--format", "jsonl", "--out", out)
    assert (done.exit_code, done.stderr) == (1, f"vtag: --out {out} is there already; --overwrite replaces it\n")
    assert vtag("export", tags, "--format", "jsonl", "--out", out, "--overwrite").exit_code == 0
    assert len(out.read_text().splitlines()) == 6


def test_files_of_videos_are_in_the_folders_of_the_archive(tags: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = vtag("export", tags, "--format", "srt", "--out", out)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{out}: 3 files, 6 segments\n", "")
    assert files(out) == ["2023/a.srt", "2024/a.srt", "gone.srt"]
    assert (out / "2023/a.srt").read_text().startswith("1\n00:00:01,400 --> 00:00:03,400\nBiking\n\n2\n")


def test_files_beside_videos_replace_nothing(tags: Path, tmp_path: Path) -> None:
    (tmp_path / "v/2024/a.nfo").write_text("<movie/>")
    done = vtag("export", tags, "--format", "nfo", "--beside")
    assert (done.exit_code, done.stdout) == (3, "beside the videos: 1 file, 3 segments\n")
    found = f"{tmp_path}/v/2024/a"
    assert done.stderr.splitlines() == [
        f"vtag: {found}.mp4: {found}.nfo is there already; --overwrite replaces it",
        f"vtag: {tmp_path}/v/gone.mp4: does not exist",
    ]
    assert files(tmp_path / "v") == ["2023/a.mp4", "2023/a.nfo", "2024/a.mp4", "2024/a.nfo"]
    assert (tmp_path / "v/2024/a.nfo").read_text() == "<movie/>"


def test_chapters_are_written_into_copies_and_a_video_that_is_gone_stops_nothing(tags: Path, tmp_path: Path) -> None:
    out = tmp_path / "copies"
    done = vtag("export", tags, "--format", "chapters", "--write-into", "--events", "--out", out)
    assert (done.exit_code, done.stdout) == (3, f"{out}: 2 files, 4 events\n")
    assert done.stderr == f"vtag: {tmp_path}/v/gone.mp4: does not exist\n"
    with av.open(str(out / "2023/a.mp4")) as container:
        found = [(each["start"] * each["time_base"], each["metadata"]["title"]) for each in container.chapters()]
    assert [(float(start_s), title) for start_s, title in found] == [(0.0, "–"), (1.4, "Biking"), (5.4, "Swing")]
    again = vtag("export", tags, "--format", "chapters", "--write-into", "--out", tmp_path / "v", "--overwrite")
    assert f"{tmp_path}/v/2023/a.mp4: is the video itself; choose another --out" in again.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "give a format: --format csv, jsonl, "),
        (["--format", "srt"], "srt has a file for each video: give either --out FOLDER or --beside."),
        (["--format", "chapters", "--write-into"], "chapters has a file for each video: give --out FOLDER."),
        (["--format", "chapters", "--write-into", "--beside"], "--write-into and --beside cannot be used together"),
        (["--format", "srt", "--write-into", "--out", "x"], "--write-into needs --format chapters."),
        (["--format", "csv", "--beside"], "--beside is for a file per video; csv is one file: give --out FILE."),
        (["--format", "srt", "--out", "s3://bucket/x"], "--out is an address; files of videos are written to a folder"),
        (["--format", "csv", "--smooth", "3"], "--smooth would change nothing: it is for events; add --events."),
        (["--format", "csv", "--frame-rate", "3"], "--frame-rate would change nothing: only labelstudio"),
        (["--format", "odd"], "'odd' is not one of 'csv', "),
    ],
)
def test_options_that_do_not_fit_together_are_refused(tags: Path, options: list[str], says: str) -> None:
    done = vtag("export", tags, *options)
    assert done.exit_code == 2 and says in done.stderr


def test_a_folder_for_one_file_and_a_file_for_a_folder_are_refused(tags: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    done = vtag("export", tags, "--format", "csv", "--out", tmp_path / "folder", "--overwrite")
    assert (done.exit_code, done.stderr) == (1, f"vtag: --out {tmp_path}/folder is a folder; give a file\n")
    (tmp_path / "file").touch()
    done = vtag("export", tags, "--format", "srt", "--out", tmp_path / "file")
    assert (done.exit_code, done.stderr) == (1, f"vtag: --out {tmp_path}/file is a file; give a folder\n")


def test_a_tier_of_no_document_of_elan_is_refused(tags: Path, tmp_path: Path) -> None:
    (tmp_path / "segments.csv").write_text(vtag("export", tags, "--format", "csv").stdout)
    done = vtag("import", tmp_path / "segments.csv", "--tier", "actions")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "--tier would change nothing: no FILE is an annotation document of ELAN." in done.stderr


def test_an_export_in_the_folder_of_the_result_is_refused(tmp_path: Path) -> None:
    publish_to(tmp_path / "tags", [make_video("/v/a.mp4", [SWING])])
    done = vtag("export", tmp_path / "tags", "--format", "csv", "--out", tmp_path / "tags" / "a.csv")
    assert done.exit_code == 1 and "is in the folder of the result; choose another place" in done.stderr


def test_nothing_found_is_a_note_and_the_file_is_still_of_its_format(tags: Path) -> None:
    done = vtag("export", tags, "--format", "fiftyone", "--events", "--min-duration", "99")
    assert (done.exit_code, done.stderr) == (0, f"vtag: note: {tags} has no event that these options choose\n")
    assert json.loads(done.stdout) == {"labels": {}}


def test_an_older_result_gets_a_note_that_times_count_from_the_first_frame(tags: Path) -> None:
    videos = tags.with_name("tags.videos.parquet")
    pq.write_table(pq.read_table(videos).drop_columns(["stream_start_s"]), videos)
    done = vtag("export", tags, "--format", "jsonl", "--label", "Biking")
    assert done.exit_code == 0 and json.loads(done.stdout.splitlines()[0])["start_s"] == 0.0
    assert done.stderr == (
        "vtag: note: 1 video: their times count from the first frame; an older vtag tagged them, and did not record "
        "when their video starts\n"
    )


def test_a_result_and_one_file_may_be_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    tags = f"{bucket.address}/tags.parquet"
    publish_to(tags, [make_video(f"{bucket.address}/v/{folder}/a.mp4", [SWING]) for folder in "xy"])
    assert vtag("export", tags, "--format", "csv", "--out", f"{bucket.address}/a.csv").exit_code == 0
    assert bucket.get("a.csv").count(b"\n") == 3
    assert vtag("export", tags, "--format", "webvtt", "--out", tmp_path / "out").exit_code == 0
    assert files(tmp_path / "out") == ["x/a.vtt", "y/a.vtt"]
    done = vtag("export", tags, "--format", "webvtt", "--beside")
    assert done.exit_code == 3 and "is in a bucket, where nothing is written; use --out FOLDER" in done.stderr


def test_marks_are_printed_or_written(tags: Path, tmp_path: Path) -> None:
    exported, marks = tmp_path / "a.json", tmp_path / "marks.csv"
    vtag("export", tags, "--format", "activitynet", "--label", "Swing", "--out", exported)
    done = vtag("import", exported, "--tags", tags, "--out", marks)
    assert (done.exit_code, done.stdout, done.stderr) == (0, f"{marks}: 3 marks, 3 videos\n", "")
    assert marks.read_text() == vtag("import", exported, "--tags", tags).stdout
    rows = list(csv.DictReader(marks.open()))
    assert [(row["start_s"], row["end_s"], row["label"]) for row in rows] == [
        ("4.0", "6.0", "Swing"),
        ("2.0", "4.0", "Swing"),
        ("0.0", "2.0", "Swing"),
    ]
    again = vtag("import", exported, "--out", marks)
    assert (again.exit_code, again.stderr) == (1, f"vtag: --out {marks} is there already; --overwrite replaces it\n")
    exported.write_text('{"database": {}}')
    done = vtag("import", exported)
    assert (done.exit_code, done.stdout) == (0, "video,start_s,end_s,label\n")
    assert done.stderr == f"vtag: note: no marks in {exported}\n"


def test_marks_that_no_segment_can_have_are_counted_and_the_others_imported(tags: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    rows = ["2024/a.mp4,1,2,Rowing", "2024/a.mp4,90,95,Rowing", "x.mp4,0,1,Rowing", "y.mp4,0,1,Rowing"]
    file.write_text("\n".join(["video,start_s,end_s,label", *rows]))
    done = vtag("import", file, "--tags", tags)
    assert (done.exit_code, done.stdout.splitlines()[1:]) == (0, [f"{tmp_path}/v/2024/a.mp4,1.0,2.0,Rowing"])
    assert done.stderr.splitlines() == [
        f"vtag: note: 2 marks left out, because the result has no segments of the video; the first: {file}, line 4: "
        f"{tags} has no video x.mp4; videos are found by the names of their files",
        "vtag: note: 1 mark left out, because the time is outside of the video; the first: "
        f"{file}, line 3 is after the end of {tmp_path}/v/2024/a.mp4, at 4 s",
    ]
    file.write_text("\n".join(["video,start_s,end_s,label", *rows[1:]]))
    done = vtag("import", file, "--tags", tags)
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == f"vtag: {file}, line 2 is after the end of {tmp_path}/v/2024/a.mp4, at 4 s\n"


def test_labels_made_elsewhere_teach_a_model(tmp_path: Path) -> None:
    archive = make_archive(tmp_path)
    database = {
        Path(video).stem: {
            "annotations": [
                {"segment": [2 * number, 2 * number + 2], "label": "Swing"}
                for number, label in enumerate(shown)
                if label == "Swing"
            ]
        }
        for video, shown in archive.shown.items()
    }
    (tmp_path / "a.json").write_text(json.dumps({"database": database}))
    marks = tmp_path / "marks.csv"
    assert vtag("import", tmp_path / "a.json", "--tags", archive.tags, "--out", marks).exit_code == 0
    out = tmp_path / "new.safetensors"
    done = vtag("teach", archive.tags, marks, "--model", archive.model, "--out", out, "--json")
    assert json.loads(done.stdout)["labels"] == ["Biking", "Diving", "Swing"]
