"""Finds the place in an open video at which a span begins: its key frame, or its first frame.

An index may name a key frame that is shown after the wanted time, or that cannot be decoded alone. Then the search
begins earlier.
"""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import av
from av.error import FFmpegError

from jobs.browse.cutting.source import Source
from tagger.errors import VideoError
from tagger.windows import TIME_TOLERANCE_S

SEEK_BACK_S = (0.0, 10.0, None)
"""Seconds before the wanted time at which reading begins, one try after the other; None: at the start of the file."""


def key_before(source: Source, start_s: float) -> tuple[float, float | None]:
    """Returns the time of the last key frame at or before ``start_s``, and the SEEK_BACK_S that finds it.

    Raises VideoError when there is none, or when the video ends before ``start_s``.
    """
    for back_s in SEEK_BACK_S:
        key_s = None
        for packet in source.packets(start_s, back_s, start_s + 2 * TIME_TOLERANCE_S):
            if packet.stream_index == source.stream.index and packet.is_keyframe:
                time_s = source.times.packet_s(packet)
                if time_s <= start_s + TIME_TOLERANCE_S:
                    key_s = time_s
        source.check_end(start_s)
        if key_s is not None:
            return key_s, back_s
    raise VideoError("damaged", f"{source.path} has no key frame at or before {start_s:.1f} s")


def shown_from(
    source: Source, start_s: float, end_s: float
) -> tuple[tuple[av.VideoFrame, float], Iterator[tuple[Any, float]]]:
    """Returns the frame that is shown at ``start_s``, and an iterator over later frames and packets of audio.

    Each comes with its start. Raises VideoError when no frame is shown then.
    """
    for back_s in SEEK_BACK_S:
        items = source.frames(start_s, back_s, end_s)
        shown: tuple[av.VideoFrame, float] | None = None
        later: list[tuple[Any, float]] = []
        # Without the frames before them, frames after a seek may be undecodable.
        with contextlib.suppress(*((FFmpegError,) if back_s is not None else ())):
            for item, time_s in items:
                if isinstance(item, av.VideoFrame) and time_s <= start_s + TIME_TOLERANCE_S:
                    shown, later = (item, time_s), []
                    continue
                later.append((item, time_s))
                if isinstance(item, av.VideoFrame):
                    break
            source.check_end(start_s)
            if shown is not None:
                return shown, itertools.chain(later, items)
    raise VideoError("damaged", f"{source.path} has no frame at {start_s:.1f} s")
