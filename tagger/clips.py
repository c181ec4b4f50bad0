"""Reads a video and yields its windows, each with its frames, a few windows at a time (a span)."""

import errno
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tagger.errors import ErrorKind, VideoError, one_line
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice
from tagger.video.cutting import ReadProgress, gaps_error, read_windows
from tagger.video.facts import VideoFacts
from tagger.video.readers.reader import WantedReader
from tagger.video.watched_file import take_read_error
from tagger.windows import Part, Ranges, Sampling, Window

Status = Literal["ok", "partial", "failed"]


@dataclass(frozen=True)
class VideoEnd:
    """The outcome of reading a video.

    ``ok``: read to its end. ``partial``: the windows that touch no damage are kept. ``failed``: no window at all.
    ``gaps`` are the starts and ends in seconds of stretches that cannot be read, with frames after them. ``facts`` is
    None when the file could not be opened. ``decode_s`` is the time spent reading in seconds, without the time that the
    reader waited for its caller. ``positions`` are those of the first and last packet of a part in the file, None when
    the video was not read in parts.
    """

    status: Status
    windows: int
    facts: VideoFacts | None = None
    choice: Choice | None = None
    error_kind: ErrorKind | None = None
    error: str | None = None
    decode_s: float = 0.0
    gaps: tuple[tuple[float, float], ...] = ()
    positions: tuple[int, int] | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "VideoEnd":
        """Restores the result of ``dataclasses.asdict`` after a round trip through JSON."""
        facts, choice = values["facts"], values["choice"]
        facts = None if facts is None else VideoFacts(**facts)
        gaps = tuple((start_s, end_s) for start_s, end_s in values.get("gaps", ()))
        positions = values.get("positions")
        restored = {
            "facts": facts,
            "choice": None if choice is None else Choice(**choice),
            "gaps": gaps,
            "positions": None if positions is None else tuple(positions),
        }
        return cls(**values | restored)


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


def read_spans(
    path: str | Path,
    sampling: Sampling,
    preprocessing: Preprocessing,
    *,
    span_windows: int = 8,
    nvdec: bool = False,
    reader: WantedReader = "auto",
    only: Ranges | None = None,
    part: Part | None = None,
) -> Iterator[Span]:
    """Reads a video and yields its windows in order, up to ``span_windows`` at a time. The last span has the end.

    Never raises because of a video: for a video that cannot be read, the ``end`` of the last span gives the reason. If
    the decoder crashes, this process crashes, too. ``tagger.isolation`` reads videos in a separate process instead.
    ``nvdec`` and ``reader`` are passed on to ``choose_reader``. With ``only``, the windows come that show something of
    these ranges (see ``WindowCutter``). With ``part``, only the windows of this part come (see ``read_windows``).
    """
    begun_s = time.process_time()
    spans = read_unstacked_spans(
        path, sampling, preprocessing, span_windows=span_windows, nvdec=nvdec, reader=reader, only=only, part=part
    )
    for span in spans:
        clips = np.empty((len(span.windows), sampling.num_frames, *preprocessing.shape), np.uint8)
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
    only: Ranges | None = None,
    part: Part | None = None,
    threads: int = 1,
) -> Iterator[UnstackedSpan]:
    """Reads a video like ``read_spans``, but leaves the clips unstacked.

    ``choice`` overrides the automatic choice of a reader. ``nvdec`` and ``reader`` are passed on to ``choose_reader``.
    ``progress`` is notified while the video is read. ``only`` and ``part`` are as in ``read_spans``,
    and ``threads`` is as in ``read_windows``.
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
        for window, frames in read_windows(
            path, sampling, preprocessing, choice, nvdec, reader, progress, only, part, threads
        ):
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
        failure = _read_error(path) or gaps_error(path, progress)
    if version is not None and _file_version(path) != version:
        # Any other error may be a consequence of the change, and windows without errors may mix the old and new file.
        failure = VideoError("changed", f"{path} was written to, or removed, while it was read")
    facts = progress.facts
    if facts is not None and (windows or failure is None):
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
        positions=progress.positions,
    )
    yield _span(pending, end)


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
