from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from jobs.archive.fingerprint import contents_of, current_fingerprint
from jobs.archive.video import Video
from jobs.archive.videos import Videos
from jobs.result.compare.changes import Changes, Origins, find_changes, find_moves, settled
from jobs.result.compare.records import Records, read_records
from jobs.result.ledger import committed_parts
from jobs.result.output import choose_output
from jobs.tagging.finished.collector import FinishedVideo
from tagger.clips import VideoEnd
from tests.jobs.result.finished import commit_to, make_finished

DONE = make_finished("/v/a.mp4")
BAD = make_finished("/v/bad.mp4", "")


def fail_when_read(path: str) -> str | None:
    raise AssertionError(f"{path} need not be opened")


def compare(
    videos: list[Video],
    records: Records,
    *,
    retry_failed: bool = False,
    read_fingerprint: Callable[[str], str | None] = current_fingerprint,
) -> Changes:
    changes, _ = find_changes(Videos.of(videos), records, retry_failed=retry_failed)
    return settled(changes, contents_of(read_fingerprint(video.path) for video in changes.unsure.videos))


@pytest.fixture
def records(tmp_path: Path) -> Records:
    output = choose_output(tmp_path / "t.parquet")
    unstable = replace(
        make_finished("/v/growing.mp4"), end=VideoEnd("partial", 2, error_kind="changed", error="it grew")
    )
    commit_to(output, [DONE, BAD, unstable, make_finished("/v/gone.mp4")])
    return read_records(committed_parts(output.run_folder))


def test_an_unchanged_video_is_kept_without_being_opened(records: Records) -> None:
    changes = compare([DONE.video, BAD.video], records, read_fingerprint=fail_when_read)
    assert changes == Changes(unchanged=2, gone=2)
    assert not changes.todo


def test_an_error_that_may_pass_is_tried_again_by_the_next_run_and_not_by_this_one(tmp_path: Path) -> None:
    output = choose_output(tmp_path / "t.parquet")
    video = replace(BAD, end=replace(BAD.end, error_kind="crashed"))
    commit_to(output, [video])
    parts = committed_parts(output.run_folder)
    assert compare([video.video], read_records(parts)).retried == Videos.of([video.video])
    assert compare([video.video], read_records((), parts)).unchanged == 1
    again = compare([video.video], read_records((), parts), retry_failed=True)
    assert (list(again.retried), again.earlier[video.video.path].attempts) == ([video.video], 1)


def test_a_video_without_a_record_is_new(records: Records) -> None:
    new = Video("/v/new.mp4", 5, 7)
    assert compare([new], records, read_fingerprint=fail_when_read) == Changes(new=Videos.of([new]), gone=4)
    assert list(compare([new], read_records([])).todo) == [new]


def test_a_video_of_another_size_has_changed(records: Records) -> None:
    video = replace(DONE.video, size=1001)
    assert compare([video], records, read_fingerprint=fail_when_read).changed == Videos.of([video])


# File systems store times to the nanosecond.
@pytest.mark.parametrize("later_ns", [1, 10**9, -(10**9)])
def test_with_another_modification_time_the_content_decides(records: Records, later_ns: int) -> None:
    assert DONE.version is not None
    video = replace(DONE.video, mtime_ns=DONE.video.mtime_ns + later_ns)
    same = compare([video], records, read_fingerprint=lambda path: DONE.version and DONE.version.fingerprint)
    assert (list(same.touched), list(same.todo)) == ([video], [])
    for other in ("something else", None):
        assert compare([video], records, read_fingerprint=lambda path, other=other: other).changed == Videos.of([video])


def test_a_video_that_changed_while_it_was_read_is_read_again(records: Records) -> None:
    video = make_finished("/v/growing.mp4").video
    assert compare([video], records, read_fingerprint=fail_when_read).changed == Videos.of([video])


def test_a_video_that_could_not_be_read_is_tried_again_only_when_asked(records: Records) -> None:
    changes = compare([DONE.video, BAD.video], records, retry_failed=True, read_fingerprint=fail_when_read)
    assert (list(changes.retried), changes.unchanged, list(changes.todo)) == ([BAD.video], 1, [BAD.video])


