"""A video that was moved or renamed keeps its rows, under its new name, and is not read again."""

import os
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import jobs.archive.fingerprint
from jobs.archive.fingerprint import contents_of, current_fingerprint
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.result.ledger import Ledger, has_only_contents, read_moved
from jobs.result.output import choose_output
from jobs.result.rewrite.exclusive import rewriting
from jobs.result.verify import verify
from jobs.tagging import run
from jobs.tagging.dry_run import dry_run
from jobs.tagging.plan import make_plan, settle
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Progress, Summary
from tagger.errors import OutputError
from tests.jobs.tagging.killed import LOG, DriverWithoutRay

NAMES = ("a/one.mp4", "a/two.mp4", "b/three.mp4")


@pytest.fixture(autouse=True)
def fingerprints(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Replaces Ray, and fingerprints by the content. Gives a list of the files that are fingerprinted."""
    looked_at: list[Path] = []

    def fingerprint(path: str) -> str:
        looked_at.append(Path(path))
        return "s1:" + Path(path).read_bytes().hex()

    monkeypatch.setattr(jobs.archive.fingerprint, "fingerprint", fingerprint)
    monkeypatch.setattr(run, "RayDriver", DriverWithoutRay)
    return looked_at


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three videos in two folders. Two have the same size."""
    for number, name in enumerate(NAMES):
        path = tmp_path / "videos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x" * (4 if number else 3) + str(number))
    return tmp_path / "videos"


@pytest.fixture(params=["tags.parquet", "tags"])
def done(request: pytest.FixtureRequest, archive: Path, tmp_path: Path) -> RunConfig:
    config = RunConfig((str(archive),), tmp_path / request.param)
    assert run_job(make_plan(config)).videos == len(NAMES)
    (archive / LOG).unlink()
    return config


def rows(summary: Summary) -> dict[str, list[str]]:
    """Returns the labels of each video, by its path."""
    found: dict[str, list[str]] = {name: [] for name in pq.read_table(summary.videos_out)["video"].to_pylist()}
    for row in pq.read_table(summary.out).to_pylist():
        found[row["video"]].append(row["label"])
    return found


def read_again(archive: Path) -> list[str]:
    """Returns the names of the videos that were read since the first job."""
    return [name for log in archive.parent.rglob(LOG) for name in log.read_text().split()]


