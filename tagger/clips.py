"""From a video file to clips: the stream of spans that decoding sends to prediction."""

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tagger.errors import ErrorKind, VideoError, one_line
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice, choose_reader, open_video
from tagger.video.facts import VideoFacts, probe
from tagger.video.readers.nvdec_reader import NvdecError
from tagger.video.readers.reader import Frame
from tagger.windows import Sampling, Window, WindowCutter

Status = Literal["ok", "partial", "failed"]

LONGEST_FRAME_S = 3600.0
"""A frame that claims to be shown for longer has a damaged time: one flipped bit of a small file can claim a month,
which would be a million windows of the same picture."""

STILL_S, STILL_FRAME_S = 12 * 3600.0, 60.0
"""A video that is longer than the first has damaged times when its frames last longer than the second on average. Many
frames of less than an hour each are as many windows as one of a month; a slide show is neither so long nor so slow."""


@dataclass(frozen=True)
class VideoEnd:
    """How reading a video ended.

    ``ok``: read to its end. ``partial``: windows before the damaged part are kept. ``failed``: no window at all.
    ``facts`` is None when the file could not even be opened. ``decode_s`` is the time spent reading, in seconds,
    without the time in which the reader waited for its caller.
    """

    status: Status
    windows: int
    facts: VideoFacts | None = None
    choice: Choice | None = None
    error_kind: ErrorKind | None = None
    error: str | None = None
    decode_s: float = 0.0

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "VideoEnd":
        """The inverse of ``dataclasses.asdict`` after a trip through JSON."""
        facts, choice = values["facts"], values["choice"]
        facts = None if facts is None else VideoFacts(**facts)
        return cls(**{**values, "facts": facts, "choice": None if choice is None else Choice(**choice)})


@dataclass(frozen=True)
class Span:
    """Consecutive windows of one video: ``clips`` is ``[n, num_frames, H, W, 3] uint8``, one clip for each window.

    ``end`` is set on the last span of a video, which may have no windows. ``cpu_s`` is the CPU time in seconds that the
    process which decoded it has spent on it.
    """

    windows: tuple[Window, ...]
    clips: np.ndarray
    end: VideoEnd | None = None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class LooseSpan:
    """A span whose clips are not stacked yet: ``frames[i]`` are the ``num_frames`` pictures of window ``i``.

    A picture is ``[H, W, 3] uint8`` and contiguous, and may stand several times, in one window or in several.
    """

    windows: tuple[Window, ...]
    frames: tuple[list[np.ndarray], ...]
    end: VideoEnd | None = None


class Reading:
    """What is known so far of a video that is being read. Whoever wants to know it early overrides a method."""

    def __init__(self) -> None:
        self.facts: VideoFacts | None = None
        self.choice: Choice | None = None
        self.duration_s = 0.0

    def found(self, facts: VideoFacts) -> None:
        """The video could be opened."""
        self.facts = facts

    def chose(self, choice: Choice) -> None:
        """A reader will be used, or was replaced by another."""
        self.choice = choice

    def decoded(self) -> None:
        """The reader came to another frame: looked at its time, passed over it, or decoded it."""


def read_spans(
    path: str | Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    span_windows: int = 8,
    nvdec: bool = False,
) -> Iterator[Span]:
    """Reads a video and yields its windows in order, up to ``span_windows`` at a time, the last span with its end.

    Never raises because of a video: one that cannot be read ends with a span whose ``end`` says why. A decoder that
    crashes takes this process with it; ``tagger.isolation`` does the same in a process of its own. ``nvdec`` is
    that of ``choose_reader``.
    """
    size = preprocessing.size
    begun_s = time.process_time()
    for span in read_loose_spans(path, sampling, preprocessing, span_windows=span_windows, nvdec=nvdec):
        clips = np.empty((len(span.windows), sampling.num_frames, size, size, 3), np.uint8)
        for clip, frames in zip(clips, span.frames, strict=True):
            np.stack(frames, out=clip)
        yield Span(span.windows, clips, span.end, time.process_time() - begun_s)
        begun_s = time.process_time()


def read_loose_spans(
    path: str | Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    span_windows: int = 8,
    choice: Choice | None = None,
    nvdec: bool = False,
    reading: Reading | None = None,
) -> Iterator[LooseSpan]:
    """Does the work of ``read_spans``.

    ``choice`` is a reader to be used instead of the one that the rule chooses; ``nvdec`` is that of ``choose_reader``.
    """
    path = Path(path)
    started = time.perf_counter()
    reading = reading or Reading()
    version = _version(path)
    pending: list[tuple[Window, list[np.ndarray]]] = []
    windows, end_s = 0, 0.0
    waited_s = 0.0
    failure: VideoError | None = None
    try:
        for window, frames in _read_windows(path, sampling, preprocessing, choice, nvdec, reading):
            # One window is held back so that the last one can travel with the end.
            if len(pending) == span_windows:
                span, pending = _span(pending), []
                passed_on = time.perf_counter()
                yield span
                waited_s += time.perf_counter() - passed_on
            pending.append((window, frames))
            windows, end_s = windows + 1, window.end_s
        if reading.facts is not None and reading.facts.is_truncated:
            # The cut lay between two frames, so that the reader met nothing wrong.
            raise VideoError("damaged", f"{path} is cut off after {reading.duration_s:.2f} s")
    except Exception as error:
        # Whatever a decoder comes up with: one video never stops an archive.
        failure = video_error(path, error)
    if version is not None and _version(path) != version:
        # What else went wrong came of it, and what went right may be half of the old file and half of the new.
        failure = VideoError("changed", f"{path} was written to, or removed, while it was read")
    facts = reading.facts
    if facts is not None and windows:
        # A GPU may have come further than the core that decodes after it.
        facts = replace(facts, duration_s=max(reading.duration_s, end_s))
    status: Status = "ok" if failure is None else "partial" if windows else "failed"
    end = VideoEnd(
        status=status,
        windows=windows,
        facts=facts,
        choice=reading.choice,
        error_kind=failure.kind if failure else None,
        error=one_line(str(failure)) if failure else None,
        decode_s=time.perf_counter() - started - waited_s,
    )
    yield _span(pending, end)


