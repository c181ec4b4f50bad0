"""The default reader: PyAV. It uses no CPU while it waits."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from av.codec.hwaccel import HWAccel
from av.video.reformatter import VideoReformatter

from tagger.errors import VideoError
from tagger.video.container import open_container
from tagger.video.facts import VideoFacts
from tagger.video.frames import decoded_frames
from tagger.video.readers.reader import DecoderName, Frame, Needs

JOINED_CONTAINERS = frozenset({"mpeg", "mpegts"})
"""Formats whose files can be joined byte by byte. In a joined file the clock jumps."""

JUMP_BACK_S, JUMP_AHEAD_S = 1.0, 10.0
"""Minimum jump of the clock in seconds that counts as a join. FFmpeg also uses 10 s for jumps ahead."""

UNSCALED_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuva420p"})
"""Formats that are converted directly to packed RGB when no scaling is needed. The pixel values are the same as with
planar RGB, for which swscale leaves some columns at the right edge unwritten at widths such as 72 and 340."""


class PyAVReader:
    """Reads frames with PyAV, scaled to ``width × height`` (of the upright picture).

    Only needed frames are converted. One frame is held back, because a frame's end is the start of the next frame.
    """

    name: DecoderName = "pyav"
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
        self._container, self._stream, _ = open_container(path, hwaccel)
        self._container_name = facts.container
        # Created once, because they prepare tables. They use one thread, because there is a decoder for each core.
        self._scaler, self._packer = VideoReformatter(), VideoReformatter()
        self._quarter_turns = facts.rotation // 90
        self._width, self._height = (height, width) if self._quarter_turns % 2 else (width, height)

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """See Reader.frames."""
        origin_s = 0.0
        held: av.VideoFrame | None = None
        held_s = 0.0
        has_clock = False
        step_s = 1.0 / float(self._stream.average_rate or 25)
        error: VideoError | None = None
        decoded = self._decoded()
        while True:
            try:
                frame = next(decoded, None)
            except VideoError as damage:
                error = damage
                break
            if frame is None:
                break
            time_s = self._time_s(frame)
            start_s = 0.0
            if held is None:
                origin_s = time_s or 0.0
            else:
                due_s = held_s + (_duration_s(held) or step_s)
                # Raw streams have no times, so each frame starts at the end of the last one.
                start_s = due_s if time_s is None else time_s - origin_s
                if (not has_clock and time_s is not None) or self._is_join(start_s - held_s):
                    # In Matroska frames before 0 have no times. The first frame with a time follows them.
                    origin_s += start_s - due_s
                    start_s = due_s
                if start_s <= held_s:
                    continue  # A frame whose time does not advance is never shown.
                if needs(start_s):
                    yield Frame(held_s, start_s, self._pixels(held), is_last=False)
                step_s = start_s - held_s
            has_clock = has_clock or time_s is not None
            held, held_s = frame, start_s
        if held is not None and needs(math.inf):
            yield Frame(held_s, held_s + (_duration_s(held) or step_s), self._pixels(held), is_last=True)
        if error is not None:
            raise error

    def close(self) -> None:
        """See Reader.close."""
        self._container.close()

    def _decoded(self) -> Iterator[av.VideoFrame]:
        return decoded_frames(self._container, self._stream, self._path, self._on_packet)

    def _time_s(self, frame: av.VideoFrame) -> float | None:
        # AVI stores no presentation times, and FFmpeg's computed times for B-frames are out of order.
        ticks = frame.dts if self._container_name == "avi" else frame.pts
        return None if ticks is None or not frame.time_base else float(ticks * frame.time_base)

    def _is_join(self, jump_s: float) -> bool:
        return self._container_name in JOINED_CONTAINERS and not -JUMP_BACK_S < jump_s < JUMP_AHEAD_S

    def _pixels(self, frame: av.VideoFrame) -> np.ndarray:
        is_scaled = (frame.width, frame.height) != (self._width, self._height)
        if is_scaled or frame.format.name not in UNSCALED_FORMATS:
            frame = self._scaler.reformat(
                frame, self._width, self._height, self._scaled_format, interpolation="BICUBIC", threads=1
            )
        pixels = self._packer.reformat(frame, format="rgb24", interpolation="BICUBIC", threads=1).to_ndarray()
        # np.rot90 rotates counter-clockwise.
        return np.ascontiguousarray(np.rot90(pixels, -self._quarter_turns)) if self._quarter_turns else pixels


def _duration_s(frame: av.VideoFrame) -> float | None:
    """Returns the declared duration of a frame in seconds; None if there is none."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else None
