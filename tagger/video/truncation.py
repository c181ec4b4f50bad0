"""Whether a video file ends before the end that it declares, told from its header and its index."""

from collections.abc import Iterable
from typing import Protocol

EBML_HEADER, EBML_SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"


HEADER_SLACK = 1024
"""Bytes that a header may promise too much: some AVI writers count their own header twice. No frame lies in them."""


class IndexEntry(Protocol):
    """A frame in the index of a file: the bytes ``pos`` to ``pos + size`` hold it."""

    pos: int
    size: int


def is_truncated(head: bytes, index_tail: Iterable[IndexEntry], size: int) -> bool:
    """Whether a file of ``size`` bytes is cut off, as far as its first bytes and the end of its index tell.

    The index tells for MP4 (ISO/IEC 14496-12), the header for Matroska and WebM (RFC 9559) and AVI. MPEG streams do not
    say how long they are.
    """
    end = _declared_end(head)
    return (end is not None and end > size + HEADER_SLACK) or any(entry.pos + entry.size > size for entry in index_tail)


def _declared_end(head: bytes) -> int | None:
    """The position at which the outermost element ends; None when the header does not tell."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:4] == EBML_HEADER:
        header_size, at = _ebml_size(head, 4)
        segment = at + (header_size or 0)
        if head[segment : segment + 4] == EBML_SEGMENT:
            segment_size, at = _ebml_size(head, segment + 4)
            return None if segment_size is None else at + segment_size
    return None


def _ebml_size(head: bytes, at: int) -> tuple[int | None, int]:
    """The variable-length size (RFC 8794) at ``at``, None when it is unknown, and the position after it."""
    if at >= len(head) or head[at] == 0:
        return None, at
    length = 9 - head[at].bit_length()
    all_ones = (1 << 7 * length) - 1
    value = int.from_bytes(head[at : at + length], "big") & all_ones
    return (None if value == all_ones else value), at + length
