"""The good frames of a video, and the places between them where frames are lost."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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

PARAMETER_SET_CODECS = frozenset({"h264", "hevc"})
"""Codecs whose decoders take parameter sets from any packet, also from damaged data, and use them from then on."""

PREFIXED_ZEROS, ARITHMETIC_ZEROS = bytes(16), bytes(64)
"""Zeros in a frame that are a hole in the file, which a decoder may take for valid data. H.264 and HEVC never write
three zeros in a row (emulation prevention); between their frames there may be zeros if the frames have no length
prefix, as in transport streams. Arithmetic coding writes 64 zeros with a probability of 2 to the power of -512."""

ARITHMETIC_CODECS = frozenset({"vp8", "vp9", "av1", "libdav1d"})
"""Decoders of codecs whose frames are arithmetic codes for the most part."""

UNSURE_PACKETS = 8
"""Packets after a mark of lost data in a transport stream in which data may be missing without a mark: FFmpeg marks the
frame that it has begun to read, and the loss may be in a later one."""

MAX_START_S = 1.0
"""Seconds up to the first frame that may be missing: a recording may start in the middle of a group of pictures."""

MIN_END_SHARE = 0.8
"""Share of a transport stream after which its video may end. What follows may be sound, or the video in another stream,
which FFmpeg does not join."""

JOIN_PACKETS = 4
"""Packets that are examined after a gap. The key frame of a new recording must be in the first half of them."""

CHUNK_HEADER_BYTES = 8
"""Size in bytes of the chunk header before the data of a frame in AVI. An index position is that of the header or of
the data."""


@dataclass(frozen=True)
class Damage:
    """A stretch that cannot be read, between the frame before and the one after it. ``reason`` is without the path.

    ``first_packet`` is the first packet of the video when the stretch is its beginning.
    """

    reason: str
    first_packet: "av.Packet | None" = None


@dataclass
class _Decoding:
    """The state of decoding. ``waits``: packets are skipped until a key frame, and at least ``skip`` of them.
    ``key_ticks`` is the time of that key frame; frames before it refer to lost ones."""

    decoder: "av.VideoCodecContext"
    has_frames: bool = False
    first_s: float | None = None
    last_s: float = 0.0
    waits: bool = False
    skip: int = 0
    key_ticks: int | None = None

    def lose(self, what: str) -> Damage:
        """Skips the packets up to the next key frame."""
        if self.decoder.extradata and self.decoder.name in PARAMETER_SET_CODECS:
            self.decoder = _new_decoder(self.decoder)
        else:
            self.decoder.flush_buffers()
        self.waits = True
        return Damage(f"{what} after {self.last_s:.2f} s")

    def resumes_at(self, packet: "av.Packet", *, is_lost: bool) -> bool:
        """Returns whether a packet is decoded: always, unless a key frame is waited for."""
        if self.waits and packet.is_keyframe and not is_lost and self.skip <= 0:
            self.waits, self.key_ticks = False, packet.pts
        self.skip -= 1
        return not self.waits

    def decode(self, packet: "av.Packet") -> "list[av.VideoFrame]":
        """Decodes a packet."""
        try:
            return self.decoder.decode(packet)
        except BlockingIOError:
            # After an error, some decoders take no more packets until they are flushed.
            self.decoder.flush_buffers()
            return self.decoder.decode(packet)

    def note(self, frame: "av.VideoFrame") -> None:
        """Notes a good frame. Frames after it may have earlier times only if the clock restarts."""
        self.has_frames, self.key_ticks = True, None
        self.first_s = frame.time if self.first_s is None else self.first_s
        self.last_s = (frame.time or 0.0) - (self.first_s or 0.0)


def decoded_frames(
    container: "av.container.InputContainer",
    stream: "av.video.stream.VideoStream",
    path: Path,
    on_packet: Callable[[], None] = lambda: None,
    on_repeat: "Callable[[av.Packet], None]" = lambda packet: None,
) -> "Iterator[av.VideoFrame | Damage]":
    """Yields the good frames of a stream in presentation order, and a Damage between them where some are lost.

    After damage, decoding goes on at the next key frame. Errors before the first frame are ignored, because a recording
    may start in the middle of a group of pictures. Some damage is not detected: the decoders of VP8, VP9 and HEVC may
    turn changed data into wrong pixels without any error. Raises VideoError when there is no good frame, and for an
    encrypted video.

    ``on_packet`` is called for each packet, ``on_repeat`` for each empty packet, which shows the frame before it again.
    """
    state = _Decoding(stream.codec_context)
    failure: av.error.FFmpegError | ValueError | None = None
    failed: set[int | None] = set()
    log = _ErrorLog()
    hole = _hole_of(state.decoder)
    first_packet: av.Packet | None = None
    last_position = 0
    try:
        for packet, is_lost in _packets(container, stream):
            on_packet()
            first_packet = first_packet or packet
            last_position = packet.pos or last_position
            if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                after = f" after {state.last_s:.2f} s" if state.has_frames else ""
                raise VideoError("encrypted", f"{path} is encrypted{after}")
            if not packet.size and packet.dts is not None:
                # To a decoder, an empty packet would be the end of the video.
                on_repeat(packet)
                continue
            is_lost = log.has_new_damage() or is_lost or (hole is not None and hole in bytes(packet))
            if state.has_frames and is_lost and not state.waits:
                yield state.lose("its data are damaged")
            if is_lost and container.format.name == "mpegts":
                state.skip = UNSURE_PACKETS
            if not state.resumes_at(packet, is_lost=is_lost):
                continue
            try:
                frames = state.decode(packet)
            except (av.error.FFmpegError, ValueError) as error:
                if state.has_frames:
                    yield state.lose(f"decoding failed ({ffmpeg_reason(error)})")
                else:
                    failure = error
                    failed.add(packet.pts)
                continue
            is_damaged = log.has_new_damage()
            for frame in frames:
                if state.key_ticks is not None and frame.pts is not None and frame.pts < state.key_ticks:
                    continue
                # The MPEG-1 decoder later returns a picture that failed, without any sign of the error.
                if is_damaged or frame.is_corrupt or (not state.has_frames and frame.pts in failed):
                    if state.has_frames:
                        yield state.lose("a frame is damaged")
                        break
                    continue
                if not state.has_frames and _seconds_between(first_packet, frame) > MAX_START_S:
                    yield Damage("it does not begin with a key frame", first_packet)
                state.note(frame)
                yield frame
        if container.format.name == "mpegts" and state.has_frames and last_position < MIN_END_SHARE * container.size:
            yield Damage(f"its video stream ends at {last_position / container.size:.0%} of the file")
    except (av.error.FFmpegError, ValueError) as error:
        if state.has_frames:
            yield Damage(f"reading failed after {state.last_s:.2f} s ({ffmpeg_reason(error)})")
        failure = error
    if failure is not None and not state.has_frames:
        raise _first_frame_error(path, stream, failure) from failure


def _hole_of(decoder: "av.VideoCodecContext") -> bytes | None:
    """Returns zeros that no good packet of a stream has; None if there may be any zeros."""
    if decoder.name in ARITHMETIC_CODECS:
        return ARITHMETIC_ZEROS
    has_prefixes = decoder.name in PARAMETER_SET_CODECS and (decoder.extradata or b"")[:1] == b"\1"
    return PREFIXED_ZEROS if has_prefixes else None


def _seconds_between(packet: "av.Packet", frame: "av.VideoFrame") -> float:
    if packet.pts is None or frame.pts is None or not frame.time_base or not packet.time_base:
        return 0.0
    return float(frame.pts * frame.time_base - packet.pts * packet.time_base)


def undamaged_frames(frames: "Iterator[av.VideoFrame | Damage]", path: Path) -> "Iterator[av.VideoFrame]":
    """Yields the frames before the first damage. Raises VideoError at that damage."""
    for frame in frames:
        if isinstance(frame, Damage):
            raise VideoError("damaged", f"{path}: {frame.reason}")
        yield frame


def _new_decoder(old: "av.VideoCodecContext") -> "av.VideoCodecContext":
    """Returns a decoder with the parameter sets of the container, without those that it read in damaged data."""
    new = av.CodecContext.create(old.codec, "r")
    assert isinstance(new, av.VideoCodecContext)
    new.extradata, new.options, new.thread_count = old.extradata, dict(old.options), old.thread_count
    return new


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
        if is_avi:
            index.correct_time(packet)
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
        self._ticks: np.ndarray | None = None
        self._last: int | None = None
        self._shift = 0

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
            listed = [entry for i in range(len(entries)) if (entry := entries[i]).size > 0]
            listed.sort(key=lambda entry: entry.pos)
            self._positions = np.array([entry.pos for entry in listed], np.int64)
            self._ticks = np.array([entry.timestamp for entry in listed], np.int64)
        between = np.searchsorted(self._positions, until) - np.searchsorted(self._positions, after, "right")
        if between > 0:
            at = int(np.searchsorted(self._positions, until))
            if at < len(self._positions) and self._positions[at] <= packet.pos and packet.dts is not None:
                assert self._ticks is not None
                self._shift = int(self._ticks[at]) - packet.dts
        return bool(between > 0)

    def correct_time(self, packet: "av.Packet") -> None:
        """Corrects the time of a packet after skipped frames, which FFmpeg does not count."""
        if self._shift and packet.dts is not None:
            packet.dts += self._shift
            packet.pts = None if packet.pts is None else packet.pts + self._shift
