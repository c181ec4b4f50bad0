"""The jobs of a watched folder: one Ray for all of them, and errors that pass."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from jobs.errors import Interrupted, JobError, WorkerError
from jobs.result.lock import locked
from jobs.result.output import find_output
from jobs.tagging.finished.committer import explained
from jobs.tagging.plan import list_inputs
from jobs.tagging.run_config import MaxPrune, RunConfig
from jobs.watching.job_runner import MAX_CRASHES, JobDone, JobRunner, TryAgainError
from tagger.errors import OutputError
from tests.jobs.tagging.driver_in_this_process import DriverInThisProcess
from tests.videos import encode


class Driver(DriverInThisProcess):
    """Counts how often Ray was started and ended."""

    starts = 0
    ends = 0

    def start(self) -> None:
        Driver.starts += 1

    def close(self) -> None:
        Driver.ends += 1

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(autouse=True)
def driver(monkeypatch: pytest.MonkeyPatch) -> type[Driver]:
    monkeypatch.setattr("jobs.watching.job_runner.RayDriver", Driver)
    for name, value in (("starts", 0), ("ends", 0), ("read", [])):
        monkeypatch.setattr(Driver, name, value)
    return Driver


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    folder.mkdir()
    encode(folder / "a.mp4", seconds=3, rate=10)
    return folder


@pytest.fixture
def config(folder: Path, model_file: Path, tmp_path: Path) -> RunConfig:
    return RunConfig((str(folder),), tmp_path / "tags", model=str(model_file), device="cpu")


class Silent:
    def __enter__(self) -> Callable[[object], None]:
        return lambda progress: None

    def __exit__(self, *_: object) -> None:
        pass


def runner_of(config: RunConfig) -> JobRunner:
    return JobRunner(config, Silent)


def run(runner: JobRunner, config: RunConfig) -> JobDone:
    return runner.run(list_inputs(config))


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    monkeypatch.setattr("jobs.watching.job_runner.run_job", fail)


def test_ray_stays_up_between_jobs(config: RunConfig, folder: Path, driver: type[Driver]) -> None:
    runner = runner_of(config)
    first = run(runner, config)
    encode(folder / "b.mp4", seconds=3, rate=10)
    (folder / "empty.mp4").touch()
    second = run(runner, config)
    assert (driver.starts, driver.ends) == (1, 0)
    assert driver.read == ["a.mp4", "b.mp4", "empty.mp4"]
    assert (first.videos, first.failed, second.videos, second.summary.videos) == (1, (), 2, 3)
    assert [Path(failure.path).name for failure in second.failed] == ["empty.mp4"]
    runner.close()
    assert driver.ends == 1


def test_ray_is_started_anew_after_many_jobs(
    config: RunConfig, folder: Path, driver: type[Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.watching.job_runner.JOBS_PER_RAY", 2)
    runner = runner_of(config)
    run(runner, config)
    run(runner, config)
    assert driver.ends == 0
    for name in "bc":
        (folder / f"{name}.mp4").write_text(name)
        run(runner, config)
    assert (driver.starts, driver.ends) == (2, 1)


def test_a_failed_video_is_read_again_when_it_changes(config: RunConfig, folder: Path, driver: type[Driver]) -> None:
    runner = runner_of(config)
    (folder / "b.mp4").write_text("text")
    assert len(run(runner, config).failed) == 1
    driver.read.clear()
    again = run(runner, config)
    assert (again.has_changed_result, again.failed, driver.read) == (False, (), [])
    encode(folder / "b.mp4", seconds=3, rate=10)
    assert run(runner, config).failed == ()
    assert driver.read == ["b.mp4"]


def test_an_output_that_another_job_writes_is_waited_for(config: RunConfig) -> None:
    runner = runner_of(config)
    with locked(find_output(config.out).run_folder), pytest.raises(TryAgainError, match="is being written by another"):
        run(runner, config)
    assert run(runner, config).videos == 1


def test_a_full_disk_is_waited_for(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = runner_of(config)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/t/tags.run/part")
    for error in (full, explained(full, find_output(config.out).run_folder)):
        error.__cause__ = None if error is full else full
        fail_with(monkeypatch, error)
        with pytest.raises(
            TryAgainError, match=r"^/t/tags\.run/part cannot be read or written: no space left on device$"
        ):
            run(runner, config)


def test_a_ray_that_dies_is_started_again_a_few_times(
    config: RunConfig, driver: type[Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(config)
    with monkeypatch.context() as patch:
        fail_with(patch, WorkerError("the process that runs Ray ended: SIGKILL"))
        for _ in range(MAX_CRASHES - 1):
            with pytest.raises(TryAgainError, match="SIGKILL"):
                run(runner, config)
    assert run(runner, config).videos == 1
    assert (driver.starts, driver.ends) == (MAX_CRASHES, MAX_CRASHES - 1)
    fail_with(monkeypatch, WorkerError("the process that runs Ray ended: SIGKILL"))
    for _ in range(MAX_CRASHES - 1):
        with pytest.raises(TryAgainError):
            run(runner, config)
    with pytest.raises(WorkerError, match="SIGKILL"):
        run(runner, config)


def test_an_error_of_the_first_job_may_be_a_wrong_option_and_ends_the_watch(
    config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_of(config)
    errors = JobError("no"), OutputError("no"), PermissionError(errno.EACCES, "no", "/t")
    for error in errors:
        with monkeypatch.context() as patch:
            fail_with(patch, error)
            with pytest.raises(type(error), match="no"):
                run(runner, config)
    run(runner, config)
    for error in errors:
        fail_with(monkeypatch, error)
        with pytest.raises(TryAgainError, match="no"):
            run(runner, config)


def test_a_result_of_another_sampling_is_refused_before_a_video_arrives(config: RunConfig) -> None:
    runner_of(config).check()
    run(runner_of(config), config)
    runner_of(config).check()
    other = runner_of(replace(config, hop_s=1.0))
    for refused in (other.check, lambda: run(other, config)):
        with pytest.raises(OutputError, match="use --overwrite to replace it, or choose another --out"):
            refused()


def test_an_interrupt_ends_ray_and_the_watch(
    config: RunConfig, driver: type[Driver], monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_with(monkeypatch, Interrupted("interrupted; 3 of 5 videos are finished"))
    with pytest.raises(Interrupted, match="3 of 5"):
        run(runner_of(config), config)
    assert (driver.starts, driver.ends) == (1, 1)


def test_videos_that_are_left_out_of_a_listing_are_not_pruned(config: RunConfig, folder: Path) -> None:
    encode(folder / "b.mp4", seconds=3, rate=10)
    pruning = replace(config, prune=True)
    runner = runner_of(pruning)
    run(runner, config)
    listing = list_inputs(config)
    done = runner.run(replace(listing, videos=listing.videos[:1]))
    assert (done.summary.videos, done.summary.pruned) == (2, 0)
    (folder / "b.mp4").unlink()
    assert run(runner_of(replace(pruning, max_prune=MaxPrune(videos=1))), config).summary.pruned == 1
