"""The pixels of a decoded frame: scaled, upright and in RGB."""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

UNSCALED_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
"""Formats that are converted directly to packed RGB when no scaling is needed. The pixel values are the same as with
planar RGB, for which swscale leaves some columns at the right edge unwritten at widths such as 72 and 340."""


UNSPECIFIED_COLOUR = 2
"""Number of an unspecified matrix, of unspecified primaries and of an unspecified transfer (ISO/IEC 23091-2)."""

UNSPECIFIED_RANGE, KNOWN_RANGES = 0, (0, 1, 2)
"""FFmpeg's numbers of colour ranges: unspecified, limited, full."""


class UprightPixels:
    """Turns decoded frames into pixels, scaled to ``width × height`` (of the upright picture).

    ``rotation`` is the clockwise rotation in degrees, a multiple of 90, that makes the picture upright. If it
    ``is_mirrored``, it is first mirrored left to right.
    """

    def __init__(self, width: int, height: int, rotation: int = 0, *, is_mirrored: bool = False):
        # Created once, because they prepare tables. They use one thread, because there is a decoder for each core.
        self._scaler, self._packer = VideoReformatter(), VideoReformatter()
        self._quarter_turns = rotation // 90
        self._is_mirrored = is_mirrored
        self._width, self._height = (height, width) if self._quarter_turns % 2 else (width, height)

    def __call__(self, frame: av.VideoFrame, scaled_format: str | None = "gbrp") -> np.ndarray:
        """Returns ``[H, W, 3] uint8``. A frame that is scaled has the pixel format ``scaled_format`` in between."""
        is_scaled = (frame.width, frame.height) != (self._width, self._height)
        if is_scaled or frame.format.name not in UNSCALED_FORMATS:
            frame = _reformat(self._scaler, frame, self._width, self._height, scaled_format)
        pixels: np.ndarray = _reformat(self._packer, frame, None, None, "rgb24").to_ndarray()
        if self._is_mirrored:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        # np.rot90 rotates counter-clockwise.
        return np.ascontiguousarray(np.rot90(pixels, -self._quarter_turns)) if self._quarter_turns else pixels


def _reformat(
    reformatter: VideoReformatter, frame: av.VideoFrame, width: int | None, height: int | None, name: str | None
) -> av.VideoFrame:
    """Scales and converts a frame. Colour tags that FFmpeg's scaler does not know are read as unspecified."""
    try:
        return reformatter.reformat(frame, width, height, name, interpolation="BICUBIC", threads=1)
    except (av.error.FFmpegError, OSError):
        frame.colorspace = frame.color_primaries = frame.color_trc = UNSPECIFIED_COLOUR
        if frame.color_range not in KNOWN_RANGES:
            frame.color_range = UNSPECIFIED_RANGE
        return reformatter.reformat(frame, width, height, name, interpolation="BICUBIC", threads=1)
