"""What ``vtag watch`` prints about a folder. The watch is replaced by a list of events."""

import errno
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

import jobs.watching.folder
from jobs.archive.video import Failure
from jobs.cli import main
from jobs.cli.terminal.watch_lines import job_lines, job_view, printer
from jobs.errors import Interrupted
from jobs.tagging.run_config import RunConfig
from jobs.watching.folder import Event, Note, Watching
from jobs.watching.job_runner import JobDone
from tests.click_runner import CliRunner
from tests.jobs.cli.summaries import GOOD

EMPTY = Failure("/v/b.mp4", "failed", "not_video", "/v/b.mp4: is empty (0 bytes)")
NOON = datetime(2026, 11, 30, 12)


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[RunConfig, float]]:
    """The configurations of watches that were begun. A watch reports some events and is then interrupted."""
    begun: list[tuple[RunConfig, float]] = []
    events: Sequence[Event] = [Watching(0), JobDone(GOOD, 2, (EMPTY,)), Note("/v is there again")]

    def watch_folder(config: RunConfig, *, settle_s: float, on_event: Any, show_progress: Any) -> None:
        begun.append((config, settle_s))
        for event in events:
            on_event(event)
        raise Interrupted("interrupted; the result at t is safe, and the same command continues")

    monkeypatch.setattr(jobs.watching.folder, "watch_folder", watch_folder)
    return begun


def watch(*arguments: object) -> Result:
    done = CliRunner().invoke(main, ["watch", *map(str, arguments)])
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1].startswith("vtag: interrupted; the result at t is safe")
    return done


def test_a_job_is_a_line_and_each_failure_another_one(configs: object, tmp_path: Path) -> None:
    done = watch(tmp_path, "--out", "t")
    first, failed = done.stdout.splitlines()
    assert first.endswith("  2 videos, 29 segments in 0:20, 1 failed or partial")
    assert failed == "  b.mp4: is empty (0 bytes)"
    assert done.stderr.splitlines()[:2] == [
        f"vtag: watching {tmp_path}, 0 videos so far, for t",
        "vtag: /v is there again",
    ]


def test_quiet_prints_notes_and_failures_only(configs: object, tmp_path: Path) -> None:
    done = watch(tmp_path, "--out", "t", "-q")
    assert done.stdout == ""
    assert done.stderr.splitlines()[:-1] == ["  b.mp4: is empty (0 bytes)", "vtag: /v is there again"]


def test_json_has_the_summary_of_run(configs: object, tmp_path: Path) -> None:
    done = watch(tmp_path, "--out", "t", "--json")
    assert done.stderr.splitlines()[:-1] == ["vtag: /v is there again"]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["event"] for line in lines] == ["watching", "summary", "note"]
    assert lines[1]["windows_done"] == 29 and "duckdb" in lines[1]


def test_quiet_json_has_summaries_and_notes_only(configs: object, tmp_path: Path) -> None:
    done = watch(tmp_path, "--out", "t", "--json", "-q")
    assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["summary", "note"]


def test_the_watch_goes_on_when_the_reader_of_its_lines_is_gone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    show = printer("/v", "t", as_json=False, quiet=False)
    with monkeypatch.context() as closed:
        closed.setattr(sys.stdout, "write", raise_broken_pipe)
        for event in (JobDone(GOOD, 2, ()), JobDone(GOOD, 2, ()), Note("/v is there again")):
            show(event)
    output, note = capsys.readouterr().err.splitlines()
    assert output.startswith("vtag: standard output cannot be written: broken pipe; the watch goes on")
    assert note == "vtag: /v is there again"


def raise_broken_pipe(text: str) -> None:
    raise BrokenPipeError(errno.EPIPE, "Broken pipe")


def test_options_are_those_of_run(configs: list[tuple[RunConfig, float]], tmp_path: Path) -> None:
    watch(tmp_path, "--out", "t", "--settle", "2min", "--overlap", "0.5", "--exclude", "x", "--prune", "--top-k", "3")
    ((config, settle_s),) = configs
    assert settle_s == 120
    assert config.inputs == (str(tmp_path),) and config.hop_s is not None
    assert (config.exclude, config.prune, config.top_k) == (("x",), True, 3)


def test_the_line_of_a_job_names_what_was_done_without_reading_a_video() -> None:
    done = JobDone(replace(GOOD, moved=2, touched=1, pruned=3, windows_done=0), 0, ())
    assert job_lines(done, NOON) == [
        "2026-11-30 12:00:00  2 videos moved or renamed, 1 video with a new time, 3 videos removed"
    ]


def test_only_the_first_failures_of_a_job_are_named() -> None:
    lines = job_lines(JobDone(GOOD, 9, (EMPTY,) * 9), NOON)
    assert lines[1:] == ["  b.mp4: is empty (0 bytes)"] * 5 + ["  and 4 more"]


def test_a_log_has_lines_of_progress_only_about_long_jobs(capsys: pytest.CaptureFixture[str]) -> None:
    from jobs.tagging.summary import Progress

    with job_view(as_json=False, quiet=False) as view:
        for second in range(0, 200, 5):
            view(Progress("tagging", videos_total=9, windows=second, elapsed_s=second))
    assert len(capsys.readouterr().err.splitlines()) == 3
