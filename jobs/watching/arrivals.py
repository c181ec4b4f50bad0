"""Which videos of a watched folder are complete, and when a job begins with them: rules on listings and a clock."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from jobs.archive.video import Video
from jobs.archive.videos import Videos

BURST_SETTLES = 3
"""How long a complete video waits, in settle times, while more videos arrive, so that one job takes them all."""

OPEN_SETTLES = 60
"""How long a file without a change is left alone, in settle times, while a program has it open for writing.

A recorder of a quiet scene may write to its file only every ten seconds."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A version of a video that is not in the result, and the time in seconds since which it has not changed."""

    video: Video
    since_s: float


class Arrivals:
    """Compares the listings of a folder. All times are in seconds on one monotonic clock.

    A version of a video is its size and modification time. It is complete when it has not changed for ``settle_s`` and
    ``is_open`` denies that a program writes to it, or when it has not changed for OPEN_SETTLES times as long.
    """

    def __init__(self, settle_s: float, is_open: Callable[[str], bool] = lambda path: False):
        self._settle_s = settle_s
        self._is_open = is_open
        self._waiting: dict[str, _Waiting] = {}
        self._tagged: dict[str, Video] = {}
        self._is_first = True
        self._arrived_s = -math.inf

    def look(self, videos: Videos, now_s: float, clock_s: float) -> None:
        """Takes a listing made at ``now_s``, which the clock on the wall (since 1970) calls ``clock_s``.

        In the first listing, the modification time says how long a video has not changed. Later ones do not trust it:
        the clock of a file server may be wrong, and a copy may have the time of its original.
        """
        waiting = {}
        for video in videos:
            if self._tagged.get(video.path) == video:
                continue
            before = self._waiting.get(video.path)
            if before is None or before.video != video:
                age_s = max(0.0, clock_s - video.mtime_ns / 1e9) if self._is_first else 0.0
                if before is None and video.path not in self._tagged:
                    self._arrived_s = max(self._arrived_s, now_s - age_s)
                before = _Waiting(video, now_s - age_s)
            waiting[video.path] = before
        self._waiting = waiting
        self._is_first = False

    def due(self, videos: Videos, now_s: float) -> Videos:
        """Returns the videos of the last listing for a job: all without the incomplete ones. Empty when none is due.

        While videos arrive, complete ones wait for them, for BURST_SETTLES settle times at most.
        """
        complete = {path: each for path, each in self._waiting.items() if self._is_complete(each, now_s)}
        if not complete:
            return Videos()
        first_s = min(each.since_s for each in complete.values()) + self._settle_s
        if now_s - self._arrived_s < self._settle_s and now_s - first_s < BURST_SETTLES * self._settle_s:
            return Videos()
        incomplete = self._waiting.keys() - complete.keys()
        return videos.filter(np.array([video.path not in incomplete for video in videos]))

    def tagged(self, videos: Videos) -> None:
        """Notes that a job with these ``videos`` has finished: they are left alone until they change."""
        self._tagged = {video.path: video for video in videos}

    def _is_complete(self, each: _Waiting, now_s: float) -> bool:
        unchanged_s = now_s - each.since_s
        if unchanged_s < self._settle_s:
            return False
        return unchanged_s >= OPEN_SETTLES * self._settle_s or not self._is_open(each.video.path)
