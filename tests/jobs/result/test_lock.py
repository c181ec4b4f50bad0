import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.result import lock
from jobs.storage.location import locate
from tagger.errors import OutputError

HOLD = """
import sys
from jobs.result.lock import locked
from jobs.storage.location import locate
with locked(locate(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tags.parquet.run"


def hold(folder: Path) -> subprocess.Popen[str]:
    """Starts another process, which holds the lock until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_job_is_refused_with_the_first_ones_host_process_and_start(folder: Path) -> None:
    other = hold(folder)
    try:
        with pytest.raises(OutputError) as caught, lock.locked(locate(folder)):
            pass
        started = json.loads((folder / "lock.json").read_text())["started"]
        assert str(caught.value) == (
            f"{folder.with_suffix('')} is being written by another vtag run (host {socket.gethostname()}, process "
            f"{other.pid}, started {started}); wait for it, or choose another --out"
        )
    finally:
        other.communicate("")
    with lock.locked(locate(folder)):
        pass


def test_the_lock_of_a_job_that_was_killed_is_taken_over_at_once(folder: Path) -> None:
    other = hold(folder)
    other.kill()
    other.communicate()
    assert (folder / "lock.json").exists()
    with lock.locked(locate(folder)) as held:
        assert held.is_ours()
    assert list(folder.iterdir()) == []


def test_a_lock_is_released_after_an_interrupt(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lock.locked(locate(folder)):
        raise KeyboardInterrupt
    with lock.locked(locate(folder)):
        pass


class TestWhereTheSystemHoldsNoLock:
    """As on a network disk that does not share locks, or in a bucket."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(lock, "HEARTBEAT_S", 0.2)

    def write(self, folder: Path, **changes: object) -> None:
        folder.mkdir(exist_ok=True)
        holder = {"host": "elsewhere", "process": 7, "started": "2020-01-01T00:00:00+00:00", "token": "t"}
        (folder / "lock.json").write_text(json.dumps(holder | {"heartbeat": 0} | changes))

    def test_the_lock_of_another_machine_is_respected_while_it_has_a_heartbeat(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.write(folder)
        sleep = lock.time.sleep
        beats = iter(range(1, 100))

        def beat(seconds: float) -> None:
            sleep(seconds)
            self.write(folder, heartbeat=next(beats))

        monkeypatch.setattr(lock.time, "sleep", beat)
        with pytest.raises(OutputError, match="host elsewhere, process 7"), lock.locked(locate(folder)):
            pass

    def test_a_lock_without_a_heartbeat_is_taken_over(self, folder: Path) -> None:
        self.write(folder)
        with lock.locked(locate(folder)) as held:
            assert held.is_ours()

    def test_a_job_whose_lock_was_taken_over_stops(self, folder: Path) -> None:
        with lock.locked(locate(folder)) as held:
            held.check()
            self.write(folder)
            held._thread.join(timeout=30)
            with pytest.raises(OutputError, match="host elsewhere"):
                held.check()
        assert json.loads((folder / "lock.json").read_text())["host"] == "elsewhere", "the lock of the other job stays"
