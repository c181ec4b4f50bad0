"""The fast reader. It skips frames that no other frame refers to, and shows the nearest decoded frame instead."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.damage import Damage
from tagger.video.facts import VideoFacts
from tagger.video.packets.table import packet_times
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName, Frame, Gap, Needs

SKIP_OPTIONS = {"skip_frame": "noref"}
"""Decoder options of FFmpeg that skip frames (ffmpeg-codecs, "Video decoding options")."""

H264_OPTIONS = SKIP_OPTIONS | {"skip_loop_filter": "bidir"}
"""The same for H.264, and no loop filter in B-frames.

A frame without the loop filter shows the edges of blocks, and frames that refer to it inherit them. So only B-frames go
without the filter: few frames refer to them in H.264. In HEVC every frame may be a B-frame. Without the filter in all
frames, the edges add up until the next key frame, and more windows get another label.
"""

ROUNDING_S = 1e-6
"""Rounding error in seconds between two computations of the same time."""


class FastReader(PyAVReader):
    """Reads with PyAV, but skips frames that no other frame refers to, and the loop filter in B-frames of H.264.

    The packets give the times of all frames, including the skipped ones. A skipped frame is replaced by the decoded
    frame with the nearest start; if two are equally near, by the earlier one. So the windows are the same as in normal
    reading. Damage in a skipped frame is not detected.
    """

    name: DecoderName = "pyav-fast"
    _scaled_format = None
    """None: pictures are scaled in their own format, before the conversion to RGB. In most videos two of the three
    planes have a quarter of the pixels, so scaling takes half of the time."""

    def __init__(
        self, path: Path, facts: VideoFacts, width: int, height: int, on_packet: Callable[[], None] = lambda: None
    ):
        self._times_s = packet_times(path, on_packet)
        super().__init__(path, facts, width, height, on_packet)
        options = H264_OPTIONS if facts.codec == "h264" else SKIP_OPTIONS
        self._stream.codec_context.options = dict(self._stream.codec_context.options) | options

    def frames(self, needs: Needs) -> Iterator[Frame | Gap]:
        """See Reader.frames."""
        starts_s = self._times_s[:, 0] - self._times_s[0, 0]
        held: tuple[int, av.VideoFrame] | None = None
        begin_s = 0.0
        damage: Damage | None = None
        for item in self._numbered():
            if isinstance(item, Damage):
                damage = damage or item
                continue
            number, frame = item
            if held is not None:
                if number <= held[0]:
                    continue  # A frame whose time does not advance is never shown.
                if damage is None:
                    middle_s = (starts_s[held[0]] + starts_s[number]) / 2 + ROUNDING_S
                    until_s = float(starts_s[min(np.searchsorted(starts_s, middle_s, side="right"), number)])
                else:
                    until_s = float(starts_s[held[0] + 1])
                if needs(until_s):
                    yield Frame(begin_s, until_s, self._pixels(held[1]), is_last=False)
                begin_s = until_s
            if damage is not None:
                begin_s, gap_s = float(starts_s[number]), begin_s
                yield Gap(gap_s, begin_s)
                damage = None
            held = number, frame
        if held is not None and needs(math.inf):
            # After damage the video ends with the last good frame.
            last = -1 if damage is None else held[0]
            end_s = float(self._times_s[last, 1] - self._times_s[0, 0])
            yield Frame(begin_s, end_s, self._pixels(held[1]), is_last=True)
        if damage is not None:
            raise VideoError("damaged", f"{self._path}: {damage.reason}")

    def _numbered(self) -> Iterator[tuple[int, av.VideoFrame] | Damage]:
        """Yields the decoded frames with their numbers among all frames, and the places where frames are lost."""
        starts_s = self._times_s[:, 0]
        between_s = (starts_s[1:] + starts_s[:-1]) / 2
        for frame in self._decoded():
            if isinstance(frame, Damage):
                yield frame
                continue
            time_s = self._time_s(frame)
            if time_s is not None:
                # The number of the nearest packet, because a decoder may return times that no packet has.
                yield int(np.searchsorted(between_s, time_s)), frame
