"""Detects truncated video files from their header and index, and MP4 files to which another one is appended."""

import struct
from collections.abc import Iterable
from typing import Protocol

EBML_HEADER, EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
ASF_HEADER = bytes.fromhex("3026B2758E66CF11A6D900AA0062CE6C")
ASF_PROPERTIES = bytes.fromhex("A1DCAB8C47A9CF118EE400C00C205365")
FLV_SIZE = b"\0\x08filesize\0"

RIFF_SLACK = 1024
"""Bytes by which the size of the outermost AVI chunk may be too large: some writers count its header twice."""

RIFF_UNKNOWN = 0xFFFFFFFF
"""The preliminary size that FFmpeg writes. It remains when FFmpeg cannot seek back, as in a pipe."""


MAX_BOXES = 10**6
"""Boxes of an MP4 that are looked at: half a million fragments."""


class ByteFile(Protocol):
    """A file that can be read at any position."""

    def seek(self, offset: int) -> int: ...  # noqa: D102

    def read(self, count: int) -> bytes: ...  # noqa: D102


class IndexEntry(Protocol):
    """A frame in the index of a file. It is stored in the bytes ``pos`` to ``pos + size``."""

    pos: int
    size: int


def is_truncated(head: bytes, index_tail: Iterable[IndexEntry], size: int) -> bool:
    """Checks whether a file of ``size`` bytes is cut off, from its first bytes and the end of its index.

    The index is used for MP4 (ISO/IEC 14496-12), the header for Matroska and WebM (RFC 9559), AVI, ASF and most FLV.
    MPEG streams do not declare their length.
    """
    end = _declared_end(head)
    return (end is not None and end > size) or any(entry.pos + entry.size > size for entry in index_tail)


def mp4_end(file: "ByteFile") -> int | None:
    """Returns the byte at which an MP4 ends and another one begins; None without another one.

    ``file`` begins with a file type box (ISO/IEC 14496-12, 4.3). A second one behind the movie box begins a new file.
    """
    at, has_movie = 0, False
    for _ in range(MAX_BOXES):
        file.seek(at)
        header = file.read(16)
        if len(header) < 8:
            return None
        if header[4:8] == b"ftyp" and has_movie:
            return at
        has_movie = has_movie or header[4:8] == b"moov"
        size = _read_number(">I", header, 0)
        size = _read_number(">Q", header, 8) if size == 1 else size
        if size < 8:
            return None  # The last box, whose size is 0, or damage.
        at += size
    return None


def _declared_end(head: bytes) -> int | None:
    """Returns the declared end of the file, or of its last frame; None if the header does not declare it."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return _avi_end(head)
    if head[:4] == EBML_HEADER:
        return _ebml_end(head)
    if head.startswith(ASF_HEADER):
        return _asf_end(head)
    if head[:4] == b"FLV\x01":
        at = head.find(FLV_SIZE) + len(FLV_SIZE)
        return _read_number(">d", head, at) if at >= len(FLV_SIZE) else None
    return None


def _avi_end(head: bytes) -> int | None:
    """Returns the larger of two declared ends: of the file (about) and of the list of frames, if ``head`` has them."""
    movi = head.find(b"movi", 12)
    is_list = movi >= 8 and head[movi - 8 : movi - 4] == b"LIST"
    # The position of each size field, and the position from which the size counts (less RIFF_SLACK for the file size).
    sizes = [(4, 8 - RIFF_SLACK), (movi - 4, movi)] if is_list else [(4, 8 - RIFF_SLACK)]
    ends = [start + size for at, start in sizes if (size := _read_number("<I", head, at)) != RIFF_UNKNOWN]
    return max(ends, default=None)


def _asf_end(head: bytes) -> int | None:
    """Returns the file size in the file properties (Advanced Systems Format, 3.2); None for a broadcast."""
    at = head.find(ASF_PROPERTIES)
    is_broadcast = at < 0 or _read_number("<I", head, at + 88) & 1
    return None if is_broadcast else _read_number("<Q", head, at + 40)


def _ebml_end(head: bytes) -> int | None:
    header_size, at = _ebml_size(head, 4)
    segment = at + (header_size or 0)
    if head[segment : segment + 4] != EBML_SEGMENT:
        return None
    segment_size, at = _ebml_size(head, segment + 4)
    return None if segment_size is None else at + segment_size


def _ebml_size(head: bytes, at: int) -> tuple[int | None, int]:
    """Reads the variable-length size (RFC 8794) at ``at``, None if unknown. Returns it and the position after it."""
    if at >= len(head) or head[at] == 0:
        return None, at
    length = 9 - head[at].bit_length()
    all_ones = (1 << 7 * length) - 1
    value = int.from_bytes(head[at : at + length], "big") & all_ones
    return (None if value == all_ones else value), at + length


def _read_number(form: str, head: bytes, at: int) -> int:
    """Reads a number of this ``struct`` format. Returns 0 if ``head`` is too short or the number is invalid."""
    if at + struct.calcsize(form) > len(head):
        return 0
    (value,) = struct.unpack_from(form, head, at)
    return int(value) if 0 <= value < 2**63 else 0
