"""One job at a time writes to an output: on one machine, on several, in containers, and on disks without locks."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.result import lock
from jobs.result.holder import this_process
from jobs.storage.location import Location, locate
from tagger.errors import OutputError

HOLD = """
import sys
from jobs.result import lock
from jobs.storage.location import locate
from tagger.errors import OutputError
if "no-flock" in sys.argv:
    lock._flock = lambda descriptor, mode: True
lock.HEARTBEAT_S = float(sys.argv[2])
with lock.locked(locate(sys.argv[1])) as held:
    print("held", flush=True)
    for line in sys.stdin:
        try:
            held.check()
            print("ours", flush=True)
        except OutputError as error:
            print(error, flush=True)
"""
"""A job that answers each line of its input with the result of ``Lock.check``."""

RACE = """
import contextlib, json, multiprocessing, os, sys, threading, time
from pathlib import Path
from jobs.result import lock
from jobs.storage.location import locate
from tagger.errors import OutputError

lock._flock = lambda descriptor, mode: True
lock.HEARTBEAT_S = 1.0
folders = [Path(sys.argv[1], str(number)) for number in range(100)]
text = sys.argv[2]
for folder in folders:
    if text:
        folder.mkdir()
        (folder / "lock.json").write_text(text)

def compete(barrier, results):
    outcomes = {}
    with contextlib.ExitStack() as held:
        def take(number):
            try:
                held.enter_context(lock.locked(locate(folders[number])))
                outcomes[number] = "held"
            except OutputError as error:
                outcomes[number] = str(error)
        threads = [threading.Thread(target=take, args=[number]) for number in range(len(folders))]
        for thread in threads:
            barrier.wait()
            thread.start()
        for thread in threads:
            thread.join()
        results.put(outcomes)
        barrier.wait()

fork = multiprocessing.get_context("fork")
barrier, results = fork.Barrier(2), fork.SimpleQueue()
jobs = [fork.Process(target=compete, args=[barrier, results]) for _ in range(2)]
for job in jobs:
    job.start()
print(json.dumps([results.get(), results.get()]))
for job in jobs:
    job.join()
