"""Reads a video and yields its windows, each with its frames, a few windows at a time (a span)."""

import errno
import time
from collections.abc import Iterator, Sequence
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
from tagger.video.readers.reader import Frame, Gap, WantedReader
from tagger.video.watched_file import take_read_error
from tagger.windows import Sampling, Window, WindowCutter

Status = Literal["ok", "partial", "failed"]

MAX_FRAME_S = 3600.0
"""The longest time in seconds that a single frame may be shown. A longer time counts as damage: one flipped bit in a
small file can give a frame of a month, which would be a million windows of the same picture."""

LONG_VIDEO_S, MAX_MEAN_FRAME_S = 12 * 3600.0, 60.0
"""A video longer than LONG_VIDEO_S seconds has damaged times if its frames last more than MAX_MEAN_FRAME_S on average.

Many frames of just under an hour give as many windows as one frame of a month. A slide show is shorter or faster.
"""

MAX_GAPS = 20
"""Number of gaps from which a video that is lost for the most part is read no further."""


@dataclass(frozen=True)
class VideoEnd:
    """The outcome of reading a video.

    ``ok``: read to its end. ``partial``: the windows that touch no damage are kept. ``failed``: no window at all.
    ``gaps`` are the starts and ends in seconds of stretches that cannot be read, with frames after them. ``facts`` is
    None when the file could not be opened. ``decode_s`` is the time spent reading in seconds, without
    the time that the reader waited for its caller.
    """

    status: Status
    windows: int
    facts: VideoFacts | None = None
    choice: Choice | None = None
    error_kind: ErrorKind | None = None
    error: str | None = None
    decode_s: float = 0.0
    gaps: tuple[tuple[float, float], ...] = ()

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "VideoEnd":
        """Restores the result of ``dataclasses.asdict`` after a round trip through JSON."""
        facts, choice = values["facts"], values["choice"]
        facts = None if facts is None else VideoFacts(**facts)
        gaps = tuple((start_s, end_s) for start_s, end_s in values.get("gaps", ()))
        return cls(**{**values, "facts": facts, "choice": None if choice is None else Choice(**choice), "gaps": gaps})


@dataclass(frozen=True)
class Span:
    """Consecutive windows of one video. ``clips`` is ``[n, num_frames, H, W, 3] uint8``, one clip for each window.

    ``end`` is set on the last span of a video. The last span may have no windows. ``cpu_s`` is the CPU time in seconds
    that decoding the span took.
    """

    windows: tuple[Window, ...]
    clips: np.ndarray
    end: VideoEnd | None = None
    cpu_s: float = 0.0


@dataclass(frozen=True)
class UnstackedSpan:
    """A span whose clips are not stacked yet. ``frames[i]`` are the ``num_frames`` pictures of window ``i``.

    A picture is ``[H, W, 3] uint8`` and contiguous. The same array may occur several times, in one window or in
    several.
    """

    windows: tuple[Window, ...]
    frames: tuple[list[np.ndarray], ...]
    end: VideoEnd | None = None


class ReadProgress:
    """The current state of a video that is being read. Subclasses override a method to be notified early."""

    def __init__(self) -> None:
        self.facts: VideoFacts | None = None
        self.choice: Choice | None = None
        self.duration_s = 0.0
        self.gaps: list[Gap] = []

    def on_facts(self, facts: VideoFacts) -> None:
        """Called when the video has been opened."""
        self.facts = facts

    def on_choice(self, choice: Choice) -> None:
        """Called when a reader has been chosen, and again when another reader replaces it."""
        self.choice = choice

    def on_advance(self) -> None:
        """Called for each packet that is read and each frame that is examined, skipped or decoded."""


def read_spans(
    path: str | Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    span_windows: int = 8,
    nvdec: bool = False,
    reader: WantedReader = "auto",
) -> Iterator[Span]:
    """Reads a video and yields its windows in order, up to ``span_windows`` at a time. The last span has the end.

    Never raises because of a video: for a video that cannot be read, the ``end`` of the last span gives the reason. If
    the decoder crashes, this process crashes, too. ``tagger.isolation`` reads videos in a separate process instead.
    ``nvdec`` and ``reader`` are passed on to ``choose_reader``.
    """
    size = preprocessing.size
    begun_s = time.process_time()
    spans = read_unstacked_spans(path, sampling, preprocessing, span_windows=span_windows, nvdec=nvdec, reader=reader)
    for span in spans:
        clips = np.empty((len(span.windows), sampling.num_frames, size, size, 3), np.uint8)
        for clip, frames in zip(clips, span.frames, strict=True):
            np.stack(frames, out=clip)
        yield Span(span.windows, clips, span.end, time.process_time() - begun_s)
        begun_s = time.process_time()


