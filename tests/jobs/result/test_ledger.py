import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.archive.fingerprint import content_of
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.result.compare.records import read_records
from jobs.result.ledger import (
    Ledger,
    committed_parts,
    has_only_contents,
    kept_tables,
    read_contents,
    read_moved,
    read_started_run,
    remove,
)
from jobs.result.output import Output, choose_output
from jobs.tagging.finished.rows import result_tables
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA, VIDEOS_SCHEMA
from tests.jobs.result.finished import IDENTITY, commit_to, make_finished


@pytest.fixture
def output(tmp_path: Path) -> Output:
    return choose_output(tmp_path / "tags.parquet")


@pytest.fixture
def ledger(output: Output) -> Ledger:
    return commit_to(output)


def folder_of(ledger: Ledger) -> Path:
    return Path(ledger.folder.path)


def recorded(ledger: Ledger) -> list[str]:
    records = read_records(committed_parts(ledger.folder))
    return sorted(records.names(np.flatnonzero(records.counts)).to_pylist())


def test_a_new_run_folder_holds_the_identity_of_the_run(ledger: Ledger) -> None:
    started = read_started_run(ledger.folder)
    assert started is not None
    assert (started.identity, started.run_id, started.replaces) == (IDENTITY, ledger.run_id, False)
    plan = json.loads((folder_of(ledger) / "plan.json").read_text())
    assert {"started", "vtag_version", "model_hash", "sampling", "top_k"} <= plan.keys()


def test_a_job_without_the_lock_does_not_note_moved_videos(ledger: Ledger) -> None:
    def fail() -> None:
        raise OutputError("taken over")

    with pytest.raises(OutputError, match="taken over"):
        Ledger(ledger.folder, fail).move(pa.array(["/old.mp4"]), pa.array(["/new.mp4"]))
    assert len(read_moved(ledger.folder)) == 0


def test_moved_videos_are_read_in_the_order_in_which_they_were_noted(ledger: Ledger) -> None:
    (folder_of(ledger) / "moved.json").write_text('{"/z.mp4": "/y.mp4"}')  # As older versions wrote them.
    ledger.move(pa.array(["/b.mp4", "/a.mp4"]), pa.array(["/c.mp4", "/d.mp4"]))
    ledger.move(pa.array(["/c.mp4"]), pa.array(["/e.mp4"]))
    moves = [tuple(row.values()) for row in read_moved(ledger.folder).to_pylist()]
    assert moves == [("/z.mp4", "/y.mp4"), ("/b.mp4", "/c.mp4"), ("/a.mp4", "/d.mp4"), ("/c.mp4", "/e.mp4")]
    remove(ledger.folder)
    assert ledger.folder.names() == []


@pytest.mark.parametrize(("name", "content"), [("moved.json", b"[]"), ("moved-000000.parquet", b"PAR1")])
def test_damaged_names_of_moved_videos_are_named(ledger: Ledger, name: str, content: bytes) -> None:
    (folder_of(ledger) / name).write_bytes(content)
    with pytest.raises(OutputError, match=rf"{name} is damaged; remove .*\.run, and its videos are tagged again"):
        read_moved(ledger.folder)


def test_a_run_that_only_compared_videos_leaves_their_content_to_the_next_run(ledger: Ledger) -> None:
    assert not has_only_contents(ledger.folder)
    ledger.note(Videos.of([Video("/a.mp4", 5, 7)]), ["s1:a"])
    ledger.log("stopped")
    assert has_only_contents(ledger.folder)
    remove(ledger.folder, keep_contents=True)
    again = Ledger.open(ledger.folder, replace(IDENTITY, top_k=1))
    assert (again.run_id != ledger.run_id, len(read_contents(again.folder))) == (True, 1)
    again.move(pa.array(["/b.mp4"]), pa.array(["/c.mp4"]))
    assert not has_only_contents(ledger.folder)


def test_the_last_noted_content_of_a_video_counts(ledger: Ledger) -> None:
    ledger.note(Videos.of([Video("/a.mp4", 5, 7), Video("/b.mp4", 5, 7)]), ["s1:a", "s1:b"])
    ledger.note(Videos.of([Video("/b.mp4", 6, 8)]), ["s1:c"])
    assert read_contents(ledger.folder).to_pylist() == [
        {"video": "/a.mp4", "size": 5, "mtime_ns": 7, "content": content_of("s1:a")},
        {"video": "/b.mp4", "size": 6, "mtime_ns": 8, "content": content_of("s1:c")},
    ]


def test_a_folder_without_a_plan_is_no_run(output: Output) -> None:
    assert read_started_run(output.run_folder) is None
    output.run_folder.create_folder()
    assert read_started_run(output.run_folder) is None


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}'])
def test_a_damaged_plan_is_an_error_that_says_how_to_start_over(ledger: Ledger, text: str) -> None:
    (folder_of(ledger) / "plan.json").write_text(text)
    with pytest.raises(OutputError, match=r"is damaged; remove .*tags\.parquet.run, and"):
        read_started_run(ledger.folder)


