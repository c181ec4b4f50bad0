"""Writes a span of a video to a file of its own: by copying its packets, or by encoding its frames again.

Times are in seconds from the first frame, as in a result.
"""

import contextlib
import io
import itertools
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
from av.error import FFmpegError
from av.filter import Graph

from jobs.storage.staging import FULL
from tagger.errors import VideoError
from tagger.video.clock import JOINED_CONTAINERS
from tagger.video.container import ffmpeg_reason, open_container
from tagger.video.facts import orientation, probe
from tagger.video.readers.pyav_reader import PyAVReader
from tagger.video.readers.reader import Gap
from tagger.windows import TIME_TOLERANCE_S

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.stream import Stream

SEEK_BACK_S = (0.0, 10.0, None)
"""Seconds before the wanted time at which reading begins, one try after the other; None: at the start of the file.

An index may name a key frame that is shown after the wanted time, or that cannot be decoded alone.
"""

EARLY_S = 0.1
"""Seconds by which an exact clip may begin too early, so that its first frame is as long as the others."""

END_S = 1.0
"""Seconds after the last packet of video at which the video has certainly ended."""

AUDIO_LAG_S = 5.0
"""Seconds by which audio may lie behind the video in a file."""

AVI_REORDER_FRAMES = 4
"""Packets by which a frame of an AVI may be decoded before the frame that is shown before it. Other formats tell when
frames are shown."""

COPY_ENDINGS = {"mp4": ("mp4", "mov", "mkv", "avi"), "avi": ("avi", "mkv"), "": ("mkv", "mov", "avi")}
"""The formats of copies, by a format of the source; the first that takes the codecs is used. Empty: of all others.

AVI has no times of presentation, which other formats need.
"""

FORMATS = {"mkv": "matroska"}
"""FFmpeg's names of formats that are not their usual endings."""

DURATION_S, DURATION_SHARE = 0.5, 0.02
"""Largest difference between the read and the declared duration of a video with a steady clock: the larger of half a
second and a share of the duration. MPEG declares up to 0.2 s less."""

TURNS = {90: ["transpose=clock"], 180: ["hflip", "vflip"], 270: ["transpose=cclock"]}
"""FFmpeg's filters that turn a picture clockwise, by degrees."""

EXACT_OPTIONS = {"preset": "veryfast", "crf": "18"}
"""Options of libx264. With a rate factor of 18 a difference to the source is hard to see."""


def copy_ending(path: Path) -> str:
    """Returns the ending of copies from a video, such as ``mp4``: that of a format which takes its video and audio.

    If none takes both, the format takes the video. Raises VideoError when the video cannot be opened, or none does.
    """
    container, stream, _ = open_container(path)
    with container:
        names = container.format.name.split(",")
        endings = next(COPY_ENDINGS[kind] for kind in COPY_ENDINGS if kind in names or not kind)
        possible = [ending for ending in endings if _takes(ending, stream)]
        if not possible:
            codec = stream.codec_context.codec.canonical_name
            raise VideoError(
                "unsupported", f"{path}: no format of clips takes a copy of its codec {codec}; use --exact"
            )
        audio = container.streams.audio[:1]
        return next((ending for ending in possible if _takes(ending, *audio)), possible[0])


def _takes(ending: str, *streams: "Stream") -> bool:
    """Checks whether a format takes the codecs of ``streams``."""
    with av.open(io.BytesIO(), "w", format=FORMATS.get(ending, ending)) as output:
        try:
            for stream in streams:
                output.add_stream_from_template(stream)
        except (FFmpegError, ValueError):
            return False
    return True