def read_unstacked_spans(
    path: str | Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    span_windows: int = 8,
    choice: Choice | None = None,
    nvdec: bool = False,
    reader: WantedReader = "auto",
    progress: ReadProgress | None = None,
) -> Iterator[UnstackedSpan]:
    """Reads a video like ``read_spans``, but leaves the clips unstacked.

    ``choice`` overrides the automatic choice of a reader. ``nvdec`` and ``reader`` are passed on to ``choose_reader``.
    ``progress`` is notified while the video is read.
    """
    path = Path(path)
    started = time.perf_counter()
    progress = progress or ReadProgress()
    version = _file_version(path)
    pending: list[tuple[Window, list[np.ndarray]]] = []
    windows, end_s = 0, 0.0
    caller_s = 0.0
    failure: VideoError | None = None
    take_read_error(path)  # One that is left from an earlier reading.
    try:
        for window, frames in _read_windows(path, sampling, preprocessing, choice, nvdec, reader, progress):
            # One window is held back so that the last span, which has the end, also has a window.
            if len(pending) == span_windows:
                span, pending = _span(pending), []
                yielded_at = time.perf_counter()
                yield span
                caller_s += time.perf_counter() - yielded_at
            pending.append((window, frames))
            windows, end_s = windows + 1, window.end_s
        if progress.facts is not None and progress.facts.is_truncated:
            # The file was cut between two frames, so the reader saw no error.
            raise VideoError("damaged", f"{path} is cut off after {progress.duration_s:.2f} s")
    except Exception as error:
        # A decoder may raise anything, and a single video must not stop the job.
        failure = video_error(path, error)
    else:
        failure = _read_error(path) or _gaps_error(path, progress)
    if version is not None and _file_version(path) != version:
        # Any other error may be a consequence of the change, and windows without errors may mix the old and new file.
        failure = VideoError("changed", f"{path} was written to, or removed, while it was read")
    facts = progress.facts
    if facts is not None and windows:
        # When the CPU takes over from the GPU, the windows that the GPU gave may end after the last frame from the CPU.
        facts = replace(facts, duration_s=max(progress.duration_s, end_s))
    status: Status = "ok" if failure is None else "partial" if windows else "failed"
    end = VideoEnd(
        status=status,
        windows=windows,
        facts=facts,
        choice=progress.choice,
        error_kind=failure.kind if failure else None,
        error=one_line(str(failure)) if failure else None,
        decode_s=time.perf_counter() - started - caller_s,
        gaps=tuple((gap.start_s, gap.end_s) for gap in progress.gaps),
    )
    yield _span(pending, end)


def choose_first_reader(
    facts: VideoFacts,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    nvdec: bool = False,
    reader: WantedReader = "auto",
) -> Choice:
    """Chooses the reader that is tried first, with ``choose_reader``."""
    frame_bytes = 3 * preprocessing.size**2
    # An upper bound: one frame for each sample of each window.
    samples = sampling.num_frames * sampling.window_count(facts.duration_s) if facts.duration_s else None
    drained_bytes = samples * frame_bytes if samples is not None else None
    return choose_reader(facts, drained_bytes, fast=sampling.fast_decode, nvdec=nvdec, wanted=reader)


