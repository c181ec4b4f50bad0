"""Ray runs in a process of its own. Its output and its end do not affect the process that started it."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from jobs.cluster.ray_driver import RayDriver, Work, explain, run_on_ray
from jobs.errors import JobError, WorkerError
from tagger.errors import InputError, VideoError, VtagError
from tests.jobs.cluster import ray_work


def test_the_events_and_the_result_of_the_work_arrive(shared_ray: str) -> None:
    events: list[int] = []
    assert run_on_ray("tagging", ray_work.double, [1, 2, 3], on_event=events.append) == 2 * 6 + 2
    assert events == [1, 2, 3]


def test_the_output_of_ray_is_hidden(shared_ray: str, capfd: pytest.CaptureFixture[str]) -> None:
    with RayDriver("tagging") as driver:
        assert list(driver.events(ray_work.print_everywhere)) == ["it failed"]
    assert capfd.readouterr() == ("", "")


def test_the_output_of_ray_is_in_the_log(shared_ray: str) -> None:
    with pytest.raises(WorkerError) as caught:
        run_on_ray("tagging", ray_work.print_everywhere_then_fail)
    for words in ("printed", "printed to standard error", "native output", "native words", "ZeroDivisionError"):
        assert words in caught.value.log


def test_no_log_file_is_left(shared_ray: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_on_ray("tagging", ray_work.print_everywhere)
    for work in (ray_work.raise_input_error, ray_work.fail):
        with pytest.raises(VtagError):
            run_on_ray("tagging", work)
    assert list(tmp_path.iterdir()) == []


def test_a_driver_runs_one_work_after_another_on_the_same_ray(shared_ray: str) -> None:
    with RayDriver("tagging") as driver:
        for numbers in ([1, 2], [3]):
            assert list(driver.events(ray_work.double, numbers)) == numbers
            assert driver.result == 2 * sum(numbers) + 2
        with pytest.raises(InputError):
            list(driver.events(ray_work.raise_input_error))
        assert list(driver.events(ray_work.double, [4])) == [4]


def test_verbose_shows_the_output_of_ray_on_standard_error(shared_ray: str, capfd: pytest.CaptureFixture[str]) -> None:
    run_on_ray("tagging", ray_work.print_everywhere, verbose=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "native output" in err and "native words" in err


def test_an_error_of_vtag_is_raised_unchanged(shared_ray: str) -> None:
    with pytest.raises(InputError, match=r"^there is nothing to do$"):
        run_on_ray("tagging", ray_work.raise_input_error)


def test_an_error_of_a_video_keeps_its_kind(shared_ray: str) -> None:
    with pytest.raises(VideoError, match=r"^a\.mp4 is damaged$") as caught:
        run_on_ray("measuring", ray_work.raise_video_error)
    assert caught.value.kind == "damaged"


def test_an_error_of_opening_a_file_keeps_its_name(shared_ray: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        run_on_ray("training", ray_work.open_a_missing_file)
    assert caught.value.filename == "/nowhere/m.safetensors"


UNEXPECTED = "training stopped by an unexpected error"


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (ray_work.fail, UNEXPECTED),
        (ray_work.fail_while_reading, f"{UNEXPECTED} while reading /v/a b.mp4"),
        (ray_work.fail_in_a_task, f"{UNEXPECTED} while reading /v/a b.mp4"),
        (ray_work.fail_in_the_start_of_an_actor, f"{UNEXPECTED} while reading /v/a b.mp4"),
        (ray_work.kill_itself, "the process that runs Ray ended: SIGKILL"),
        (ray_work.kill_itself_within_a_message, "the process that runs Ray ended: SIGKILL"),
    ],
)
def test_any_other_failure_is_one_line_without_the_name_of_an_exception(
    work: Work, words: str, shared_ray: str
) -> None:
    with pytest.raises(WorkerError) as caught:
        run_on_ray("training", work)
    assert str(caught.value) == words
    assert caught.value.is_unexpected == words.startswith(UNEXPECTED)
    assert ("ZeroDivisionError: by zero" in caught.value.log) == words.startswith(UNEXPECTED)
    if work in (ray_work.fail, ray_work.kill_itself):
        assert "native words before the end" in caught.value.log


def test_a_timeout_without_an_event_yields_none(shared_ray: str) -> None:
    with RayDriver("tagging") as driver:
        events = list(driver.events(ray_work.double, [7], timeout_s=0.01))
    assert [event for event in events if event is not None] == [7]
    assert None in events


def test_a_cluster_that_cannot_be_reached_is_an_error_of_one_line() -> None:
    with pytest.raises(VtagError, match=r"^the Ray cluster at 127\.0\.0\.1:1 cannot be joined: .*[Rr]efused$"):
        run_on_ray("tagging", ray_work.double, [1], address="127.0.0.1:1")


def test_a_process_that_cannot_be_started_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(JobError, match="a process for Ray cannot be started: No such file"):
        RayDriver("tagging").start()


def test_a_driver_that_is_stopped_during_its_work_leaves_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    with RayDriver("tagging", cpus=1) as driver:
        pid = next(driver.events(ray_work.run_forever))
        processes = psutil.Process(driver.pid).children(recursive=True)
    assert pid in {process.pid for process in processes}
    assert not [process for process in psutil.wait_procs(processes, timeout=10)[1] if not _is_zombie(process)]


@pytest.mark.slow
def test_a_driver_ends_when_the_process_that_started_it_is_killed() -> None:
    program = """
