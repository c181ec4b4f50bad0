"""A job that another one has taken over leaves the other's run folder and the result alone."""

import json
from pathlib import Path
from typing import Any

import pytest

import jobs.tagging.run
from jobs.tagging.plan import make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from tagger.errors import OutputError
from tests.jobs.tagging.killed import DriverWithoutRay


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """A job with two videos, of which Ray would make a segment for each byte."""
    monkeypatch.setattr("jobs.tagging.run.RayDriver", DriverWithoutRay)
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / "videos").mkdir(exist_ok=True)
        (tmp_path / "videos" / name).write_text("ab")
    return RunConfig((str(tmp_path / "videos"),), tmp_path / "tags.parquet")


def take_over(run_folder: Path) -> None:
    """Makes another job the holder of the lock."""
    (run_folder / "new").write_text(json.dumps({"host": "elsewhere", "process": 7, "token": "t"}))
    (run_folder / "new").replace(run_folder / "lock.json")


@pytest.mark.parametrize("step", ["_commit_revised", "publish"])
@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_a_job_whose_lock_is_taken_over_stops_at_the_next_step(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, is_done: bool
) -> None:
    original = getattr(jobs.tagging.run, step)
    run_folder = tmp_path / "tags.parquet.run"

    def lose_the_lock(*arguments: Any, **options: Any) -> Any:
        result = original(*arguments, **options) if is_done else None
        take_over(run_folder)
        return result if is_done else original(*arguments, **options)

    monkeypatch.setattr(jobs.tagging.run, step, lose_the_lock)
    with pytest.raises(
        OutputError, match=r"/tags\.parquet: another job has taken over this output \(host elsewhere, process 7"
    ):
        run_job(make_plan(config))
    assert json.loads((run_folder / "lock.json").read_text())["host"] == "elsewhere"
    assert (run_folder / "plan.json").exists(), "the run is the other job's now"
    is_published = step == "publish" and is_done
    assert (tmp_path / "tags.parquet").exists() == is_published
    assert len(list(run_folder.glob("part-*.videos.parquet"))) == (step == "publish")


def test_a_job_whose_lock_is_taken_over_before_it_begins_leaves_the_files_of_the_other_job(
    config: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder = tmp_path / "tags.parquet.run"
    files = [run_folder / name for name in ("plan.json", "part-000000.tags.parquet", "part-000000.videos.parquet")]

    def lose_the_lock(*_: Any) -> None:
        take_over(run_folder)
        for file in files:
            file.write_text("of the other job")

    monkeypatch.setattr(jobs.tagging.run, "_check_unchanged", lose_the_lock)
    with pytest.raises(OutputError, match="another job has taken over this output"):
        run_job(make_plan(config))
    assert [file.read_text() for file in files] == ["of the other job"] * 3
