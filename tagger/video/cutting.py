"""Cuts a video into windows: chooses a reader, and takes another one where the first one fails."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tagger.errors import VideoError, one_line
from tagger.preprocessing import Preprocessing
from tagger.video.choose import (
    WHOLE_DECODERS,
    Choice,
    choose_reader,
    open_part,
    open_video,
    why_no_index,
    why_not_in_parts,
)
from tagger.video.facts import VideoFacts, probe
from tagger.video.packets.table import Stretch
from tagger.video.readers.nvdec_reader import NvdecError
from tagger.video.readers.reader import Frame, Gap, Reader, WantedReader
from tagger.video.readers.sparse_reader import SparseError
from tagger.video.readers.threaded_reader import ThreadsError, threads_for
from tagger.window_cutter import WindowCutter
from tagger.windows import ALL_WINDOWS, NEVER, TIME_TOLERANCE_S, Part, Ranges, Sampling, Window

MAX_FRAME_S = 3600.0
"""The longest time in seconds that a single frame may be shown. A longer time counts as damage: one flipped bit in a
small file can give a frame of a month, which would be a million windows of the same picture."""

LONG_VIDEO_S, MAX_MEAN_FRAME_S = 12 * 3600.0, 60.0
"""A video longer than LONG_VIDEO_S seconds has damaged times if its frames last more than MAX_MEAN_FRAME_S on average.

Many frames of just under an hour give as many windows as one frame of a month. A slide show is shorter or faster.
"""

RELIABLE_SHARE = 0.9
"""Share of its declared duration that a video that is not truncated is expected to have at least.