def run_and_interrupt(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a job that is interrupted when it reads the first video."""

    def interrupt(*_: object) -> pa.Table:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(Exception, match="interrupted"):
        patch.setattr("tests.jobs.tagging.killed.rows_of", interrupt)
        run_job(make_plan(config))


def test_a_renamed_video_keeps_its_rows_under_its_new_name(
    done: RunConfig, archive: Path, fingerprints: list[Path]
) -> None:
    (archive / "a/two.mp4").rename(archive / "b/zwei.mp4")
    plan = make_plan(done)
    found = {"new": 0, "unsure": 1, "moved_or_gone": 1, "kept": 2, "gone": 0, "videos": 3}
    assert vars(dry_run(plan)).items() >= found.items()
    assert fingerprints == [], "a dry run reads no content"
    summary = run_job(plan)
    assert (summary.moved, summary.new, summary.kept, summary.gone, summary.failures) == (1, 0, 3, 0, ())
    assert rows(summary) == {
        str(archive / "a/one.mp4"): list("xxx0"),
        str(archive / "b/three.mp4"): list("xxxx2"),
        str(archive / "b/zwei.mp4"): list("xxxx1"),
    }
    assert read_again(archive) == []
    assert fingerprints == [archive / "b/zwei.mp4"], "each file is looked at once"
    assert verify(summary.out if done.out != archive.parent / "tags" else str(done.out)).problem is None
    assert make_plan(done).is_done


def test_a_whole_archive_on_another_mount_point_is_looked_at_and_not_read(
    done: RunConfig, archive: Path, fingerprints: list[Path]
) -> None:
    mount = archive.parent / "mount"
    archive.rename(mount)
    moved = replace(done, inputs=(str(mount),))
    summary = run_job(make_plan(moved))
    assert (summary.moved, summary.videos, summary.gone) == (3, 3, 0)
    assert rows(summary) == {
        str(mount / "a/one.mp4"): list("xxx0"),
        str(mount / "a/two.mp4"): list("xxxx1"),
        str(mount / "b/three.mp4"): list("xxxx2"),
    }
    assert read_again(archive) == []
    assert sorted(fingerprints) == sorted(mount / name for name in NAMES)
    assert make_plan(moved).is_done


def test_the_progress_counts_the_compared_videos_until_the_end(done: RunConfig, archive: Path) -> None:
    (archive / "a/two.mp4").rename(archive / "b/zwei.mp4")
    (archive / "b/new.mp4").write_text("new")
    seen: list[Progress] = []
    run_job(make_plan(done), seen.append)
    counts = {(one.phase, one.videos_kept, one.videos_unsure, one.videos_compared) for one in seen}
    assert counts >= {("comparing", 2, 1, 0), ("tagging", 3, 1, 1), ("publishing", 3, 1, 1)}


def test_the_new_rows_have_the_time_of_the_new_file(done: RunConfig, archive: Path) -> None:
    (archive / "a/two.mp4").rename(archive / "a/zwei.mp4")
    os.utime(archive / "a/zwei.mp4", ns=(5, 1_600_000_000_123_456_789))
    table = pq.read_table(run_job(make_plan(done)).videos_out)
    row = next(row for row in table.to_pylist() if row["video"].endswith("zwei.mp4"))
    assert row["mtime_ns"] == 1_600_000_000_123_456_789
    assert row["mtime"].isoformat() == "2020-09-13T12:26:40.123456+00:00"


def test_a_copy_beside_the_original_is_a_new_video(done: RunConfig, archive: Path) -> None:
    (archive / "b/copy.mp4").write_bytes((archive / "a/two.mp4").read_bytes())
    summary = run_job(make_plan(done))
    assert (summary.moved, summary.new, summary.videos) == (0, 1, 4)
    assert read_again(archive) == ["copy.mp4"]


def test_a_copy_of_a_video_that_is_not_in_the_inputs_but_at_its_place_is_new(done: RunConfig, archive: Path) -> None:
    (archive / "b/copy.mp4").write_bytes((archive / "a/two.mp4").read_bytes())
    summary = run_job(make_plan(replace(done, inputs=(str(archive / "b"),))))
    assert (summary.moved, summary.new, summary.videos) == (0, 1, 4)


def test_a_video_of_the_same_size_and_other_content_is_read(done: RunConfig, archive: Path) -> None:
    (archive / "a/two.mp4").unlink()
    (archive / "b/other.mp4").write_text("other")
    summary = run_job(make_plan(done))
    assert (summary.moved, summary.new, summary.gone, summary.videos) == (0, 1, 1, 4)


def test_a_place_that_cannot_be_looked_at_keeps_its_rows(
    done: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jobs.archive import gone

    (archive / "a/two.mp4").rename(archive / "b/two.mp4")
    lstat = gone.os.lstat

    def fail(path: str) -> os.stat_result:
        if str(path) == str(archive / "a/two.mp4"):
            raise OSError(116, "Stale file handle")
        return lstat(path)

    monkeypatch.setattr(gone.os, "lstat", fail)
    summary = run_job(make_plan(done))
    assert (summary.moved, summary.new, summary.videos) == (0, 1, 4)


def test_of_two_copies_each_keeps_the_rows_of_the_one_with_its_file_name(done: RunConfig, archive: Path) -> None:
    (archive / "a/copy.mp4").write_bytes((archive / "a/two.mp4").read_bytes())
    run_job(make_plan(done))
    (archive / "c").mkdir()
    for name in ("copy.mp4", "two.mp4"):
        (archive / "a" / name).rename(archive / "c" / name)
    plan = make_plan(done)
    moves = settle(plan, contents_of(current_fingerprint(one.path) for one in plan.changes.unsure.videos)).changes.moved
    assert moves.old_names.to_pylist() == [str(archive / "a" / name) for name in ("copy.mp4", "two.mp4")]
    assert moves.videos.names.to_pylist() == [str(archive / "c" / name) for name in ("copy.mp4", "two.mp4")]
    assert run_job(make_plan(done)).videos == 4


def test_a_moved_video_that_comes_back_before_publication_has_rows_at_both_places(
    done: RunConfig, archive: Path
) -> None:
    (archive / "a/two.mp4").rename(archive / "b/two.mp4")
    plan = make_plan(done)
    (archive / "a/two.mp4").write_bytes((archive / "b/two.mp4").read_bytes())
    summary = run_job(plan)
    assert summary.videos == 4
    assert rows(summary)[str(archive / "a/two.mp4")] == rows(summary)[str(archive / "b/two.mp4")]


def test_an_interrupted_comparison_blocks_no_other_command_and_is_used_by_the_next(
    done: RunConfig, archive: Path, fingerprints: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    mount = archive.parent / "mount"
    archive.rename(mount)
    moved = replace(done, inputs=(str(mount),))
    output = choose_output(done.out)

    def interrupt(path: str) -> str | None:
        if path.endswith("three.mp4"):
            raise KeyboardInterrupt
        return current_fingerprint(path)

    with monkeypatch.context() as patch, pytest.raises(Exception, match="interrupted"):
        patch.setattr("jobs.tagging.contents.current_fingerprint", interrupt)
        run_job(make_plan(moved))
    assert has_only_contents(output.run_folder)
    with pytest.raises(OutputError, match=r"was made with another top-k \(5\); use --overwrite to replace it"):
        make_plan(replace(moved, top_k=1))
    with rewriting(output, output):
        pass
    fingerprints.clear()
    assert run_job(make_plan(moved)).moved == 3
    assert fingerprints == [mount / "b/three.mp4"]
    assert not output.run_folder.is_folder()


def test_an_interrupted_comparison_blocks_no_run_with_other_options(
    done: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger.open(choose_output(done.out).run_folder, make_plan(done).identity)
    ledger.note(Videos.of([Video(str(archive / "a/one.mp4"), 4, 7)]), ["s1:0"])
    done.out.rename(archive.parent / "old results")
    summary = run_job(make_plan(replace(done, top_k=1)))
    assert (summary.new, summary.videos) == (3, 3)
    assert not choose_output(done.out).run_folder.is_folder()


def test_an_interrupted_overwrite_with_contents_blocks_a_run_with_other_options(done: RunConfig, archive: Path) -> None:
    output = choose_output(done.out)
    ledger = Ledger.open(output.run_folder, make_plan(done).identity, replaces=True)
    ledger.note(Videos.of([Video(str(archive / "a/one.mp4"), 4, 7)]), ["s1:0"])
    with pytest.raises(OutputError, match="holds an interrupted run with another top-k"):
        make_plan(replace(done, top_k=1))
    with pytest.raises(OutputError, match="holds an interrupted run; finish it first"), rewriting(output, output):
        pass


def test_an_interrupted_job_removes_the_old_names_when_it_is_continued(
    done: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "a/two.mp4").rename(archive / "b/two.mp4")
    (archive / "b/new.mp4").write_text("new")
    run_and_interrupt(done, monkeypatch)
    old, new = str(archive / "a/two.mp4"), str(archive / "b/two.mp4")
    assert read_moved(choose_output(done.out).run_folder).to_pylist() == [{"old": old, "new": new}]
    summary = run_job(make_plan(done))
    assert (summary.videos, old in rows(summary), rows(summary)[new]) == (4, False, list("xxxx1"))


@pytest.mark.parametrize("places", [["b/two.mp4", "a/two.mp4"], ["b/two.mp4", "b/zwei.mp4", "a/two.mp4"]])
def test_a_video_that_is_moved_back_after_an_interruption_has_rows_at_its_place_alone(
    places: list[str], done: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (archive / "b/new.mp4").write_text("new")
    place = archive / "a/two.mp4"
    for name in places:
        place = place.rename(archive / name)
        if name != places[-1]:
            run_and_interrupt(done, monkeypatch)
    plan = make_plan(done)
    assert (len(plan.changes.moved), plan.changes.gone) == (0, 0)
    summary = run_job(plan)
    assert sorted(rows(summary)) == sorted(str(archive / name) for name in (*NAMES, "b/new.mp4"))
    assert rows(summary)[str(archive / "a/two.mp4")] == list("xxxx1")
    assert make_plan(done).is_done


def test_a_move_that_was_noted_and_never_committed_costs_no_other_video_its_rows(
    done: RunConfig, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    (archive / "a/two.mp4").rename(archive / "b/two.mp4")
    with monkeypatch.context() as patch, pytest.raises(Exception, match="interrupted"):
        patch.setattr(Ledger, "commit", interrupt)
        run_job(make_plan(done))
    (archive / "b/two.mp4").rename(archive / "b/zwei.mp4")
    (archive / "b/two.mp4").write_text("another")
    with monkeypatch.context() as patch, pytest.raises(Exception, match="interrupted"):
        patch.setattr("jobs.tagging.run.publish", interrupt)
        run_job(make_plan(done))
    (archive / "b/two.mp4").unlink()
    (archive / "b/zwei.mp4").rename(archive / "a/two.mp4")
    found = rows(run_job(make_plan(done)))
    assert sorted(found) == sorted(str(archive / name) for name in (*NAMES, "b/two.mp4"))
    assert (found[str(archive / "a/two.mp4")], found[str(archive / "b/two.mp4")]) == (list("xxxx1"), list("another"))


@pytest.mark.parametrize("retry_failed", [False, True])
def test_a_moved_video_with_an_error_that_may_pass_is_tried_again_by_the_next_run(
    retry_failed: bool, done: RunConfig, archive: Path
) -> None:
    (archive / "a/two.mp4").write_text("!bb")  # The decoder crashes after two segments.
    assert run_job(make_plan(done)).partial == 1
    old, new = archive / "a/two.mp4", archive / "b/two.mp4"
    old.rename(new)
    summary = run_job(make_plan(replace(done, retry_failed=retry_failed)))
    assert (summary.moved, summary.retried, summary.videos, summary.partial) == (1, 0, 3, 1)
    assert (str(old) in rows(summary), rows(summary)[str(new)]) == (False, ["!", "b"])
    summary = run_job(make_plan(done))
    assert (summary.retried, summary.videos) == (1, 3)
    attempts = {row["video"]: row["attempts"] for row in pq.read_table(summary.videos_out).to_pylist()}
    assert attempts[str(new)] == 2


def test_a_moved_video_that_had_failed_is_named_by_its_new_path(done: RunConfig, archive: Path) -> None:
    from jobs.tagging.finished.rows import Revisions, result_tables, revised
    from tests.jobs.result.finished import make_finished

    videos, tags, _ = result_tables([make_finished("/old/a.mp4", ""), make_finished("/old/b.mp4", "ab")])
    old_names, new_names = pa.array(["/old/a.mp4", "/old/b.mp4"]), pa.array(["/new/z.mp4", "/new/b.mp4"])
    videos, tags, _ = revised(videos, tags, None, Revisions(old_names, new_names))
    assert videos["video"].to_pylist() == ["/new/b.mp4", "/new/z.mp4"]
    assert videos["error"].to_pylist() == [None, "/new/z.mp4 is empty (0 bytes)"]
    assert tags["video"].to_pylist() == ["/new/b.mp4"] * 2
