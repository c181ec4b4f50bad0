"""JPEG pictures of frames."""

from fractions import Fraction

import av

TIME_BASE = Fraction(1, 25)
"""Any will do for a single picture."""


def jpeg_of_frame(frame: "av.VideoFrame", quality: int) -> bytes:
    """Returns a frame in the pixel format yuvj420p as a JPEG. ``quality`` is its quantiser, from 2, the best, to 31."""
    frame.pts, frame.time_base = 0, TIME_BASE
    encoder = av.CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = TIME_BASE
    encoder.options = {"qmin": str(quality), "qmax": str(quality), "color_range": "pc"}
    return b"".join(bytes(packet) for packet in [*encoder.encode(frame), *encoder.encode(None)])