"""
"""Two processes that start to take each of a hundred locks at the same time, on a disk without flock."""

ELSEWHERE = {"host": "elsewhere", "process": 7, "started": "2020-01-01T00:00:00+00:00", "token": "t"}
"""A holder as older versions wrote it, without boot id, PID namespace and start of the process."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tags.parquet.run"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(lock, "SETTLE_S", 0.1)
    monkeypatch.setattr(lock, "TRY_AGAIN_S", 0.01)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on NFS with ``nolock``: each machine gets the lock of the operating system, even if another machine has it."""
    monkeypatch.setattr(lock, "_flock", lambda descriptor, mode: True)


@pytest.fixture
def no_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a bucket that is mounted as a disk, or a USB disk."""

    def fail(file: Location, holder: object, stale: object) -> int:
        raise lock._NoLinksError

    monkeypatch.setattr(lock, "_link", fail)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes a test fail that waits for a heartbeat to stand still."""

    def fail(seconds: float) -> None:
        raise AssertionError("the lock is not taken over at once")

    monkeypatch.setattr(lock.time, "sleep", fail)


@pytest.fixture
def hold(folder: Path) -> Iterator[Start]:
    """Starts another process, which holds the lock until its input ends."""
    started: list[subprocess.Popen[str]] = []

    def start(*words: str, heartbeat_s: float = 0.2, before: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*before, sys.executable, "-c", HOLD, str(folder), str(heartbeat_s), *words]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def ask(process: subprocess.Popen[str]) -> str:
    """Returns what ``Lock.check`` says in the other process."""
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("?\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def write(folder: Path, holder: dict[str, Any] | str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "lock.json").write_text(holder if isinstance(holder, str) else json.dumps(holder))


def read(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "lock.json").read_text()))


def take_over(folder: Path) -> None:
    """Replaces the lock file, as a job on another machine does."""
    (folder / "new").write_text(json.dumps(ELSEWHERE))
    (folder / "new").replace(folder / "lock.json")


def refusal(folder: Path, holder: dict[str, Any]) -> str:
    return (
        f"{folder.with_suffix('')} is being written by another vtag run (host {holder['host']}, process "
        f"{holder['process']}, started {holder['started']}); wait for it, or choose another --out"
    )


def in_another_pid_namespace() -> tuple[str, ...]:
    """Returns the command that starts a program in another PID namespace, as in another container."""
    rights = ("--user", "--map-root-user") if os.geteuid() else ()
    command = ("unshare", *rights, "--pid", "--fork", "--kill-child", "--mount-proc")
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine makes no PID namespace here ({error})")
    return command


def test_a_second_job_is_refused_with_the_first_ones_host_process_and_start(folder: Path, hold: Start) -> None:
    other = hold()
    with pytest.raises(OutputError) as caught, lock.locked(locate(folder)):
        pass
    holder = read(folder)
    assert (holder["host"], holder["process"]) == (socket.gethostname(), other.pid)
    assert str(caught.value) == refusal(folder, holder)
    other.communicate("")
    with lock.locked(locate(folder)):
        pass


def test_the_lock_of_a_job_that_was_killed_is_taken_over_at_once(folder: Path, hold: Start, no_waiting: None) -> None:
    other = hold()
    other.kill()
    other.wait()
    assert (folder / "lock.json").exists()
    with lock.locked(locate(folder)) as held:
        assert held.is_ours()
        assert read(folder)["process"] == os.getpid()
    assert list(folder.iterdir()) == []


def test_the_lock_of_a_killed_job_is_taken_over_at_once_before_its_parent_has_noticed(
    folder: Path, hold: Start, no_waiting: None
) -> None:
    other = hold()
    other.kill()
    os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)  # It stays a zombie, as in a container without an init.
    with lock.locked(locate(folder)) as held:
        assert held.is_ours()


def test_a_lock_is_released_after_an_interrupt(folder: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lock.locked(locate(folder)):
        raise KeyboardInterrupt
    assert list(folder.iterdir()) == []
    with lock.locked(locate(folder)):
        pass


def test_a_paused_job_on_a_local_disk_is_not_taken_over(folder: Path, hold: Start, quick: None) -> None:
    other = hold()
    other.send_signal(signal.SIGSTOP)
    write_again = (folder / "lock.json").read_text()
    with pytest.raises(OutputError) as caught, lock.locked(locate(folder)):
        pass
    assert str(caught.value) == refusal(folder, json.loads(write_again))
    other.send_signal(signal.SIGCONT)
    assert ask(other) == "ours"


def test_a_paused_job_that_was_taken_over_notices_at_its_next_check(
    folder: Path, hold: Start, quick: None, no_flock: None
) -> None:
    # Its next heartbeat is an hour away.
    other = hold("no-flock", heartbeat_s=3600)
    other.send_signal(signal.SIGSTOP)
    with lock.locked(locate(folder)) as held:
        other.send_signal(signal.SIGCONT)
        assert "another job has taken over this output" in ask(other)
        other.communicate("")
        held.check()


@pytest.mark.parametrize("stale", ["", json.dumps(ELSEWHERE)], ids=["no-lock-file", "stale-lock-file"])
def test_of_two_jobs_that_start_together_a_hundred_times_one_holds_the_lock_each_time(
    tmp_path: Path, stale: str
) -> None:
    done = subprocess.run([sys.executable, "-c", RACE, str(tmp_path), stale], check=True, capture_output=True)
    first, second = json.loads(done.stdout)
    assert len(first) == len(second) == 100
    for number, outcome in first.items():
        assert [outcome, second[number]].count("held") == 1, (outcome, second[number])
        assert "is being written by another vtag run" in outcome + second[number]
    assert sorted(tmp_path.rglob("*.tmp")) == []


class TestInAnotherContainer:
    """Two PID namespaces with one host name and a shared folder, on a disk whose flock is not shared."""

    def test_a_living_job_is_respected(self, folder: Path, hold: Start, quick: None, no_flock: None) -> None:
        other = hold("no-flock", before=in_another_pid_namespace())
        holder = read(folder)
        assert holder["host"] == socket.gethostname()
        with pytest.raises(OutputError) as caught, lock.locked(locate(folder)):
            pass
        assert str(caught.value) == refusal(folder, holder)
        assert ask(other) == "ours"

    def test_a_killed_job_is_taken_over_when_its_heartbeat_stands_still(
        self, folder: Path, hold: Start, quick: None, no_flock: None
    ) -> None:
        other = hold("no-flock", before=in_another_pid_namespace())
        other.kill()
        other.wait()
        with lock.locked(locate(folder)) as held:
            assert held.is_ours()


class TestOfAHolderThatCannotBeSeen:
    """On another machine, or in a lock file of an older version."""

    @pytest.fixture(autouse=True)
    def short_times(self, quick: None) -> None:
        pass

    @pytest.fixture(params=["links", "no links"])
    def disk(self, request: pytest.FixtureRequest) -> None:
        if request.param == "no links":
            request.getfixturevalue("no_links")

    @pytest.fixture
    def beat(self, folder: Path) -> Iterator[None]:
        """Writes heartbeats in place, as older versions do: for a moment the file is empty."""
        ended = threading.Event()

        def beat() -> None:
            for heartbeat in range(10_000):
                if ended.wait(0.05):
                    return
                with (folder / "lock.json").open("w") as stream:
                    ended.wait(0.05)
                    stream.write(json.dumps(ELSEWHERE | {"heartbeat": heartbeat}))

        write(folder, ELSEWHERE | {"heartbeat": 0})
        thread = threading.Thread(target=beat)
        thread.start()
        yield
        ended.set()
        thread.join()

    def test_a_job_with_a_heartbeat_is_respected(self, folder: Path, beat: None, disk: None) -> None:
        for _ in range(3):
            with pytest.raises(OutputError, match="is being written by another vtag run"), lock.locked(locate(folder)):
                pass

    @pytest.mark.parametrize(
        "text", [json.dumps(ELSEWHERE | {"heartbeat": 3}), "", '{"host": "elsewh', "[]", "null", "\x00"]
    )
    def test_a_lock_without_a_heartbeat_is_taken_over(self, folder: Path, text: str, disk: None) -> None:
        write(folder, text)
        with lock.locked(locate(folder)) as held:
            assert held.is_ours()
        assert list(folder.iterdir()) == []

    def test_a_lock_file_that_is_half_written_is_no_free_lock(self, folder: Path, disk: None) -> None:
        write(folder, "")
        complete = threading.Timer(0.1, write, [folder, ELSEWHERE])
        complete.start()
        with pytest.raises(OutputError, match="host elsewhere, process 7"), lock.locked(locate(folder)):
            pass

    def test_a_job_whose_lock_was_taken_over_stops(self, folder: Path, disk: None) -> None:
        with lock.locked(locate(folder)) as held:
            held.check()
            take_over(folder)
            with pytest.raises(OutputError, match=r"another job has taken over this output \(host elsewhere"):
                held.check()
        assert read(folder)["host"] == "elsewhere", "the lock of the other job stays"

    def test_a_job_whose_lock_was_taken_over_writes_no_heartbeat(self, folder: Path, disk: None) -> None:
        with lock.locked(locate(folder)) as held:
            take_over(folder)
            held._thread.join(timeout=30)
            assert not held._thread.is_alive()
        assert read(folder) == ELSEWHERE

    def test_a_job_whose_lock_file_is_gone_stops_since_another_may_have_finished(
        self, folder: Path, disk: None
    ) -> None:
        with lock.locked(locate(folder)) as held:
            (folder / "lock.json").unlink()
            with pytest.raises(OutputError, match="lock file is gone, so another job may have written this output"):
                held.check()
        assert list(folder.iterdir()) == []

    def test_a_lock_file_that_is_missing_for_a_moment_is_looked_at_again(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, disk: None
    ) -> None:
        monkeypatch.setattr(lock, "TRY_AGAIN_S", 0.3)
        with lock.locked(locate(folder)) as held:
            (folder / "lock.json").rename(folder / "away")
            threading.Timer(0.1, (folder / "away").rename, [folder / "lock.json"]).start()
            held.check()

    def test_a_lock_file_that_cannot_be_read_for_a_moment_is_read_again_and_else_stops_the_job(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, disk: None
    ) -> None:
        monkeypatch.setattr(lock, "HEARTBEAT_S", 3600)
        original, failures = lock._read, [OSError(5, "Input/output error")] * 3

        def fail(file: Location) -> str | None:
            if failures:
                raise failures.pop()
            return original(file)

        with lock.locked(locate(folder)) as held:
            monkeypatch.setattr(lock, "_read", fail)
            held.check()
            failures += [OSError(5, "Input/output error")] * lock.TRIES
            with pytest.raises(OutputError, match="lock file cannot be read: input/output error"):
                held.check()

    def test_heartbeats_are_written_to_the_disk(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, disk: None
    ) -> None:
        synced: list[int] = []
        original = os.fsync

        def record(descriptor: int) -> None:
            original(descriptor)
            synced.append(json.loads(Path(f"/proc/self/fd/{descriptor}").read_text())["heartbeat"])

        monkeypatch.setattr(lock.os, "fsync", record)
        with lock.locked(locate(folder)):
            until = time.monotonic() + 60
            while (read(folder)["heartbeat"] < 2 or len(synced) < 3) and time.monotonic() < until:
                assert (folder / "lock.json").stat().st_size == lock.RECORD_BYTES
        assert synced[:3] == [0, 1, 2]


class TestWithoutLinks:
    @pytest.fixture(autouse=True)
    def disk(self, quick: None, no_links: None) -> None:
        pass

    def test_of_two_jobs_that_saw_no_lock_the_one_that_wrote_later_holds_it(self, folder: Path) -> None:
        def write_later() -> None:
            while not (folder / "lock.json").exists():
                time.sleep(0.001)
            take_over(folder)

        other = threading.Thread(target=write_later)
        other.start()
        with pytest.raises(OutputError) as caught, lock.locked(locate(folder)):
            pass
        other.join()
        assert str(caught.value) == refusal(folder, ELSEWHERE)
        assert read(folder) == ELSEWHERE

    def test_the_holder_gets_time_to_notice_a_job_that_was_slow_to_write(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        original = lock._write

        def write_slowly(file: Location, holder: dict[str, Any], descriptor: int | None) -> None:
            time.sleep(lock.SETTLE_S)
            original(file, holder, descriptor)

        pauses: list[float] = []
        sleep = lock.time.sleep
        monkeypatch.setattr(lock, "_write", write_slowly)
        monkeypatch.setattr(lock.time, "sleep", lambda seconds: (pauses.append(seconds), sleep(seconds)))
        with lock.locked(locate(folder)):
            assert max(pauses) > lock.HEARTBEAT_S

    def test_no_file_is_left_behind(self, folder: Path) -> None:
        with lock.locked(locate(folder)):
            assert [path.name for path in folder.iterdir()] == ["lock.json"]
        assert list(folder.iterdir()) == []


class TestOfAJobThatWasKilledWhileItTookALockOver:
    def test_its_lock_is_taken_over(self, folder: Path, no_waiting: None) -> None:
        ended = this_process() | {"process_start": 1}
        write(folder, ended)
        (folder / f".lock-after-{ended['token']}.tmp").write_text(json.dumps(ended | {"token": "next"}))
        with lock.locked(locate(folder)) as held:
            held.check()

    def test_it_is_respected_while_it_lives(self, folder: Path, quick: None) -> None:
        write(folder, ELSEWHERE)
        successor = this_process()
        (folder / ".lock-after-t.tmp").write_text(json.dumps(successor))
        finish = threading.Timer(0.1, (folder / ".lock-after-t.tmp").replace, [folder / "lock.json"])
        finish.start()
        with pytest.raises(OutputError) as caught, lock.locked(locate(folder)):
            pass
        assert str(caught.value) == refusal(folder, successor)

    def test_it_is_named_if_it_takes_over_between_two_looks(
        self, folder: Path, quick: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(folder, ELSEWHERE)
        successor = this_process()
        claim = folder / ".lock-after-t.tmp"
        claim.write_text(json.dumps(successor))
        original = lock._read

        def read_after_the_takeover(file: Location) -> str | None:
            if file.name == claim.name and claim.exists():
                claim.replace(folder / "lock.json")
            return original(file)

        monkeypatch.setattr(lock, "_read", read_after_the_takeover)
        assert lock._current(locate(folder / "lock.json"))[1] == json.dumps(successor)

    def test_a_job_that_is_late_with_an_old_claim_is_refused(
        self, folder: Path, quick: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # It saw the lock of a holder that another job has replaced since.
        write(folder, ELSEWHERE)
        original = lock._wait_until_free

        with contextlib.ExitStack() as other:

            def wait_for_too_long(file: Location) -> str | None:
                stale = original(file)
                monkeypatch.setattr(lock, "_wait_until_free", original)
                other.enter_context(lock.locked(locate(folder)))
                return stale

            monkeypatch.setattr(lock, "_wait_until_free", wait_for_too_long)
            with pytest.raises(OutputError, match=f"process {os.getpid()}"), lock.locked(locate(folder)):
                pass
            assert [path.name for path in folder.iterdir()] == ["lock.json"]


def test_a_repeated_request_of_an_nfs_client_is_no_other_job(
    folder: Path, monkeypatch: pytest.MonkeyPatch, no_waiting: None
) -> None:
    original = os.link

    def link_twice(source: Path, target: str) -> None:
        original(source, target)
        original(source, target)

    monkeypatch.setattr(lock.os, "link", link_twice)
    with lock.locked(locate(folder)) as held:
        held.check()


def test_a_file_system_without_flock_is_no_error(tmp_path: Path) -> None:
    # The system refuses to lock such a descriptor.
    descriptor = os.open(tmp_path, os.O_PATH)
    try:
        assert lock._flock(descriptor, lock.fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def test_a_lock_file_that_can_neither_be_read_nor_made_is_an_error(folder: Path, quick: None) -> None:
    folder.mkdir()
    (folder / "lock.json").symlink_to("nowhere")
    with pytest.raises(FileExistsError), lock.locked(locate(folder)):
        pass


@pytest.mark.parametrize("place", ["memory", "s3"])
def test_a_lock_elsewhere_than_on_a_disk_is_held_taken_over_and_released(
    quick: None, request: pytest.FixtureRequest, place: str
) -> None:
    address = "memory://lock-test" if place == "memory" else request.getfixturevalue("bucket").address
    folder = locate(f"{address}/tags.parquet.run")
    folder.create_folder()
    file = folder.child("lock.json")
    file.write_text(json.dumps(ELSEWHERE))
    with lock.locked(folder) as held:
        held.check()
        with pytest.raises(OutputError, match=f"process {os.getpid()}"), lock.locked(folder):
            pass
        held.check()
    assert folder.names() == []
    with lock.locked(folder) as held:
        file.write_text(json.dumps(ELSEWHERE))
        with pytest.raises(OutputError, match="another job has taken over"):
            held.check()
    assert json.loads(file.read_text()) == ELSEWHERE
