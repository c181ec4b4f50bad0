"""Signs of damage: in the packets of a video, and in FFmpeg's log."""

import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import av
import numpy as np

DAMAGE_LOG_SOURCES = frozenset({"ffv1", "gif", "hevc", "libdav1d", "matroska,webm"})
"""Parts of FFmpeg that log damage and continue, with invented pictures or missing frames.

They logged nothing after the first frame of the intact videos that were tried. The H.264 decoder is not among them: it
also logs harmless cases (a group of pictures that starts with frames of the previous one), and fails on real damage.
"""

PARAMETER_SET_CODECS = frozenset({"h264", "hevc"})
"""Codecs whose decoders take parameter sets from any packet, also from damaged data, and use them from then on."""

START_CODE_CODECS = PARAMETER_SET_CODECS | {"mpeg1video", "mpeg2video"}
"""Codecs whose parts begin with a start code (0, 0, 1) in streams, with any number of zeros before it."""

STUFFED_CODECS = frozenset({"mpeg1video", "mpeg2video"})
"""Codecs whose encoders fill up a constant bit rate with zeros behind a picture (ISO/IEC 13818-2, 5.2.3)."""

ZEROS = bytes(16)
PREFIXED_HOLE = re.compile(ZEROS)
# Without the check of the byte before, a search begins anew at each of thousands of zeros.
START_CODE_HOLE = re.compile(rb"(?<!\0)" + ZEROS + rb"\0*+[^\0\1]")
ARITHMETIC_HOLE = re.compile(bytes(64))
"""Zeros in a frame that are a hole in the file, which a decoder may take for valid data. H.264, HEVC and MPEG never
write three zeros in a row, except before a start code, or in its place, behind a unit that has a length prefix.
Arithmetic coding writes 64 zeros with a probability of 2 to the power of -512."""

ARITHMETIC_CODECS = frozenset({"vp8", "vp9", "av1", "libdav1d"})
"""Decoders of codecs whose frames are arithmetic codes for the most part."""

SLICE = re.compile(rb"\0\0\x01([\x01-\xaf])")
"""The start code of a slice of MPEG, which ends with the number of the slice's row (ISO/IEC 13818-2, 6.2)."""

JPEG_SCAN, JPEG_END = b"\xff\xda", b"\xff\xd9"
"""The markers before compressed data of a JPEG picture, and at its end (ITU-T T.81, B.1.1.3). Compressed data have
neither of them."""

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


def checked_packets(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream"
) -> "Iterator[tuple[av.Packet, bool]]":
    """Yields the packets of a stream, each with whether it is damaged or follows lost packets."""
    packets = container.demux(stream)
    if container.format.name == "mpegts":
        yield from _with_gaps(packets)
        return
    is_avi, is_gif = container.format.name == "avi", container.format.name == "gif"
    decoder = stream.codec_context
    is_mjpeg, is_mpeg = decoder.name == "mjpeg", decoder.name in STUFFED_CODECS
    index = _IndexCheck(stream)
    for packet in packets:
        is_lost = (is_avi and index.skips_a_frame(packet)) or (is_gif and _is_cut_gif(packet))
        is_lost = is_lost or (is_mjpeg and _is_cut_jpeg(packet)) or (is_mpeg and _is_cut_mpeg(packet, decoder))
        if is_avi:
            index.correct_time(packet)
        yield packet, packet.is_corrupt or is_lost


def hole_check(decoder: "av.VideoCodecContext") -> "Callable[[bytes], object]":
    """Returns a function that checks whether a packet of a stream has zeros that no good packet has."""
    if decoder.name in ARITHMETIC_CODECS:
        return ARITHMETIC_HOLE.search
    extradata = decoder.extradata or b""
    if decoder.name not in PARAMETER_SET_CODECS or extradata[:1] != b"\1":
        return _has_hole_between_start_codes if decoder.name in START_CODE_CODECS else lambda packet: False
    if decoder.name == "h264":
        return partial(_has_hole_in_unit, prefix=1 + (extradata[4:5] or b"\3")[0] % 4)
    return PREFIXED_HOLE.search


def _has_hole_between_start_codes(packet: bytes) -> bool:
    """Checks whether zeros stand before something else than a start code or the end of a packet."""
    return ZEROS in packet and START_CODE_HOLE.search(packet) is not None


def _has_hole_in_unit(packet: bytes, prefix: int) -> bool:
    """Checks whether a packet of H.264 has a hole in a unit, or in the length before one, of ``prefix`` bytes.

    Zeros behind a unit are part of it if they fill up the stream that it was copied from (ISO/IEC 14496-10, B.1). The
    decoder notices when the end of a unit is lost.
    """
    at = 0 if ZEROS in packet else len(packet)
    while at < len(packet):
        begin = at + prefix
        at = begin + int.from_bytes(packet[at:begin], "big")
        unit = packet[begin:at]
        if unit[:1] in (b"", b"\0") or ZEROS in unit.rstrip(b"\0"):
            return True
    return False


class ErrorLog:
    """Watches FFmpeg's log for errors that are a sign of damage."""

    def __init__(self) -> None:
        if av.logging.get_level() is None:
            # FFmpeg counts errors at any log level. At this level none is printed.
            av.logging.set_level(av.logging.PANIC)
        self._count = av.logging.get_last_error()[0]

    def has_new_errors(self) -> bool:
        """Whether errors were logged since the last call."""
        count, _ = av.logging.get_last_error()
        is_new, self._count = count > self._count, count
        return is_new

    def has_new_damage(self) -> bool:
        """Whether errors were logged since the last call, and the newest one is a sign of damage."""
        _, last = av.logging.get_last_error()
        return self.has_new_errors() and last is not None and last[1] in DAMAGE_LOG_SOURCES


def _is_cut_gif(packet: "av.Packet") -> bool:
    """Checks whether the terminator of a GIF picture is missing. The decoder may accept such a picture as complete."""
    return packet.size > 0 and bytes(packet)[-1:] not in (b"\0", b";")


def _is_cut_jpeg(packet: "av.Packet") -> bool:
    """Checks whether a JPEG picture ends in a hole. The decoder takes zeros for valid data.

    Cameras may add zeros or data of their own, but behind the marker of the picture's end.
    """
    data = bytes(packet)
    return data.endswith(ZEROS) and data.rfind(JPEG_END) <= data.rfind(JPEG_SCAN)


def _is_cut_mpeg(packet: "av.Packet", decoder: "av.VideoCodecContext") -> bool:
    """Checks whether an MPEG picture ends in zeros in the place of its last slices."""
    data = bytes(packet)
    if not data.endswith(ZEROS):
        return False
    slices = [found[0] for found in SLICE.findall(data)]
    if decoder.name == "mpeg1video" and (len(slices) == 1 or np.any(np.diff(slices) > 1)):
        return False  # MPEG-1 may have slices of several rows. The row where the last one ends is not known.
    # A packet has a frame or a field. Fields of an interlaced video have whole rows.
    field_rows = (decoder.height + 31) // 32
    return not slices or slices[-1] not in {(decoder.height + 15) // 16, 2 * field_rows, field_rows}


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
