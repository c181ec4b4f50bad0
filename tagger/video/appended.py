"""Finds videos that were appended to each other in one file (``cat a.mp4 b.mp4``), of which FFmpeg reads the first.

FFmpeg reads AVI, MPEG streams and Ogg to their end when they are appended, and Matroska up to the end of the second.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path

import av

from tagger.video.container import open_file
from tagger.video.truncation import ASF_HEADER, EBML_HEADER
from tagger.video.watched_file import WatchedFile

HEADERS = {
    "flv": re.compile(rb"FLV\x01[\0-\x07]\0\0\0\x09"),
    "asf": re.compile(re.escape(ASF_HEADER)),
    "matroska,webm": re.compile(re.escape(EBML_HEADER) + rb".{1,60}\x42\x82.(matroska|webm)", re.DOTALL),
}
"""The first bytes of a file in formats whose next video is searched for, after the last packet of the one before."""

SEARCH_BYTES, HEADER_BYTES = 2**20, 100
"""Bytes that are searched at once, and the length of the longest header."""


def next_video(
    path: Path,
    container: "av.container.InputContainer",
    start: int,
    last_packet: int,
    on_read: Callable[[], None] = lambda: None,
) -> int | None:
    """Returns the byte at which the next video of a file begins; None if the one that was read is the last.

    ``start`` is the byte at which the video in ``container`` begins, ``last_packet`` the position of its last packet,
    counted from ``start``. ``on_read`` is called for each stretch of the file that is read.
    """
    if container.format.name.startswith("mov"):
        end = start + container.size
        return end if end < path.stat().st_size else None
    header = HEADERS.get(container.format.name)
    if header is None:
        return None
    descriptor, _ = open_file(path)
    try:
        file = WatchedFile(path, descriptor)
    finally:
        os.close(descriptor)
    at = file.seek(start + last_packet + 1)
    before = b""
    while data := file.read(SEARCH_BYTES):
        on_read()
        found = header.search(before + data)
        if found:
            return at - len(before) + found.start()
        at, before = at + len(data), (before + data)[-HEADER_BYTES:]
    return None
