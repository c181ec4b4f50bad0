"""Opens a stream, a camera or a pipe with FFmpeg, which may use only what the source names."""

import contextlib
import errno
import io
import os
import select
import time
from collections.abc import Callable

import av

from tagger.errors import VideoError
from tagger.live.hls_playlists import check_playlist
from tagger.live.source import LiveSource
from tagger.video.container import MAX_PIXELS, MAX_STREAMS, allowed_formats, check_stream
from tagger.video.pyav_versions import TOLERANT_OPEN_OPTIONS

STDIN = 0

HLS = "hls"

MAX_TEXT_BYTES = 1 << 20
"""Bytes of a playlist that are checked."""

WAIT_S = 1.0
"""Seconds between two calls of ``on_wait`` while a pipe gives no data."""

MAX_MISSING_S = 0.5
"""Seconds by which the picture of a recording may be shorter than its sound."""

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
    container = _open_checked(source, timeout_s, on_wait)
    try:
        streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
        if not streams:
            raise VideoError("no_video_stream", "it has no picture")
        check_stream(streams[0], "it")
    except BaseException:
        container.close()
        raise
    return container, streams[0]


def _open_checked(source: LiveSource, timeout_s: float, on_wait: Callable[[], None]) -> "av.container.InputContainer":
    """Opens a source. A playlist of HLS is checked before FFmpeg follows it."""
    if HLS not in source.formats:
        return _open(source, source.formats, timeout_s, on_wait)
    try:
        return _open(source, tuple(name for name in source.formats if name != HLS), timeout_s, on_wait)
    except av.error.ArgumentError:  # Raised for a format that is not among those, too.
        on_wait()
    check_playlist(source.address, lambda address: _text(source, address, timeout_s, on_wait))
    return _open(source, source.formats, timeout_s, on_wait)


def _open(
    source: LiveSource, formats: tuple[str, ...], timeout_s: float, on_wait: Callable[[], None]
) -> "av.container.InputContainer":
    options = {
        "protocol_whitelist": source.protocols or "data,crypto",
        "format_whitelist": allowed_formats(*formats),
        "max_streams": str(MAX_STREAMS),
        "max_pixels": str(MAX_PIXELS),
        **dict(source.options),
    }
    if source.kind == "pipe":
        return av.open(Pipe(on_wait), options=options, **TOLERANT_OPEN_OPTIONS)
    timeout = (timeout_s, timeout_s)
    return av.open(source.address, format=source.format, options=options, timeout=timeout, **TOLERANT_OPEN_OPTIONS)


def _text(source: LiveSource, address: str, timeout_s: float, on_wait: Callable[[], None]) -> str:
    """Returns what is at an address that a source may lead to, or as much as came in time; "" if it cannot be read."""
    options = {"protocol_whitelist": source.protocols, "format_whitelist": "data"}
    text = bytearray()
    until_s = time.monotonic() + timeout_s
    on_wait()
    with (
        contextlib.suppress(av.error.FFmpegError, OSError),
        av.open(address, format="data", options=options, timeout=(timeout_s, timeout_s)) as container,
    ):
        for packet in container.demux():
            text += bytes(packet)
            if len(text) > MAX_TEXT_BYTES or time.monotonic() > until_s:
                break
    return text.decode(errors="replace")


def is_recording(container: "av.container.InputContainer") -> bool:
    """Checks whether a stream has a length. A live picture has none, or 0 in the header of its MP4.

    The header of an FLV is no sign: that of a broadcast has the length of the file which its sender repeats.
    """
    return (container.duration or 0) > 0 and (container.format.name != "flv" or container.size > 0)


def check_end(seen_s: float, container: "av.container.InputContainer") -> None:
    """Raises VideoError if a recording that was seen until ``seen_s`` has not reached its length."""
    length_s = (container.duration or 0) / av.time_base
    if seen_s < length_s - MAX_MISSING_S:
        raise VideoError("io", f"it broke off after {seen_s:.1f} s of {length_s:.1f} s")


def lost_reason(error: Exception, timeout_s: float, waited_s: float = 0.0, logged: str | None = None) -> str:
    """Returns why a source could not be opened or read any more, as the end of a sentence.

    ``waited_s`` is the time since its last data, and ``logged`` is what FFmpeg has logged about it.
    """
    is_silent = waited_s >= timeout_s and isinstance(error, OSError)  # Not all protocols tell that they were ended.
    if is_silent or isinstance(error, av.error.ExitError):
        return f"no data came for {timeout_s:g} s"
    if isinstance(error, VideoError):
        return str(error).removeprefix("it: ")
    if logged is not None:
        return logged
    if isinstance(error, av.error.InvalidDataError):
        return "it gives nothing that is a video"
    number = getattr(error, "errno", None)
    if number in REASONS:
        return REASONS[number]
    return (getattr(error, "strerror", None) or str(error)).rstrip(".").lower()
