"""Computes windows in the slow and obvious way: each sample is looked up on the whole timeline of a video."""

from bisect import bisect_right
from collections.abc import Sequence

from tagger.windows import TIME_TOLERANCE_S, Sampling, Window


def frame_at(starts_s: Sequence[float], time_s: float) -> int:
    """Returns the number of the frame shown at ``time_s``: the last frame that has started."""
    return bisect_right(starts_s, time_s + TIME_TOLERANCE_S) - 1


def look_up(
    sampling: Sampling, starts_s: Sequence[float], end_s: float, begin_s: float = 0.0
) -> list[tuple[Window, list[int]]]:
    """Returns the windows of a video whose frames start at ``starts_s``, each with the numbers of its frames.

    ``begin_s`` is the end of the last gap. The last window is shifted back until all of its samples are before
    ``end_s``, but not over ``begin_s``.
    """
    windows = []
    for k in range(sampling.window_count(end_s)):
        start_s = k * sampling.effective_hop_s
        first = 0
        while (
            start_s + (first + sampling.num_frames - 1) * sampling.step_s >= end_s - TIME_TOLERANCE_S
            and start_s + (first - 1) * sampling.step_s >= begin_s - TIME_TOLERANCE_S
        ):
            first -= 1
        samples = [start_s + (first + i) * sampling.step_s for i in range(sampling.num_frames)]
        window = Window(k, start_s, min(start_s + sampling.window_s, end_s))
        windows.append((window, [frame_at(starts_s, time_s) for time_s in samples]))
    return windows
