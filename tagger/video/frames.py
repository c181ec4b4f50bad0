"""The frames of a video, up to the first sign of damage."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.container import MAX_PIXELS, ffmpeg_reason

DAMAGE_LOG_SOURCES = frozenset({"ffv1", "gif", "hevc", "libdav1d", "matroska,webm"})
"""Parts of FFmpeg that log damage and continue, with invented pictures or missing frames.

They logged nothing after the first frame of the intact videos that were tried. The H.264 decoder is not among them: it
also logs harmless cases (a group of pictures that starts with frames of the previous one), and fails on real damage.
"""

JOIN_PACKETS = 4
"""Packets that are examined after a gap. The key frame of a new recording must be in the first half of them."""

CHUNK_HEADER_BYTES = 8
"""Size in bytes of the chunk header before the data of a frame in AVI. An index position is that of the header or of
the data."""


def decoded_frames(
    container: "av.container.InputContainer",
    stream: "av.video.stream.VideoStream",
    path: Path,
    on_packet: Callable[[], None] = lambda: None,
) -> "Iterator[av.VideoFrame]":
    """Yields the frames of a stream in presentation order. Raises VideoError at the first sign of damage.

    Errors before the first frame are ignored, because a recording may start in the middle of a group of pictures. Some
    damage is not detected: the decoders of VP8, VP9 and HEVC may turn changed data into wrong pixels without any error.
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
            is_lost = log.has_new_damage() or is_lost
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
            is_damaged = log.has_new_damage()
            for frame in frames:
                # The MPEG-1 decoder later returns a picture that failed, without any sign of the error.
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
    if failure is not None and not has_frames:
        raise _first_frame_error(path, stream, failure) from failure


def _first_frame_error(path: Path, stream: "av.video.stream.VideoStream", failure: Exception) -> VideoError:
    """Returns the error for a video that has no good frame. ``failure`` is the last error of its decoder."""
    if isinstance(failure, av.error.DecoderNotFoundError):
        return VideoError("unsupported", f"{path}: FFmpeg has no decoder for its codec")
    if not stream.codec_context.width:
        reason = f"{path} declares no picture size, or more than the {MAX_PIXELS:,} pixels that vtag reads"
        return VideoError("unsupported", reason)
    return VideoError("damaged", f"{path} cannot be decoded ({ffmpeg_reason(failure)})")


class _ErrorLog:
    """Watches FFmpeg's log for errors that are a sign of damage."""

    def __init__(self) -> None:
        if av.logging.get_level() is None:
            # FFmpeg counts errors at any log level. At this level none is printed.
            av.logging.set_level(av.logging.PANIC)
        self._count = av.logging.get_last_error()[0]

    def has_new_damage(self) -> bool:
        """Whether errors were logged since the last call, and the newest one is a sign of damage."""
        count, last = av.logging.get_last_error()
        is_new, self._count = count > self._count, count
        return is_new and last is not None and last[1] in DAMAGE_LOG_SOURCES


def _packets(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> "Iterator[tuple[av.Packet, bool]]":
    """Yields the packets of a stream, each with whether it is damaged or follows lost packets."""
    packets = container.demux(stream)
    if container.format.name == "mpegts":
        yield from _with_gaps(packets)
        return
    is_avi, is_gif = container.format.name == "avi", container.format.name == "gif"
    index = _IndexCheck(stream)
    for packet in packets:
        is_lost = (is_avi and index.skips_a_frame(packet)) or (is_gif and _is_cut_gif(packet))
        yield packet, packet.is_corrupt or is_lost


def _is_cut_gif(packet: "av.Packet") -> bool:
    """Checks whether the terminator of a GIF picture is missing. The decoder may accept such a picture as complete."""
    return packet.size > 0 and bytes(packet)[-1:] not in (b"\0", b";")


def _with_gaps(packets: "Iterator[av.Packet]") -> "Iterator[tuple[av.Packet, bool]]":
    """Yields the packets of a transport stream, each with whether packets are lost there.

    FFmpeg marks packets around a gap in the numbering as corrupt. A gap where two recordings were joined is not a loss.
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
    """Checks whether one recording ends and another begins with a key frame, with no packet missing in either."""
    # Tries each key frame, because the first recording may also have a key frame among its last frames.
    keys = [i for i, packet in enumerate(after[: JOIN_PACKETS // 2]) if packet.is_keyframe]
    return any(_are_steady([*before, *after[:key]]) and _are_steady(after[key:]) for key in keys)


def _are_steady(packets: "Sequence[av.Packet]") -> bool:
    """Checks whether the time steps between packets are about equal."""
    ticks = [packet.dts for packet in packets if packet.size]
    known = np.array([tick for tick in ticks if tick is not None])
    if len(known) < len(ticks):
        return False
    steps = np.diff(known)
    return len(steps) < 2 or bool(np.abs(steps - steps[0]).max() * 2 < steps[0])


class _IndexCheck:
    """Detects frames in the index of an AVI file that were skipped.

    AVI stores no times. If a damaged frame header is skipped, the times of all later frames are wrong.
    """

    def __init__(self, stream: "av.video.stream.VideoStream"):
        self._stream = stream
        self._positions: np.ndarray | None = None
        self._last: int | None = None

    def skips_a_frame(self, packet: "av.Packet") -> bool:
        """Whether the index lists a frame between the last packet and this one."""
        if packet.pos is None or not packet.size:
            return False
        after, until = self._last, packet.pos - CHUNK_HEADER_BYTES
        self._last = packet.pos
        if after is None:
            return False
        if self._positions is None:
            entries = self._stream.index_entries
            listed = (entries[i] for i in range(len(entries)))
            self._positions = np.sort(np.array([entry.pos for entry in listed if entry.size > 0], np.int64))
        between = np.searchsorted(self._positions, until) - np.searchsorted(self._positions, after, "right")
        return bool(between > 0)
