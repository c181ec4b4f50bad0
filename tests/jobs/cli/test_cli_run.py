"""``vtag run`` from the command line: options, exit statuses and output, with a fake job."""

import errno
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import rich.progress
from click.testing import Result

import jobs.cluster.ray_driver
import jobs.tagging.dry_run
import jobs.tagging.plan
import jobs.tagging.run
from jobs.archive.folders import FolderProblem
from jobs.archive.selection import Selection
from jobs.archive.video import Failure, Video
from jobs.cli import main
from jobs.cli.command.tag_with_progress import dry_run_with_progress
from jobs.errors import Interrupted
from jobs.tagging.run_config import MaxFailures, MaxPrune, RunConfig
from jobs.tagging.summary import Progress, Summary
from tagger.errors import InputError
from tests.click_runner import CliRunner
from tests.jobs.cli.summaries import GOOD
from tests.jobs.result.finished import make_finished, publish_to

BAD = Failure("/v/bad.mp4", "failed", "empty", "/v/bad.mp4 is empty (0 bytes)")
SNAPSHOTS = (
    Progress("starting", 2),
    Progress("tagging", 2, videos_done=1, videos_failed=1, video_s=30, windows=10, elapsed_s=5, last_failure=BAD),
    Progress("tagging", 2, videos_done=2, videos_failed=1, video_s=60, windows=29, elapsed_s=9, last_failure=BAD),
    Progress("publishing", 2, videos_done=2, videos_failed=1, video_s=60, windows=29, elapsed_s=10, last_failure=BAD),
)


class Job:
    """A fake job: keeps the config that it gets, and returns or raises ``ending``."""

    def __init__(self) -> None:
        self.config: RunConfig | None = None
        self.ending: Summary | BaseException = GOOD

    def make_plan(self, config: RunConfig, on_found: Callable[[int], None]) -> SimpleNamespace:
        self.config = config
        return SimpleNamespace(todo=(), only=None)

    def run(self, plan: SimpleNamespace, on_progress: Callable[[Progress], None], driver: object) -> Summary:
        for progress in SNAPSHOTS:
            on_progress(progress)
        if isinstance(self.ending, BaseException):
            raise self.ending
        return self.ending


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Job:
    job = Job()
    monkeypatch.setattr(jobs.tagging.plan, "make_plan", job.make_plan)
    monkeypatch.setattr(jobs.tagging.run, "run_job", job.run)
    driver = SimpleNamespace(start=lambda: None, close=lambda: None)
    monkeypatch.setattr(jobs.cluster.ray_driver, "RayDriver", lambda *_, **__: driver)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return job


def vtag(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, ["run", "/v", "--out", "t.parquet", *arguments], env=env)


def test_exit_0_when_all_videos_were_read(job: Job) -> None:
    done = vtag()
    assert done.exit_code == 0
    assert "2, all read to the end" in done.stdout
    assert "vtag: writing the result" in done.stderr


@pytest.mark.parametrize("counts", [{"ok": 1, "failed": 1}, {"ok": 1, "partial": 1}])
def test_exit_3_when_a_video_failed_or_was_read_in_part(job: Job, counts: dict[str, int]) -> None:
    job.ending = replace(GOOD, failures=(BAD,), **counts)
    done = vtag()
    assert done.exit_code == 3
    assert "bad.mp4" in done.stdout
    assert "is empty (0 bytes)" in done.stdout


def test_exit_1_and_one_line_when_the_job_fails(job: Job) -> None:
    job.ending = InputError("/v holds no videos")
    done = vtag()
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.splitlines()[-1] == "vtag: /v holds no videos"
    assert "Traceback" not in done.stderr


