"""The times that a video file stores, as seconds from its first frame, as in a result.

AVI stores no presentation times, and FFmpeg's computed times for B-frames are out of order. So frames and packets of an
AVI have the times at which they are decoded.
"""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import av

from tagger.errors import VideoError
from tagger.video.clock import JOINED_CONTAINERS
from tagger.video.container import open_container

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

DURATION_S, DURATION_SHARE = 0.5, 0.02
"""Largest difference between the read and the declared duration of a video with a steady clock: the larger of half a
second and a share of the duration. MPEG declares up to 0.2 s less."""


def has_steady_clock(path: Path, duration_s: float | None) -> bool:
    """Checks whether a moment of a video can be found by the times in the file. Raises VideoError.

    A recording whose clock has started again, or that was joined from several, has another duration than its times say.
    ``duration_s`` is the duration that was read when the video was tagged.
    """
    container, stream, _ = open_container(path)
    with container:
        if stream.duration is not None:
            declared_s = float(stream.duration * (stream.time_base or Fraction(0)))
        elif container.duration is not None:
            declared_s = container.duration / av.time_base
        else:
            return False
        # Other formats declare what was cut off.
        is_measured = not JOINED_CONTAINERS.isdisjoint(container.format.name.split(","))
    if duration_s is None:
        return True
    longer_s = duration_s - declared_s
    return (abs(longer_s) if is_measured else longer_s) <= max(DURATION_S, DURATION_SHARE * duration_s)


class Times:
    """The times of an open video. ``rate`` is its number of frames per second, on average."""

    def __init__(self, path: Path, container: "InputContainer", stream: "VideoStream"):
        self.is_avi = container.format.name == "avi"
        self.rate = stream.average_rate or Fraction(25)
        self._path = path
        self._video_index = stream.index
        self._time_base = stream.time_base
        self._first_frame_s = self._first_packet_s = 0.0

    def begin(self, packet: "av.Packet | None", frame: "av.VideoFrame") -> None:
        """Sets the first packet and the first frame of the video; the times of both become 0."""
        self._first_frame_s = self._first_packet_s = self.frame_s(frame, None)
        if self.is_avi:
            self._first_packet_s = float((packet.dts or 0) * packet.time_base) if packet is not None else 0.0

    def frame_s(self, frame: "av.VideoFrame", before_s: float | None) -> float:
        """Returns the start of a frame. ``before_s`` is that of the frame before it, None if there is none.

        Raises VideoError when the frame has no time, or none after ``before_s``.
        """
        ticks = frame.dts if self.is_avi else frame.pts
        if ticks is not None:
            time_s = float(ticks * (frame.time_base or self._time_base or Fraction(0))) - self._first_frame_s
            if before_s is not None and time_s <= before_s:
                raise VideoError("unsupported", f"{self._path} has a clock that stops or jumps back")
            return time_s
        if before_s is None or not self.is_avi:
            raise VideoError("unsupported", f"{self._path} stores no times of frames, so it cannot be cut")
        return before_s + float(1 / self.rate)

    def packet_s(self, packet: "av.Packet") -> float:
        """Returns the start of a packet of video or audio. Raises VideoError when a packet of video has none."""
        if packet.stream_index != self._video_index or self.is_avi:
            return self.decoded_s(packet)
        if packet.pts is None:
            raise VideoError(
                "unsupported", f"{self._path} stores no times of frames, so its packets cannot be copied; use --exact"
            )
        return float(packet.pts * packet.time_base) - self._first_packet_s

    def packet_end_s(self, packet: "av.Packet") -> float:
        """Returns the end of a packet of video, also of one without a start."""
        length_s = float((packet.duration or 0) * packet.time_base) or float(1 / self.rate)
        return (self.decoded_s(packet) if packet.pts is None else self.packet_s(packet)) + length_s

    def decoded_s(self, packet: "av.Packet") -> float:
        """Returns the time at which a packet is decoded."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        return float((ticks or 0) * packet.time_base) - self._first_packet_s

    def ticks(self, time_s: float) -> int:
        """Returns a time in the file, in ticks of the video stream."""
        return round((time_s + self._first_packet_s) / (self._time_base or Fraction(1)))

    def move(self, packet: "av.Packet", begin_s: float) -> None:
        """Changes the times of a packet to those from ``begin_s``."""
        shift = round((begin_s + self._first_packet_s) / packet.time_base)
        if packet.dts is not None:
            packet.dts -= shift
        if self.is_avi:
            packet.pts = packet.dts
        elif packet.pts is not None:
            packet.pts -= shift
