"""Collects the frames of a video into windows. Pure logic; no video is opened here."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tagger.windows import ALL_WINDOWS, NEVER, TIME_TOLERANCE_S, Ranges, Sampling, WantedWindows, Window

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
