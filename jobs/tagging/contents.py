"""Takes the fingerprints of videos whose content decides what has happened to them: whether one was touched or moved.

Many files are read by Ray, on all machines. What is known is noted in the run folder as it comes, so that an
interrupted job does not read it again.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from jobs.archive.fingerprint import current_fingerprint
from jobs.archive.video import Video, video_name
from jobs.archive.videos import Videos
from jobs.cluster.nodes import check_nodes
from jobs.cluster.ray_driver import RayDriver, SendEvent
from jobs.cluster.ray_session import RaySession
from jobs.result.ledger import Content, Ledger, read_contents

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

RETRIES = 3
"""Number of retries of a task whose process died."""


def take_fingerprints(
    videos: Videos,
    ledger: Ledger,
    driver: Callable[[], RayDriver],
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, str | None]:
    """Returns the fingerprints of ``videos`` by path; None for one that cannot be read.

    Those in the run folder are not taken again, and new ones are noted there. ``driver`` starts the Ray driver, if
    there are many videos. ``report`` gets the number of videos whose fingerprints are known.
    """
    known = read_contents(ledger.folder)
    contents: dict[str, str | None] = {}
    left = []
    for video in videos:
        fingerprint = known.get((video_name(video.path), video.size, video.mtime_ns))
        if fingerprint is None:
            left.append(video)
        else:
            contents[video.path] = fingerprint
    new: list[Content] = []
    noted_s = time.monotonic()
    try:
        for video, fingerprint in _fingerprints(left, driver):
            contents[video.path] = fingerprint
            if fingerprint is not None:
                new.append(Content(video_name(video.path), video.size, video.mtime_ns, fingerprint))
            report(len(contents))
            if time.monotonic() - noted_s >= NOTE_S:
                # Cleared only after that: what is interrupted is repeated.
                ledger.note(new)
                new, noted_s = [], time.monotonic()
    finally:
        ledger.note(new)
    return contents


def _fingerprints(videos: Sequence[Video], driver: Callable[[], RayDriver]) -> Iterator[tuple[Video, str | None]]:
    if len(videos) <= FEW_VIDEOS:
        with ThreadPoolExecutor(READERS) as pool:
            yield from zip(videos, pool.map(current_fingerprint, [video.path for video in videos]), strict=True)
        return
    for first in range(0, len(videos), VIDEOS_PER_CALL):
        chunk = videos[first : first + VIDEOS_PER_CALL]
        for event in driver().events(fingerprint_on_ray, [video.path for video in chunk]):
            start, found = event
            yield from zip(chunk[start : start + len(found)], found, strict=True)


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
