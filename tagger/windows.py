"""The positions of windows in a video and the frames that they show. Pure arithmetic; no video is opened here.

Sampling is written as in the literature: ``num_frames × sampling_rate`` at ``target_fps``. A window of 16×4 at 30 fps
has 16 samples, 4/30 s apart, and lasts 16·4/30 = 2.13 s. Samples are taken by presentation time, so a video gives the
same windows at 25, 30 or 60 frames per second and at a variable rate.
"""

import math
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, TypeVar

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


Pixels = TypeVar("Pixels")


@dataclass
class _OpenWindow(Generic[Pixels]):
    """A window that is being filled. Its frames begin with those of ``before`` samples before its start."""

    index: int
    before: int
    frames: list[Pixels] = field(default_factory=list)


class WindowCutter(Generic[Pixels]):
    """Collects the frames of a video, given in presentation order, into windows.

    Times are in seconds from the first frame. A frame is shown from its ``start_s`` to the ``start_s`` of the next.
    Call ``needs`` before converting a frame's pixels, ``push`` for each needed frame, and ``finish`` for the last
    frame. Windows come out in order, each with ``num_frames`` frames. A frame may be in several windows.

    Only the last window of a video may reach past its end. Its frames are shifted back by the fewest whole sample steps
    so that all of them are of the video, but not back over the start of the video or a gap. ``start_s`` and ``end_s``
    stay. If too few frames are there, the last frame is repeated. Any window may be the last, so the samples before
    the start of each are taken as well (``Sampling.lookback``). Without overlap, and with an overlap of whole steps,
    these are samples of the windows before it. Windows that end before ``may_end_s``, the earliest time at which the
    video is expected to end, take no such samples.

    With ``only``, the windows come out that show something of these ranges (see ``WantedWindows``), the same as without
    it, and of these only those with the numbers ``within``. The others need no frames.
    """

    def __init__(
        self,
        sampling: Sampling,
        may_end_s: float = 0.0,
        only: Ranges | None = None,
        *,
        within: range = ALL_WINDOWS,
    ):
        self._sampling = sampling
        self._may_end_s = may_end_s
        self._only = only
        self._within = within
        self._wanted = WantedWindows(sampling, only, within=within)
        self._open: deque[_OpenWindow[Pixels]] = deque()
        self._next = self._wanted.next(0)
        """The number of the window that is opened next."""
        self._begin_s = -TIME_TOLERANCE_S
        """The earliest time of a sample: the start of the video, or the end of the last gap."""

    @property
    def is_done(self) -> bool:
        """Whether all windows that are wanted have come out."""
        return not self._open and self._next == NEVER

    def needs(self, shown_until_s: float) -> bool:
        """Checks whether the next frame, shown until ``shown_until_s``, contains a sample time of a window."""
        limit_s = shown_until_s - TIME_TOLERANCE_S
        if any(self._lacks_sample(window, limit_s) for window in self._open):
            return True
        # After a gap, several windows may be due whose first samples are in no order.
        index = self._next
        while self._opens_s(index) < limit_s:
            if self._lacks_sample(self._new(index), limit_s):
                return True
            index = self._wanted.next(index + 1)
        return False

    def push(self, shown_until_s: float, pixels: Pixels) -> Iterator[tuple[Window, list[Pixels]]]:
        """Takes one frame that is not the last, and yields the windows that are complete.

        A window is held back until the video has reached the end of the window, so that ``end_s`` is exact.
        """
        limit_s = shown_until_s - TIME_TOLERANCE_S
        while True:
            for window in self._open:
                self._fill(window, limit_s, pixels)
            yield from self.reach(shown_until_s)
            if self._opens_s(self._next) >= limit_s:
                return
            self._open_next()

    def reach(self, until_s: float) -> Iterator[tuple[Window, list[Pixels]]]:
        """Yields the windows that are complete if the video goes on until ``until_s``."""
        while self._open and self._is_complete(self._open[0], until_s):
            window = self._open.popleft()
            yield self._emit(window, until_s, window.frames[-1])

    def is_ending(self, shown_until_s: float) -> bool:
        """Checks whether a window will be complete with a frame that is shown until ``shown_until_s``."""
        return bool(self._open) and self._ends_by(self._open[0], shown_until_s)

    def foresee(self, shown_until_s: float, pixels: Pixels) -> Iterator[tuple[Window, list[Pixels]]]:
        """Yields the windows that end with the newest frame, which is expected to be shown until ``shown_until_s``.

        So a window of a live picture comes out with its last frame, not with the frame after it. The frame is pushed
        afterwards as any other, when its end is known.
        """
        while self.is_ending(shown_until_s):
            window = self._open[0]
            self._fill(window, shown_until_s - TIME_TOLERANCE_S, pixels)
            if not self._is_full(window):
                return
            yield self._emit(self._open.popleft(), math.inf, pixels)

    def lose(self, from_s: float, until_s: float) -> None:
        """Leaves out the windows that touch a stretch which cannot be read. The next frame starts at ``until_s``."""
        while self._open and not self._is_complete(self._open[-1], from_s + TIME_TOLERANCE_S):
            self._next = self._open.pop().index
        self._begin_s = until_s - TIME_TOLERANCE_S
        while self._sampling.start_s(self._next) < self._begin_s:
            self._next = self._wanted.next(self._next + 1)

    def finish(self, end_s: float, last: Pixels) -> Iterator[tuple[Window, list[Pixels]]]:
        """Takes the last frame, which ends at ``end_s``, and yields the remaining windows."""
        count = self._sampling.window_count(end_s)
        # A range after the end of the video is in none of the windows that reach past it.
        wanted = WantedWindows(self._sampling, self._only, end_s, within=self._within)
        while self._open or self._next < count:
            if not self._open:
                self._open_next()
            window = self._open.popleft()
            if window.index < count and wanted.next(window.index) == window.index:
                self._fill(window, end_s - TIME_TOLERANCE_S, last)
                yield self._emit(window, end_s, last)

    def needed(self, ends_s: Sequence[float], pixels: Sequence[Pixels], *, has_end: bool = True) -> Iterator[Pixels]:
        """Yields those of ``pixels`` that windows need. Frames are shown until ``ends_s``.

        If the video ``has_end`` there, its last frame is always needed. Afterwards all windows are cut: use a cutter of
        its own.
        """
        until = len(ends_s) - has_end
        for end_s, each in zip(ends_s[:until], pixels[:until], strict=True):
            if self.is_done:
                break
            if self.needs(end_s):
                deque(self.push(end_s, each), maxlen=0)
                yield each
        yield from pixels[until:]

    def _opens_s(self, index: int) -> float:
        """Returns a time in seconds at which a window has no sample yet. It never falls from window to window."""
        return max(self._sampling.sample_s(index, -self._lookback(index)), self._begin_s)

    def _lookback(self, index: int) -> int:
        may_be_last = self._sampling.start_s(index) + self._sampling.window_s >= self._may_end_s
        return self._sampling.lookback if may_be_last else 0

    def _new(self, index: int) -> _OpenWindow[Pixels]:
        steps = math.floor((self._sampling.start_s(index) - self._begin_s) / self._sampling.step_s)
        return _OpenWindow(index, min(steps, self._lookback(index)))

    def _open_next(self) -> None:
        self._open.append(self._new(self._next))
        self._next = self._wanted.next(self._next + 1)

    def _lacks_sample(self, window: _OpenWindow[Pixels], limit_s: float) -> bool:
        """Checks whether the next sample of a window that is not full is before ``limit_s``."""
        sample = len(window.frames) - window.before
        return sample < self._sampling.num_frames and self._sampling.sample_s(window.index, sample) < limit_s

    def _fill(self, window: _OpenWindow[Pixels], limit_s: float, pixels: Pixels) -> None:
        while self._lacks_sample(window, limit_s):
            window.frames.append(pixels)

    def _is_complete(self, window: _OpenWindow[Pixels], reached_s: float) -> bool:
        return self._is_full(window) and self._sampling.start_s(window.index) + self._sampling.window_s <= reached_s

    def _is_full(self, window: _OpenWindow[Pixels]) -> bool:
        return len(window.frames) == window.before + self._sampling.num_frames

    def _ends_by(self, window: _OpenWindow[Pixels], time_s: float) -> bool:
        return self._sampling.start_s(window.index) + self._sampling.window_s <= time_s + TIME_TOLERANCE_S

    def _emit(self, window: _OpenWindow[Pixels], end_s: float, last: Pixels) -> tuple[Window, list[Pixels]]:
        start_s = self._sampling.start_s(window.index)
        frames = window.frames[-self._sampling.num_frames :]
        frames += [last] * (self._sampling.num_frames - len(frames))
        return Window(window.index, start_s, min(start_s + self._sampling.window_s, end_s)), frames
