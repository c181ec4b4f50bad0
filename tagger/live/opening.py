"""Opens a stream, a camera or a pipe with FFmpeg, which may use only what the source names."""

import errno
import io
import os
import select
from collections.abc import Callable

import av

from tagger.errors import VideoError
from tagger.live.source import LiveSource
from tagger.video.container import MAX_PIXELS, MAX_STREAMS, allowed_formats, check_stream
from tagger.video.pyav_versions import TOLERANT_OPEN_OPTIONS

STDIN = 0

WAIT_S = 1.0
"""Seconds between two signs of life while a pipe gives no data."""

REASONS = {
    errno.ETIMEDOUT: "it does not answer",
    errno.EIO: "reading failed",
    errno.EINVAL: "it gives nothing that FFmpeg may open or can read",
    errno.EPERM: "it refers to something that is not opened",
}


class Pipe(io.RawIOBase):
    """Standard input as a file for FFmpeg. It waits for data, and calls ``on_wait`` each second."""

    def __init__(self, on_wait: Callable[[], None]):
        self._on_wait = on_wait

    def readable(self) -> bool:
        """See io.IOBase."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Returns up to ``size`` bytes; none at the end."""
        while not select.select([STDIN], [], [], WAIT_S)[0]:
            self._on_wait()
        return os.read(STDIN, size if size > 0 else 1 << 16)


def open_source(
    source: LiveSource, timeout_s: float, on_wait: Callable[[], None]
) -> "tuple[av.container.InputContainer, av.video.stream.VideoStream]":
    """Opens a source that is not a file. Returns the container and its first video stream.

    Raises VideoError, or FFmpeg's error, when it cannot be opened. Reading raises FFmpeg's error after ``timeout_s``
    seconds without data.
    """
    options = {
        "protocol_whitelist": source.protocols or "data,crypto",
        "format_whitelist": allowed_formats(*source.formats),
        "max_streams": str(MAX_STREAMS),
        "max_pixels": str(MAX_PIXELS),
        **dict(source.options),
    }
    if source.kind == "pipe":
        container = av.open(Pipe(on_wait), options=options, **TOLERANT_OPEN_OPTIONS)
    else:
        timeout = (timeout_s, timeout_s)
        container = av.open(
            source.address, format=source.format, options=options, timeout=timeout, **TOLERANT_OPEN_OPTIONS
        )
    try:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise VideoError("no_video_stream", "it has no picture")
        check_stream(streams[0], "it")
    except BaseException:
        container.close()
        raise
    return container, streams[0]


def is_recording(container: "av.container.InputContainer") -> bool:
    """Checks whether a stream has a length. A live picture has none, or 0 in the header of its FLV or MP4."""
    return (container.duration or 0) > 0


def lost_reason(error: Exception, timeout_s: float) -> str:
    """Returns why a source could not be opened or read any more, as the end of a sentence."""
    if isinstance(error, av.error.ExitError):
        return f"no data came for {timeout_s:g} s"
    if isinstance(error, av.error.InvalidDataError):
        return "it gives nothing that is a video"
    if isinstance(error, VideoError):
        return str(error).removeprefix("it: ")
    number = getattr(error, "errno", None)
    if number in REASONS:
        return REASONS[number]
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
