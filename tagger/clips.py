"""From a video file to clips: the stream of spans that decoding sends to prediction."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tagger.errors import ErrorKind, VideoError
from tagger.preprocessing import Preprocessing
from tagger.video.choose import Choice, choose_reader, open_video
from tagger.video.facts import VideoFacts, probe
from tagger.windows import Sampling, Window, WindowCutter

Status = Literal["ok", "partial", "failed"]


@dataclass(frozen=True)
class VideoEnd:
    """How reading a video ended.

    ``ok``: read to its end. ``partial``: windows before a damage are kept. ``failed``: no window at all. ``facts`` is
    None when the file could not even be opened. ``decode_s`` is the time spent reading, in seconds, without the time
    that the reader waited for whoever takes its spans.
    """

    status: Status
    windows: int
    facts: VideoFacts | None = None
    choice: Choice | None = None
    error_kind: ErrorKind | None = None
    error: str | None = None
    decode_s: float = 0.0


@dataclass(frozen=True)
class Span:
    """Consecutive windows of one video: ``clips`` is ``[n, num_frames, H, W, 3] uint8``, one clip for each window.

    ``end`` is set on the last span of a video, which may have no windows.
    """

    windows: tuple[Window, ...]
    clips: np.ndarray
    end: VideoEnd | None = None


@dataclass
class _Reading:
    """What is known so far of the video being read."""

    facts: VideoFacts | None = None
    choice: Choice | None = None
    duration_s: float = 0.0


def read_spans(
    path: str | Path, sampling: Sampling, preprocessing: Preprocessing, *, span_windows: int = 8
) -> Iterator[Span]:
    """Reads a video and yields its windows in order, up to ``span_windows`` at a time, the last span with its end.

    Never raises because of a video: one that cannot be read ends with a span whose ``end`` says why.
    """
    path = Path(path)
    started = time.perf_counter()
    reading = _Reading()
    pending: list[tuple[Window, list[np.ndarray]]] = []
    windows = 0
    waited_s = 0.0
    failure: VideoError | None = None
    try:
        for window, frames in _read_windows(path, sampling, preprocessing, reading):
            # One window is held back so that the last one can travel with the end.
            if len(pending) == span_windows:
                span, pending = _span(pending, sampling, preprocessing), []
                passed_on = time.perf_counter()
                yield span
                waited_s += time.perf_counter() - passed_on
            pending.append((window, frames))
            windows += 1
        if reading.facts is not None and reading.facts.is_truncated:
            # The cut lay between two frames, so that the reader met nothing wrong.
            raise VideoError("damaged", f"{path} is cut off after {reading.duration_s:.2f} s")
    except VideoError as error:
        failure = error
    except Exception as error:
        # Whatever a decoder comes up with: one video never stops an archive.
        failure = VideoError("damaged", f"{path} cannot be read ({type(error).__name__}: {error})")
    facts = reading.facts
    if facts is not None and windows:
        facts = replace(facts, duration_s=reading.duration_s)
    status: Status = "ok" if failure is None else "partial" if windows else "failed"
    end = VideoEnd(
        status=status,
        windows=windows,
        facts=facts,
        choice=reading.choice,
        error_kind=failure.kind if failure else None,
        error=_one_line(str(failure)) if failure else None,
        decode_s=time.perf_counter() - started - waited_s,
    )
    yield _span(pending, sampling, preprocessing, end)


def _read_windows(
    path: Path, sampling: Sampling, preprocessing: Preprocessing, reading: _Reading
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    facts = reading.facts = probe(path)
    frame_bytes = 3 * preprocessing.size**2
    # A frame is sampled at most once per source frame and, over all windows, about once per sample.
    samples = sampling.num_frames * sampling.window_count(facts.duration_s) if facts.duration_s else None
    drained_bytes = samples * frame_bytes if samples is not None else None
    choice = choose_reader(facts, drained_bytes=drained_bytes)
    if choice.decoder == "decord":
        try:
            # Everything is taken before anything is passed on: an open decord reader must never wait.
            drained = list(_cut(path, sampling, preprocessing, reading, choice))
        except VideoError as error:
            choice = Choice("pyav", str(error).removeprefix(f"{path}: "))
        except Exception as error:
            choice = Choice("pyav", f"decord failed ({type(error).__name__}: {error})")
        else:
            yield from drained
            return
    yield from _cut(path, sampling, preprocessing, reading, choice)


def _cut(
    path: Path, sampling: Sampling, preprocessing: Preprocessing, reading: _Reading, choice: Choice
) -> Iterator[tuple[Window, list[np.ndarray]]]:
    assert reading.facts is not None
    width, height = preprocessing.scaled(reading.facts.width, reading.facts.height)
    reader, reading.choice = open_video(path, reading.facts, choice, width, height)
    cutter: WindowCutter[np.ndarray] = WindowCutter(sampling)
    try:
        for frame in reader.frames(cutter.needs):
            pixels = np.ascontiguousarray(preprocessing.crop(frame.pixels))
            reading.duration_s = frame.end_s
            yield from (cutter.finish if frame.is_last else cutter.push)(frame.end_s, pixels)
    finally:
        reader.close()


def _span(
    pending: list[tuple[Window, list[np.ndarray]]],
    sampling: Sampling,
    preprocessing: Preprocessing,
    end: VideoEnd | None = None,
) -> Span:
    size = preprocessing.size
    clips = np.empty((len(pending), sampling.num_frames, size, size, 3), np.uint8)
    for clip, (_, frames) in zip(clips, pending, strict=True):
        np.stack(frames, out=clip)
    return Span(tuple(window for window, _ in pending), clips, end)


def _one_line(text: str) -> str:
    # A path may hold bytes that are no UTF-8, which no table can store.
    return " ".join(text.split()).encode("utf-8", "backslashreplace").decode()
