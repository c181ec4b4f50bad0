"""The fast reader: decodes only frames that others refer to, and shows the nearest of them for those left out."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np

from tagger.errors import VideoError
from tagger.video.facts import VideoFacts
from tagger.video.packets import packet_times
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import DecoderName, Frame, Needs

SHORTCUTS = {"skip_frame": "noref"}
"""Options of FFmpeg's decoders (ffmpeg-codecs, "Video decoding options")."""

H264_SHORTCUTS = SHORTCUTS | {"skip_loop_filter": "bidir"}
"""Frames without the loop filter show the edges of blocks, and frames that refer to them inherit those. So only
B-frames go without, to which few others refer in H.264; in HEVC every frame may be one. With no filter in any frame the
edges add up until the next key frame, and more windows get another label."""

ROUNDING_S = 1e-6
"""How far two computations of one time may differ."""


class FastReader(PyAVReader):
    """Reads with PyAV what costs least: no frame that no other refers to, and no loop filter in H.264's B-frames.

    When each frame is shown, also those left out, is told by the packets. A frame left out is replaced by the decoded
    frame that starts nearest to it, of two as near by the earlier. So windows lie where they lie in normal reading.
    Damage of a frame that is left out is not noticed.
    """

    name: DecoderName = "pyav-fast"
    _scaled_format = None
    """Scaled as they are, before colours are made of them: half of the planes of most videos have a quarter of the
    pixels, so that it takes half of the time."""

    def __init__(
        self, path: Path, facts: VideoFacts, width: int, height: int, on_packet: Callable[[], None] = lambda: None
    ):
        self._times_s = packet_times(path, on_packet)
        super().__init__(path, facts, width, height, on_packet)
        shortcuts = H264_SHORTCUTS if facts.codec == "h264" else SHORTCUTS
        self._stream.codec_context.options = dict(self._stream.codec_context.options) | shortcuts

    def frames(self, needs: Needs) -> Iterator[Frame]:
        """See Reader.frames."""
        starts_s = self._times_s[:, 0] - self._times_s[0, 0]
        held: tuple[int, av.VideoFrame] | None = None
        begin_s = 0.0
        error: VideoError | None = None
        decoded = self._numbered()
        while True:
            try:
                item = next(decoded, None)
            except VideoError as damage:
                error = damage
                break
            if item is None:
                break
            number, frame = item
            if held is not None:
                if number <= held[0]:
                    continue  # A time that does not advance shows nothing.
                middle_s = (starts_s[held[0]] + starts_s[number]) / 2 + ROUNDING_S
                until_s = float(starts_s[min(np.searchsorted(starts_s, middle_s, side="right"), number)])
                if needs(until_s):
                    yield Frame(begin_s, until_s, self._pixels(held[1]), is_last=False)
                begin_s = until_s
            held = number, frame
        if held is not None and needs(math.inf):
            # After damage nothing is known to be shown beyond the last good frame.
            last = -1 if error is None else held[0]
            end_s = float(self._times_s[last, 1] - self._times_s[0, 0])
            yield Frame(begin_s, end_s, self._pixels(held[1]), is_last=True)
        if error is not None:
            raise error

    def _numbered(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decoded frames with their numbers, counting also those left out. Raises VideoError."""
        starts_s = self._times_s[:, 0]
        between_s = (starts_s[1:] + starts_s[:-1]) / 2
        for frame in self._decoded():
            time_s = self._time_s(frame)
            if time_s is not None:
                # That of the nearest packet: a decoder may give times that no packet has.
                yield int(np.searchsorted(between_s, time_s)), frame
