"""A live picture is kept as a result in a folder."""

import errno
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from click.testing import Result

from jobs.archive.folders import Folders
from jobs.archive.gone import find_gone
from jobs.cli import main
from jobs.result.output import find_output
from jobs.result.publish import publish
from jobs.result.verify import verify
from jobs.watching import rolled_parts
from jobs.watching.rolled_parts import RolledParts
from tagger import OutputError, Sampling
from tests.click_runner import CliRunner
from tests.jobs.watching.made_up import BEGUN_AT, SAMPLING, labelled, made_up

MODEL: Any = SimpleNamespace(name="actions38", hash="abc123")

SOURCE = "rtsp://camera/1"


def parts(out: Path, roll_s: float = 600.0, sampling: Sampling = SAMPLING) -> RolledParts:
    return RolledParts(str(out), SOURCE, MODEL, sampling, 3, roll_s)


def vtag(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def videos(out: Path) -> list[tuple[str, str, int]]:
    return duckdb.sql(f"SELECT video, status, segments FROM '{out}/videos/*.parquet' ORDER BY 1").fetchall()


@pytest.mark.parametrize(("source", "name"), [("a.mp4", "a.mp4"), (os.fsdecode(b"a \xff.mp4"), "a%20%FF.mp4")])
def test_a_part_of_a_file_is_not_taken_for_a_video_that_is_gone(source: str, name: str, tmp_path: Path) -> None:
    path, out = tmp_path / source, tmp_path / "seen"
    with RolledParts(str(out), str(path), MODEL, SAMPLING, 3, 600.0) as kept:
        kept.add(labelled("Biking")[0])
    ((video, *_),) = videos(out)
    assert video == f"live://{tmp_path}/{name}@2026-11-30T12:00:00.000Z"
    assert verify(str(out)).problem is None
    assert find_gone([f"{path}@2026", video], Folders(with_videos={str(tmp_path)})) == [f"{path}@2026"]


def test_each_part_is_a_video_that_begins_at_its_time(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    segments = labelled("Biking", "Biking", "Diving", "Swing", "Swing")
    with parts(out) as kept:
        for number, segment in enumerate(segments):
            kept.add(segment)
            if number == 2:
                kept.roll()
    assert videos(out) == [
        (f"{SOURCE}@2026-11-30T12:00:00.000Z", "ok", 3),
        (f"{SOURCE}@2026-11-30T12:00:03.000Z", "ok", 2),
    ]
    rows = duckdb.sql(f"SELECT segment, start_s, end_s, label FROM '{out}/tags/*.parquet' ORDER BY video, 1").fetchall()
    assert rows[2:4] == [(2, 2.0, 4.0, "Diving"), (0, 0.0, 2.0, "Swing")]
    assert verify(str(out)).problem is None
    assert not Path(f"{out}.run").exists()


def test_the_commands_for_results_take_it(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    with parts(out) as kept:
        for segment in labelled("Biking", "Biking", "Diving", "Swing"):
            kept.add(segment)
    for command in (
        ["verify", out],
        ["events", out, "--csv"],
        ["search", out, "biking"],
        ["uncertain", out],
        ["export", out, "--format", "csv"],
        ["report", out, "--out", tmp_path / "r.html"],
        ["compact", out],
    ):
        done = vtag(*command)
        assert done.exit_code == 0, (command, done.output)
    assert f"{SOURCE}@2026-11-30T12:00:00.000Z" in vtag("events", out, "--csv").stdout
    assert "Biking" in (tmp_path / "r.html").read_text()


def test_what_was_not_seen_is_a_gap(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    segments = [*labelled("Biking", "Biking"), *labelled("Biking", first=9), *labelled("Swing", first=11)]
    with parts(out) as kept:
        for segment in segments:
            kept.add(segment)
    assert verify(str(out)).problem is None
    (row,) = duckdb.sql(f"SELECT status, gaps, read_s, duration_s FROM '{out}/videos/*.parquet'").fetchall()
    assert row[0] == "partial"
    assert row[1] == [{"start_s": 3.0, "end_s": 9.0}, {"start_s": 11.0, "end_s": 11.0}]
    assert row[2:] == (7.0, 13.0)
    # The events do not reach over what was not seen.
    events = vtag("events", out, "--csv").stdout.splitlines()[1:]
    assert [line.split(",")[1:4] for line in events] == [
        ["0.0", "3.0", "Biking"],
        ["9.0", "11.0", "Biking"],
        ["11.0", "13.0", "Swing"],
    ]


def test_a_restart_goes_on_with_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    for first in (0, 100):
        with parts(out) as kept:
            for segment in labelled("Biking", "Swing", first=first):
                kept.add(segment)
    assert [segments for *_, segments in videos(out)] == [2, 2]
    assert verify(str(out)).problem is None


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.jobs.watching.made_up import labelled
from tests.jobs.watching.test_rolled_parts import parts
with parts(Path(sys.argv[1])) as kept:
    for segment in labelled("Biking", "Swing"):
        kept.add(segment)
    kept.roll()
    kept.finish_publishing()
    kept.add(labelled("Diving", first=2)[0])
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_the_open_part_only_and_a_restart_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [segments for *_, segments in videos(out)] == [2] and verify(str(out)).problem is None
    with parts(out) as kept:
        kept.add(labelled("Diving", first=50)[0])
    assert [segments for *_, segments in videos(out)] == [2, 1] and verify(str(out)).problem is None


def test_parts_are_rolled_by_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(rolled_parts, "now_s", lambda: now_s)
    with parts(tmp_path / "seen", roll_s=5.0) as kept:
        for segment in labelled(*["Biking"] * 12):
            kept.add(segment)
            now_s += 1.0
    assert [segments for *_, segments in videos(tmp_path / "seen")] == [5, 5, 2]


@pytest.mark.parametrize("hop_s", [0.5, 1.0, 2.0])
def test_a_part_ends_where_the_next_one_begins(hop_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(rolled_parts, "now_s", lambda: now_s)
    out, sampling = tmp_path / "seen", replace(SAMPLING, hop_s=hop_s)
    with parts(out, roll_s=10.0, sampling=sampling) as kept:
        for index in range(45):
            kept.add(made_up(index, [0.8, 0.1, 0.1], sampling))
            now_s += hop_s
    assert verify(str(out)).problem is None
    found = duckdb.sql(
        f"SELECT video, duration_s, max(end_s) FROM '{out}/videos/*.parquet' JOIN '{out}/tags/*.parquet' USING (video)"
        " GROUP BY ALL ORDER BY video"
    ).fetchall()
    begins_s = [(datetime.fromisoformat(name.split("@")[1]) - BEGUN_AT).total_seconds() for name, *_ in found]
    ends_s = [begin_s + duration_s for begin_s, (_, duration_s, _) in zip(begins_s, found, strict=True)]
    assert len(found) > 2 and begins_s[0] == 0.0
    assert ends_s == [*begins_s[1:], 44 * hop_s + sampling.window_s]
    assert all(duration_s == last_s for _, duration_s, last_s in found)


def test_a_part_is_written_when_nothing_comes_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = 0.0
    monkeypatch.setattr(rolled_parts, "now_s", lambda: now_s)
    out = tmp_path / "seen"
    with parts(out, roll_s=5.0) as kept:
        for segment in labelled(*["Biking"] * 5):
            kept.add(segment)
            now_s += 1.0
        # Another window may still overlap the last one.
        assert kept.roll_if_quiet() is None and kept.finish_publishing() is None and not out.exists()
        now_s += 1.0
        assert kept.roll_if_quiet() is None and kept.finish_publishing() is None
        assert [segments for *_, segments in videos(out)] == [5]
        assert kept.roll_if_quiet() is None
    assert [segments for *_, segments in videos(out)] == [5]


def test_many_small_parts_are_merged(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    with parts(out, roll_s=0.0) as kept:
        for segment in labelled(*["Biking"] * 20):
            kept.add(segment)
    assert len(videos(out)) == 20
    assert len(list((out / "tags").iterdir())) < 10
    # Those of the publication before stay for programs that read them.
    assert len(list((out / "parts").iterdir())) < 2 * 20


def test_nothing_seen_makes_no_result(tmp_path: Path) -> None:
    with parts(tmp_path / "seen"):
        pass
    assert not (tmp_path / "seen").exists() and not (tmp_path / "seen.run").exists()


def test_an_output_that_does_not_fit_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"is one file; a live picture is kept in a folder: leave out \.parquet"):
        parts(tmp_path / "t.parquet")
    with parts(tmp_path / "seen") as kept:
        kept.add(labelled("Biking")[0])
    with pytest.raises(OutputError, match=r"seen was made with another sampling .*; choose another --out"):
        parts(tmp_path / "seen", sampling=Sampling(15, 4, hop_s=0.5))
    with parts(tmp_path / "seen"), pytest.raises(OutputError, match="is being written"), parts(tmp_path / "seen"):
        pass


class Disk:
    """Stands in for ``publish``. A full disk has room again after some ``failures``."""

    def __init__(self, failures: int):
        self.failures = failures

    def __call__(self, *arguments: Any, **options: Any) -> None:
        if self.failures == 0:
            publish(*arguments, **options)
            return
        self.failures -= 1
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as full:
            raise OutputError("the disk is full; run the same command again") from full


def watch_on(disk: Disk, out: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Adds a segment in each second; returns the notes. A part has 5 seconds."""
    now_s = 0.0
    monkeypatch.setattr(rolled_parts, "now_s", lambda: now_s)
    monkeypatch.setattr(rolled_parts, "publish", disk)
    told: list[str | None] = []
    with parts(out, roll_s=5.0) as kept:
        for segment in labelled(*["Biking"] * 30):
            told.append(kept.add(segment))
            now_s += 1.0
    return [line for line in told if line is not None]


def test_rows_wait_while_the_disk_is_full_and_none_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "seen"
    told = watch_on(Disk(failures=2), out, monkeypatch)
    assert told == [f"{out} cannot be written: no space left on device; the segments are kept, and vtag tries again"]
    assert sum(segments for *_, segments in videos(out)) == 30
    assert {status for _, status, _ in videos(out)} == {"ok"} and verify(str(out)).problem is None


def test_a_publication_that_failed_at_its_end_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "seen"
    disk = Disk(failures=1)

    def publish_and_fail(*arguments: Any, **options: Any) -> None:
        publish(*arguments, **options)
        disk(*arguments, **options)

    monkeypatch.setattr(rolled_parts, "publish", publish_and_fail)
    with parts(out) as kept:
        for segment in labelled("Biking", "Swing"):
            kept.add(segment)
            kept.roll()
    assert videos(out) == [(f"{SOURCE}@2026-11-30T12:00:00.000Z", "ok", 2)] and verify(str(out)).problem is None


def test_rows_that_are_left_at_the_end_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"seen cannot be written: no space left on device; 30 segments are lost"):
        watch_on(Disk(failures=1000), tmp_path / "seen", monkeypatch)
    monkeypatch.setattr(rolled_parts, "MOST_ROWS", 9)
    with pytest.raises(OutputError, match=r"seen cannot be written: no space left on device"):
        watch_on(Disk(failures=1000), tmp_path / "seen", monkeypatch)
    assert find_output(tmp_path / "seen").run_folder.names() == []


def test_an_interrupt_while_the_last_part_is_written_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, is_interrupted, is_over = tmp_path / "seen", threading.Event(), threading.Event()
    main_thread = threading.main_thread().ident
    assert main_thread is not None

    def interrupt(*_: object) -> None:
        is_interrupted.set()
        raise KeyboardInterrupt

    def interrupt_and_publish(*arguments: Any, **options: Any) -> None:
        signal.pthread_kill(main_thread, signal.SIGINT)
        assert is_interrupted.wait(60)
        assert not is_over.wait(0.1)
        publish(*arguments, **options)

    monkeypatch.setattr(rolled_parts, "publish", interrupt_and_publish)
    before = signal.signal(signal.SIGINT, interrupt)
    with pytest.raises(KeyboardInterrupt), parts(out) as kept:
        kept.add(labelled("Biking")[0])
    is_over.set()
    signal.signal(signal.SIGINT, before)
    assert [segments for *_, segments in videos(out)] == [1] and verify(str(out)).problem is None


def test_an_error_that_does_not_pass_ends_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> None:
        raise OutputError("another job has taken the lock")

    monkeypatch.setattr(rolled_parts, "publish", lost)
    with pytest.raises(OutputError, match="has taken the lock"), parts(tmp_path / "seen", roll_s=0.0) as kept:
        for segment in labelled("Biking", "Biking", "Biking"):
            kept.add(segment)
    assert find_output(tmp_path / "seen").run_folder.names() == []
