"""Work for a Ray driver that goes well or wrong in one way or another, for test_ray_driver.py."""

import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from jobs.cluster.ray_driver import Tell
from jobs.cluster.ray_session import RaySession
from tagger.errors import InputError, VideoError


def double(session: RaySession, tell: Tell, numbers: list[int]) -> float:
    """Tells each number; returns the sum of their doubles and the CPUs, computed by a task."""
    import ray

    for number in numbers:
        tell(number)
    total: float = ray.get(ray.remote(lambda: 2 * sum(numbers)).remote()) + session.cpus
    return total


def chatter(session: RaySession, tell: Tell) -> None:
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
        tell("it failed")


def chatter_then_fail(session: RaySession, tell: Tell) -> None:
    """The same, and an end that shows the log."""
    chatter(session, tell)
    raise ZeroDivisionError("by zero")


def refuse(session: RaySession, tell: Tell) -> None:
    """Raises one of vtag's own errors."""
    raise InputError("there is nothing to do")


def fail(session: RaySession, tell: Tell) -> None:
    """Writes to standard error, then raises an unexpected error."""
    os.write(2, b"native words before the end\n")
    raise ZeroDivisionError("by zero")


def die(session: RaySession, tell: Tell) -> None:
    """Ends the process without a word of Python's."""
    os.write(2, b"native words before the end\n")
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle_of_a_message(session: RaySession, tell: Tell) -> None:
    """Announces a message of a thousand bytes and ends after one."""
    os.write(int(sys.argv[1]), struct.pack("!i", 1000) + b"x")
    os.kill(os.getpid(), signal.SIGKILL)


def lack_a_file(session: RaySession, tell: Tell) -> None:
    """Opens a file that does not exist."""
    Path("/nowhere/m.safetensors").read_bytes()


def refuse_a_video(session: RaySession, tell: Tell) -> None:
    """Raises the one error of vtag that has more than a message."""
    raise VideoError("damaged", "a.mp4 is damaged")


def stay(session: RaySession, tell: Tell) -> None:
    """Starts a worker with a process below it, tells that, and never comes to an end."""
    import ray

    def start() -> int:
        return subprocess.Popen(["sleep", "600"]).pid

    tell(ray.get(ray.remote(start).remote()))
    time.sleep(600)


def kept_workers(session: RaySession, tell: Tell, folders: list[str]) -> int:
    """How many workers of a first round of tasks take part in a second one, six seconds later."""
    import ray

    @ray.remote(num_cpus=0.25)
    def name(folder: str) -> int:
        # Each in a worker of its own, for all have to be there.
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