def test_an_unexpected_error_is_one_line_too(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    job.ending = RuntimeError("ray::Worker()\n  Traceback ...\nValueError: deep down\n")
    done = vtag()
    assert done.exit_code == 1
    assert "vtag: stopped by an unexpected error while tagging videos for t.parquet; " in done.stderr.splitlines()[-1]


def test_an_error_of_the_operating_system_names_the_file(job: Job) -> None:
    job.ending = PermissionError(errno.EACCES, "Permission denied", "/locked")
    assert vtag().stderr.splitlines()[-1] == "vtag: /locked: permission denied"


def test_verbose_adds_the_traceback(job: Job) -> None:
    job.ending = InputError("/v holds no videos")
    done = vtag("--verbose")
    assert done.exit_code == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert done.stderr.splitlines()[-1] == "vtag: /v holds no videos"
    assert job.config is not None
    assert job.config.verbose


def test_exit_130_after_an_interrupt_says_which_videos_are_kept(job: Job) -> None:
    job.ending = Interrupted("interrupted; 1 of 2 videos are kept")
    done = vtag()
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "vtag: interrupted; 1 of 2 videos are kept"


def test_exit_130_when_interrupted_outside_the_job(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    job.ending = KeyboardInterrupt()
    done = vtag()
    assert done.exit_code == 130
    assert done.stderr.splitlines()[-1] == "vtag: interrupted"


@pytest.mark.parametrize(
    "arguments",
    [
        ["--top-k", "0"],
        ["--hop", "0"],
        ["--hop", "nan"],
        ["--hop", "inf"],
        ["--overlap", "1"],
        ["--overlap", "-0.1"],
        ["--overlap", "nan"],
        ["--hop", "1", "--overlap", "0.5"],
        ["--hop", "1", "--every", "1s"],
        ["--every", "1s", "--overlap", "0.5"],
        ["--actors", "-1"],
        ["--batch-size", "0"],
        ["--device", "tpu"],
        ["--max-failures", "-1"],
        ["--max-failures", "101%"],
        ["--max-failures", "nan%"],
        ["--max-failures", "many"],
        ["--weights", "no-such-file"],
        ["--no-such-option"],
    ],
)
def test_exit_2_for_invalid_options(job: Job, arguments: list[str]) -> None:
    done = vtag(*arguments)
    assert done.exit_code == 2
    assert "Usage: " in done.stderr
    assert job.config is None


def test_exit_2_without_input_or_out(job: Job) -> None:
    assert CliRunner().invoke(main, ["run", "--out", "t.parquet"]).exit_code == 2
    assert CliRunner().invoke(main, ["run", "/v"]).exit_code == 2


def test_every_option_reaches_the_job(job: Job, tmp_path: Path) -> None:
    weights = tmp_path / "w.pyth"
    weights.touch()
    options = f"--model m.safetensors --weights {weights} --hop 1.5 --top-k 3 --batch-size 8 --device cpu --actors 2"
    more = "--address ray:1 --ext a --ext .b --overwrite --max-failures 12 --retry-failed --prune --max-prune 30"
    (tmp_path / "e.csv").write_text("video,start_s,end_s\n/v/a.mp4,0,1\n")
    more += f" --frames 16 --only {tmp_path}/e.csv"
    assert (
        vtag(*options.split(), *more.split(), "--fast-decode", "-0", "--exclude", "x", "--include", "y").exit_code == 0
    )
    assert job.config == RunConfig(
        inputs=("/v",),
        out="t.parquet",
        model="m.safetensors",
        weights=weights,
        frames=16,
        hop_s=1.5,
        fast_decode=True,
        only={"/v/a.mp4": ((0.0, 1.0),)},
        top_k=3,
        batch_size=8,
        device="cpu",
        actors=2,
        address="ray:1",
        extensions=("a", ".b"),
        overwrite=True,
        max_failures=MaxFailures(videos=12),
        retry_failed=True,
        prune=True,
        max_prune=MaxPrune(videos=30, share=None),
        null=True,
        exclude=("x",),
        include=("y",),
    )


def test_max_failures_can_be_a_percentage(job: Job) -> None:
    assert vtag("--max-failures", "2.5%").exit_code == 0
    assert job.config is not None
    assert job.config.max_failures == MaxFailures(share=0.025)


def test_max_prune_can_be_a_percentage(job: Job) -> None:
    assert vtag("--prune", "--max-prune", "50%").exit_code == 0
    assert job.config is not None
    assert job.config.max_prune == MaxPrune(share=0.5)
    assert vtag("--max-prune", "half").exit_code == 2


def test_exit_3_when_a_folder_cannot_be_listed(job: Job) -> None:
    job.ending = replace(GOOD, unlisted=(FolderProblem("/v/closed", "permission denied"),))
    done = vtag()
    assert done.exit_code == 3
    assert "1 folder cannot be listed" in done.stdout
    quiet = vtag("-q")
    assert (quiet.exit_code, quiet.stdout) == (3, "")
    assert "vtag: the folder /v/closed cannot be listed: permission denied" in quiet.stderr
    assert json.loads(vtag("--json").stdout.splitlines()[-1])["unlisted"] == [
        {"path": "/v/closed", "reason": "permission denied"}
    ]


def test_the_defaults_are_those_of_the_library(job: Job) -> None:
    assert vtag().exit_code == 0
    assert job.config == RunConfig(inputs=("/v",), out="t.parquet")


def test_the_cluster_can_come_from_the_environment(job: Job) -> None:
    assert vtag(env={"RAY_ADDRESS": "10.0.0.1:6379"}).exit_code == 0
    assert job.config is not None
    assert job.config.address == "10.0.0.1:6379"


def test_overlap_becomes_a_hop_of_the_models_windows(job: Job, model_file: Path) -> None:
    # 16 samples, 4/30 s apart: windows of 2.13 s.
    assert vtag("--model", str(model_file), "--overlap", "0.75").exit_code == 0
    assert job.config is not None
    assert job.config.hop_s == pytest.approx(16 * 4 / 30 / 4)


@pytest.mark.parametrize(
    ("text", "hop_s"),
    [
        ("10s", 10.0),
        ("10", 10.0),
        ("500ms", 0.5),
        ("0.5s", 0.5),
        (".5 s", 0.5),
        ("1m", 60.0),
        ("2min", 120.0),
        ("1.5H", 5400.0),
    ],
)
def test_every_is_hop_with_a_unit(job: Job, text: str, hop_s: float) -> None:
    assert vtag("--every", text).exit_code == 0
    assert job.config == RunConfig(inputs=("/v",), out="t.parquet", hop_s=pytest.approx(hop_s))


@pytest.mark.parametrize(
    "text", ["", "s", "0s", "-1s", "10x", "1m30s", "1:30", "1,5s", "nan", "inf", "1e3", "1e-3s", "١s", "9" * 400]
)
def test_every_refuses_what_is_no_time_in_one_line(job: Job, text: str) -> None:
    done = vtag(f"--every={text}")
    assert (done.exit_code, job.config) == (2, None)
    line = f"Error: Invalid value for '--every': {text!r} is no time above 0, such as 10s, 500ms, 2min or 1h."
    assert done.stderr.splitlines()[-1] == line


def test_a_distance_of_windows_is_given_once(job: Job) -> None:
    done = vtag("--every", "1s", "--hop", "1", "--overlap", "0.5")
    line = "Error: --hop and --every and --overlap set the same thing; give one of them."
    assert done.stderr.splitlines()[-1] == line


def test_an_unusable_file_of_ranges_ends_in_one_line_before_the_job(job: Job, tmp_path: Path) -> None:
    (tmp_path / "e.csv").write_text("video,start_s,end_s\n/v/a.mp4,2,1\n")
    done = vtag("--only", str(tmp_path / "e.csv"))
    assert (done.exit_code, job.config) == (1, None)
    line = f"vtag: {tmp_path}/e.csv, line 2 is no moment: give a video, start_s, and an end_s after it, in seconds"
    assert done.stderr.splitlines() == [line]


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (1, "vtag: note: 1 video of --only is not in the inputs; the first is /v/x.mp4"),
        (1200, "vtag: note: 1,200 videos of --only are not in the inputs; the first is /v/x.mp4"),
    ],
)
def test_videos_of_ranges_that_are_not_found_are_noted_also_when_quiet(
    job: Job, monkeypatch: pytest.MonkeyPatch, missing: int, line: str
) -> None:
    plan = SimpleNamespace(todo=(), only=Selection(2, 3, 4, missing, "/v/x.mp4"))
    monkeypatch.setattr(jobs.tagging.plan, "make_plan", lambda config, on_found: plan)
    assert line in vtag().stderr.splitlines()
    assert vtag("-q").stderr.splitlines() == [line]
    assert vtag("--json").stderr == ""


