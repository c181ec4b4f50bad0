"""The frames of a video, up to the first sign of damage."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.container import MAX_PIXELS, ffmpeg_reason

TELLING_SOURCES = frozenset({"ffv1", "gif", "hevc", "libdav1d", "matroska,webm"})
"""Parts of FFmpeg that report damage in their log and go on, with pictures made up or frames left out.

None of them reported anything after the first frame of the sound videos that this was tried on. The decoder of H.264
reports what is none (a group of pictures that starts with frames of another), and fails when it is one.
"""

JOIN_PACKETS = 4
"""How many packets are looked at after one before which others are missing; the key frame of a new recording is one of
the first half."""

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
    failed: set[int | None] = set()
    log = _ErrorLog()
    try:
        for packet, is_lost in _packets(container, stream):
            on_packet()
            is_lost = log.tells() or is_lost
            if has_frames and is_lost:
                raise VideoError("damaged", f"{path}: its data are damaged after {last_s:.2f} s")
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                if has_frames:
                    raise
                failure = error
                failed.add(packet.pts)
                continue
            is_damaged = log.tells()
            for frame in frames:
                # MPEG-1 gives a picture that failed later on, as if nothing was wrong with it.
                if is_damaged or frame.is_corrupt or (not has_frames and frame.pts in failed):
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
    is_avi, is_gif = container.format.name == "avi", container.format.name == "gif"
    index = _IndexCheck(stream)
    for packet in packets:
        is_lost = (is_avi and index.is_lost(packet)) or (is_gif and _is_cut_gif(packet))
        yield packet, packet.is_corrupt or is_lost


def _is_cut_gif(packet: "av.Packet") -> bool:
    """Whether a picture of a GIF lacks its end, a block of no bytes; the decoder may take what is there for all."""
    return packet.size > 0 and bytes(packet)[-1:] not in (b"\0", b";")


def _with_gaps(packets: "Iterator[av.Packet]") -> "Iterator[tuple[av.Packet, bool]]":
    """Packets of a transport stream, which are marked as corrupt around a gap in their numbers.

    Where recordings were joined there is a gap, too.
    """
    before: deque[av.Packet] = deque(maxlen=2)
    ahead: deque[av.Packet] = deque()
    for coming in itertools.chain(packets, [None] * JOIN_PACKETS):
        if coming is not None:
            ahead.append(coming)
        if ahead and (coming is None or len(ahead) > JOIN_PACKETS):
            packet = ahead.popleft()
            yield packet, packet.is_corrupt and not _is_join([*before, packet], list(ahead))
            before.append(packet)


def _is_join(before: "Sequence[av.Packet]", after: "Sequence[av.Packet]") -> bool:
    """Whether a recording ends whole soon after ``before``, and another begins with a key frame: none is missing."""
    # Not with the first key frame, necessarily: the recording that ends may have one among its last frames.
    keys = [i for i, packet in enumerate(after[: JOIN_PACKETS // 2]) if packet.is_keyframe]
    return any(_are_steady([*before, *after[:key]]) and _are_steady(after[key:]) for key in keys)


def _are_steady(packets: "Sequence[av.Packet]") -> bool:
    """Whether packets follow each other in steps of the same length."""
    ticks = [packet.dts for packet in packets if packet.size]
    known = np.array([tick for tick in ticks if tick is not None])
    if len(known) < len(ticks):
        return False
    steps = np.diff(known)
    return len(steps) < 2 or bool(np.abs(steps - steps[0]).max() * 2 < steps[0])


class _IndexCheck:
    """Tells whether frames that the index of an AVI file lists were passed over.

    AVI stores no times, so that a frame whose header is damaged would move all that come after it.
    """

    def __init__(self, stream: "av.video.stream.VideoStream"):
        self._stream = stream
        self._positions: np.ndarray | None = None
        self._last: int | None = None

    def is_lost(self, packet: "av.Packet") -> bool:
        """Whether there is a listed frame between the last packet and this one."""
        if packet.pos is None or not packet.size:
            return False
        after, until = self._last, packet.pos - CHUNK_HEADER
        self._last = packet.pos
        if after is None:
            return False
        if self._positions is None:
            entries = self._stream.index_entries
            listed = (entries[i] for i in range(len(entries)))
            self._positions = np.sort(np.array([entry.pos for entry in listed if entry.size > 0], np.int64))
        between = np.searchsorted(self._positions, until) - np.searchsorted(self._positions, after, "right")
        return bool(between > 0)
