"""Finds the packets of a video at which decoding can begin, and those that can be left out, with the same frames.

A container marks key frames, but a mark says less than that: in H.264 it may be an I-frame before frames that refer to
older ones, or a place from which the picture only becomes right step by step. So the data of each marked packet are
checked, by the syntax of its codec.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av

H264_SLICES, H264_IDR, H264_SETS = range(1, 6), 5, frozenset({7, 8})
"""Types of units in H.264: slices of a frame, those of a frame after which no frame refers to older ones, and parameter
sets (ITU-T H.264, table 7-1). Decoding could also begin at recovery points, where an open group of pictures begins, but
there FFmpeg's strict decoder reports the missing frames as damage, in half of the files that were tried."""

HEVC_SLICES, HEVC_ENTRIES, HEVC_SETS = range(32), range(16, 22), frozenset({32, 33, 34})
"""Types of units in HEVC: slices of a frame, among them those at which decoding can begin, and parameter sets (ITU-T
H.265, table 7-1)."""

HEVC_NON_REFERENCE = range(0, 15, 2)
"""Types of slices in HEVC to which no frame of the same temporal layer refers."""

INTRA_CODECS = frozenset({"dnxhd", "dvvideo", "huffyuv", "mjpeg", "png", "prores", "rawvideo", "v210"})
"""Codecs whose frames never refer to others."""

MPEG_PICTURE, MPEG_SEQUENCE, MPEG_I, MPEG_B = b"\0\0\1\0", b"\0\0\1\xb3", 1, 3
"""Start codes of a picture and of a sequence header in MPEG-1 and MPEG-2, and the types of I-pictures, and of
B-pictures, to which no picture refers (ISO/IEC 13818-2, 6.2 and 6.3.9)."""

MPEG4_PICTURE, MPEG4_I, MPEG4_B = b"\0\0\1\xb6", 0, 2
"""The start code of a picture in MPEG-4 part 2, and the types of I-pictures and B-pictures (ISO/IEC 14496-2, 6.2.5)."""

MPEG4_LAYERS = range(0x20, 0x30)
"""The numbers of start codes of the parameters of a layer in MPEG-4 part 2 (video_object_layer_start_code)."""

AV1_SEQUENCE, AV1_FRAMES = 1, frozenset({3, 6})
"""Types of units in AV1: a sequence header, and units that begin with a frame header (AV1 specification, 6.2.2)."""


@dataclass(frozen=True)
class PacketKind:
    """``can_begin``: decoding can begin at the packet, and all frames that are shown from then on are the same as in
    sequential decoding. ``is_reference``: frames of the same temporal ``layer`` may refer to the frame of the packet.
    Frames of higher layers always may."""

    can_begin: bool = False
    is_reference: bool = True
    layer: int = 0


class PacketKinds:
    """Tells the kind of each packet of a stream, in stored order.

    ``is_known``: whether the codec of ``decoder`` is one that can be checked. Otherwise decoding can begin nowhere.
    """

    def __init__(self, decoder: "av.VideoCodecContext"):
        self._codec = "av1" if decoder.name == "libdav1d" else decoder.name
        self._units = _unit_splitter(decoder) if self._codec in ("h264", "hevc") else None
        self._known_sets: set[bytes] | None = None
        self._extradata = decoder.extradata or b""
        self._changed = False
        self._has_new_header = False
        self.is_known = self._units is not None or self._codec in (*_CHECKS, *INTRA_CODECS)

    def kind_of(self, packet: "av.Packet", content: bytes) -> PacketKind:
        """Returns the kind of ``packet``, whose bytes are ``content``. Call it for every packet.

        A packet may bring another header, which is for all packets after it. From there on every packet is decoded.
        """
        if not self._has_new_header and packet.has_sidedata("new_extradata"):
            self._has_new_header = bytes(packet.get_sidedata("new_extradata")) != self._extradata
        if self._has_new_header:
            return PacketKind()
        if self._units is not None:
            units = [unit for unit in self._units(content) if len(unit) > 1]
            return self._kind_of_units(units, is_key=packet.is_keyframe)
        if self._codec in INTRA_CODECS:
            return PacketKind(packet.is_keyframe)
        if self._codec == "mpeg4":
            self._note_sets({part for part in content.split(b"\0\0\1") if part[:1] and part[0] in MPEG4_LAYERS})
            if self._changed:
                return PacketKind()
        kind = _CHECKS[self._codec](content) if self._codec in _CHECKS else PacketKind()
        return kind if packet.is_keyframe or not kind.can_begin else PacketKind()

    def _kind_of_units(self, units: list[bytes], *, is_key: bool) -> PacketKind:
        """Returns the kind of a packet of H.264 or HEVC."""
        is_h264 = self._codec == "h264"
        kinds = [unit[0] & 0x1F if is_h264 else unit[0] >> 1 & 0x3F for unit in units]
        set_kinds = H264_SETS if is_h264 else HEVC_SETS
        sets = {unit.rstrip(b"\0") for unit, kind in zip(units, kinds, strict=True) if kind in set_kinds}
        self._note_sets(sets)
        if is_h264:
            slices = [unit for unit, kind in zip(units, kinds, strict=True) if kind in H264_SLICES]
            # nal_ref_idc is 0 in all slices of a frame, or in none.
            is_reference, layer = not slices or any(unit[0] >> 5 & 3 for unit in slices), 0
            can_begin = H264_IDR in kinds
        else:
            slices = [unit for unit, kind in zip(units, kinds, strict=True) if kind in HEVC_SLICES]
            is_reference = not all(unit[0] >> 1 & 0x3F in HEVC_NON_REFERENCE for unit in slices)
            layer = (slices[0][1] & 7) - 1 if slices else 0
            can_begin = any(kind in HEVC_ENTRIES for kind in kinds)
        return PacketKind(can_begin and is_key and not self._changed, is_reference or bool(sets), layer)

    def _note_sets(self, sets: set[bytes]) -> None:
        """Notes the parameter sets of a packet, which stay valid for later packets.

        After sets that are neither in the header of the file nor in the first packet, decoding does not begin again.
        """
        if self._known_sets is None:
            self._known_sets = sets
        elif sets and not self._changed:
            self._changed = any(each not in self._known_sets and each not in self._extradata for each in sets)