def test_too_much_overlap_is_a_usage_error(job: Job, model_file: Path) -> None:
    done = vtag("--model", str(model_file), "--overlap", "0.99")
    assert done.exit_code == 2
    assert "0.9375 at most" in done.stderr


def test_json_is_one_event_a_line_and_the_summary_last(job: Job) -> None:
    job.ending = replace(GOOD, ok=1, failed=1, failures=(BAD,))
    done = vtag("--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 3
    assert done.stderr == ""
    assert [event["event"] for event in events] == [
        "progress",
        "failure",
        "progress",
        "progress",
        "progress",
        "summary",
    ]
    assert events[1]["kind"] == "empty"
    assert events[3]["windows_per_s"] == pytest.approx(19 / 4)
    assert events[-1]["segments"] == 29
    assert events[-1]["failures"][0]["path"] == "/v/bad.mp4"


def test_quiet_prints_nothing_unless_something_failed(job: Job) -> None:
    done = vtag("-q")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "")
    job.ending = replace(GOOD, ok=1, failed=1, failures=(BAD,))
    done = vtag("-q")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr == "vtag: 1 video failed or partial: t.videos.parquet\n"


def test_exit_0_when_only_an_earlier_run_had_bad_videos(job: Job) -> None:
    job.ending = replace(GOOD, videos=5, ok=3, failed=2, kept=3)
    done = vtag()
    assert done.exit_code == 0
    assert "5: 3 read to the end, 2 failed" in done.stdout
    assert "2 new, 3 kept" in done.stdout


