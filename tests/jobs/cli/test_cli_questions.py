"""``vtag events``, ``vtag search`` and ``vtag cut``, run from the command line."""

import csv
import io
import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import Result

from jobs.browse import player
from jobs.browse.events import EVENTS_SCHEMA
from jobs.cli import main
from jobs.cli.terminal import answers
from jobs.result.ledger import Ledger
from jobs.result.output import find_output
from tests.click_runner import CliRunner
from tests.jobs.browse.made_up import make_video
from tests.jobs.result.finished import IDENTITY, make_finished, publish_to
from tests.jobs.s3_server import Bucket
from tests.videos import encode, read_frame_number

BIKING, SWING, NOTHING = (
    {"Biking": 0.9, "Swing": 0.1},
    {"Swing": 0.6, "Biking": 0.4},
    {"background": 0.8, "Biking": 0.2},
)

EVENTS = [
    ("/v/a.mp4", 0.0, 4.0, "Biking", 0.9, 0.9, 2),
    ("/v/a.mp4", 4.0, 6.0, "Swing", 0.6, 0.6, 1),
    ("/v/a.mp4", 6.0, 8.0, "Biking", 0.9, 0.9, 1),
    ("/v/b.mp4", 0.0, 2.0, "background", 0.8, 0.8, 1),
    ("/v/b.mp4", 2.0, 4.0, "Swing", 0.6, 0.6, 1),
]


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def publish(out: Path | str) -> None:
    """Publishes a result of two videos; in a folder, each is a part of its own."""
    publish_to(out, [make_video("/v/a.mp4", [BIKING, BIKING, SWING, BIKING])])
    publish_to(out, [make_video("/v/b.mp4", [NOTHING, SWING])])


