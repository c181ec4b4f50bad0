"""The default reader: PyAV. It uses no CPU while it waits."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.codec.hwaccel import HWAccel

from tagger.errors import VideoError
from tagger.video.appended import next_video
from tagger.video.clock import Clock
from tagger.video.container import open_container
from tagger.video.damage import Damage
from tagger.video.facts import VideoFacts
from tagger.video.frames import decoded_frames
from tagger.video.readers.reader import DecoderName, Frame, Gap, Needs
from tagger.video.readers.upright_pixels import UprightPixels


@dataclass(frozen=True)
class TimedFrame:
    """A decoded frame, shown from ``start_s`` to ``end_s``, in seconds from the first frame of the video.

    ``is_last`` marks the last frame of the video.
    """

    frame: av.VideoFrame
    start_s: float
    end_s: float
    is_last: bool = False


class PyAVReader:
    """Reads frames with PyAV, scaled to ``width × height`` (of the upright picture).

    Only needed frames are converted. One frame is held back, because a frame's end is the start of the next frame.
    """

    name: DecoderName = "pyav"
    end_s: float | None = None
    _scaled_format: str | None = "gbrp"
    """Pictures are scaled to planar RGB. swscale uses vector instructions for this: it takes half of the time of packed
    RGB and keeps the full width of the colour planes."""

    def __init__(
        self,
        path: Path,
        facts: VideoFacts,
        width: int,
        height: int,
        on_packet: Callable[[], None] = lambda: None,
        hwaccel: HWAccel | None = None,
    ):
        self._path = path
        self._on_packet = on_packet
        self._hwaccel = hwaccel
        self._container, self._stream, _ = open_container(path, hwaccel, facts.stream)
        self._last_packet = 0
        self._clock = Clock(facts.container, float(self._stream.average_rate or 25))
        self._container_name = facts.container
        self._repeated_until_s: float | None = None
        self._upright = UprightPixels(width, height, facts.rotation, is_mirrored=facts.is_mirrored)

    def frames(self, needs: Needs) -> Iterator[Frame | Gap]:
        """See Reader.frames."""
        for each in self.timed_frames():
            if isinstance(each, Gap):
                yield each
            elif needs(math.inf if each.is_last else each.end_s):
                yield Frame(each.start_s, each.end_s, self._pixels(each.frame), each.is_last)

    def timed_frames(self) -> Iterator[TimedFrame | Gap]:
        """Yields all good frames, and a Gap where frames are lost. Otherwise as ``frames``."""
        clock = self._clock
        held: av.VideoFrame | None = None
        held_s = 0.0
        damage: Damage | None = None
        for frame in self._decoded():
            if isinstance(frame, Damage):
                damage = damage or frame
                continue
            time_s = self._time_s(frame)
            if held is None and damage is not None and damage.first_packet is not None:
                clock.begin(self._time_s(damage.first_packet))
            due_s = clock.end_s()
            start_s = clock.start_s(time_s, duration_s(frame), is_key=bool(frame.key_frame))
            if held is not None or damage is not None:
                gap = Gap(min(due_s, start_s), start_s) if damage is not None else None
                if held is not None:
                    yield TimedFrame(held, held_s, start_s if gap is None else gap.start_s)
                if gap is not None:
                    yield gap
                    damage = None
            held, held_s = frame, start_s
        if held is not None:
            end_s = clock.end_s()
            if self._repeated_until_s is not None:
                end_s = max(end_s, clock.until_s(self._repeated_until_s))
            yield TimedFrame(held, held_s, end_s, is_last=True)
        if damage is not None:
            raise VideoError("damaged", f"{self._path}: {damage.reason}")

    def close(self) -> None:
        """See Reader.close."""
        self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame | Damage]:
        """Yields the frames of the file, and the places where frames are lost; see ``decoded_frames``."""
        start = 0
        yield from self._decoded_video()
        while following := next_video(self._path, self._container, start, self._last_packet, self._on_packet):
            start, self._last_packet, self._repeated_until_s = following, 0, None
            self._clock.restart()
            try:
                self.close()
                self._container, self._stream, _ = open_container(self._path, self._hwaccel, start=start)
                yield from self._decoded_video()
            except VideoError as error:
                reason = str(error).removeprefix(str(self._path)).lstrip(": ")
                yield Damage(f"another video is appended to it, which {reason}")
                return

    def _decoded_video(self) -> Iterator[av.VideoFrame | Damage]:
        begin_s = self._clock.end_s()
        return decoded_frames(self._container, self._stream, self._path, self._note_packet, self._on_repeat, begin_s)

    def _note_packet(self, packet: av.Packet) -> None:
        self._last_packet = packet.pos or self._last_packet
        self._on_packet()

    def _on_repeat(self, packet: av.Packet) -> None:
        ticks = packet.dts if self._container_name == "avi" else packet.pts
        if ticks is not None:
            self._repeated_until_s = float((ticks + (packet.duration or 0)) * packet.time_base)

    def _time_s(self, frame: av.VideoFrame | av.Packet) -> float | None:
        # AVI stores no presentation times, and FFmpeg's computed times for B-frames are out of order.
        ticks = frame.dts if self._container_name == "avi" else frame.pts
        return None if ticks is None or not frame.time_base else _seconds(ticks, frame.time_base)

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        return self._upright(frame, self._scaled_format)


def duration_s(frame: av.VideoFrame) -> float | None:
    """Returns the declared duration of a frame in seconds; None if there is none."""
    return _seconds(frame.duration, frame.time_base) if frame.duration and frame.time_base else None


def _seconds(ticks: int, time_base: Fraction) -> float:
    """Returns ticks in seconds. The product of a Fraction takes ten times as long and gives the same number."""
    return ticks * time_base.numerator / time_base.denominator