def copy_span(path: Path, start_s: float, end_s: float, target: Path, duration_s: float | None = None) -> float:
    """Copies the packets from the key frame at or before ``start_s`` until ``end_s``, and audio if the format takes it.

    The format is that of ``copy_ending``, whatever the name of ``target``. ``duration_s`` is the duration that was read
    when the video was tagged. Returns the time of the key frame. Raises VideoError, and OSError when the disk is full.
    """
    if not has_steady_clock(path, duration_s):
        raise VideoError(
            "unsupported", f"{path} has no clock, or one that jumps, so its packets cannot be copied; use --exact"
        )
    with _errors_of(path, target), _Source(path) as source, _output(target, copy_ending(path)) as output:
        key_s, back_s = source.key_before(start_s)
        video = output.add_stream_from_template(source.stream)
        audio = source.add_audio(output)
        has_begun = False
        for packet in source.packets(start_s, back_s, end_s):
            time_s = source.packet_s(packet)
            if packet.stream_index != source.stream.index:
                if audio is not None and key_s <= time_s < end_s:
                    source.mux(output, audio, packet, key_s)
                continue
            has_begun = has_begun or (packet.is_keyframe and abs(time_s - key_s) < TIME_TOLERANCE_S)
            # Frames that follow the key frame but are shown before it refer to frames before it.
            is_leading = time_s < key_s - TIME_TOLERANCE_S
            if has_begun and not is_leading:
                source.mux(output, video, packet, key_s)
    return max(0.0, key_s)


def encode_span(path: Path, start_s: float, end_s: float, target: Path, duration_s: float | None = None) -> float:
    """Encodes the frames that are shown from ``start_s`` to ``end_s``, upright, as H.264 in MP4, and copies the audio.

    The first frame is the last one that begins at or before ``start_s``. A video without a steady clock, or with
    damage, is read from its beginning, as it was tagged, and its audio is left out. ``duration_s`` is the duration that
    was read then. Returns the time at which the clip begins: that of its first frame, or ``start_s`` if this frame
    begins more than EARLY_S before it. Raises VideoError, and OSError when the disk is full.
    """
    if has_steady_clock(path, duration_s):
        with contextlib.suppress(VideoError), _errors_of(path, target):
            return _encode_found(path, start_s, end_s, target)
    with _errors_of(path, target):
        return _encode_read(path, start_s, end_s, target)


