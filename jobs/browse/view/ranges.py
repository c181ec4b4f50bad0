"""Byte ranges of requests (RFC 9110, section 14), by which a browser reads the part of a video that it plays."""

import re

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


class UnsatisfiableError(ValueError):
    """A range that begins after the end of the file."""


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Returns the first byte of a range and the byte after its last; None for the whole file of ``size`` bytes.

    A header that is no single range of bytes counts as none, as RFC 9110 allows. Raises UnsatisfiableError.
    """
    match = _RANGE.fullmatch((header or "").replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        begin, end = max(0, size - int(last)), size
    else:
        begin, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begin:
            return None
    if begin >= size or begin == end:
        raise UnsatisfiableError(header)
    return begin, end