from jobs.cluster.ray_driver import RayDriver
from tests.jobs.cluster import ray_work
with RayDriver("tagging", address="local", cpus=1) as driver:
    for event in driver.events(ray_work.run_forever):
        print(event, flush=True)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None and parent.stdout.readline()
    processes = psutil.Process(parent.pid).children(recursive=True)
    parent.kill()
    parent.wait()
    # Ray's agents do no work and live for another minute. Ray does not end processes that a worker has started.
    ours = [process for process in processes if process.is_running() and "Agent" not in process.name()]
    ours = [process for process in ours if process.name() != "sleep"]
    left = [process for process in psutil.wait_procs(ours, timeout=20)[1] if not _is_zombie(process)]
    for process in processes:
        if process.is_running():
            process.kill()
    assert len(processes) > 5 and left == []


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.slow
def test_a_driver_joins_the_ray_of_the_process_that_started_it() -> None:
    program = """
import ray
from jobs.cluster.ray_driver import run_on_ray
from tests.jobs.cluster import ray_work
ray.init(address="local", num_cpus=3, include_dashboard=False)
print(run_on_ray("tagging", ray_work.double, [1]))
"""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines()[-1] == "5.0", done.stderr


@pytest.mark.slow
def test_idle_workers_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "local")
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
    assert run_on_ray("tagging", ray_work.kept_workers, [str(folder) for folder in folders], cpus=1) >= 3


def test_ctrl_c_on_the_terminal_does_not_reach_the_driver(shared_ray: str) -> None:
    with RayDriver("tagging") as driver:
        assert list(driver.events(ray_work.double, [1])) == [1]
        # A terminal sends Ctrl-C to the processes of its foreground group.
        assert os.getpgid(driver.pid) != os.getpgid(0)


def test_a_driver_without_work_does_not_start_ray() -> None:
    with RayDriver("tagging") as driver:
        # Ray is imported when its largest library is mapped.
        maps = Path(f"/proc/{driver.pid}/maps")
        while "_raylet" not in maps.read_text():
            time.sleep(0.05)
        time.sleep(1)
        assert psutil.Process(driver.pid).children(recursive=True) == []


@pytest.mark.parametrize("closed", ["0 1 2", "1", "2"])
def test_standard_streams_may_be_closed(closed: str, shared_ray: str, tmp_path: Path) -> None:
    program = f"""
import os
for fd in map(int, {closed.split()!r}):
    os.close(fd)
from jobs.cluster.ray_driver import run_on_ray
from tests.jobs.cluster import ray_work
result = run_on_ray("tagging", ray_work.double, [1])
open({str(tmp_path / "result")!r}, "w").write(str(result))
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert (tmp_path / "result").read_text() == "4.0"


@pytest.mark.parametrize("error", ["tagger.errors.ModelFileError", "jobs.errors.JobError"])
def test_an_error_of_vtag_at_the_end_of_a_traceback_is_shown_without_its_class(error: str) -> None:
    from ray.exceptions import RayError

    explained = explain(
        RayError(f"ray::Predictor.__init__()\nTraceback (most recent call last):\n{error}: no room"), "tagging"
    )
    assert (type(explained), str(explained)) == (JobError, "no room")


def test_an_error_that_ray_data_wraps_says_what_vtag_was_doing() -> None:
    from ray.exceptions import RayTaskError, UserCodeException

    def explained_as(error: str) -> Exception:
        text = f"ray::Map()\n{error}\n\nray.exceptions.UserCodeException: UDF failed"
        return explain(RayTaskError("Map", text, UserCodeException("UDF failed")).as_instanceof_cause(), "tagging")

    assert str(explained_as("jobs.errors.JobError: no room")) == "no room"
    explained = explained_as("ValueError: deep down\nvtag was reading /v/a.mp4")
    assert str(explained) == "tagging stopped by an unexpected error while reading /v/a.mp4"
    assert isinstance(explained, WorkerError) and explained.is_unexpected
