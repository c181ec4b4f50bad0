"""A small picture of a moment of a video, as a JPEG."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from jobs.browse.cutting.frame_writer import upright_graph
from jobs.browse.cutting.seeking import shown_from
from jobs.browse.cutting.source import Source
from jobs.browse.cutting.times import has_steady_clock
from tagger.errors import VideoError
from tagger.live.jpeg import TIME_BASE, jpeg_of_frame
from tagger.video.facts import orientation

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

MAX_WIDTH, MAX_HEIGHT = 160, 90
"""A picture fits into these pixels."""

QUALITY = 7
"""The quantiser of the JPEG, from 2, the best, to 31."""


def pictures_of(path: Path, times_s: list[float], duration_s: float | None) -> list[bytes | None]:
    """Returns a JPEG of the frame that is shown at each of ``times_s``, upright; None where there is none.

    Only the frames from the key frame before a time up to that time are decoded. A video without a steady clock has no
    pictures, because it would have to be decoded from its beginning. Raises VideoError.
    """
    if not has_steady_clock(path, duration_s):
        return [None] * len(times_s)
    found: list[bytes | None] = []
    with Source(path) as source:
        for time_s in times_s:
            try:
                (frame, _), _ = shown_from(source, time_s, time_s)
                found.append(jpeg_of(frame, source.stream.sample_aspect_ratio or Fraction(1)))
            except (VideoError, av.error.FFmpegError):
                found.append(None)
    return found


def jpeg_of(frame: "VideoFrame", pixel_aspect: Fraction) -> bytes:
    """Returns a frame as a small JPEG, upright. ``pixel_aspect`` is the width of a pixel over its height."""
    turn, is_mirrored = orientation(frame)
    width, height = frame.width * float(pixel_aspect), float(frame.height)
    largest = (MAX_HEIGHT, MAX_WIDTH) if turn in (90, 270) else (MAX_WIDTH, MAX_HEIGHT)
    scale = min(largest[0] / width, largest[1] / height, 1.0)
    small = frame.reformat(_even(width * scale), _even(height * scale), format="yuvj420p")
    small.pts, small.time_base = 0, TIME_BASE
    if turn or is_mirrored:
        graph = upright_graph(small, TIME_BASE, "yuvj420p", turn, is_mirrored=is_mirrored)
        graph.vpush(small)
        small = graph.vpull()
    return jpeg_of_frame(small, QUALITY)


def _even(size: float) -> int:
    return max(2, round(size / 2) * 2)
