"""Decodes labelled clips into windows, in order, with a small prefetch."""

import math
import sys
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np

from tagger.clips import VideoEnd
from tagger.errors import doing
from tagger.isolation import decoder_of_this_thread
from tagger.preprocessing import Preprocessing
from tagger.windows import TIME_TOLERANCE_S, Sampling
from training.data.data_set import LabelledClip

PREFETCHED_VIDEOS = 4
"""Videos that are decoded ahead of the one in use: enough to keep the model busy, few enough for the memory."""

CLIPS_PER_READ = 8
"""Maximum number of clips of one video that are decoded in one read. Their frames are in memory at the same time."""

WINDOWS_PER_SPAN, FRAMES_PER_SPAN = 8, 32
"""Windows that a decoder sends at a time; at least so many that they have this number of frames."""


@dataclass(frozen=True)
class DecodedClip:
    """All windows of one labelled clip, ``[n, num_frames, H, W, 3] uint8``, and how reading it ended."""

    clip: LabelledClip
    windows: np.ndarray
    end: VideoEnd

    @property
    def problem(self) -> str | None:
        """The error of a clip that could not be read; None when at least a part of it was read."""
        return self.end.error if self.end.status == "failed" else None


def decode_clips(
    clips: Sequence[LabelledClip], sampling: Sampling, preprocessing: Preprocessing, *, threads: int = 2
) -> Iterator[DecodedClip]:
    """Decodes ``clips`` as the tagger samples them, in the given order. A clip that cannot be read has no windows.

    When a clip is a part of its video, its windows begin at its first sample step (a multiple of ``sampling.step_s``
    from the first frame of the video) and have only frames of the clip. Consecutive clips of one video are read
    together.

    A single read is made in this thread, and its decoder process serves the next call, too.
    """

    def decode(job: tuple[LabelledClip, ...]) -> list[DecodedClip]:
        with doing("reading", job[0].path):
            if job[0].is_whole:
                return [_decode_whole(job[0], sampling, preprocessing)]
            return _decode_pieces(job, sampling, preprocessing)

    jobs = list(jobs_of(clips))
    if len(jobs) == 1:
        yield from decode(jobs[0])
        return
    waiting: deque[Future[list[DecodedClip]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for job in jobs:
            waiting.append(pool.submit(decode, job))
            if len(waiting) > PREFETCHED_VIDEOS:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def jobs_of(clips: Sequence[LabelledClip]) -> Iterator[tuple[LabelledClip, ...]]:
    """Yields the clips in order, grouped into decode jobs: a whole video, or consecutive parts of the same video."""
    for (_, is_whole), same in groupby(clips, key=lambda clip: (clip.path, clip.is_whole)):
        while job := tuple(islice(same, 1 if is_whole else CLIPS_PER_READ)):
            yield job


def _decode_whole(clip: LabelledClip, sampling: Sampling, preprocessing: Preprocessing) -> DecodedClip:
    span_windows = max(WINDOWS_PER_SPAN, FRAMES_PER_SPAN // sampling.num_frames)
    spans = list(decoder_of_this_thread().spans(clip.path, sampling, preprocessing, span_windows=span_windows))
    end = spans[-1].end
    assert end is not None
    return DecodedClip(clip, np.concatenate([span.clips for span in spans]), end)


def _decode_pieces(
    clips: Sequence[LabelledClip], sampling: Sampling, preprocessing: Preprocessing
) -> list[DecodedClip]:
    """Decodes parts of one video in one read, which stops after the last part."""
    # Windows of one frame: the video as a film with a frame at every sample step.
    film_sampling = replace(sampling, num_frames=1, hop_s=None)
    ranges = [_frames_of(clip, sampling.step_s) for clip in clips]
    films: list[dict[int, np.ndarray]] = [{} for _ in clips]
    reached, end = 0, None
    for span in decoder_of_this_thread().spans(
        clips[0].path, film_sampling, preprocessing, span_windows=FRAMES_PER_SPAN
    ):
        for window, (frame,) in zip(span.windows, span.clips, strict=True):
            # Frames that damage hides are missing from the film, but keep their numbers.
            reached = window.index + 1
            for (first, last), film in zip(ranges, films, strict=True):
                if first <= window.index < last:
                    # A copy, because the decoder reuses its memory.
                    film[window.index] = frame.copy()
        end = span.end
        if reached >= max(last for _, last in ranges):
            break
    return [_cut(clip, film, end, sampling, preprocessing) for clip, film in zip(clips, films, strict=True)]


def _frames_of(clip: LabelledClip, step_s: float) -> tuple[int, int]:
    """Returns the range of the film's frames, one every ``step_s``, that are in ``clip``; the end is exclusive."""
    first = math.ceil((clip.start_s - TIME_TOLERANCE_S) / step_s)
    if clip.end_s is None:
        return first, sys.maxsize
    return first, max(first + 1, math.ceil((clip.end_s - TIME_TOLERANCE_S) / step_s))


def _cut(
    clip: LabelledClip,
    film: Mapping[int, np.ndarray],
    end: VideoEnd | None,
    sampling: Sampling,
    preprocessing: Preprocessing,
) -> DecodedClip:
    """Cuts a clip into windows, as ``WindowCutter`` does: the last one is shifted back into the clip.

    ``film`` has the frames of the clip by their sample step. Windows that lack a frame because of damage are left out.
    ``end`` is the end of the video; None when the video was not read to its end.
    """
    if not film:
        if end is None:
            return _failed(
                clip,
                f"{clip.path} cannot be read where its clip begins, at {clip.start_s:g} s",
                preprocessing,
                sampling,
            )
        error = end.error or f"{clip.path} ends before its clip begins, at {clip.start_s:g} s"
        return _failed(clip, error, preprocessing, sampling)
    first, steps = min(film), max(film) - min(film) + 1
    count = sampling.window_count(steps * sampling.step_s)
    starts = np.round(np.arange(count) * sampling.effective_hop_s / sampling.step_s).astype(int)
    starts = np.minimum(starts, max(0, steps - sampling.num_frames))
    indices = first + np.minimum(starts[:, None] + np.arange(sampling.num_frames), steps - 1)
    windows = [np.stack([film[i] for i in window]) for window in indices.tolist() if all(i in film for i in window)]
    if not windows:
        error = f"{clip.path} is damaged in every window of its clip, which begins at {clip.start_s:g} s"
        return _failed(clip, error, preprocessing, sampling)
    return DecodedClip(clip, np.stack(windows), replace(end or VideoEnd("ok", 0), windows=len(windows)))


def _failed(clip: LabelledClip, error: str, preprocessing: Preprocessing, sampling: Sampling) -> DecodedClip:
    shape = (0, sampling.num_frames, *preprocessing.shape)
    return DecodedClip(clip, np.empty(shape, np.uint8), VideoEnd("failed", 0, error=error))
