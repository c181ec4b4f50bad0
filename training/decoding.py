"""Decoding labelled clips into windows, in order, a few ahead of whoever takes them."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from tagger.clips import VideoEnd
from tagger.preprocessing import Preprocessing
from tagger.video.isolation import decoder_of_this_thread
from tagger.windows import Sampling
from training.data_set import LabelledClip

AHEAD = 4
"""Videos decoded ahead of the one in use: enough to keep the model busy, little enough to hold in memory."""


@dataclass(frozen=True)
class DecodedClip:
    """All windows of one labelled clip, ``[n, num_frames, H, W, 3] uint8``, and how reading it ended."""

    clip: LabelledClip
    windows: np.ndarray
    end: VideoEnd

    @property
    def problem(self) -> str | None:
        """Why the clip could not be read at all; None when it could, if only in part."""
        return self.end.error if self.end.status == "failed" else None


def decode_clips(
    clips: Sequence[LabelledClip], sampling: Sampling, preprocessing: Preprocessing, *, threads: int = 2
) -> Iterator[DecodedClip]:
    """Decodes ``clips`` as the tagger samples them, in the given order. A clip that cannot be read has no windows."""

    def decode(clip: LabelledClip) -> DecodedClip:
        spans = list(decoder_of_this_thread().spans(clip.path, sampling, preprocessing))
        end = spans[-1].end
        assert end is not None
        return DecodedClip(clip, np.concatenate([span.clips for span in spans]), end)

    waiting: deque[Future[DecodedClip]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for clip in clips:
            waiting.append(pool.submit(decode, clip))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
