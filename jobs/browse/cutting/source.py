"""An open video of which a span is cut out: its packets, and the frames that they hold."""

import contextlib
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from av.error import FFmpegError

from jobs.browse.cutting.times import Times
from tagger.errors import VideoError
from tagger.video.container import open_container
from tagger.windows import TIME_TOLERANCE_S

if TYPE_CHECKING:
    import av
    from av.container import OutputContainer
    from av.stream import Stream

END_S = 1.0
"""Seconds after the last packet of video at which the video has certainly ended."""

AUDIO_LAG_S = 5.0
"""Seconds by which audio may lie behind the video in a file."""

AVI_REORDER_FRAMES = 4
"""Packets by which a frame of an AVI may be decoded before the frame that is shown before it. Other formats tell when
frames are shown."""


class Source:
    """An open video. ``stream`` is its video, ``audio`` its first audio stream, or None."""

    def __init__(self, path: Path):
        self.path = path
        self._read_until_s = 0.0
        self._open()
        self.times = Times(path, self._container, self.stream)
        first = next(self._container.demux(self.stream), None)
        self._reopen()
        frame = next(self._container.decode(self.stream), None)
        if frame is None:
            raise VideoError("damaged", f"{path} has no frame that can be decoded")
        self.times.begin(first, frame)

    def __enter__(self) -> "Source":
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def packets(self, start_s: float, back_s: float | None, end_s: float) -> "Iterator[av.Packet]":
        """Yields packets of video and audio from ``back_s`` before ``start_s`` until both have reached ``end_s``.

        With None as ``back_s``, they are those from the beginning of the file. A packet of video counts as reaching
        ``end_s`` when it is decoded then. Packets that are shown later and decoded earlier are yielded, because others
        may refer to them.
        """
        self._seek(start_s, back_s)
        if self.times.is_avi:
            end_s += AVI_REORDER_FRAMES * float(1 / self.times.rate)
        reached = {self.stream.index: False}
        if self.audio is not None:
            reached[self.audio.index] = False
        for packet in self._container.demux([self.stream, self.audio] if self.audio else [self.stream]):
            if not packet.size:
                continue
            decoded_s = self.times.decoded_s(packet)
            if packet.stream_index == self.stream.index:
                self._read_until_s = max(self._read_until_s, self.times.packet_end_s(packet))
            reached[packet.stream_index] = reached[packet.stream_index] or decoded_s >= end_s - TIME_TOLERANCE_S
            if all(reached.values()) or (reached[self.stream.index] and decoded_s >= end_s + AUDIO_LAG_S):
                return
            if not reached[packet.stream_index]:
                yield packet

    def frames(self, start_s: float, back_s: float | None, end_s: float) -> Iterator[tuple[Any, float]]:
        """Yields the frames and the packets of audio that ``packets`` holds, each with its start."""
        before_s = None
        for packet in itertools.chain(self.packets(start_s, back_s, end_s), (None,)):
            if packet is not None and packet.stream_index != self.stream.index:
                yield packet, self.times.packet_s(packet)
                continue
            for frame in self.stream.decode(packet):
                before_s = self.times.frame_s(frame, before_s)
                yield frame, before_s

    def check_end(self, start_s: float) -> None:
        """Raises VideoError when the packets that were read end before ``start_s``."""
        if start_s > self._read_until_s + END_S:
            raise VideoError(
                "damaged", f"{self.path} has no frame at {start_s:.1f} s; it ends at {self._read_until_s:.1f} s"
            )

    def add_audio(self, output: "OutputContainer") -> "Stream | None":
        """Adds a copy of the audio stream to ``output``; None when there is none, or the format does not take it."""
        if self.audio is None:
            return None
        try:
            return output.add_stream_from_template(self.audio)
        except (FFmpegError, ValueError):
            return None

    def copy(self, packet: "av.Packet", output: "OutputContainer", stream: "Stream", begin_s: float) -> None:
        """Writes a packet to a stream of ``output``, whose time 0 is ``begin_s`` of this video."""
        self.times.move(packet, begin_s)
        packet.stream = stream
        output.mux(packet)

    def _seek(self, start_s: float, back_s: float | None) -> None:
        if back_s is not None:
            with contextlib.suppress(FFmpegError):
                self._container.seek(self.times.ticks(max(0.0, start_s - back_s)), stream=self.stream)
                return
        # Some formats cannot be searched.
        self._reopen()

    def _reopen(self) -> None:
        self._container.close()
        self._open()

    def _open(self) -> None:
        self._container, self.stream, _ = open_container(self.path)
        self.audio = next(iter(self._container.streams.audio), None)