def test_a_run_folder_of_another_version_is_refused(ledger: Ledger) -> None:
    (folder_of(ledger) / "plan.json").write_text('{"format": 1, "vtag_version": "0.1"}')
    with pytest.raises(OutputError, match=r"another version of vtag \(0\.1\)"):
        read_started_run(ledger.folder)


def test_committed_videos_are_there_when_the_folder_is_opened_again(ledger: Ledger) -> None:
    ledger.commit(*result_tables([make_finished("/v/a.mp4"), make_finished("/v/c.mp4")]))
    ledger.commit(*result_tables([make_finished("/v/b.mp4", "")]))
    assert recorded(Ledger(ledger.folder)) == ["/v/a.mp4", "/v/b.mp4", "/v/c.mp4"]


def test_parts_are_numbered_in_order_and_have_the_columns_of_the_result(ledger: Ledger) -> None:
    ledger.commit(*result_tables([make_finished("/v/a.mp4")]))
    Ledger(ledger.folder).commit(*result_tables([make_finished("/v/b.mp4")]))
    assert sorted(path.name for path in folder_of(ledger).glob("part-*")) == [
        "part-000000.tags.parquet",
        "part-000000.videos.parquet",
        "part-000001.tags.parquet",
        "part-000001.videos.parquet",
    ]
    (part, _) = committed_parts(ledger.folder)
    assert pq.read_schema(part.tags.path).equals(TAGS_SCHEMA)
    assert pq.read_schema(part.videos.path).equals(VIDEOS_SCHEMA)


def test_an_interrupted_commit_does_not_count_and_is_overwritten(ledger: Ledger) -> None:
    ledger.commit(*result_tables([make_finished("/v/a.mp4")]))
    ledger.commit(*result_tables([make_finished("/v/b.mp4", "x")]))
    committed_parts(ledger.folder)[1].videos.delete()
    again = Ledger(ledger.folder)
    assert recorded(again) == ["/v/a.mp4"]
    again.commit(*result_tables([make_finished("/v/c.mp4", "yy")]))
    assert set(pq.read_table(committed_parts(ledger.folder)[1].tags.path)["video"].to_pylist()) == {"/v/c.mp4"}


def test_a_run_folder_that_lost_a_part_is_not_continued(ledger: Ledger) -> None:
    for path in ("/v/a.mp4", "/v/b.mp4"):
        ledger.commit(*result_tables([make_finished(path)]))
    committed_parts(ledger.folder)[0].videos.delete()
    with pytest.raises(OutputError, match="lacks parts"):
        Ledger(ledger.folder)


def test_a_file_name_that_is_not_text_is_kept_like_any_other(ledger: Ledger) -> None:
    ledger.commit(*result_tables([make_finished(os.fsdecode(b"/v/caf\xe9.mp4"))]))
    assert recorded(ledger) == ["file:///v/caf%E9.mp4"]


def test_the_log_has_events_with_their_times(ledger: Ledger) -> None:
    ledger.commit(*result_tables([make_finished("/v/a.mp4")]))
    Ledger(ledger.folder).log("started", videos=3)
    first, second = (json.loads((folder_of(ledger) / f"log-00{i}.jsonl").read_text()) for i in (0, 1))
    assert (first["event"], first["videos"], first["segments"]) == ("committed", 1, 2)
    assert (second["event"], second["videos"]) == ("started", 3)
    assert first["time"] <= second["time"]


def test_a_log_that_cannot_be_written_does_not_stop_a_commit(ledger: Ledger) -> None:
    Path(ledger.folder.path, "log-000.jsonl").mkdir()
    ledger.commit(*result_tables([make_finished("/v/a.mp4")]))
    assert len(committed_parts(ledger.folder)) == 1


def test_rows_are_kept_beside_those_that_are_left_when_a_damaged_file_was_removed(ledger: Ledger) -> None:
    rows = pa.table({"window": [1]})
    ledger.keep(rows)
    ledger.keep(rows)
    (first, second) = kept_tables(ledger.folder)
    first.delete()
    Ledger(ledger.folder).keep(rows)
    assert [file.name for file in kept_tables(ledger.folder)] == [second.name, "kept-000002.parquet"]


def test_removing_a_run_leaves_the_lock_and_other_files(ledger: Ledger) -> None:
    ledger.commit(*result_tables([make_finished("/v/a.mp4")]))
    folder = folder_of(ledger)
    (folder / "mine.txt").touch()
    (folder / "lock.json").touch()
    remove(ledger.folder)
    assert sorted(path.name for path in folder.iterdir()) == ["lock.json", "mine.txt"]


@pytest.mark.parametrize("held", [0, 1])
def test_a_commit_is_not_completed_after_another_job_has_taken_the_lock_over(ledger: Ledger, held: int) -> None:
    checks = iter([""] * held)

    def check() -> None:
        if next(checks, "lost"):
            raise OutputError("another job has taken over this output")

    with pytest.raises(OutputError, match="another job has taken over"):
        Ledger(ledger.folder, check).commit(*result_tables([make_finished("/v/a.mp4")]))
    assert committed_parts(ledger.folder) == []
    assert len(list(folder_of(ledger).glob("part-*"))) == held
