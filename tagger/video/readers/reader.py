"""The interface of a video reader."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

DecoderName = Literal["decord", "pyav", "pyav-fast", "pyav-nvdec"]

PIXELS = 3
"""Counts the ways in which readers have computed pixels, for those that were kept from an earlier one."""

Needs = Callable[[float], bool]
"""Asked for each frame with the time until which it is shown (inf for the last): are its pixels wanted?"""


@dataclass(frozen=True)
class Frame:
    """A frame that was asked for.

    ``start_s`` and ``end_s`` are presentation times in seconds from the first frame of the video; ``pixels`` is
    ``[H, W, 3] uint8`` RGB, upright; ``is_last`` marks the last frame of the video, whose ``end_s`` is the duration.
    """

    start_s: float
    end_s: float
    pixels: np.ndarray
    is_last: bool


class Reader(Protocol):
    """An open video. Frames can be read once, in order; there is no seeking, because seeking is where readers err."""

    name: DecoderName

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """Yields, in presentation order, the frames for which ``needs`` says yes, and always the last frame.

        Raises VideoError when decoding fails; the frames already yielded are good. When a decoder fails after at
        least one frame, the last good frame is yielded as the last before the error is raised.
        """
        ...

    def close(self) -> None:
        """Frees the decoder. Safe to call twice."""
        ...