def has_steady_clock(path: Path, duration_s: float | None) -> bool:
    """Checks whether a moment of a video can be found by the times in the file. Raises VideoError.

    A recording whose clock has started again, or that was joined from several, has another duration than its times say.
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


def _encode_found(path: Path, start_s: float, end_s: float, target: Path) -> float:
    """Encodes a span that is found by the times in the file."""
    with _Source(path) as source, _output(target, "mp4") as output:
        (first, first_s), later = source.shown_from(start_s, end_s)
        begin_s = first_s if start_s - first_s <= EARLY_S else start_s
        turn, is_mirrored = orientation(first)
        aspect = source.stream.sample_aspect_ratio or Fraction(1)
        writer = _FrameWriter(output, first, source.rate, aspect, turn, is_mirrored=is_mirrored)
        audio = source.add_audio(output)
        writer.write(first, 0.0)
        for item, time_s in later:
            if isinstance(item, av.VideoFrame):
                if time_s < end_s - TIME_TOLERANCE_S:
                    writer.write(item, time_s - begin_s)
            elif audio is not None and begin_s <= time_s < end_s:
                source.mux(output, audio, item, begin_s)
        writer.close()
    return max(0.0, begin_s)


def _encode_read(path: Path, start_s: float, end_s: float, target: Path) -> float:
    """Encodes a span of a video that is read from its beginning, as it was tagged."""
    facts = probe(path)
    reader = PyAVReader(path, facts, facts.width, facts.height)
    with contextlib.closing(reader), _output(target, "mp4") as output:
        writer, begin_s = None, start_s
        for found in reader.frames(lambda shown_until_s: shown_until_s > start_s + TIME_TOLERANCE_S):
            if isinstance(found, Gap) or found.end_s <= start_s + TIME_TOLERANCE_S:
                continue
            if found.start_s >= end_s - TIME_TOLERANCE_S:
                break
            frame = av.VideoFrame.from_ndarray(found.pixels, format="rgb24")
            if writer is None:
                begin_s = found.start_s if start_s - found.start_s <= EARLY_S else start_s
                aspect = Fraction(facts.pixel_aspect).limit_denominator(1000)
                writer = _FrameWriter(output, frame, Fraction(facts.fps or 25).limit_denominator(1001), aspect)
            writer.write(frame, max(0.0, found.start_s - begin_s))
        if writer is None:
            raise VideoError("damaged", f"{path} has no frame at {start_s:.1f} s")
        writer.close()
    return begin_s


@contextlib.contextmanager
def _errors_of(path: Path, target: Path) -> Iterator[None]:
    """Turns errors of FFmpeg and of reading into VideoError. That of a full disk stays an OSError, with the target."""
    try:
        yield
    except (FFmpegError, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno in FULL:
            raise OSError(error.errno, os.strerror(error.errno), str(target)) from error
        raise VideoError("damaged", f"{path} cannot be cut ({ffmpeg_reason(error)})") from error


@contextlib.contextmanager
def _output(target: Path, ending: str) -> Iterator["OutputContainer"]:
    with av.open(str(target), "w", format=FORMATS.get(ending, ending)) as output:
        yield output


class _Source:
    """An open video. ``stream`` is its video, ``audio`` its first audio stream, or None."""

    def __init__(self, path: Path):
        self._path = path
        self._open()
        self._origin_s = self._decoding_origin_s = 0.0
        self._read_until_s = 0.0
        first = next(self._container.demux(self.stream), None)
        self._decoding_origin_s = float((first.dts or 0) * first.time_base) if first is not None else 0.0
        self._seek(0.0, None)
        frame = next(self._container.decode(self.stream), None)
        if frame is None:
            raise VideoError("damaged", f"{path} has no frame that can be decoded")
        self._origin_s = self._frame_s(frame, None)

    def _open(self) -> None:
        self._container, self.stream, _ = open_container(self._path)
        # AVI stores no presentation times, and FFmpeg's computed times for B-frames are out of order.
        self._is_avi = self._container.format.name == "avi"
        self.audio = next(iter(self._container.streams.audio), None)

    @property
    def rate(self) -> Fraction:
        """Frames per second, on average."""
        return self.stream.average_rate or Fraction(25)

    def __enter__(self) -> "_Source":
        return self

    def __exit__(self, *error: object) -> None:
        self._container.close()

    def _frame_s(self, frame: "av.VideoFrame", before_s: float | None) -> float:
        """Returns the start of a frame. ``before_s`` is that of the frame before it, None if there is none."""
        ticks = frame.dts if self._is_avi else frame.pts
        if ticks is not None:
            time_s = float(ticks * (frame.time_base or self.stream.time_base or Fraction(0))) - self._origin_s
            if before_s is not None and time_s <= before_s:
                raise VideoError("unsupported", f"{self._path} has a clock that stops or jumps back")
            return time_s
        if before_s is None or not self._is_avi:
            raise VideoError("unsupported", f"{self._path} stores no times of frames, so it cannot be cut")
        return before_s + float(1 / self.rate)

    def packet_s(self, packet: "av.Packet") -> float:
        """Returns the start of a packet of video or audio."""
        if packet.stream_index != self.stream.index or self._is_avi:
            return self._decoded_s(packet)
        if packet.pts is None:
            raise VideoError(
                "unsupported", f"{self._path} stores no times of frames, so its packets cannot be copied; use --exact"
            )
        return float(packet.pts * packet.time_base) - self._origin_s

    def _decoded_s(self, packet: "av.Packet") -> float:
        """Returns the time at which a packet is decoded."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        origin_s = self._decoding_origin_s if self._is_avi else self._origin_s
        return float((ticks or 0) * packet.time_base) - origin_s

    def add_audio(self, output: "OutputContainer") -> "Stream | None":
        """Adds a copy of the audio stream to ``output``; None when there is none, or the format does not take it."""
        if self.audio is None:
            return None
        try:
            return output.add_stream_from_template(self.audio)
        except (FFmpegError, ValueError):
            return None

    def mux(self, output: "OutputContainer", stream: "Stream", packet: "av.Packet", begin_s: float) -> None:
        """Writes a packet, whose times become seconds from ``begin_s``."""
        shift = round((begin_s + (self._decoding_origin_s if self._is_avi else self._origin_s)) / packet.time_base)
        if packet.dts is not None:
            packet.dts -= shift
        if self._is_avi:
            packet.pts = packet.dts
        elif packet.pts is not None:
            packet.pts -= shift
        packet.stream = stream
        output.mux(packet)

    def key_before(self, start_s: float) -> tuple[float, float | None]:
        """Returns the time of the last key frame at or before ``start_s``, and the SEEK_BACK_S that finds it."""
        for back_s in SEEK_BACK_S:
            key_s = None
            for packet in self.packets(start_s, back_s, start_s + 2 * TIME_TOLERANCE_S):
                if packet.stream_index == self.stream.index and packet.is_keyframe:
                    time_s = self.packet_s(packet)
                    if time_s <= start_s + TIME_TOLERANCE_S:
                        key_s = time_s
            self._check_end(start_s)
            if key_s is not None:
                return key_s, back_s
        raise VideoError("damaged", f"{self._path} has no key frame at or before {start_s:.1f} s")

    def shown_from(
        self, start_s: float, end_s: float
    ) -> "tuple[tuple[av.VideoFrame, float], Iterator[tuple[Any, float]]]":
        """Returns the frame that is shown at ``start_s``, and an iterator over later frames and packets of audio.

        Each comes with its start.
        """
        for back_s in SEEK_BACK_S:
            items = self._decoded(start_s, back_s, end_s)
            shown: tuple[av.VideoFrame, float] | None = None
            later: list[tuple[Any, float]] = []
            # Without the frames before them, frames after a seek may be undecodable.
            with contextlib.suppress(*((FFmpegError,) if back_s is not None else ())):
                for item, time_s in items:
                    if isinstance(item, av.VideoFrame) and time_s <= start_s + TIME_TOLERANCE_S:
                        shown, later = (item, time_s), []
                        continue
                    later.append((item, time_s))
                    if isinstance(item, av.VideoFrame):
                        break
                self._check_end(start_s)
                if shown is not None:
                    return shown, itertools.chain(later, items)
        raise VideoError("damaged", f"{self._path} has no frame at {start_s:.1f} s")

    def packets(self, start_s: float, back_s: float | None, end_s: float) -> "Iterator[av.Packet]":
        """Yields packets of video and audio from ``back_s`` before ``start_s`` until both have reached ``end_s``.

        A packet of video counts as reaching ``end_s`` when it is decoded then. Packets that are shown later and decoded
        earlier are yielded, because others may refer to them.
        """
        self._seek(start_s, back_s)
        if self._is_avi:
            end_s += AVI_REORDER_FRAMES * float(1 / self.rate)
        reached = {self.stream.index: False}
        if self.audio is not None:
            reached[self.audio.index] = False
        for packet in self._container.demux([self.stream, self.audio] if self.audio else [self.stream]):
            if not packet.size:
                continue
            decoded_s = self._decoded_s(packet)
            if packet.stream_index == self.stream.index:
                length_s = float((packet.duration or 0) * packet.time_base) or float(1 / self.rate)
                shown_s = decoded_s if self._is_avi or packet.pts is None else self.packet_s(packet)
                self._read_until_s = max(self._read_until_s, shown_s + length_s)
            reached[packet.stream_index] = reached[packet.stream_index] or decoded_s >= end_s - TIME_TOLERANCE_S
            if all(reached.values()) or (reached[self.stream.index] and decoded_s >= end_s + AUDIO_LAG_S):
                return
            if not reached[packet.stream_index]:
                yield packet

    def _decoded(self, start_s: float, back_s: float | None, end_s: float) -> Iterator[tuple[Any, float]]:
        """Yields the frames and the packets of audio of ``packets``, each with its start."""
        before_s = None
        for packet in itertools.chain(self.packets(start_s, back_s, end_s), (None,)):
            if packet is not None and packet.stream_index != self.stream.index:
                yield packet, self.packet_s(packet)
                continue
            for frame in self.stream.decode(packet):
                before_s = self._frame_s(frame, before_s)
                yield frame, before_s

    def _check_end(self, start_s: float) -> None:
        """Raises VideoError when the packets that were read end before ``start_s``."""
        if start_s > self._read_until_s + END_S:
            raise VideoError(
                "damaged", f"{self._path} has no frame at {start_s:.1f} s; it ends at {self._read_until_s:.1f} s"
            )

    def _seek(self, start_s: float, back_s: float | None) -> None:
        if back_s is not None:
            origin_s = self._decoding_origin_s if self._is_avi else self._origin_s
            ticks = round((max(0.0, start_s - back_s) + origin_s) / (self.stream.time_base or Fraction(1)))
            with contextlib.suppress(FFmpegError):
                self._container.seek(ticks, stream=self.stream)
                return
        # Some formats cannot be searched.
        self._container.close()
        self._open()


