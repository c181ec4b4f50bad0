import json
import os
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from jobs.job import Video
from jobs.ledger import RECORD_SCHEMA, Ledger, RunIdentity, read_identity, remove
from tagger import Sampling
from tagger.errors import OutputError
from tagger.schema import TAGS_SCHEMA
from tests.jobs.finished import make_finished

IDENTITY = RunIdentity("ucf20", "abc123", Sampling().to_json(), 5)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger.create(tmp_path / "tags.parquet.run", IDENTITY, {"started": "now"})


def test_a_new_run_folder_says_what_its_rows_depend_on(ledger: Ledger) -> None:
    assert read_identity(ledger.folder) == IDENTITY
    assert json.loads((ledger.folder / "plan.json").read_text())["started"] == "now"


def test_a_folder_without_a_plan_is_no_run(tmp_path: Path) -> None:
    assert read_identity(tmp_path) is None
    assert read_identity(tmp_path / "gone") is None


def test_a_damaged_plan_is_an_error_that_says_how_to_start_over(ledger: Ledger) -> None:
    (ledger.folder / "plan.json").write_text("{")
    with pytest.raises(OutputError, match="--overwrite"):
        read_identity(ledger.folder)


def test_committed_videos_are_kept_by_whoever_opens_the_folder_next(ledger: Ledger) -> None:
    first, second = make_finished("/v/a.mp4"), make_finished("/v/b.mp4", "")
    ledger.commit([first])
    ledger.commit([second])
    again = Ledger(ledger.folder)
    assert again.kept(first.video) == ledger.kept(first.video)
    assert again.kept(second.video) is not None
    assert again.kept(Video("/v/c.mp4", 1000, first.video.mtime_ns)) is None


def test_a_video_that_has_changed_is_not_kept(ledger: Ledger) -> None:
    done = make_finished("/v/a.mp4")
    ledger.commit([done])
    assert ledger.kept(replace(done.video, size=1001)) is None
    # By less than a microsecond, which is as fine as the result's column is.
    assert ledger.kept(replace(done.video, mtime_ns=done.video.mtime_ns + 1)) is None


def test_a_video_read_again_counts_as_it_was_read_last(ledger: Ledger) -> None:
    ledger.commit([make_finished("/v/a.mp4", "a", mtime_ns=1)])
    ledger.commit([make_finished("/v/a.mp4", "b", mtime_ns=2)])
    again = Ledger(ledger.folder)
    assert again.kept(Video("/v/a.mp4", 1000, 1)) is None
    kept = again.kept(Video("/v/a.mp4", 1000, 2))
    assert kept is not None
    assert pq.read_table(ledger.tags_part(kept.part))["label"].to_pylist() == ["b"]


def test_parts_have_the_columns_of_the_result(ledger: Ledger) -> None:
    ledger.commit([make_finished("/v/a.mp4")])
    assert sorted(path.name for path in ledger.folder.iterdir()) == [
        "part-000000.tags.parquet",
        "part-000000.videos.parquet",
        "plan.json",
    ]
    assert pq.read_schema(ledger.tags_part(0)).equals(TAGS_SCHEMA)
    assert pq.read_schema(ledger.videos_part(0)).equals(RECORD_SCHEMA)


def test_a_commit_that_broke_off_halfway_is_as_good_as_absent_and_written_over(ledger: Ledger) -> None:
    ledger.commit([make_finished("/v/a.mp4")])
    ledger.commit([make_finished("/v/b.mp4", "x")])
    ledger.videos_part(1).unlink()
    again = Ledger(ledger.folder)
    assert again.kept(make_finished("/v/b.mp4").video) is None
    again.commit([make_finished("/v/c.mp4", "yy")])
    assert set(pq.read_table(ledger.tags_part(1))["video"].to_pylist()) == {"/v/c.mp4"}


def test_the_record_of_a_commit_is_written_after_its_rows(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    replace_file = Path.replace

    def note(self: Path, target: Path) -> Path:
        order.append(Path(target).name)
        return replace_file(self, target)

    monkeypatch.setattr(Path, "replace", note)
    ledger.commit([make_finished("/v/a.mp4")])
    assert order == ["part-000000.tags.parquet", "part-000000.videos.parquet"]


def test_a_file_name_that_is_not_text_is_kept_like_any_other(ledger: Ledger) -> None:
    done = make_finished(os.fsdecode(b"/v/caf\xe9.mp4"))
    ledger.commit([done])
    assert Ledger(ledger.folder).kept(done.video) is not None
    assert pq.read_table(ledger.tags_part(0))["video"][0].as_py() == "file:///v/caf%E9.mp4"


def test_removing_a_run_folder_leaves_what_is_not_its_own(ledger: Ledger) -> None:
    ledger.commit([make_finished("/v/a.mp4")])
    (ledger.folder / "mine.txt").touch()
    remove(ledger.folder)
    assert [path.name for path in ledger.folder.iterdir()] == ["mine.txt"]
    (ledger.folder / "mine.txt").unlink()
    remove(ledger.folder)
    assert not ledger.folder.exists()
