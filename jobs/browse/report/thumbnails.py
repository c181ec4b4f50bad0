"""Thumbnails of the strongest moments, made in Ray tasks: one for each video, which decodes only what it needs."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.archive.video import video_path
from jobs.browse.report.assemble import Thumbnails
from jobs.browse.report.gather import ReportData
from jobs.browse.report.moments import strongest_rows
from jobs.browse.report.picture import pictures_of
from jobs.cluster.ray_driver import run_on_ray
from jobs.cluster.ray_session import RaySession
from jobs.storage.address import is_address
from tagger.errors import VideoError

MAX_BYTES = 8_000_000
"""Most bytes of all thumbnails together. The least confident moments are left out first."""

STALL_S = 120.0
"""Seconds without a finished video after which the others get no thumbnails."""


@dataclass(frozen=True)
class VideoMoments:
    """The moments of a local video that get a thumbnail: rows of the page's segments, and seconds in the video."""

    video: str
    duration_s: float | None
    rows: tuple[int, ...]
    times_s: tuple[float, ...]


def moments_by_video(data: ReportData, count: int) -> list[VideoMoments]:
    """Returns the moments of up to ``count`` thumbnails. Videos in buckets have none: all of each would be copied."""
    rows = strongest_rows(data, count)
    videos = data.segments.video[rows]
    names, durations = data.videos["video"], data.videos["duration_s"]
    found = []
    for video in np.unique(videos).tolist():
        name = names[video].as_py()
        if is_address(name) and not name.startswith("file://"):
            continue
        of_video = rows[videos == video]
        middle_s = (data.segments.start_ms[of_video] + data.segments.end_ms[of_video]) / 2000
        found.append(VideoMoments(name, durations[video].as_py(), tuple(of_video.tolist()), tuple(middle_s.tolist())))
    return found


def make_thumbnails(
    data: ReportData,
    moments: list[VideoMoments],
    *,
    address: str | None = None,
    verbose: bool = False,
    on_video: Callable[[], None] = lambda: None,
) -> Thumbnails:
    """Returns the thumbnails of ``moments``. ``on_video`` is called after each video. Raises JobError.

    A video that cannot be read any more has no thumbnails.
    """
    found: dict[int, bytes] = {}
    if moments:
        pictures = run_on_ray(
            "making thumbnails", on_ray, moments, on_event=lambda _: on_video(), address=address, verbose=verbose
        )
        found = dict(pictures)
    rows = np.array(sorted(found), np.int64)
    best_first = rows[np.argsort(-data.segments.confidence[rows], kind="stable")]
    sizes = np.cumsum([len(found[row]) for row in best_first.tolist()])
    kept = sorted(best_first[sizes <= MAX_BYTES].tolist())
    return Thumbnails(kept, [found[row] for row in kept])


def on_ray(session: RaySession, send_event: Callable[[Any], None], moments: list[VideoMoments]) -> list[Any]:
    """The part of ``make_thumbnails`` that runs in the Ray driver. Returns pairs of a row and a JPEG."""
    import ray
    from ray.exceptions import RayError

    task = ray.remote(num_cpus=1, max_retries=0)(thumbnails_of)
    waiting = [task.remote(of_video) for of_video in moments]
    found: list[tuple[int, bytes]] = []
    while waiting:
        done, waiting = ray.wait(waiting, timeout=STALL_S)
        if not done:
            for reference in waiting:
                ray.cancel(reference, force=True)
            break
        # A file that ends the process of its decoder has no thumbnails.
        with contextlib.suppress(RayError):
            found += ray.get(done[0])
        send_event(len(found))
    return found


def thumbnails_of(moments: VideoMoments) -> list[tuple[int, bytes]]:
    """Returns the rows of the moments of a video, each with its JPEG; those that cannot be read are left out."""
    try:
        jpegs = pictures_of(Path(video_path(moments.video)), list(moments.times_s), moments.duration_s)
    except (VideoError, OSError):
        return []
    return [(row, jpeg) for row, jpeg in zip(moments.rows, jpegs, strict=True) if jpeg is not None]