def _unit_splitter(decoder: "av.VideoCodecContext") -> Callable[[bytes], Iterator[bytes]]:
    """Returns a function that splits a packet into its units, which have a length or a start code before them."""
    extradata = decoder.extradata or b""
    if extradata[:1] != b"\1":
        return _units_after_start_codes
    at = 4 if decoder.name == "h264" else 21
    prefix = 1 + (extradata[at : at + 1] or b"\3")[0] % 4
    return lambda content: _units_after_lengths(content, prefix)


def _units_after_lengths(content: bytes, prefix: int) -> Iterator[bytes]:
    at = 0
    while at < len(content):
        begin = at + prefix
        at = begin + int.from_bytes(content[at:begin], "big")
        yield content[begin:at]


def _units_after_start_codes(content: bytes) -> Iterator[bytes]:
    yield from content.split(b"\0\0\1")[1:]


def _mpeg_kind(content: bytes) -> PacketKind:
    """Decoding begins at a sequence header: it resets the matrices of the quantiser, which others may have changed."""
    at = content.find(MPEG_PICTURE)
    if at < 0 or len(content) < at + 6:
        return PacketKind()
    kind, has_sequence = content[at + 5] >> 3 & 7, MPEG_SEQUENCE in content
    return PacketKind(kind == MPEG_I and has_sequence, kind != MPEG_B or has_sequence)


def _mpeg4_kind(content: bytes) -> PacketKind:
    at = content.find(MPEG4_PICTURE)
    if at < 0 or len(content) < at + 5:
        return PacketKind()
    kind = content[at + 4] >> 6
    return PacketKind(kind == MPEG4_I, kind != MPEG4_B or at > 0)


def _vp8_kind(content: bytes) -> PacketKind:
    """The first bit is 0 in a key frame (RFC 6386, 9.1)."""
    return PacketKind(content[0] & 1 == 0)


def _vp9_kind(content: bytes) -> PacketKind:
    """The frame marker is 2; a 0 follows the profile if a frame is not only shown again, and a 0 for a key frame."""
    is_reserved_bit = content[0] >> 4 & 3 == 3
    return PacketKind(content[0] >> 6 == 2 and (content[0] >> (1 if is_reserved_bit else 2)) & 3 == 0)


def _av1_kind(content: bytes) -> PacketKind:
    """A sequence header, and a first frame header with show_existing_frame 0, frame_type 0 and show_frame 1."""
    at, has_sequence = 0, False
    while at < len(content):
        kind, has_extension, has_size = content[at] >> 3 & 15, content[at] >> 2 & 1, content[at] >> 1 & 1
        at += 1 + has_extension
        size, shift = len(content) - at, 0
        if has_size:
            size = 0
            while at < len(content):
                size |= (content[at] & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if content[at - 1] < 0x80:
                    break
        has_sequence = has_sequence or kind == AV1_SEQUENCE
        if kind in AV1_FRAMES:
            return PacketKind(has_sequence and at < len(content) and content[at] >> 4 == 0b0001)
        at += size
    return PacketKind()


_CHECKS: dict[str, Callable[[bytes], PacketKind]] = {
    "mpeg1video": _mpeg_kind,
    "mpeg2video": _mpeg_kind,
    "mpeg4": _mpeg4_kind,
    "vp8": _vp8_kind,
    "vp9": _vp9_kind,
    "av1": _av1_kind,
}
"""Functions that tell the kind of a packet, which is not empty."""

KNOWN_CODECS = frozenset({"h264", "hevc", *_CHECKS}) | INTRA_CODECS
"""Codecs of which it is known where decoding can begin."""