def _read_windows(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice | None,
    nvdec: bool,
    wanted: WantedReader,
    progress: ReadProgress,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    facts = probe(path)
    progress.on_facts(facts)
    choice = choice or choose_first_reader(facts, sampling, preprocessing, nvdec=nvdec, reader=wanted)
    yielded = 0
    if choice.decoder == "decord":
        try:
            # All frames are read before the first window is yielded, because an open decord reader must never wait.
            drained = list(_cut_windows(path, sampling, preprocessing, choice, facts, progress))
        except VideoError as error:
            choice = Choice("pyav", one_line(str(error).removeprefix(f"{path}: ")))
        except Exception as error:
            choice = Choice("pyav", one_line(f"decord failed ({error})"))
        else:
            yield from drained
            return
    elif choice.decoder == "pyav-nvdec":
        try:
            for item in _cut_windows(path, sampling, preprocessing, choice, facts, progress):
                yield item
                yielded += 1
            return
        except NvdecError as error:
            choice = Choice("pyav", one_line(f"decoding on the GPU failed ({error})"))
    yield from islice(_cut_windows(path, sampling, preprocessing, choice, facts, progress), yielded, None)


def _cut_windows(
    path: Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    choice: Choice,
    facts: VideoFacts,
    progress: ReadProgress,
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    # Reported before the file is opened, because opening may crash.
    progress.on_choice(choice)
    width, height = preprocessing.scaled(*facts.display_size)
    reader, opened = open_video(path, facts, choice, width, height, progress.on_advance)
    if opened != choice:
        progress.on_choice(opened)
    cutter: WindowCutter[np.ndarray] = WindowCutter(sampling)

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
                    raise VideoError("damaged", f"{_gaps_error(path, progress)}; the rest was not read")
                continue
            pixels = np.ascontiguousarray(preprocessing.crop(frame.pixels))
            problem = _time_problem(frame, frame_count)
            if problem:
                progress.duration_s = frame.start_s + sampling.step_s
                yield from cutter.finish(progress.duration_s, pixels)
                raise VideoError("damaged", f"{path}: {problem}")
            progress.duration_s = frame.end_s
            yield from (cutter.finish if frame.is_last else cutter.push)(frame.end_s, pixels)
    finally:
        reader.close()


def _is_bad_throughout(gaps: Sequence[Gap]) -> bool:
    """Checks whether it is not worth it to read on: most of the video cannot be read."""
    lost_s = sum(gap.end_s - gap.start_s for gap in gaps)
    return len(gaps) >= MAX_GAPS and lost_s > gaps[-1].end_s / 2


def _gaps_error(path: Path, progress: ReadProgress) -> VideoError | None:
    """Returns the error of a video with gaps, None if it has none."""
    if not progress.gaps:
        return None
    lost_s = sum(gap.end_s - gap.start_s for gap in progress.gaps)
    until_s = max(progress.duration_s, progress.gaps[-1].end_s)
    first_s = progress.gaps[0].start_s
    lost = f"{lost_s:.1f} s" if lost_s >= 0.05 else "less than 0.1 s"
    return VideoError("damaged", f"{path}: {lost} of {until_s:.1f} s cannot be read, first at {first_s:.1f} s")


def _time_problem(frame: Frame, frame_count: int) -> str | None:
    """Returns why the time of ``frame``, number ``frame_count`` of the video, is impossible; None if it is possible."""
    shown_s = frame.end_s - frame.start_s
    if shown_s > MAX_FRAME_S:
        return f"one frame, at {frame.start_s:.2f} s, claims to last {shown_s / 3600:,.0f} h"
    if frame.end_s > max(LONG_VIDEO_S, MAX_MEAN_FRAME_S * frame_count):
        return f"its first {frame_count} frames claim to last {frame.end_s / 3600:,.0f} h"
    return None


def _span(pending: list[tuple[Window, list[np.ndarray]]], end: VideoEnd | None = None) -> UnstackedSpan:
    return UnstackedSpan(tuple(window for window, _ in pending), tuple(frames for _, frames in pending), end)


def _file_version(path: Path) -> tuple[int, int] | None:
    """Returns the size and modification time of a file, which change when it is written; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return status.st_size, status.st_mtime_ns


def _read_error(path: Path) -> VideoError | None:
    """Returns the error of a file whose storage failed while it was read; None if it did not fail."""
    error = take_read_error(path)
    return None if error is None else VideoError("io", f"{path} cannot be read: {error.strerror}")


def video_error(path: Path, error: Exception) -> VideoError:
    """Turns any exception into the VideoError for the video at ``path``."""
    read_error = _read_error(path)
    if read_error is not None:
        # FFmpeg saw the file end where the storage failed. Any other error is a consequence.
        return read_error
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or getattr(cause, "errno", None) == errno.ENOMEM:
            return VideoError("memory", f"{path} needs more memory to decode than there is")
        cause = cause.__cause__
    if isinstance(error, VideoError):
        return error
    return VideoError("damaged", f"{path} cannot be read ({error})")
