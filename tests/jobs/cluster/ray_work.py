"""Work for a Ray driver that succeeds, fails or ends in different ways, for test_ray_driver.py."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobs.cluster.ray_driver import SendEvent
from jobs.cluster.ray_session import RaySession
from tagger.errors import InputError, VideoError, doing


def double(session: RaySession, send_event: SendEvent, numbers: list[int]) -> float:
    """Sends each number; returns twice their sum, computed by a task, plus the number of CPUs."""
    import ray

    for number in numbers:
        send_event(number)
    total: float = ray.get(ray.remote(lambda: 2 * sum(numbers)).remote()) + session.cpus
    return total


def print_everywhere(session: RaySession, send_event: SendEvent) -> None:
    """Writes to standard output and error in every way, and lets a thread and a task fail."""
    import threading

    import ray

    print("printed")
    print("printed to standard error", file=sys.stderr)
    os.write(1, b"native output\n")
    os.write(2, b"native words\n")
    threading.Thread(target=lambda: 1 / 0).start()

    class Broken:
        def __init__(self) -> None:
            raise ValueError("no model")

        def work(self) -> None:
            pass

    try:
        ray.get(ray.remote(Broken).remote().work.remote())
    except ray.exceptions.RayError:
        send_event("it failed")


def print_everywhere_then_fail(session: RaySession, send_event: SendEvent) -> None:
    """Prints like ``print_everywhere``, then raises an unexpected error."""
    print_everywhere(session, send_event)
    raise ZeroDivisionError("by zero")


def raise_input_error(session: RaySession, send_event: SendEvent) -> None:
    """Raises one of vtag's own errors."""
    raise InputError("there is nothing to do")


def fail(session: RaySession, send_event: SendEvent) -> None:
    """Writes to standard error, then raises an unexpected error."""
    os.write(2, b"native words before the end\n")
    raise ZeroDivisionError("by zero")


def fail_while_reading(session: RaySession, send_event: SendEvent) -> None:
    """Raises an unexpected error with a note of what it was doing."""
    with doing("reading", "/v/a\nb.mp4"):
        raise ZeroDivisionError("by zero")


def fail_in_a_task(session: RaySession, send_event: SendEvent) -> None:
    """Raises the same error in a task of Ray."""
    import ray

    ray.get(ray.remote(fail_while_reading).remote(None, None))


def fail_in_the_start_of_an_actor(session: RaySession, send_event: SendEvent) -> None:
    """Raises the same error in the constructor of an actor."""
    import ray

    class Broken:
        def __init__(self) -> None:
            fail_while_reading(session, send_event)

        def work(self) -> None:
            pass

    ray.get(ray.remote(Broken).remote().work.remote())


def kill_itself(session: RaySession, send_event: SendEvent) -> None:
    """Kills the process, so that Python prints nothing."""
    os.write(2, b"native words before the end\n")
    os.kill(os.getpid(), signal.SIGKILL)


def kill_itself_within_a_message(session: RaySession, send_event: SendEvent) -> None:
    """Announces a message of 1000 bytes, sends one byte and kills the process."""
    os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"x")
    os.kill(os.getpid(), signal.SIGKILL)


def open_a_missing_file(session: RaySession, send_event: SendEvent) -> None:
    """Opens a file that does not exist."""
    Path("/nowhere/m.safetensors").read_bytes()


def raise_video_error(session: RaySession, send_event: SendEvent) -> None:
    """Raises the one error of vtag that has a field besides the message."""
    raise VideoError("damaged", "a.mp4 is damaged")


def run_forever(session: RaySession, send_event: SendEvent) -> None:
    """Starts a worker with a child process, sends its process id, and does not return."""
    import ray

    def start() -> int:
        return subprocess.Popen(["sleep", "600"]).pid

    send_event(ray.get(ray.remote(start).remote()))
    time.sleep(600)


def kept_workers(session: RaySession, send_event: SendEvent, folders: list[str]) -> int:
    """Counts the workers of a first round of tasks that run tasks of a second one, six seconds later."""
    import ray

    @ray.remote(num_cpus=0.25)
    def name(folder: str) -> int:
        # Each task waits until all four run, so that each has a worker of its own.
        (Path(folder) / str(os.getpid())).touch()
        while sum(1 for _ in Path(folder).iterdir()) < 4:
            time.sleep(0.05)
        return os.getpid()

    rounds: list[set[Any]] = []
    for folder in folders:
        rounds.append(set(ray.get([name.remote(folder) for _ in range(4)])))
        if len(rounds) == 1:
            time.sleep(6)
    return len(rounds[0] & rounds[1])
