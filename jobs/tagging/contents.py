"""Takes the fingerprints of videos whose content decides what has happened to them: whether one was touched or moved.

Many files are read by Ray, on all machines. What is known is noted in the run folder as it comes, so that an
interrupted job does not read it again.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.archive.fingerprint import CONTENT, content_of, current_fingerprint
from jobs.archive.videos import Videos
from jobs.cluster.nodes import check_nodes
from jobs.cluster.ray_driver import RayDriver, SendEvent
from jobs.cluster.ray_session import RaySession
from jobs.result.compare.runs import find_names
from jobs.result.ledger import Ledger, read_contents

FEW_VIDEOS = 64
"""Number of videos up to which the job reads them itself: Ray takes some seconds to start. They have 4 GiB at most."""

VIDEOS_PER_TASK = 16
"""Number of videos in a task of Ray: up to 1 GiB, some seconds."""

READERS = 8
"""Number of videos that a process reads at the same time. On a network disk most of the time is waiting."""

TASKS_PER_CPU = 2
"""Number of tasks for each CPU that Ray knows at a time: one is running, and one waits."""

VIDEOS_PER_CALL = 100_000
"""Number of videos whose names travel to the Ray driver at once."""

NOTE_S = 5.0
"""Maximum time in seconds until a fingerprint is noted."""

NOTE_VIDEOS = 20_000
"""Number of fingerprints that are noted at once."""

RETRIES = 3
"""Number of retries of a task whose process died."""


def take_fingerprints(
    videos: Videos,
    ledger: Ledger,
    driver: Callable[[], RayDriver],
    report: Callable[[int], None] = lambda done: None,
) -> pa.Array:
    """Returns the contents (CONTENT) of ``videos``; null for one that cannot be read.

    Those in the run folder are not read again, and the fingerprints of others are noted there. ``driver`` starts the
    Ray driver, if there are many videos. ``report`` gets the number of videos whose content is known.
    """
    contents = _Column(_noted(videos, ledger))
    rows = np.flatnonzero(~contents.is_known)
    left = videos.filter(~contents.is_known)
    done = len(videos) - len(left)
    new: dict[int, str] = {}
    noted_s = time.monotonic()
    try:
        for number, fingerprint in _fingerprints(left, driver):
            done += 1
            if fingerprint is not None:
                contents.set(int(rows[number]), content_of(fingerprint))
                new[number] = fingerprint
            report(done)
            if time.monotonic() - noted_s >= NOTE_S or len(new) >= NOTE_VIDEOS:
                # Cleared only after that: what is interrupted is repeated.
                _note(ledger, left, new)
                new, noted_s = {}, time.monotonic()
    finally:
        _note(ledger, left, new)
    return contents.array()


def _note(ledger: Ledger, videos: Videos, fingerprints: Mapping[int, str]) -> None:
    """Notes ``fingerprints``, which are by the number of the video."""
    numbers = sorted(fingerprints)
    ledger.note(videos.take(numbers), [fingerprints[number] for number in numbers])


class _Column:
    """A column of contents that is filled in any order."""

    def __init__(self, contents: pa.Array):
        self.is_known = contents.is_valid().to_numpy(zero_copy_only=False).copy()
        self._bytes = bytearray(contents.fill_null(bytes(CONTENT.byte_width)).buffers()[1].to_pybytes())

    def set(self, row: int, content: bytes) -> None:
        self.is_known[row] = True
        self._bytes[row * CONTENT.byte_width : (row + 1) * CONTENT.byte_width] = content

    def array(self) -> pa.Array:
        buffers = [pa.array(self.is_known).buffers()[1], pa.py_buffer(self._bytes)]
        return pa.Array.from_buffers(CONTENT, len(self.is_known), buffers)


def _noted(videos: Videos, ledger: Ledger) -> pa.Array:
    """Returns the contents that the run folder has of these versions of ``videos``; null for the others."""
    known = read_contents(ledger.folder)
    rows = find_names(videos.names, [known["video"].combine_chunks()])
    found = np.flatnonzero(rows >= 0)
    for column, values in (("size", videos.sizes), ("mtime_ns", videos.mtimes_ns)):
        found = found[known[column].to_numpy()[rows[found]] == values[found]]
    is_noted = np.zeros(len(videos), bool)
    is_noted[found] = True
    return known["content"].combine_chunks().take(pa.array(rows, mask=~is_noted))


def _fingerprints(videos: Videos, driver: Callable[[], RayDriver]) -> Iterator[tuple[int, str | None]]:
    """Yields the numbers of the videos, in any order, and their fingerprints."""
    if len(videos) <= FEW_VIDEOS:
        with ThreadPoolExecutor(READERS) as pool:
            yield from enumerate(pool.map(current_fingerprint, [video.path for video in videos]))
        return
    for first in range(0, len(videos), VIDEOS_PER_CALL):
        paths = [video.path for video in videos[first : first + VIDEOS_PER_CALL]]
        for start, found in driver().events(fingerprint_on_ray, paths):
            yield from enumerate(found, first + start)


def fingerprint_on_ray(session: RaySession, send_event: SendEvent, paths: Sequence[str]) -> None:
    """The work of the Ray driver: sends the fingerprints of some of ``paths``, with the number of the first of them.

    Raises JobError when a machine does not see the videos.
    """
    import ray

    check_nodes(paths)
    task = ray.remote(num_cpus=1, max_retries=RETRIES, scheduling_strategy="SPREAD")(fingerprints_of)
    starts = iter(range(0, len(paths), VIDEOS_PER_TASK))
    running: dict[Any, int] = {}
    while True:
        while len(running) < max(1, int(session.cpus)) * TASKS_PER_CPU and (start := next(starts, None)) is not None:
            running[task.remote(paths[start : start + VIDEOS_PER_TASK])] = start
        if not running:
            return
        (done,), _ = ray.wait(list(running))
        send_event((running.pop(done), ray.get(done)))


def fingerprints_of(paths: Sequence[str]) -> list[str | None]:
    """Returns the fingerprints of files; None for one that cannot be read."""
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(current_fingerprint, paths))