Many containers declare the duration of the sound, which may go on after the last frame.
"""

MAX_GAPS = 20
"""Number of gaps from which a video that is lost for the most part is read no further."""


class ReadProgress:
    """The current state of a video that is being read. Subclasses override a method to be notified early."""

    def __init__(self) -> None:
        self.facts: VideoFacts | None = None
        self.choice: Choice | None = None
        self.duration_s = 0.0
        self.gaps: list[Gap] = []
        self.positions: tuple[int, int] | None = None
        """Those of the first and last packet of a part in the file; None when the video is not read in parts."""

    def on_facts(self, facts: VideoFacts) -> None:
        """Called when the video has been opened."""
        self.facts = facts

    def on_choice(self, choice: Choice) -> None:
        """Called when a reader has been chosen, and again when another reader replaces it."""
        self.choice = choice

    def on_advance(self) -> None:
        """Called for each packet that is read and each frame that is examined, skipped or decoded."""


def choose_first_reader(
    facts: VideoFacts,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    nvdec: bool = False,
    reader: WantedReader = "auto",
    only: Ranges | None = None,
) -> Choice:
    """Chooses the reader that is tried first, with ``choose_reader``. ``only`` is as in ``WindowCutter``."""
    frame_bytes = math.prod(preprocessing.shape)
    # An upper bound: one frame for each sample of each window.
    samples = sampling.num_frames * sampling.window_count(facts.duration_s) if facts.duration_s else None
    drained_bytes = samples * frame_bytes if samples is not None else None
    sparse = sampling.has_pauses or only is not None
    return choose_reader(facts, drained_bytes, fast=sampling.fast_decode, sparse=sparse, nvdec=nvdec, wanted=reader)


def read_windows(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice | None,
    nvdec: bool,
    wanted: WantedReader,
    progress: ReadProgress,
    only: Ranges | None = None,
    part: Part | None = None,
    threads: int = 1,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    """Yields the windows of a video, each with its frames, ``[H, W, 3] uint8``. Raises any error of a reader.

    ``choice`` overrides the automatic choice of a reader, for which ``nvdec`` and ``wanted`` are as in
    ``choose_reader``. ``only`` is as in ``WindowCutter``.

    ``threads`` threads decode a video that PyAV reads whole, as long as it has no sign of damage.

    With ``part``, the windows of a part come out. SparseError is raised when they may differ from those of the whole
    video. If the file tells before that it cannot be read in parts, all windows are of the first part, and the choice
    of the reader has the reason.
    """
    reason = None if part is None else why_no_index(path)
    if reason is not None and part is not None and part.index:
        return
    facts = probe(path)
    progress.on_facts(facts)
    choice = choice or choose_first_reader(facts, sampling, preprocessing, nvdec=nvdec, reader=wanted, only=only)
    if part is not None:
        reason = reason or why_not_in_parts(facts, choice)
        if reason is None:
            yield from _cut_part(path, sampling, preprocessing, choice, facts, progress, only, part)
            return
        if part.index:
            return
        choice = Choice(choice.decoder, f"{choice.reason}; {reason}" if choice.reason else reason)
    last = -1
    if choice.decoder == "decord":
        try:
            # All frames are read before the first window is yielded, because an open decord reader must never wait.
            drained = list(_cut_windows(path, sampling, preprocessing, choice, facts, progress, only))
        except VideoError as error:
            opened = progress.choice
            if opened is not None and opened.decoder == "pyav":
                choice = opened  # decord did not open the video, and PyAV met damage.
            else:
                choice = Choice("pyav", one_line(str(error).removeprefix(f"{path}: ")))
        except Exception as error:
            choice = Choice("pyav", one_line(f"decord failed ({error})"))
        else:
            yield from drained
            return
    elif choice.decoder == "pyav-nvdec" or choice.decoder in WHOLE_DECODERS:
        try:
            for window, frames in _cut_windows(path, sampling, preprocessing, choice, facts, progress, only):
                yield window, frames
                last = window.index
            return
        except NvdecError as error:
            choice = Choice("pyav", one_line(f"decoding on the GPU failed ({error})"))
        except SparseError as error:
            choice = Choice(WHOLE_DECODERS[choice.decoder], one_line(f"it is decoded whole: {error}"))
    progress.gaps.clear()  # Those of a reading that begins again.
    threads = threads_for(facts, threads) if choice.decoder == "pyav" else 1
    if threads > 1:
        try:
            windows = _cut_windows(path, sampling, preprocessing, choice, facts, progress, only, threads=threads)
            for window, frames in windows:
                if window.index > last:
                    yield window, frames
                    last = window.index
            return
        except ThreadsError:
            progress.duration_s = 0.0
    for window, frames in _cut_windows(path, sampling, preprocessing, choice, facts, progress, only):
        if window.index > last:
            yield window, frames


def _cut_part(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice,
    facts: VideoFacts,
    progress: ReadProgress,
    only: Ranges | None,
    part: Part,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    """Yields the windows of a part of a video. The last part reads on to the end, whose time no other part needs.

    All packets up to the next part are read, even if few of its windows are wanted: damage is found, and the parts
    follow each other in the file.
    """
    assert facts.duration_s is not None
    within = part.windows(sampling, facts.duration_s)
    from_s = max(0.0, sampling.sample_s(within.start, -sampling.lookback))
    until_s = math.inf
    if within.stop != NEVER:
        until_s = max(sampling.start_s(within.stop), sampling.start_s(within.stop - 1) + sampling.window_s)
    stretch = _Stretch(Stretch(from_s, until_s), within)
    yield from _cut_windows(path, sampling, preprocessing, choice, facts, progress, only, stretch)


@dataclass(frozen=True)
class _Stretch:
    """The part of a video that is cut into windows: its time, and the numbers of its windows."""

    time: Stretch
    windows: range


def _cut_windows(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice,
    facts: VideoFacts,
    progress: ReadProgress,
    only: Ranges | None,
    stretch: _Stretch | None = None,
    threads: int = 1,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    # Reported before the file is opened, because opening may crash.
    progress.on_choice(choice)
    width, height = preprocessing.scaled(*facts.display_size)
    within = ALL_WINDOWS if stretch is None else stretch.windows

    def plan(ends_s: np.ndarray, has_end: bool) -> list[int]:
        may_end_s = _may_end_s(facts, sampling, float(ends_s[-1]))
        cutter: WindowCutter[int] = WindowCutter(sampling, may_end_s, only, within=within)
        numbers = []
        for number in cutter.needed(ends_s.tolist(), range(len(ends_s)), has_end=has_end):
            # A long video takes seconds.
            progress.on_advance()
            numbers.append(number)
        return numbers

    reader: Reader
    if stretch is not None:
        reader = open_part(path, facts, choice, width, height, progress.on_advance, plan, stretch.time)
        progress.positions = reader.positions
    else:
        reader, opened = open_video(path, facts, choice, width, height, progress.on_advance, plan, threads)
        if opened != choice:
            progress.on_choice(opened)
    may_end_s = _may_end_s(facts, sampling, reader.end_s)
    cutter: WindowCutter[np.ndarray] = WindowCutter(sampling, may_end_s, only, within=within)
    begin_s = 0.0 if stretch is None else stretch.time.from_s

    frame_count = 0

    def needs(shown_until_s: float) -> bool:
        nonlocal frame_count
        frame_count += 1
        progress.on_advance()
        return cutter.needs(shown_until_s)

    try:
        for frame in reader.frames(needs):
            if isinstance(frame, Gap):
                progress.gaps.append(frame)
                cutter.lose(frame.start_s, frame.end_s)
                if _is_bad_throughout(progress.gaps):
                    raise VideoError("damaged", f"{gaps_error(path, progress)}; the rest was not read")
                continue
            pixels = np.ascontiguousarray(preprocessing.crop(frame.pixels))
            problem = _time_problem(frame, frame_count, begin_s)
            if problem and stretch is not None:
                raise SparseError(problem)
            if problem:
                progress.duration_s = frame.start_s + sampling.step_s
                yield from cutter.finish(progress.duration_s, pixels)
                raise VideoError("damaged", f"{path}: {problem}")
            progress.duration_s = frame.end_s
            yield from (cutter.finish if frame.is_last else cutter.push)(frame.end_s, pixels)
        if stretch is not None and reader.end_s is not None:
            yield from cutter.reach(reader.end_s)
    finally:
        reader.close()


def _may_end_s(facts: VideoFacts, sampling: Sampling, end_s: float | None) -> float:
    """Returns the earliest time in seconds at which a video is expected to end; 0 when nothing is known.

    ``end_s`` is its exact end, if that is known.

    It matters only where windows have pauses between them: there the samples before a window are of no other window,
    and to convert them for each would double the conversions. With a hop of 3 s, reading a 1080p video would take an
    eighth longer.
    """
    if end_s is not None:
        return end_s - 2 * TIME_TOLERANCE_S
    if not sampling.has_pauses or facts.is_truncated or facts.duration_s is None:
        return 0.0
    return RELIABLE_SHARE * facts.duration_s


def _is_bad_throughout(gaps: Sequence[Gap]) -> bool:
    """Checks whether it is not worth it to read on: most of the video cannot be read."""
    lost_s = sum(gap.end_s - gap.start_s for gap in gaps)
    return len(gaps) >= MAX_GAPS and lost_s > gaps[-1].end_s / 2


def gaps_error(path: Path, progress: ReadProgress) -> VideoError | None:
    """Returns the error of a video with gaps, None if it has none."""
    if not progress.gaps:
        return None
    lost_s = sum(gap.end_s - gap.start_s for gap in progress.gaps)
    until_s = max(progress.duration_s, progress.gaps[-1].end_s)
    first_s = progress.gaps[0].start_s
    lost = f"{lost_s:.1f} s" if lost_s >= 0.05 else "less than 0.1 s"
    return VideoError("damaged", f"{path}: {lost} of {until_s:.1f} s cannot be read, first at {first_s:.1f} s")


def _time_problem(frame: Frame, frame_count: int, begin_s: float) -> str | None:
    """Returns why the time of ``frame`` is impossible; None if it is possible. It is number ``frame_count`` since
    ``begin_s``."""
    shown_s = frame.end_s - frame.start_s
    if shown_s > MAX_FRAME_S:
        return f"one frame, at {frame.start_s:.2f} s, claims to last {shown_s / 3600:,.0f} h"
    if frame.end_s > max(LONG_VIDEO_S, begin_s + MAX_MEAN_FRAME_S * frame_count):
        return f"its first {frame_count} frames claim to last {frame.end_s / 3600:,.0f} h"
    return None
