"""The interface of a video reader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

DecoderName = Literal["decord", "pyav", "pyav-fast", "pyav-nvdec", "pyav-sparse", "pyav-sparse-fast"]

WantedReader = Literal["auto", "pyav", "decord"]
"""A reader that a user asks for. ``auto``: the rule of ``tagger.video.choose`` decides."""

PIXEL_VERSION = 5
"""Version of the pixels of windows: of their computation, and of the times of frames. Cached clips of other versions
are not used."""

Needs = Callable[[float], bool]
"""Called for each frame with the end of the frame in seconds (inf for the last). Returns whether its pixels are
needed."""


@dataclass(frozen=True)
class Frame:
    """A frame that was needed.

    ``start_s`` and ``end_s`` are presentation times in seconds from the first frame of the video; ``pixels`` is
    ``[H, W, 3] uint8`` RGB, upright; ``is_last`` marks the last frame of the video, whose ``end_s`` is the duration.
    """

    start_s: float
    end_s: float
    pixels: np.ndarray
    is_last: bool


@dataclass(frozen=True)
class Gap:
    """A stretch of a video that cannot be read, in seconds from the first frame."""

    start_s: float
    end_s: float


class Reader(Protocol):
    """An open video. Frames can be read once, in order. There is no seeking, because readers make errors in seeking."""

    name: DecoderName
    end_s: float | None
    """The end of the video in seconds from its first frame, if it is known before the frames are read."""

    def frames(self, needs: Needs) -> Iterator[Frame | Gap]:
        """Yields, in presentation order, the frames for which ``needs`` returns true. For the last frame it gets inf.

        Frames that were yielded are good. PyAVReader yields a Gap where frames are lost. If no frame follows, the PyAV
        readers yield the last good frame with ``is_last``, and then raise VideoError. NvdecReader raises NvdecError.
        """
        ...

    def close(self) -> None:
        """Frees the decoder. Safe to call twice."""
        ...