def test_dry_run_only_prints_what_would_be_done(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {
        "videos": 12,
        "new": 5,
        "changed": 1,
        "retried": 2,
        "kept": 4,
        "gone": 3,
        "pruned": 0,
    }
    compared = {"unsure": 2, "moved_or_gone": 4}
    rest = {"unknown": 0, "unreadable": 1, "unopened": 2, "video_s": 7200.0, "windows": 3375, **compared}
    found = jobs.tagging.dry_run.DryRun(**counts, **rest, unlisted=(), left_out={".jpg": 3})
    monkeypatch.setattr(jobs.tagging.dry_run, "dry_run", lambda plan, on_probed: found)
    job.ending = AssertionError("the job must not run")
    done = vtag("--dry-run")
    assert done.exit_code == 0
    assert vtag("--dry-run", "-q").exit_code == 0
    text = " ".join(done.stdout.split())
    for part in (
        "12: 5 new, 1 changed, 2 tried again, 4 kept",
        "3 videos no longer in the inputs, still in the result (--prune removes them)",
        "2 to be compared, with another modification time or name",
        "4 videos of the result; the content of those to be compared decides",
        "1 video cannot be opened",
        "2 videos in buckets: opening a video would mean copying it first",
        "2.00 h of video, 3,375 windows",
        "3 files that are not videos (.jpg 3)",
    ):
        assert part in text, part
    expected = {"event": "dry-run", **counts, **rest, "unlisted": [], "left_out": {".jpg": 3}, "only": None}
    assert json.loads(vtag("--dry-run", "--json").stdout) == expected


def test_exit_3_of_a_dry_run_when_a_folder_cannot_be_listed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("videos", "new", "changed", "retried", "kept", "gone", "pruned", "unknown")
    counts = dict.fromkeys((*names, "unreadable", "unopened", "windows"), 0)
    problem = FolderProblem("/v/closed", "permission denied")
    found = jobs.tagging.dry_run.DryRun(**counts, video_s=0.0, unlisted=(problem,), left_out={})
    monkeypatch.setattr(jobs.tagging.dry_run, "dry_run", lambda plan, on_probed: found)
    done = vtag("--dry-run")
    assert done.exit_code == 3
    assert "1 folder cannot be listed /v/closed: permission denied" in " ".join(done.stdout.split())


def test_the_bar_of_a_dry_run_counts_only_videos_that_are_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = SimpleNamespace(todo=[Video(path, 1, 1) for path in ("/v/a.mp4", "/v/b.mp4", "s3://bucket/c.mp4")])
    monkeypatch.setattr(jobs.tagging.plan, "make_plan", lambda config, on_found: plan)
    monkeypatch.setattr(jobs.tagging.dry_run, "dry_run", lambda plan, on_probed: None)
    totals: list[int] = []
    monkeypatch.setattr(rich.progress.Progress, "add_task", lambda self, title, total: totals.append(total))
    dry_run_with_progress(RunConfig(inputs=("/v", "s3://bucket"), out="t.parquet"), quiet=True)
    assert totals == [2]


@pytest.fixture
def report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the page of the result t.parquet is. The result has a video that could not be read."""
    monkeypatch.chdir(tmp_path)
    publish_to("t.parquet", [make_finished("/v/bad.mp4", "")])
    return tmp_path / "t.report.html"


def test_report_makes_the_page_at_the_end(job: Job, report: Path) -> None:
    done = vtag("--report")
    assert done.exit_code == 0
    # The name is relative, as that of --out.
    assert done.stdout.splitlines()[-1].startswith("t.report.html: 1 video, 0 segments, 0 thumbnails")
    assert "1 video not read" in report.read_text()
    done = vtag("--report", "--json")
    assert json.loads(done.stdout.splitlines()[-1]) == {"event": "report", "path": "t.report.html"}


def test_report_makes_the_page_also_when_videos_failed(job: Job, report: Path) -> None:
    job.ending = replace(GOOD, failures=(BAD,), ok=1, failed=1)
    assert vtag("--report", "-q").exit_code == 3
    assert report.is_file()


def test_a_page_that_cannot_be_written_is_refused_before_the_job(job: Job, report: Path) -> None:
    report.write_text("my own page")
    done = vtag("--report")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[-1] == (
        "vtag: --report t.report.html is another file than a report; choose another name"
    )
    assert job.config is None


def test_a_dry_run_makes_no_page(job: Job) -> None:
    done = vtag("--dry-run", "--report")
    assert done.exit_code == 2
    assert "--report would change nothing" in done.stderr
