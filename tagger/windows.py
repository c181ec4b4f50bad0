"""The positions of windows in a video and the frames that they show. Pure arithmetic; no video is opened here.

Sampling is written as in the literature: ``num_frames × sampling_rate`` at ``target_fps``. A window of 16×4 at 30 fps
has 16 samples, 4/30 s apart, and lasts 16·4/30 = 2.13 s. Samples are taken by presentation time, so a video gives the
same windows at 25, 30 or 60 frames per second and at a variable rate.
"""

import math
import sys
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

TIME_TOLERANCE_S = 1e-3
"""A frame counts as shown from this many seconds before its stored time.

Matroska and FLV round times to milliseconds and decord returns float32 seconds, so a frame that starts exactly at a
sample time may be stored with a slightly later time. One millisecond covers both and is a quarter of a frame at 240
fps.
"""

Ranges = Sequence[tuple[float, float]]
"""The starts and ends of stretches of a video, in seconds from the first frame."""

FOREVER_S = 1e12
"""A time in seconds that no video reaches."""

NEVER = sys.maxsize
"""The number of a window that no video has."""


@dataclass(frozen=True)
class Sampling:
    """How a window is sampled, and the distance between windows.

    ``hop_s`` is the distance between window starts in seconds; None means the length of a window (no overlap).
    With ``fast_decode``, frames that no other frame refers to are not decoded: a sample of such a frame shows the
    nearest decoded frame. Raises ValueError for values that describe no window, or a hop shorter than one sample step.
    """

    num_frames: int = 16
    sampling_rate: int = 4
    target_fps: float = 30.0
    hop_s: float | None = None
    fast_decode: bool = False

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.sampling_rate < 1 or not 0 < self.target_fps < math.inf:
            raise ValueError(f"no window can be sampled as {self.num_frames}×{self.sampling_rate} @ {self.target_fps}")
        if self.hop_s is not None and not self.step_s <= self.hop_s < math.inf:
            raise ValueError(f"hop is {self.hop_s} s; it must be at least one sample step, {self.step_s:.3f} s")

    @property
    def step_s(self) -> float:
        """Seconds between two samples of a window."""
        return self.sampling_rate / self.target_fps

    @property
    def window_s(self) -> float:
        """Length of a window in seconds. Each sample covers one step."""
        return self.num_frames * self.step_s

    @property
    def effective_hop_s(self) -> float:
        """Seconds between the starts of two windows."""
        return self.window_s if self.hop_s is None else self.hop_s

    @property
    def has_pauses(self) -> bool:
        """Whether there are stretches between windows that no window shows."""
        return self.effective_hop_s > self.window_s

    @property
    def lookback(self) -> int:
        """Samples before the start of a window by which it may have to be shifted back, if it is the last of a video.

        The window before the last one ends inside the video, so the shift is shorter than ``effective_hop_s``.
        """
        return min(self.num_frames, math.ceil(self.effective_hop_s / self.step_s)) - 1

    def start_s(self, window: int) -> float:
        """Returns the start of a window in seconds from the first frame."""
        return window * self.effective_hop_s

    def sample_s(self, window: int, sample: int) -> float:
        """Returns the time of one sample in seconds from the first frame. Samples before the window are negative."""
        return window * self.effective_hop_s + sample * self.step_s

    def window_count(self, duration_s: float) -> int:
        """Returns the number of windows that cover a video of ``duration_s`` seconds; at least one.

        A window starts every ``effective_hop_s`` until one reaches the end of the video. The last one may reach
        past it.
        """
        usable_s = duration_s - TIME_TOLERANCE_S
        until_covered = 1 + math.ceil((usable_s - self.window_s) / self.effective_hop_s)
        starting_inside = math.ceil(usable_s / self.effective_hop_s)
        return max(1, min(until_covered, starting_inside))

    def __str__(self) -> str:
        hop = "" if self.hop_s is None else f", hop {self.hop_s:g} s"
        fast = ", fast decoding" if self.fast_decode else ""
        return f"{self.num_frames}×{self.sampling_rate} @ {self.target_fps:g} fps{hop}{fast}"

    def to_json(self) -> dict[str, Any]:
        """Returns a dict for JSON. ``Sampling(**values)`` restores the sampling."""
        values = asdict(self)
        if not self.fast_decode:
            # Left out when false, because results and models of older versions do not have this entry.
            del values["fast_decode"]
        return values


