"""Places the frames of a stream in time, as they come, and notes where some were not seen."""

import time
from collections.abc import Callable, Iterator
from typing import cast

import av
from av.format import Flags

from tagger.errors import VideoError
from tagger.live.opening import is_recording
from tagger.video.clock import Clock
from tagger.video.damage import ErrorLog
from tagger.video.readers.pyav_reader import TimedFrame, duration_s
from tagger.video.readers.reader import Gap

MAX_PAUSE_S = 1.0
"""A longer pause between two frames is a gap."""

MAX_PAUSE_FRAMES = 3
"""A pause is a gap only if it is also longer than this many frames, because a camera may give one every few seconds."""

JUMP_S = 0.5
"""A difference in seconds between the clock of the stream and the time of its frames that shows a jump of the clock."""


class StreamFrames:
    """The frames of an open stream.

    ``on_packet`` is called for each packet. ``stall_s``: seconds with packets, but without a frame, after which the
    stream is given up. A stream whose format has no times gets those at which its frames come, if it ``is_live``.
    """

    def __init__(
        self,
        container: "av.container.InputContainer",
        stream: "av.video.stream.VideoStream",
        on_packet: Callable[[], None],
        stall_s: float,
        *,
        is_live: bool = True,
    ):
        self._container, self._stream = container, stream
        self._on_packet = on_packet
        self._stall_s = stall_s
        has_times = not container.format.flags & cast(int, Flags.no_timestamps.value)
        self._by_arrival = is_live and not has_times
        # A live picture that really paused for so long would be lost, so its clock has jumped.
        jumps = is_live and has_times and not is_recording(container)
        self._clock = Clock(container.format.name.split(",")[0], float(stream.average_rate or 25), is_live=jumps)
        self._before: tuple[float, float | None, tuple[int, int]] | None = None
        """The start of the frame before, its time in the stream, and its size."""
        self.gap_reason: str | None = None
        """Why the last Gap is one."""

    @property
    def end_s(self) -> float:
        """The end of the newest frame, in seconds from the first one."""
        return self._clock.end_s()

    def timed_frames(self) -> Iterator[TimedFrame | Gap]:
        """Yields each frame at once, and a Gap before it where frames were lost or the picture changed.

        Times are in seconds from the first frame. ``end_s`` is when the frame is expected to end: the next frame may
        start earlier or later. Raises VideoError when packets come and no frame can be decoded, and FFmpeg's errors.
        """
        lost: str | None = None
        for frame in self._decoded():
            if isinstance(frame, str):
                lost = lost or frame
                continue
            due_s = self._clock.end_s()
            time_s = self._time_s(frame)
            start_s = self._clock.start_s(time_s, self._duration_s(frame), is_key=bool(frame.key_frame))
            size = (frame.width, frame.height)
            reason = lost or self._gap_before(start_s, due_s, time_s, size)
            if reason is not None and self._before is not None:
                self.gap_reason = reason
                yield Gap(min(due_s, start_s), start_s)
            lost = None
            self._before = start_s, time_s, size
            yield TimedFrame(frame, start_s, self._clock.end_s())

    def _gap_before(self, start_s: float, due_s: float, time_s: float | None, size: tuple[int, int]) -> str | None:
        """Returns why no window may reach from the frame before to this one; None if it may."""
        if self._before is None:
            return None
        before_s, time_before_s, size_before = self._before
        if size != size_before:
            return f"its picture is {size[0]}×{size[1]} now"
        if time_s is not None and time_before_s is not None:
            jump_s = (time_s - time_before_s) - (start_s - before_s)
            if abs(jump_s) > JUMP_S:
                return f"its clock jumped by {jump_s:+.1f} s"
        pause_s = start_s - due_s
        if pause_s > max(MAX_PAUSE_S, MAX_PAUSE_FRAMES * (due_s - before_s)):
            return f"no picture came for {pause_s:.1f} s"
        return None

    def _time_s(self, frame: "av.VideoFrame") -> float | None:
        if self._by_arrival:
            return time.monotonic()
        return None if frame.pts is None or not frame.time_base else float(frame.pts * frame.time_base)

    def _duration_s(self, frame: "av.VideoFrame") -> float | None:
        return None if self._by_arrival else duration_s(frame)

    def _decoded(self) -> "Iterator[av.VideoFrame | str]":
        """Yields the good frames in presentation order, and the reason where some between them are lost.

        After a loss, decoding goes on at the next key frame.
        """
        decoder = self._stream.codec_context
        log = ErrorLog()
        has_frames = waits = False
        key_ticks: int | None = None
        blind_s = 0.0
        for packet, waited_s in self._packets():
            if waited_s >= self._stall_s:
                # Some demuxers take a read that was given up for the end of the stream.
                raise VideoError("io", f"no data came for {self._stall_s:g} s")
            blind_s += waited_s
            if blind_s > self._stall_s:
                raise VideoError("damaged", f"no picture could be decoded for {self._stall_s:g} s")
            if not packet.size and packet.dts is not None:
                continue  # To a decoder, an empty packet would be the end of the video.
            is_lost = has_frames and (log.has_new_damage() or packet.is_corrupt)
            if is_lost and not waits:
                decoder.flush_buffers()
                waits = True
                yield "its data are damaged"
            if waits and (is_lost or not packet.is_keyframe):
                continue
            if waits:
                waits, key_ticks = False, packet.pts
            try:
                frames = decoder.decode(packet)
            except (av.error.FFmpegError, ValueError):
                decoder.flush_buffers()
                if has_frames:
                    waits = True
                    yield "decoding failed"
                continue
            is_damaged = log.has_new_damage()
            for frame in frames:
                if key_ticks is not None and frame.pts is not None and frame.pts < key_ticks:
                    continue  # It refers to lost frames.
                if is_damaged or frame.is_corrupt:
                    if has_frames:
                        decoder.flush_buffers()
                        waits = True
                        yield "a frame is damaged"
                        break
                    continue
                has_frames, blind_s = True, 0.0
                yield frame

    def _packets(self) -> "Iterator[tuple[av.Packet, float]]":
        """Yields the packets of the stream, each with the seconds that were waited for it."""
        packets = iter(self._container.demux(self._stream))
        while True:
            asked_s = time.monotonic()
            packet = next(packets, None)
            if packet is None:
                return
            self._on_packet()
            yield packet, time.monotonic() - asked_s
