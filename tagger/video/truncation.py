"""Whether a video file ends before the end that it declares, told from its header and its index."""

import struct
from collections.abc import Iterable
from typing import Protocol

EBML_HEADER, EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF_HEADER = bytes.fromhex("3026B2758E66CF11A6D900AA0062CE6C")
ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
FLV_SIZE = b"\0\x08filesize\0"

RIFF_SLACK = 1024
"""Bytes that the outermost size of AVI may promise too much: some writers count their own header twice."""

RIFF_UNKNOWN = 0xFFFFFFFF
"""The size that FFmpeg writes in advance, and that stays where it cannot go back: in a pipe."""


class IndexEntry(Protocol):
    """A frame in the index of a file: the bytes ``pos`` to ``pos + size`` hold it."""

    pos: int
    size: int


def is_truncated(head: bytes, index_tail: Iterable[IndexEntry], size: int) -> bool:
    """Whether a file of ``size`` bytes is cut off, as far as its first bytes and the end of its index tell.

    The index tells for MP4 (ISO/IEC 14496-12), the header for Matroska and WebM (RFC 9559), AVI, ASF and most FLV.
    MPEG streams do not say how long they are.
    """
    end = _declared_end(head)
    return (end is not None and end > size) or any(entry.pos + entry.size > size for entry in index_tail)


def _declared_end(head: bytes) -> int | None:
    """The position at which the file ends, or at least the last frame in it; None when the header does not tell."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi_end(head)
    if head[:4] == EBML_HEADER:
        return _ebml_end(head)
    if head.startswith(ASF_HEADER):
        return _asf_end(head)
    if head[:4] == b"FLV\x01":
        at = head.find(FLV_SIZE) + len(FLV_SIZE)
        return _number(">d", head, at) if at >= len(FLV_SIZE) else None
    return None


def _avi_end(head: bytes) -> int | None:
    """The end of the list of frames, where its start is in ``head``, or about that of the whole."""
    movi = head.find(b"movi", 12)
    is_list = movi >= 8 and head[movi - 8 : movi - 4] == b"LIST"
    # Where the size is and what it counts from, with what it may promise too much.
    sizes = [(4, 8 - RIFF_SLACK), (movi - 4, movi)] if is_list else [(4, 8 - RIFF_SLACK)]
    ends = [start + size for at, start in sizes if (size := _number("<I", head, at)) != RIFF_UNKNOWN]
    return max(ends, default=None)


def _asf_end(head: bytes) -> int | None:
    """The file size among the file properties (Advanced Systems Format, 3.2); a broadcast does not know it."""
    at = head.find(ASF_PROPERTIES)
    is_broadcast = at < 0 or _number("<I", head, at + 88) & 1
    return None if is_broadcast else _number("<Q", head, at + 40)


def _ebml_end(head: bytes) -> int | None:
    header_size, at = _ebml_size(head, 4)
    segment = at + (header_size or 0)
    if head[segment : segment + 4] != EBML_SEGMENT:
        return None
    segment_size, at = _ebml_size(head, segment + 4)
    return None if segment_size is None else at + segment_size


def _ebml_size(head: bytes, at: int) -> tuple[int | None, int]:
    """The variable-length size (RFC 8794) at ``at``, None when it is unknown, and the position after it."""
    if at >= len(head) or head[at] == 0:
        return None, at
    length = 9 - head[at].bit_length()
    all_ones = (1 << 7 * length) - 1
    value = int.from_bytes(head[at : at + length], "big") & all_ones
    return (None if value == all_ones else value), at + length


def _number(form: str, head: bytes, at: int) -> int:
    """A number of this ``struct`` format; 0 where ``head`` ends before it, or where it is none."""
    if at + struct.calcsize(form) > len(head):
        return 0
    (value,) = struct.unpack_from(form, head, at)
    return int(value) if 0 <= value < 2**63 else 0
