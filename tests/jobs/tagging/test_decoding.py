import os
import pickle
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import fs

from jobs.archive.fingerprint import fingerprint
from jobs.archive.video import Version
from jobs.storage import staging
from jobs.storage.room import PREFIX
from jobs.tagging import decoding
from jobs.tagging.decoding import MAX_FAILURES_IN_A_ROW, OutOfReachError, Reach, decode
from jobs.tagging.transport import PartEnd
from tagger.clips import Span, VideoEnd
from tagger.isolation import decoder_of_this_thread
from tagger.isolation.process import Process
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from tests.videos import encode


@pytest.fixture(autouse=True)
def reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test begins as a new process does."""
    monkeypatch.setattr(decoding, "_reach", Reach())


def tables(*names: str) -> Iterator[pa.Table]:
    return tables_of_videos(dict.fromkeys(names, True))


def tables_of_videos(was_listed: dict[str, bool]) -> Iterator[pa.Table]:
    """Decodes the videos with these names; the values say whether they were there at the time of listing."""
    batch = pa.table(
        {
            "video": list(range(len(was_listed))),
            "path": [os.fsencode(name) for name in was_listed],
            "was_listed": list(was_listed.values()),
            "part": [0] * len(was_listed),
            "parts": [1] * len(was_listed),
        }
    )
    return decode(batch, sampling=Sampling(), preprocessing=Preprocessing(32, 32), span_windows=1)


def ends(*names: str) -> list[tuple[VideoEnd, Version | None]]:
    column = pa.concat_tables(tables(*names)).column("end")
    read = [PartEnd.from_json(text) for text in column.to_pylist() if text is not None]
    return [(each.end, each.version) for each in read]


def version_of(path: Path) -> Version:
    return Version(path.stat().st_size, path.stat().st_mtime_ns, fingerprint(path))


def test_the_end_has_the_version_that_was_read_also_of_an_unreadable_video(tmp_path: Path) -> None:
    good = encode(tmp_path / os.fsdecode(b"good \xff.mp4"), seconds=5)
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    (good_end, good_version), (text_end, text_version) = ends(str(good), str(text))
    assert (good_end.status, good_version) == ("ok", version_of(good))
    assert (text_end.error_kind, text_version) == ("not_video", version_of(text))


def test_a_missing_file_has_no_version_and_a_folder_no_fingerprint(tmp_path: Path) -> None:
    folder = tmp_path / "folder.mp4"
    folder.mkdir()
    (missing, no_version), (refused, version) = ends(str(tmp_path / "gone.mp4"), str(folder))
    assert (missing.error_kind, no_version) == ("missing", None)
    assert refused.status == "failed"
    assert version is not None and version.fingerprint is None


@pytest.fixture
def names(tmp_path: Path) -> list[str]:
    """Videos that this node does not see: their mount has gone away, and five make it stop."""
    return [str(tmp_path / f"mount/{i}.mp4") for i in range(MAX_FAILURES_IN_A_ROW)]


def test_a_node_stops_decoding_after_five_videos_in_a_row_that_it_cannot_reach(names: list[str]) -> None:
    ended = []
    with pytest.raises(OutOfReachError, match=r"5 videos in a row .*4.mp4 .*; check the disk, the mount") as caught:
        ended.extend(tables(*names))
    assert len(ended) == MAX_FAILURES_IN_A_ROW - 1
    assert pickle.loads(pickle.dumps(caught.value)).video == names[-1]


def test_the_videos_in_a_row_are_counted_over_all_tasks_of_a_process(names: list[str]) -> None:
    for name in names[:-1]:
        ends(name)
    with pytest.raises(OutOfReachError):
        ends(names[-1])
    # It counts anew.
    ends(names[0])


def test_a_video_that_can_be_opened_ends_the_row(names: list[str], tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    ends(*names[:-1], str(tmp_path / "text.mp4"), *names[:-1], str(tmp_path / "text.mp4"))


def test_videos_that_were_not_there_before_or_were_deleted_are_not_out_of_reach(
    names: list[str], tmp_path: Path
) -> None:
    assert len(list(tables_of_videos(dict.fromkeys(names, False)))) == len(names)
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount/other.mp4").write_text("still there")
    assert len(ends(*names)) == len(names)


def test_parts_of_one_video_out_of_reach_count_once(names: list[str]) -> None:
    reach, end = Reach(), VideoEnd("failed", 0, error_kind="missing", error="it is missing")
    for _ in range(2 * MAX_FAILURES_IN_A_ROW):
        reach.check(names[0], end, was_listed=True, node=None)


@pytest.mark.parametrize("can_be_opened", [True, False])
def test_a_file_that_cannot_be_read_is_out_of_reach_only_if_it_cannot_be_opened(
    can_be_opened: bool, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(name: str, *_: object, **__: object) -> Iterator[tuple[Span, None]]:
        end = VideoEnd("failed", 0, error_kind="io", error="Input/output error")
        yield Span((), np.empty((0, 16, 32, 32, 3), np.uint8), end), None

    monkeypatch.setattr(decoding, "read_video", read)
    monkeypatch.setattr(decoding, "can_be_opened", lambda name: can_be_opened)
    if can_be_opened:
        assert len(ends(*names)) == len(names)
    else:
        with pytest.raises(OutOfReachError):
            ends(*names)


@pytest.mark.parametrize("moment", ["before the fingerprint", "after the fingerprint", "after the first window"])
def test_a_video_that_is_written_to_while_it_is_read_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    path = encode(tmp_path / "clip.mp4", seconds=7)
    other = encode(tmp_path / "other.mp4", seconds=5, rate=25).read_bytes()
    before = path.stat()

    def fingerprint_and_overwrite(name: str) -> str:
        if moment == "before the fingerprint":
            path.write_bytes(other)
        content = fingerprint(name)
        if moment == "after the fingerprint":
            path.write_bytes(other)
        return content

    monkeypatch.setattr(decoding, "fingerprint", fingerprint_and_overwrite)
    rows = []
    for table in tables(str(path)):
        rows += table.to_pylist()
        if moment == "after the first window" and len(rows) == 1:
            path.write_bytes(other)
    read = PartEnd.from_json(rows[-1]["end"])
    end, version = read.end, read.version
    assert (end.status, end.error_kind) == ("partial", "changed")
    assert end.windows == len(rows)
    assert version == Version(before.st_size, before.st_mtime_ns, None)


def test_a_video_in_a_bucket_has_the_version_of_the_bucket_and_messages_name_its_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = encode(tmp_path / "clip.mp4", seconds=5, container_options={"movflags": "faststart"})
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole.read_bytes()[:-5000])
    copies = []

    def download(address: str, to: Path, on_open: object) -> fs.FileInfo:
        copies.append(to)
        source = tmp_path / address.rpartition("/")[2]
        to.write_bytes(source.read_bytes())
        return fs.FileInfo(address, fs.FileType.File, size=source.stat().st_size, mtime_ns=10**18)

    monkeypatch.setattr(staging, "locate", lambda address: address)
    monkeypatch.setattr(staging, "download", download)
    (read, version), (partial, cut_version), (missing, no_version) = ends(
        "s3://bucket/clip.mp4", "s3://bucket/cut.mp4", "s3://bucket/gone.mp4"
    )
    assert (read.status, version) == ("ok", Version(whole.stat().st_size, 10**18, fingerprint(whole)))
    assert (partial.error_kind, partial.status) == ("damaged", "partial")
    assert cut_version == Version(cut.stat().st_size, 10**18, fingerprint(cut))
    assert partial.error is not None and partial.error.startswith("s3://bucket/cut.mp4")
    assert PREFIX not in repr((read, partial, missing))
    assert (missing.error_kind, no_version) == ("missing", None)
    assert len(copies) == 3 and not any(path.exists() for path in copies)


def test_a_decoder_that_is_killed_while_it_starts_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = encode(tmp_path / "clip.mp4", seconds=3)
    wait_until_ready, killed = Process._wait_until_ready, []

    def kill_first(process: Process) -> None:
        if not killed:
            killed.append(process.pid)
            os.kill(process.pid, signal.SIGKILL)
        wait_until_ready(process)

    monkeypatch.setattr(Process, "_wait_until_ready", kill_first)
    decoder_of_this_thread().close()
    ((end, _),) = ends(str(path))
    assert (end.status, len(killed)) == ("ok", 1)