def rule(facts: VideoFacts, sampling: Sampling, preprocessing: Preprocessing, *, nvdec: bool = False) -> Choice:
    """The reader with which reading a video begins, as ``choose_reader`` says."""
    frame_bytes = 3 * preprocessing.size**2
    # A frame is sampled at most once per source frame and, over all windows, about once per sample.
    samples = sampling.num_frames * sampling.window_count(facts.duration_s) if facts.duration_s else None
    drained_bytes = samples * frame_bytes if samples is not None else None
    return choose_reader(facts, drained_bytes, fast=sampling.fast_decode, nvdec=nvdec)


def _read_windows(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice | None,
    nvdec: bool,
    reading: Reading,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    facts = probe(path)
    reading.found(facts)
    choice = choice or rule(facts, sampling, preprocessing, nvdec=nvdec)
    passed_on = 0
    if choice.decoder == "decord":
        try:
            # Everything is taken before anything is passed on: an open decord reader must never wait.
            drained = list(_cut(path, sampling, preprocessing, choice, facts, reading))
        except VideoError as error:
            choice = Choice("pyav", one_line(str(error).removeprefix(f"{path}: ")))
        except Exception as error:
            choice = Choice("pyav", one_line(f"decord failed ({type(error).__name__}: {error})"))
        else:
            yield from drained
            return
    elif choice.decoder == "pyav-nvdec":
        try:
            for item in _cut(path, sampling, preprocessing, choice, facts, reading):
                yield item
                passed_on += 1
            return
        except NvdecError as error:
            choice = Choice("pyav", one_line(f"decoding on the GPU failed ({error})"))
    yield from islice(_cut(path, sampling, preprocessing, choice, facts, reading), passed_on, None)


def _cut(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice,
    facts: VideoFacts,
    reading: Reading,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    # Said before it is opened, because that is when it may crash.
    reading.chose(choice)
    width, height = preprocessing.scaled(*facts.display_size)
    reader, opened = open_video(path, facts, choice, width, height, reading.decoded)
    if opened != choice:
        reading.chose(opened)
    cutter: WindowCutter[np.ndarray] = WindowCutter(sampling)

    frames = 0

    def needs(shown_until_s: float) -> bool:
        nonlocal frames
        frames += 1
        reading.decoded()
        return cutter.needs(shown_until_s)

    try:
        for frame in reader.frames(needs):
            pixels = np.ascontiguousarray(preprocessing.crop(frame.pixels))
            problem = _stillness(frame, frames)
            if problem:
                reading.duration_s = frame.start_s + sampling.step_s
                yield from cutter.finish(reading.duration_s, pixels)
                raise VideoError("damaged", f"{path}: {problem}")
            reading.duration_s = frame.end_s
            yield from (cutter.finish if frame.is_last else cutter.push)(frame.end_s, pixels)
    finally:
        reader.close()


def _stillness(frame: Frame, frames: int) -> str | None:
    """Why the time of ``frame``, the last of the first ``frames`` of a video, cannot be true; None when it can."""
    shown_s = frame.end_s - frame.start_s
    if shown_s > LONGEST_FRAME_S:
        return f"one frame, at {frame.start_s:.2f} s, claims to last {shown_s / 3600:,.0f} h"
    if frame.end_s > max(STILL_S, STILL_FRAME_S * frames):
        return f"its first {frames} frames claim to last {frame.end_s / 3600:,.0f} h"
    return None


def _span(pending: list[tuple[Window, list[np.ndarray]]], end: VideoEnd | None = None) -> LooseSpan:
    return LooseSpan(tuple(window for window, _ in pending), tuple(frames for _, frames in pending), end)


def _version(path: Path) -> tuple[int, int] | None:
    """Size and time of last writing, which a file that is being written changes; None when there is no such file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def video_error(path: Path, error: Exception) -> VideoError:
    """What an exception, of whatever kind, says about the video at ``path``."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return VideoError("memory", f"{path} needs more memory to decode than there is")
        cause = cause.__cause__
    if isinstance(error, VideoError):
        return error
    return VideoError("damaged", f"{path} cannot be read ({type(error).__name__}: {error})")
