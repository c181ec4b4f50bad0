"""The frames of a video, up to the first sign of damage."""

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.container import MAX_PIXELS, ffmpeg_reason

TELLING_SOURCES = frozenset({"ffv1", "gif", "hevc", "libdav1d", "matroska,webm"})
"""Parts of FFmpeg that report a damage in their log and go on, with pictures made up or frames left out.

None of them reported anything after the first frame of the sound videos that this was tried on. The decoder of H.264
reports what is none (a group of pictures that starts with frames of another), and fails when it is one.
"""

JOIN_PACKETS = 4
"""How many packets after a gap in a transport stream a new recording begins, with a key frame."""

CHUNK_HEADER = 8
"""Bytes before the data of a frame in AVI. The index has the position of either."""


def decoded_frames(
    container: "av.container.InputContainer",
    stream: "av.video.stream.VideoStream",
    path: Path,
    on_packet: Callable[[], None] = lambda: None,
) -> "Iterator[av.VideoFrame]":
    """All frames of a stream in presentation order, up to the first sign of damage, which raises VideoError.

    What comes before the first frame is no damage: a recording may start in the middle of a group of pictures. Decoders
    that check little notice little: in VP8, VP9 and HEVC changed data may give wrong pixels and no sign at all.
    """
    has_frames = False
    first_s: float | None = None
    last_s = 0.0
    failure: av.error.FFmpegError | ValueError | None = None
    log = _ErrorLog()
    try:
        for packet, is_lost in _packets(container, stream):
            on_packet()
            if has_frames and (is_lost or log.tells()):
                raise VideoError("damaged", f"{path}: its data are damaged after {last_s:.2f} s")
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                if has_frames:
                    raise
                failure = error
                continue
            if has_frames and log.tells():
                raise VideoError("damaged", f"{path}: a frame is damaged after {last_s:.2f} s")
            for frame in frames:
                if frame.is_corrupt:
                    if has_frames:
                        raise VideoError("damaged", f"{path}: a frame is damaged after {last_s:.2f} s")
                    continue
                has_frames = True
                first_s = frame.time if first_s is None else first_s
                last_s = (frame.time or 0.0) - (first_s or 0.0)
                yield frame
    except (av.error.FFmpegError, ValueError) as error:
        if has_frames:
            reason = f"{path}: decoding failed after {last_s:.2f} s ({ffmpeg_reason(error)})"
            raise VideoError("damaged", reason) from error
        failure = error
    if isinstance(failure, av.error.DecoderNotFoundError):
        raise VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec") from failure
    if failure is not None and not has_frames and not stream.codec_context.width:
        reason = f"{path} declares no size of its pictures, or one beyond the {MAX_PIXELS:,} pixels that vtag reads"
        raise VideoError("unsupported", reason) from failure
    if failure is not None and not has_frames:
        raise VideoError("damaged", f"{path} cannot be decoded ({ffmpeg_reason(failure)})") from failure


class _ErrorLog:
    """Whether FFmpeg has reported errors that tell of damage, since this was last asked."""

    def __init__(self) -> None:
        if av.logging.get_level() is None:
            # Errors are counted at any level, and at this one none is shown.
            av.logging.set_level(av.logging.PANIC)
        self._count = av.logging.get_last_error()[0]

    def tells(self) -> bool:
        count, last = av.logging.get_last_error()
        is_new, self._count = count > self._count, count
        return is_new and last is not None and last[1] in TELLING_SOURCES


def _packets(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> "Iterator[tuple[av.Packet, bool]]":
    """The packets of a stream, and of each whether it is damaged, or others before it are lost."""
    packets = container.demux(stream)
    if container.format.name == "mpegts":
        yield from _with_gaps(packets)
        return
    is_lost = _IndexCheck(stream).is_lost if container.format.name == "avi" else lambda packet: False
    for packet in packets:
        yield packet, packet.is_corrupt or is_lost(packet)


def _with_gaps(packets: "Iterator[av.Packet]") -> "Iterator[tuple[av.Packet, bool]]":
    """Packets of a transport stream, which are marked as corrupt around a gap in their numbers.

    Where recordings were joined there is a gap, too, and a key frame after it.
    """
    ahead: deque[av.Packet] = deque()
    for packet in packets:
        ahead.append(packet)
        if len(ahead) > JOIN_PACKETS:
            first = ahead.popleft()
            yield first, first.is_corrupt and not any(later.is_keyframe for later in ahead)
    while ahead:
        first = ahead.popleft()
        yield first, first.is_corrupt and not any(later.is_keyframe for later in ahead)


class _IndexCheck:
    """Tells whether frames that the index of an AVI file lists were passed over.

    AVI stores no times, so that a frame whose header is damaged would move all that come after it.
    """

    def __init__(self, stream: "av.video.stream.VideoStream"):
        entries = stream.index_entries
        listed = (entries[i] for i in range(len(entries)))
        self._positions = np.sort(np.array([entry.pos for entry in listed if entry.size > 0], np.int64))
        self._last: int | None = None

    def is_lost(self, packet: "av.Packet") -> bool:
        """Whether there is a listed frame between the last packet and this one."""
        if packet.pos is None or not packet.size:
            return False
        after, until = self._last, packet.pos - CHUNK_HEADER
        self._last = packet.pos
        if after is None:
            return False
        between = np.searchsorted(self._positions, until) - np.searchsorted(self._positions, after, "right")
        return bool(between > 0)
