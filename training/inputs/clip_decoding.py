"""Decoding labelled clips into windows, in order, a few ahead of the caller."""

import math
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby, islice

import numpy as np

from tagger.clips import VideoEnd
from tagger.isolation import decoder_of_this_thread
from tagger.preprocessing import Preprocessing
from tagger.windows import TIME_TOLERANCE_S, Sampling
from training.data.data_set import LabelledClip

AHEAD = 4
"""Videos decoded ahead of the one in use: enough to keep the model busy, little enough to hold in memory."""

SPANS_TOGETHER = 8
"""Clips out of one video for which it is read once; their pictures are in memory at the same time."""

FILM_FRAMES = 32
"""Frames that a decoder passes on at a time when it reads a part of a video."""


@dataclass(frozen=True)
class DecodedClip:
    """All windows of one labelled clip, ``[n, num_frames, H, W, 3] uint8``, and how reading it ended.

    ``duration_s`` is how long the clip is, None when that is not known.
    """

    clip: LabelledClip
    windows: np.ndarray
    end: VideoEnd
    duration_s: float | None = None

    @property
    def problem(self) -> str | None:
        """Why the clip could not be read at all; None when it could, if only in part."""
        return self.end.error if self.end.status == "failed" else None


def decode_clips(
    clips: Sequence[LabelledClip], sampling: Sampling, preprocessing: Preprocessing, *, threads: int = 2
) -> Iterator[DecodedClip]:
    """Decodes ``clips`` as the tagger samples them, in the given order. A clip that cannot be read has no windows.

    The windows of a clip that is a part of its video begin with the first sample step in it (a multiple of
    ``sampling.step_s`` from the first frame) and show nothing of what comes before or after it. Such clips that follow
    each other and are of one video are read together.
    """

    def decode(job: tuple[LabelledClip, ...]) -> list[DecodedClip]:
        if job[0].is_whole:
            return [_decode_whole(job[0], sampling, preprocessing)]
        return _decode_spans(job, sampling, preprocessing)

    waiting: deque[Future[list[DecodedClip]]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for job in jobs_of(clips):
            waiting.append(pool.submit(decode, job))
            if len(waiting) > AHEAD:
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def jobs_of(clips: Sequence[LabelledClip]) -> Iterator[tuple[LabelledClip, ...]]:
    """The clips in order: whole videos alone, parts of the same video together, for which it is decoded once."""
    for (_, is_whole), same in groupby(clips, key=lambda clip: (clip.path, clip.is_whole)):
        while job := tuple(islice(same, 1 if is_whole else SPANS_TOGETHER)):
            yield job


def _decode_whole(clip: LabelledClip, sampling: Sampling, preprocessing: Preprocessing) -> DecodedClip:
    spans = list(decoder_of_this_thread().spans(clip.path, sampling, preprocessing))
    end = spans[-1].end
    assert end is not None
    duration_s = end.facts.duration_s if end.facts else None
    return DecodedClip(clip, np.concatenate([span.clips for span in spans]), end, duration_s)


def _decode_spans(clips: Sequence[LabelledClip], sampling: Sampling, preprocessing: Preprocessing) -> list[DecodedClip]:
    """Decodes parts of one video, which is read once, up to the last of them."""
    # The video as a film with a frame every sample step.
    film = replace(sampling, num_frames=1, hop_s=None)
    ranges = [_frames_of(clip, sampling.step_s) for clip in clips]
    frames: list[list[np.ndarray]] = [[] for _ in clips]
    reached, end = 0, None
    for span in decoder_of_this_thread().spans(clips[0].path, film, preprocessing, span_windows=FILM_FRAMES):
        for (first, last), kept in zip(ranges, frames, strict=True):
            # A copy: the decoder uses its memory again.
            kept += list(span.clips[max(0, first - reached) : max(0, last - reached), 0].copy())
        reached, end = reached + len(span.windows), span.end
        if reached >= max(last for _, last in ranges):
            break
    return [_cut(clip, kept, end, sampling, preprocessing) for clip, kept in zip(clips, frames, strict=True)]


def _frames_of(clip: LabelledClip, step_s: float) -> tuple[int, int]:
    """The frames of a film, one every ``step_s``, that lie in ``clip``: the first, and the one after the last."""
    first = math.ceil((clip.start_s - TIME_TOLERANCE_S) / step_s)
    if clip.end_s is None:
        return first, sys.maxsize
    return first, max(first + 1, math.ceil((clip.end_s - TIME_TOLERANCE_S) / step_s))


def _cut(
    clip: LabelledClip,
    frames: Sequence[np.ndarray],
    end: VideoEnd | None,
    sampling: Sampling,
    preprocessing: Preprocessing,
) -> DecodedClip:
    """Cuts the frames of a clip into windows; the last is filled up with the last frame. ``end`` is that of the video.

    It is None when the video was not read to its end.
    """
    if not frames:
        error = end.error if end and end.error else f"{clip.path} ends before its clip begins, at {clip.start_s:g} s"
        shape = (0, sampling.num_frames, preprocessing.size, preprocessing.size, 3)
        return DecodedClip(clip, np.empty(shape, np.uint8), VideoEnd("failed", 0, error=error))
    duration_s = len(frames) * sampling.step_s
    count = sampling.window_count(duration_s)
    steps = np.arange(sampling.num_frames) + np.round(np.arange(count)[:, None] * sampling.hop / sampling.step_s)
    windows = np.stack(frames)[np.minimum(steps.astype(int), len(frames) - 1)]
    return DecodedClip(clip, windows, replace(end or VideoEnd("ok", 0), windows=count), duration_s)
