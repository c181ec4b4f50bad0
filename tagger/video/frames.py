"""The good frames of a video, and the places between them where frames are lost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import av
from av.format import Flags

from tagger.errors import VideoError
from tagger.video.container import MAX_PIXELS, ffmpeg_reason
from tagger.video.damage import PARAMETER_SET_CODECS, Damage, ErrorLog, checked_packets, hole_check

UNSURE_PACKETS = 8
"""Packets after a mark of lost data in a transport stream in which data may be missing without a mark: FFmpeg marks the
frame that it has begun to read, and the loss may be in a later one."""

MAX_START_S = 1.0
"""Seconds up to the first frame that may be missing: a recording may start in the middle of a group of pictures."""

MIN_END_SHARE = 0.8
"""Share of a transport stream after which its video may end. What follows may be sound, or the video in another stream,
which FFmpeg does not join."""


@dataclass
class _Decoding:
    """The state of decoding. ``waits``: packets are skipped until a key frame, and at least ``skip`` of them.
    ``key_ticks`` is the time of that key frame; frames before it refer to lost ones. ``begin_s`` is the time of the
    first frame, and ``step_s`` the interval of frames without times, in seconds. ``position`` is the position of the
    last packet in the file."""

    decoder: "av.VideoCodecContext"
    begin_s: float
    step_s: float
    has_frames: bool = False
    first_s: float | None = None
    last_s: float = 0.0
    waits: bool = False
    skip: int = 0
    key_ticks: int | None = None
    position: int = 0

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
        if not self.has_frames:
            self.first_s, self.last_s = frame.time, self.begin_s
        elif frame.time is None or self.first_s is None:
            self.last_s += self.step_s
        else:
            self.last_s = self.begin_s + frame.time - self.first_s
        self.has_frames, self.key_ticks = True, None


def decoded_frames(
    container: "av.container.InputContainer",
    stream: "av.video.stream.VideoStream",
    path: Path,
    on_packet: "Callable[[av.Packet], None]" = lambda packet: None,
    on_repeat: "Callable[[av.Packet], None]" = lambda packet: None,
    begin_s: float = 0.0,
) -> "Iterator[av.VideoFrame | Damage]":
    """Yields the good frames of a stream in presentation order, and a Damage between them where some are lost.

    After damage, decoding goes on at the next key frame, but not in a stream without times: there the number of lost
    frames, and so the time of all frames after them, is not known. Errors before the first frame are ignored, because a
    recording may start in the middle of a group of pictures. Some damage is not detected: the decoders of VP8, VP9 and
    HEVC may turn changed data into wrong pixels without any error. Raises VideoError when there is no good frame, and
    for an encrypted video.

    ``on_packet`` is called for each packet, ``on_repeat`` for each empty packet, which shows the frame before it again.
    ``begin_s`` is the time of the first frame in seconds, for the reasons of damage.
    """
    has_times = not container.format.flags & cast(int, Flags.no_timestamps.value)
    state = _Decoding(stream.codec_context, begin_s, 1 / float(stream.average_rate or 25))
    for frame in _frames_and_damage(state, container, stream, path, on_packet, on_repeat):
        if isinstance(frame, Damage) and frame.first_packet is None and not has_times:
            share = 1 - state.position / container.size
            yield Damage(f"{frame.reason}; without times, the rest cannot be placed ({share:.0%} of the file)")
            return
        yield frame


def _frames_and_damage(
    state: _Decoding,
    container: "av.container.InputContainer",
    stream: "av.video.stream.VideoStream",
    path: Path,
    on_packet: "Callable[[av.Packet], None]",
    on_repeat: "Callable[[av.Packet], None]",
) -> "Iterator[av.VideoFrame | Damage]":
    failure: av.error.FFmpegError | ValueError | None = None
    failed: set[int | None] = set()
    log = ErrorLog()
    has_hole = hole_check(state.decoder)
    first_packet: av.Packet | None = None
    try:
        for packet, is_lost in checked_packets(container, stream):
            on_packet(packet)
            first_packet = first_packet or packet
            state.position = packet.pos or state.position
            if packet.is_keyframe and packet.has_sidedata("encryption_info"):
                after = f" after {state.last_s:.2f} s" if state.has_frames else ""
                raise VideoError("encrypted", f"{path} is encrypted{after}")
            if not packet.size and packet.dts is not None:
                # To a decoder, an empty packet would be the end of the video.
                on_repeat(packet)
                continue
            is_lost = log.has_new_damage() or is_lost or bool(has_hole(bytes(packet)))
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
                if not state.has_frames and seconds_between(first_packet, frame) > MAX_START_S:
                    yield Damage("it does not begin with a key frame", first_packet)
                state.note(frame)
                yield frame
        if container.format.name == "mpegts" and state.has_frames and state.position < MIN_END_SHARE * container.size:
            yield Damage(f"its video stream ends at {state.position / container.size:.0%} of the file")
    except (av.error.FFmpegError, ValueError) as error:
        if state.has_frames:
            yield Damage(f"reading failed after {state.last_s:.2f} s ({ffmpeg_reason(error)})")
        failure = error
    if failure is not None and not state.has_frames:
        raise _first_frame_error(path, stream, failure) from failure


def seconds_between(packet: "av.Packet", frame: "av.VideoFrame") -> float:
    """Returns the time from a packet to a frame in seconds; 0 when one of them has no time."""
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