def test_the_content_of_real_files_is_compared(tmp_path: Path) -> None:
    import os

    from jobs.archive.fingerprint import fingerprint
    from jobs.archive.video import Version

    file = tmp_path / "a.mp4"
    file.write_bytes(b"content")
    status = file.stat()
    version = Version(status.st_size, status.st_mtime_ns, fingerprint(file))
    output = choose_output(tmp_path / "t.parquet")
    commit_to(output, [replace(make_finished(str(file)), version=version)])
    records = read_records(committed_parts(output.run_folder))
    os.utime(file, ns=(1, 1))
    video = Video(str(file), status.st_size, 1)
    assert compare([video], records).touched == Videos.of([video])
    file.write_bytes(b"Content")
    assert compare([video], records).changed == Videos.of([video])
    assert compare([replace(video, path=str(tmp_path / "gone.mp4"))], records).new


def test_a_missing_video_is_kept_until_it_appears(tmp_path: Path) -> None:
    output = choose_output(tmp_path / "t.parquet")
    missing: FinishedVideo = replace(make_finished("/v/a.mp4", ""), version=None, video=Video("/v/a.mp4", 0, 0))
    commit_to(output, [missing])
    records = read_records(committed_parts(output.run_folder))
    assert compare([Video("/v/a.mp4", 0, 0)], records, read_fingerprint=fail_when_read).unchanged == 1
    there = Video("/v/a.mp4", 9, 9)
    assert compare([there], records, read_fingerprint=fail_when_read).changed == Videos.of([there])


def test_a_listed_video_that_was_removed_is_gone_and_not_read_again(records: Records) -> None:
    missing = replace(DONE.video, size=0, mtime_ns=0)
    changes = compare([missing, BAD.video], records, retry_failed=True, read_fingerprint=fail_when_read)
    assert (list(changes.todo), list(changes.missing), changes.gone) == ([BAD.video], [missing], 3)


def test_the_later_record_counts(tmp_path: Path) -> None:
    output = choose_output(tmp_path / "t.parquet")
    old, new = make_finished("/v/a.mp4", mtime_ns=1), make_finished("/v/a.mp4", mtime_ns=2)
    commit_to(output, [old], [new])
    records = read_records((), committed_parts(output.run_folder))
    assert compare([new.video], records, read_fingerprint=fail_when_read).unchanged == 1
    assert compare([old.video], records, read_fingerprint=lambda path: "x").changed == Videos.of([old.video])
    assert len(records) == 1


def moves(new: dict[str, str | None], origins: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns the old and new names of moved videos. Gets the contents of new videos, and records in any order."""
    names, contents = zip(*origins, strict=True)
    videos = Videos.of(Video(name, 5, 7) for name in new)
    recorded = Origins(pa.array(names, pa.large_string()), contents_of(contents))
    found, is_moved = find_moves(videos, contents_of(new[video.path] for video in videos), recorded)
    assert videos.filter(is_moved) == found.videos
    return list(zip(found.old_names.to_pylist(), found.videos.names.to_pylist(), strict=True))


def test_moved_videos_are_found_by_their_content_in_any_order() -> None:
    new = {"/n/a": "s1:1", "/n/b": "s1:2", "/n/c": "s1:9", "/n/d": None, "/n/e": "s1:3"}
    origins = [("/o/x", "s1:3"), ("/o/y", "s1:1"), ("/o/z", "s1:4"), ("/o/w", "s1:2")]
    assert moves(new, origins) == [("/o/y", "/n/a"), ("/o/w", "/n/b"), ("/o/x", "/n/e")]


def test_each_record_is_the_origin_of_one_copy_and_of_one_with_its_file_name_if_there_is_one() -> None:
    new = {"/n/1": "s1:1", "/n/2": "s1:1", "/n/3": "s1:1", "/n/4": "s1:4"}
    assert moves(new, [("/o/3", "s1:1"), ("/p/3", "s1:1")]) == [("/p/3", "/n/1"), ("/o/3", "/n/3")]
    assert moves(new, [("/o/2", "s1:1")]) == [("/o/2", "/n/2")]
    assert moves({"/n/1": "s1:1"}, [("/o/2", "s1:1"), ("/o/1", "s1:1")]) == [("/o/1", "/n/1")]
