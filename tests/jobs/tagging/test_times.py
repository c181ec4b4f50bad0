"""Any modification time is carried through or clamped, and the next run keeps the video."""

import os
from dataclasses import replace
from pathlib import Path

import duckdb
import pandas
import pytest

from jobs.archive.video import MAX_TIME_NS, Version, stored_time_ns
from jobs.tagging import decoding
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tagger.preprocessing import Preprocessing
from tagger.windows import Sampling
from tests.jobs.tagging.killed import DriverWithoutRay

YEARS = {"1500": -14831769600, "1969": -1, "1970": 0, "2024": 1704067200, "2262": 9214646400, "2400": 13569465600}
"""Seconds since 1970 of some day in these years."""


@pytest.fixture(params=YEARS)
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A video whose modification time lies in another century."""
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "now.mp4").write_text("ab")
    path = folder / "then.mp4"
    path.write_text("abc")
    seconds = YEARS[request.param]
    os.utime(path, (seconds, seconds))
    if path.stat().st_mtime != seconds:
        pytest.skip(f"the file system of {tmp_path} cannot store a time in the year {request.param}")
    return path


def test_a_video_of_any_time_is_tagged_once_and_both_tables_can_be_read(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverWithoutRay)
    config = RunConfig((str(video.parent),), tmp_path / "tags.parquet")
    summary = run_job(make_plan(config))
    assert (summary.videos, summary.segments) == (2, 5)
    again = make_plan(config)
    assert (len(again.todo), again.changes.unchanged) == (0, 2)
    assert run_job(make_plan(replace(config, prune=True))).kept == 2
    for file, rows in ((summary.out, 5), (summary.videos_out, 2)):
        assert len(pandas.read_parquet(file)) == rows
        assert len(duckdb.sql(f"SELECT * FROM '{file}'").fetchall()) == rows


def test_the_version_that_was_read_has_the_time_of_the_listing(video: Path) -> None:
    (_, version) = list(decoding.read_video(str(video), Sampling(), Preprocessing(32, 32), span_windows=1))[-1]
    assert version is not None
    assert version == Version(3, stored_time_ns(video.stat().st_mtime_ns), version.fingerprint)


def test_times_are_clamped_to_what_pandas_can_hold_in_nanoseconds() -> None:
    assert [stored_time_ns(time_ns) for time_ns in (-1, 0, MAX_TIME_NS)] == [-1, 0, MAX_TIME_NS]
    for time_ns in (2**63 - 1, 2**63, 10**20, -(2**63), -(10**20)):
        clamped = stored_time_ns(time_ns)
        assert abs(clamped) == MAX_TIME_NS and (clamped > 0) == (time_ns > 0)
        assert pandas.Timestamp(clamped, unit="ns").year in (1677, 2262)