@pytest.fixture(params=["tags.parquet", "tags"])
def result(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A result in a file, or in a folder."""
    publish(tmp_path / request.param)
    return tmp_path / str(request.param)


@pytest.fixture
def tags(tmp_path: Path) -> Path:
    publish(tmp_path / "tags.parquet")
    return tmp_path / "tags.parquet"


def events(*arguments: object) -> list[tuple[object, ...]]:
    done = vtag("events", *arguments, "--json")
    assert (done.exit_code, done.stderr) == (0, "")
    return [tuple(event.values()) for event in json.loads(done.stdout)["events"]]


def test_events_are_given_as_a_table_as_json_as_csv_and_as_parquet(result: Path, tmp_path: Path) -> None:
    done = vtag("events", result)
    assert done.exit_code == 0
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines == [
        "video start end label confidence peak segments",
        "/v/a.mp4 0.0 s 4.0 s Biking 0.90 0.90 2",
        "4.0 s 6.0 s Swing 0.60 0.60 1",
        "6.0 s 8.0 s Biking 0.90 0.90 1",
        "/v/b.mp4 0.0 s 2.0 s background 0.80 0.80 1",
        "2.0 s 4.0 s Swing 0.60 0.60 1",
        "5 events",
    ]
    assert events(result) == EVENTS
    found = json.loads(vtag("events", result, "--json").stdout)
    assert (found["result"], found["model"]) == (str(result), "actions38")
    header, *rows = csv.reader(io.StringIO(vtag("events", result, "--csv").stdout))
    assert header == EVENTS_SCHEMA.names
    assert rows == [[str(value) for value in event] for event in EVENTS]
    done = vtag("events", result, "--out", tmp_path / "events.parquet")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/events.parquet: 5 events\n")
    table = pq.read_table(tmp_path / "events.parquet")
    assert table.schema.equals(EVENTS_SCHEMA)
    assert [tuple(row.values())[:4] for row in table.to_pylist()] == [event[:4] for event in EVENTS]


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (["--no-background"], [0, 1, 2, 4]),
        (["--min-confidence", "0.7"], [0, 2, 3]),
        (["--min-duration", "3"], [0]),
        (["--label", "swi"], [1, 4]),
        (["--label", "Swing", "--label", "BACKGROUND"], [1, 3, 4]),
        (["--min-confidence", "0.95"], []),
    ],
)
def test_options_leave_events_out(tags: Path, options: list[str], kept: list[int]) -> None:
    assert events(tags, *options) == [EVENTS[number] for number in kept]


def test_events_are_merged_over_a_short_gap(tags: Path) -> None:
    merged = ("/v/a.mp4", 0.0, 8.0, "Biking", 0.9, 0.9, 3)
    assert events(tags, "--max-gap", "2") == [merged, *(EVENTS[number] for number in (1, 3, 4))]
    assert events(tags, "--max-gap", "1.9") == EVENTS


def test_probabilities_are_smoothed_over_time(tags: Path) -> None:
    # The third window alone says Swing: the windows beside it are sure of Biking.
    found = events(tags, "--smooth", "3", "--label", "Biking")
    assert [event[:4] for event in found] == [("/v/a.mp4", 0.0, 8.0, "Biking")]
    assert found[0][4:] == (pytest.approx((0.9 + 2.2 / 3 + 2.2 / 3 + 0.65) / 4, abs=1e-6), 0.9, 4)


def test_limits_of_a_file_count_for_its_labels(tags: Path, tmp_path: Path) -> None:
    limits = tmp_path / "limits.csv"
    limits.write_text("label,min_confidence\nSwing,0.7\nDiving,0.5\n")
    done = vtag("events", tags, "--min-confidence", limits, "--min-confidence", "0.85", "--csv")
    assert done.exit_code == 0
    assert done.stderr.startswith(f"vtag: note: {tags} has no segments of Diving; the labels of a file must be")
    assert [line.split(",")[3] for line in done.stdout.splitlines()[1:]] == ["Biking", "Biking"]


def test_a_long_table_is_cut_short_and_says_how_many_rows_are_left_out(
    tags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ROWS_SHOWN", 3)
    lines = vtag("events", tags).stdout.splitlines()
    assert len(lines) == 6
    assert lines[-2:] == ["and 2 more events: --csv, --json and --out give all", "5 events"]


def test_a_folder_that_all_videos_share_is_named_once(tmp_path: Path) -> None:
    folder = "/archive/2026/camera 7"
    publish_to(tmp_path / "t.parquet", [make_video(f"{folder}/{name}.mp4", [BIKING]) for name in ("a/x", "ab")])
    first, _, *rows, _ = vtag("events", tmp_path / "t.parquet").stdout.splitlines()
    assert first == f"videos in {folder}/"
    assert [row.split()[0] for row in rows] == ["a/x.mp4", "ab.mp4"]


def test_an_answer_without_rows_says_so(tags: Path, tmp_path: Path) -> None:
    done = vtag("events", tags, "--min-confidence", "0.95")
    assert (done.exit_code, done.stdout) == (0, "0 events\n")
    assert vtag("events", tags, "--min-confidence", "0.95", "--csv").stdout == ",".join(EVENTS_SCHEMA.names) + "\n"
    assert vtag("events", tags, "--min-confidence", "0.95", "--out", tmp_path / "e.parquet").exit_code == 0
    assert pq.read_table(tmp_path / "e.parquet").schema.equals(EVENTS_SCHEMA)


def test_a_search_prints_each_moment_and_the_line_that_plays_it(result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player, "find_player", lambda: "mpv")
    done = vtag("search", result, "biking")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "0.90  Biking  0.0 s to 2.0 s  /v/a.mp4",
        "      mpv --start=0 /v/a.mp4",
        "0.40  Biking  2.0 s to 4.0 s  /v/b.mp4",
        "      mpv --start=2 /v/b.mp4",
        "2 moments",
    ]
    found = json.loads(vtag("search", result, "bik", "--all", "--top", "2", "--json").stdout)
    assert (found["label"], [moment["start_s"] for moment in found["moments"]]) == ("Biking", [0.0, 6.0])
    assert found["moments"][1]["play"] == "mpv --start=6 /v/a.mp4"


def test_moments_with_control_characters_are_printed_on_two_lines(tmp_path: Path) -> None:
    publish_to(tmp_path / "t.parquet", [make_video("/v/a\n\x1b[31m.mp4", [{"Biking\x1b[31m": 0.9, "Swing": 0.1}])])
    for question in (("search", "biking"), ("events",), ("uncertain",)):
        done = vtag(question[0], tmp_path / "t.parquet", *question[1:])
        assert done.exit_code == 0 and "Biking" in done.stdout and "\x1b[31m" not in done.stdout
    assert len(vtag("search", tmp_path / "t.parquet", "biking").stdout.splitlines()) == 3


def test_a_search_gives_csv_and_parquet(tags: Path, tmp_path: Path) -> None:
    header, *rows = vtag("search", tags, "Swing", "--csv").stdout.splitlines()
    assert header == "video,segment,start_s,end_s,label,confidence,play"
    assert [row.split(",")[:6] for row in rows] == [
        ["/v/a.mp4", "2", "4.0", "6.0", "Swing", "0.6"],
        ["/v/b.mp4", "1", "2.0", "4.0", "Swing", "0.6"],
    ]
    done = vtag("search", tags, "Swing", "--top", "1", "--out", tmp_path / "found.parquet")
    assert (done.exit_code, done.stdout) == (0, f"{tmp_path}/found.parquet: 1 moment\n")
    assert pq.read_table(tmp_path / "found.parquet")["video"].to_pylist() == ["/v/a.mp4"]


def test_a_player_that_is_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(player.shutil, "which", lambda name: "/usr/bin/ffplay" if name == "ffplay" else None)
    assert player.find_player() == "ffplay"
    monkeypatch.setattr(player.shutil, "which", lambda name: None)
    assert player.find_player() == "mpv"


def test_results_and_answers_may_be_in_a_bucket(bucket: Bucket, tmp_path: Path) -> None:
    for out in (f"{bucket.address}/tags.parquet", f"{bucket.address}/tags"):
        publish(out)
        assert events(out) == EVENTS
        assert json.loads(vtag("search", out, "swing", "--json").stdout)["moments"][0]["video"] == "/v/a.mp4"
        answer = f"{bucket.address}/answers/events.parquet"
        assert vtag("events", out, "--out", answer).stdout == f"{answer}: 5 events\n"
        (tmp_path / "events.parquet").write_bytes(bucket.get("answers/events.parquet"))
        assert len(pq.read_table(tmp_path / "events.parquet")) == 5


@pytest.mark.parametrize(
    "command", [["events"], ["search", "LABEL"], ["uncertain"], ["cut", "--label", "a", "--out", "clips"]]
)
def test_what_is_no_finished_result_is_refused_in_one_line(
    command: list[str], tags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def refusal(path: object) -> str:
        done = vtag(command[0], path, *command[1:])
        assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        return done.stderr

    pq.write_table(pq.read_table(tags).select(["video"]), tmp_path / "other.parquet")
    pq.write_table(pq.read_table(tags).select(["video"]), tmp_path / "other.videos.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet file")
    (tmp_path / "text.videos.parquet").write_text("no Parquet file")
    publish_to(tmp_path / "empty.parquet", [make_finished("/v/a.mp4", "")])
    Ledger.open(find_output(tmp_path / "begun.parquet").run_folder, IDENTITY)
    assert refusal("none.parquet") == f"vtag: there is no result at {tmp_path}/none.parquet\n"
    assert refusal("text.parquet").startswith(f"vtag: {tmp_path}/text.parquet cannot be read: it is no Parquet file")
    assert "is no result of this version of vtag" in refusal("other.parquet")
    assert refusal("empty.parquet") == "vtag: empty.parquet has no segments: no video of it could be read\n"
    assert refusal("begun.parquet").startswith(
        f"vtag: there is no result at {tmp_path}/begun.parquet; {tmp_path}/begun.parquet.run holds an interrupted run"
    )
    assert "name the result that it belongs to: tags.parquet" in refusal("tags.videos.parquet")
    half = tags.read_bytes()
    tags.write_bytes(half[: len(half) // 2])
    assert "it is no Parquet file, or it is cut off" in refusal(tags)


@pytest.mark.parametrize("is_whole", [False, True])
def test_a_damaged_column_is_refused_in_one_line(tags: Path, is_whole: bool) -> None:
    content = bytearray(tags.read_bytes())
    with pq.ParquetFile(tags) as file:
        chunk = file.metadata.row_group(0).column(file.schema_arrow.names.index("label"))
    start = min(chunk.dictionary_page_offset or chunk.data_page_offset, chunk.data_page_offset)
    end = start + chunk.total_compressed_size
    for position in range(start if is_whole else end - 1, end):
        content[position] ^= 0xFF
    tags.write_bytes(content)
    done = vtag("events", tags)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"vtag: {tags} ") and done.stderr.endswith("; see vtag verify\n")


def test_a_result_that_was_ended_in_the_middle_of_publishing_is_refused(tags: Path, tmp_path: Path) -> None:
    publish_to(tmp_path / "new.parquet", [make_video("/v/c.mp4", [BIKING])])
    (tmp_path / "new.videos.parquet").replace(tmp_path / "tags.videos.parquet")
    Ledger.open(find_output(tags).run_folder, IDENTITY)
    done = vtag("events", tags)
    assert (done.exit_code, done.stderr) == (
        1,
        f"vtag: {tags}: its last run was ended in the middle of publishing; the same command continues from there\n",
    )


def test_an_unknown_label_is_refused_with_a_suggestion(tags: Path, tmp_path: Path) -> None:
    message = f"vtag: {tags} has no label 'Bikking'; did you mean Biking?\n"
    for command in (
        ["events", tags, "--label", "Bikking"],
        ["search", tags, "Bikking"],
        ["cut", tags, "--label", "Bikking", "--out", tmp_path / "clips"],
    ):
        done = vtag(*command)
        assert (done.exit_code, done.stdout, done.stderr) == (1, "", message)
    assert not (tmp_path / "clips").exists()


def test_wrong_usage_is_refused(tags: Path, tmp_path: Path) -> None:
    assert "2 is even; give an odd number" in vtag("events", tags, "--smooth", "2").stderr
    both = vtag("events", tags, "--json", "--csv")
    assert both.exit_code == 2 and "--json and --csv cannot be used together" in both.stderr
    assert vtag("search", tags, "a", "--csv", "--out", "x.parquet").exit_code == 2
    assert vtag("cut", tags, "--out", tmp_path / "clips").exit_code == 2
    both = vtag("cut", tags, "--label", "a", "--moments", tags, "--out", tmp_path / "clips")
    assert both.exit_code == 2 and "give either --label LABEL or --moments FILE.csv" in both.stderr
    for option, value in (("--top", 5), ("--min-confidence", 0.5)):
        ignored = vtag("cut", tags, "--moments", tags, option, value, "--out", tmp_path / "clips")
        assert ignored.exit_code == 2 and f"{option} would change nothing: with --moments" in ignored.stderr
    address = vtag("cut", tags, "--label", "a", "--out", "s3://bucket/clips")
    assert address.exit_code == 2 and "--out is an address" in address.stderr


def test_an_answer_never_replaces_a_result(tags: Path, tmp_path: Path) -> None:
    publish_to(tmp_path / "other.parquet", [make_video("/v/a.mp4", [BIKING])])
    publish(tmp_path / "folder")
    for path in sorted(tmp_path.rglob("*.parquet")):
        before = path.read_bytes()
        done = vtag("events", tags, "--out", path)
        assert (done.exit_code, path.read_bytes() == before) == (1, True), path
        assert done.stderr.endswith("is a result of vtag run; choose another name for the answer\n")
    assert vtag("events", tags, "--out", tmp_path / "e.parquet").exit_code == 0
    assert vtag("events", tags, "--out", tmp_path / "e.parquet", "--no-background").exit_code == 0
    assert len(pq.read_table(tmp_path / "e.parquet")) == 4


@pytest.mark.parametrize("place", ["tags/events.parquet", "tags/parts/events.parquet", "./tags/../tags/tags/e.parquet"])
def test_nothing_is_written_into_the_folder_of_a_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    publish("tags")
    before = sorted(tmp_path.rglob("*"))
    for command in (["events", "tags"], ["cut", "tags", "--label", "biking"]):
        done = vtag(*command, "--out", place)
        assert (done.exit_code, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.endswith(" is in the folder of the result; choose another place\n")
    assert sorted(tmp_path.rglob("*")) == before
    assert vtag("events", "tags", "--out", "tags-events.parquet").exit_code == 0


@pytest.mark.parametrize("name", ["events.csv", "none/events.parquet", "nul\0.parquet"])
def test_an_answer_that_cannot_be_written_is_refused_in_one_line(tags: Path, tmp_path: Path, name: str) -> None:
    done = vtag("events", tags, "--out", tmp_path / name)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"vtag: --out {tmp_path}/")


def test_moments_are_cut_into_clips(tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", seconds=8, rate=25)
    publish_to(tmp_path / "t.parquet", [make_video(str(video), [BIKING, SWING, BIKING, BIKING])])
    publish_to(tmp_path / "t.parquet", [make_video("/v/gone.mp4", [BIKING])])
    # The made-up result has the wrong size.
    _set_sizes(tmp_path / "t.videos.parquet", video.stat().st_size)
    clips = tmp_path / "clips"
    done = vtag("cut", tmp_path / "t.parquet", "--label", "biking", "--label", "swing", "--exact", "--out", clips)
    assert done.exit_code == 3
    assert done.stderr == "vtag: /v/gone.mp4: does not exist\n"
    assert done.stdout.endswith("\n3 clips\n")
    found = sorted(path for path in clips.rglob("*.mp4"))
    assert [path.name.rpartition("_")[2] for path in found] == ["0.00-2.00.mp4", "4.00-8.00.mp4", "2.00-4.00.mp4"]
    assert [_first_frame(path) for path in found] == [0, 100, 50]
    again = json.loads(vtag("cut", tmp_path / "t.parquet", "--label", "biking", "--json", "--out", clips).stdout)
    assert [clip["begins_s"] for clip in again["clips"]] == [0.0, pytest.approx(96 / 25)]
    assert again["failures"] == [{"video": "/v/gone.mp4", "reason": "does not exist"}]
    swing = vtag("cut", tmp_path / "t.parquet", "--label", "s", "--csv", "--out", clips)
    rows = list(csv.DictReader(io.StringIO(swing.stdout)))
    assert [(row["label"], row["group"], row["source_start_s"]) for row in rows] == [("Swing", str(video), "2.0")]
    none = vtag("cut", tmp_path / "t.parquet", "--label", "s", "--min-confidence", "0.9", "--out", clips)
    assert none.exit_code == 0
    assert none.stderr == f"vtag: note: {tmp_path}/t.parquet has no segment of Swing with a confidence of 0.9 or more\n"


def test_the_moments_of_a_csv_file_are_cut_into_clips(tmp_path: Path) -> None:
    video = encode(tmp_path / "a.mp4", seconds=8, rate=25)
    tags = tmp_path / "t.parquet"
    publish_to(tags, [make_video(str(video), [BIKING, SWING, BIKING, SWING])])
    _set_sizes(tmp_path / "t.videos.parquet", video.stat().st_size)
    marks = tmp_path / "marks.csv"
    marks.write_text(vtag("uncertain", tags, "--top", "1", "--csv").stdout)
    done = vtag("cut", tags, "--moments", marks, "--exact", "--out", tmp_path / "clips")
    assert (done.exit_code, done.stderr) == (0, "")
    (clip,) = (tmp_path / "clips").rglob("*.mp4")
    assert (clip.relative_to(tmp_path / "clips").parts[0], _first_frame(clip)) == ("unlabelled", 50)
    marks.write_text(f"video;start_s;end_s;label\n{video};4,5;6;Wheelie\n")
    done = vtag("cut", tags, "--moments", marks, "--exact", "--json", "--out", tmp_path / "clips")
    assert [(clip["label"], clip["source_start_s"]) for clip in json.loads(done.stdout)["clips"]] == [("Wheelie", 4.5)]
    marks.write_text("video,start_s,end_s\n")
    done = vtag("cut", tags, "--moments", marks, "--out", tmp_path / "clips")
    assert (done.exit_code, done.stderr) == (0, f"vtag: note: {marks} has no moments\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("video,start_s,label\n", "has no column 'end_s'; its columns are video, start_s, label"),
        ("video,start_s,end_s\n/v/a.mp4,3,2\n", "marks.csv, line 2 is no moment: give a video, start_s, and an end_s"),
        ("video,start_s,end_s\n/v/a.mp4,nan,2\n", "marks.csv, line 2 is no moment"),
        ("video,start_s,end_s\n/v/a.mp4,0,inf\n", "marks.csv, line 2 is no moment"),
        ("video,start_s,end_s\n,0,1\n", "marks.csv, line 2 is no moment"),
        ("video,start_s,end_s\n/v/x.mp4,0,1\n", "has no video '/v/x.mp4'; give its path or address as in the result"),
        ("", "has no column 'video'; its columns are none"),
    ],
)
def test_a_csv_file_that_holds_no_moments_is_refused_in_one_line(
    tags: Path, tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "marks.csv").write_text(text)
    done = vtag("cut", tags, "--moments", tmp_path / "marks.csv", "--out", tmp_path / "clips")
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert reason in done.stderr and not (tmp_path / "clips").exists()


def _set_sizes(videos: Path, size: int) -> None:
    table = pq.read_table(videos)
    at = table.schema.get_field_index("size")
    pq.write_table(table.set_column(at, table.schema.field(at), [[size] * len(table)]), videos)


def _first_frame(clip: Path) -> int:
    import av

    with av.open(str(clip)) as container:
        return read_frame_number(next(container.decode(video=0)).to_ndarray(format="rgb24"))
