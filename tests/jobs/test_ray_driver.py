"""Ray runs in a process of its own: what it prints, and how it ends, is no matter of the process that asked."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from jobs.job import JobError, WorkerError
from jobs.ray_driver import RayDriver, run_on_ray
from tagger.errors import InputError, VtagError
from tests.jobs import ray_work


def test_what_the_work_tells_and_returns_arrives(shared_ray: str) -> None:
    told: list[int] = []
    assert run_on_ray(ray_work.double, [1, 2, 3], on_event=told.append) == 2 * 6 + 2
    assert told == [1, 2, 3]


def test_nothing_that_ray_prints_is_seen_and_its_log_is_gone_afterwards(
    shared_ray: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with RayDriver() as driver:
        assert list(driver.events(ray_work.chatter)) == ["it failed"]
        log = driver.log.read_text()
    for words in ("printed", "printed to standard error", "native output", "native words", "ZeroDivisionError"):
        assert words in log
    assert capfd.readouterr() == ("", "")
    assert not driver.log.exists()


def test_when_verbose_it_is_all_seen_on_standard_error(shared_ray: str, capfd: pytest.CaptureFixture[str]) -> None:
    run_on_ray(ray_work.chatter, verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "native output" in err and "native words" in err


def test_an_error_of_vtag_is_raised_as_it_is(shared_ray: str) -> None:
    with pytest.raises(InputError, match=r"^there is nothing to do$"):
        run_on_ray(ray_work.refuse)


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (ray_work.fail, r"^tagging stopped: ZeroDivisionError: by zero$"),
        (ray_work.die, r"^the process that runs Ray ended: SIGKILL$"),
    ],
)
def test_any_other_failure_is_one_line_with_the_end_of_the_log_beside_it(
    work: object, words: str, shared_ray: str
) -> None:
    with pytest.raises(WorkerError, match=words) as caught:
        run_on_ray(work)  # type: ignore[arg-type]
    error = caught.value
    assert error.log is not None
    assert any("native words before the end" in line for line in error.log_tail)
    assert error.log.read_text().splitlines()[-1] in error.log_tail
    error.log.unlink()


def test_nothing_told_for_a_while_is_none(shared_ray: str) -> None:
    with RayDriver() as driver:
        events = list(driver.events(ray_work.double, [7], timeout_s=0.01))
    assert [event for event in events if event is not None] == [7]
    assert None in events


def test_a_cluster_that_cannot_be_reached_is_one_line() -> None:
    with pytest.raises(VtagError, match=r"^the Ray cluster at 127\.0\.0\.1:1 cannot be joined: .*[Rr]efused$"):
        run_on_ray(ray_work.double, [1], address="127.0.0.1:1")


def test_a_process_that_cannot_be_started_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(JobError, match="a process for Ray cannot be started: No such file"), RayDriver():
        pass


def test_stopped_in_the_middle_it_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with RayDriver(cpus=1) as driver:
        pid = next(driver.events(ray_work.stay))
        processes = psutil.Process(driver.pid).children(recursive=True)
    assert pid in {process.pid for process in processes}
    assert not [process for process in psutil.wait_procs(processes, timeout=10)[1] if not _is_zombie(process)]


def test_it_ends_with_the_process_that_started_it_however_that_ends(shared_ray: str) -> None:
    program = """
from jobs.ray_driver import RayDriver
from tests.jobs import ray_work
with RayDriver() as driver:
    for event in driver.events(ray_work.stay):
        print(event, flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline()
    drivers = psutil.Process(parent.pid).children()
    parent.kill()
    parent.wait()
    assert len(drivers) == 1
    assert not [driver for driver in psutil.wait_procs(drivers, timeout=10)[1] if not _is_zombie(driver)]


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_with_a_ray_of_this_process_it_joins_that() -> None:
    program = """
import ray
from jobs.ray_driver import run_on_ray
from tests.jobs import ray_work
ray.init(address="local", num_cpus=3, include_dashboard=False)
print(run_on_ray(ray_work.double, [1]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "5.0", done.stderr


@pytest.mark.slow
def test_workers_that_are_idle_for_a_while_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    assert run_on_ray(ray_work.kept_workers, [str(folder) for folder in folders], cpus=1) >= 3


def test_ctrl_c_on_the_terminal_does_not_reach_it(shared_ray: str) -> None:
    with RayDriver() as driver:
        assert list(driver.events(ray_work.double, [1])) == [1]
        # A terminal sends it to the processes of its foreground group.
        assert os.getpgid(driver.pid) != os.getpgid(0)


def test_without_work_it_ends_before_it_has_started_ray() -> None:
    with RayDriver() as driver:
        time.sleep(0.5)
        started = psutil.Process(driver.pid).children(recursive=True)
    assert started == []