class _FrameWriter:
    """Encodes frames of one size and format as H.264.

    They are first mirrored left to right if they are ``is_mirrored``, then turned clockwise by ``turn`` degrees.
    ``aspect`` is the width of a pixel of theirs over its height.
    """

    def __init__(
        self,
        output: "OutputContainer",
        first: "av.VideoFrame",
        rate: Fraction,
        aspect: Fraction,
        turn: int = 0,
        *,
        is_mirrored: bool = False,
    ):
        self._output = output
        self._time_base = Fraction(1, 90_000)
        filters = ["hflip"] * is_mirrored + TURNS.get(turn, [])
        is_lying = turn in (90, 270)
        width, height = (first.height, first.width) if is_lying else (first.width, first.height)
        # H.264 with halved colour planes has even sizes only.
        pixels = "yuv444p" if width % 2 or height % 2 else "yuv420p"
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=self._time_base
        )
        nodes = [source]
        for text in (*filters, f"format={pixels}"):
            name, _, arguments = text.partition("=")
            nodes.append(self._graph.add(name, arguments))
        self._graph.link_nodes(*nodes, self._graph.add("buffersink")).configure()
        self._encoder = output.add_stream("libx264", rate=rate, options=EXACT_OPTIONS)
        self._encoder.width, self._encoder.height, self._encoder.pix_fmt = width, height, pixels
        self._encoder.codec_context.sample_aspect_ratio = 1 / aspect if is_lying else aspect
        self._encoder.codec_context.time_base = self._time_base
        self._is_open = False

    def write(self, frame: "av.VideoFrame", time_s: float) -> None:
        """Encodes a frame that is shown from ``time_s`` on."""
        frame.pts, frame.time_base = round(time_s / self._time_base), self._time_base
        self._graph.vpush(frame)
        upright = self._graph.vpull()
        if not self._is_open:
            context = self._encoder.codec_context
            context.color_range, context.colorspace = upright.color_range, upright.colorspace
            context.color_primaries, context.color_trc = upright.color_primaries, upright.color_trc
            self._is_open = True
        # The encoder chooses the key frames.
        upright.pict_type = av.video.frame.PictureType.NONE
        self._output.mux(self._encoder.encode(upright))

    def close(self) -> None:
        """Writes the frames that the encoder has held back."""
        self._output.mux(self._encoder.encode(None))