@dataclass(frozen=True)
class Window:
    """A stretch of time to classify. ``end_s`` never passes the end of the video."""

    index: int
    start_s: float
    end_s: float


def merged_ranges(ranges: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Returns ranges in order. Those that overlap or touch are merged."""
    merged: list[tuple[float, float]] = []
    for start_s, end_s in sorted(ranges):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], end_s)
        else:
            merged.append((start_s, end_s))
    return tuple(merged)


ALL_WINDOWS = range(NEVER)


@dataclass(frozen=True)
class Part:
    """A part of a video that is cut into ``of`` parts. ``index`` counts from 0.

    Parts become smaller towards the end, in even steps, so that decoders that take one after the other finish together
    (trapezoid self-scheduling, Tzen and Ni 1993). Of many parts, the first has twice as many windows as the mean.
    """

    index: int
    of: int

    def windows(self, sampling: Sampling, duration_s: float) -> range:
        """Returns the numbers of its windows, in a video that declares ``duration_s``. The last part has no end."""
        count = sampling.window_count(duration_s)
        is_last = self.index == self.of - 1
        return range(self._first(count, self.index), NEVER if is_last else self._first(count, self.index + 1))

    def _first(self, count: int, index: int) -> int:
        # The share of windows before a part is x + (1 - 4 / of²) (x - x²), x being the share of parts before it. So two
        # parts are equal. In whole numbers, because the end of a part is the beginning of the next.
        return count * index * (self.of**3 + (self.of**2 - 4) * (self.of - index)) // self.of**4


class WantedWindows:
    """The windows that show more than TIME_TOLERANCE_S of one of the ``only`` ranges; without ranges, all windows.

    No window shows anything after ``end_s``, the end of the video. Only those with the numbers ``within`` are wanted.
    """

    def __init__(
        self, sampling: Sampling, only: Ranges | None, end_s: float = FOREVER_S, *, within: range = ALL_WINDOWS
    ):
        # Groups of consecutive windows, in order: the number of the first window of each, and that after its last one.
        self._firsts: list[int] = []
        self._stops: list[int] = []
        groups = [ALL_WINDOWS] if only is None else []
        for each in merged_ranges(only or ()):
            start_s, until_s = (min(time_s, end_s, FOREVER_S) for time_s in each)
            groups.append(_windows_showing(sampling, start_s, until_s))
        for windows in groups:
            first = max(windows.start, within.start, *self._stops[-1:])
            stop = min(windows.stop, within.stop)
            if first < stop:
                self._firsts.append(first)
                self._stops.append(stop)

    def next(self, window: int) -> int:
        """Returns the number of the first wanted window from ``window`` on; NEVER if there is none."""
        group = bisect_right(self._stops, window)
        return max(window, self._firsts[group]) if group < len(self._firsts) else NEVER

    def count(self, windows: int) -> int:
        """Returns how many of the first ``windows`` windows are wanted."""
        return sum(max(0, min(stop, windows) - first) for first, stop in zip(self._firsts, self._stops, strict=True))


def _windows_showing(sampling: Sampling, start_s: float, until_s: float) -> range:
    """Returns the numbers of the windows that show more than TIME_TOLERANCE_S of a range."""

    def shows(window: int) -> bool:
        begin_s = sampling.start_s(window)
        return min(begin_s + sampling.window_s, until_s) - max(begin_s, start_s) > TIME_TOLERANCE_S

    # Rounding may shift the first and the last window by one, so both are looked for from one farther out.
    first = max(0, math.floor((start_s - sampling.window_s) / sampling.effective_hop_s) - 1)
    stop = math.ceil(until_s / sampling.effective_hop_s) + 1
    while first < stop and not shows(first):
        first += 1
    while first < stop and not shows(stop - 1):
        stop -= 1
    return range(first, stop)
