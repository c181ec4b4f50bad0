"""Tells videos from other files with the same extension, by their first bytes.

``.ts`` is a transport stream or TypeScript, ``.mod`` a camcorder's file or music of a tracker, ``.dat`` anything.
"""

import os
import stat

HEAD_BYTES = 1024

TEXT_BYTES = bytes(range(32, 256)) + b"\t\n\r\f"
"""The bytes of a text in ASCII, Latin-1 or UTF-8."""

VIDEO_STARTS = (
    b"\x00\x00\x01\xba",  # MPEG program stream
    b"\x00\x00\x01\xb3",  # MPEG video
    b"\x1a\x45\xdf\xa3",  # Matroska
    b"\x30\x26\xb2\x75",  # ASF
    b"RIFF",
    b"OggS",
    b"FLV",
    b"DHAV",
)

TS_PACKET_BYTES, M2TS_TIME_BYTES = 188, 4


def is_other_file(path: str, extension: str) -> bool:
    """Checks whether a file with the extension of a video is none. A file that cannot be read is taken for a video."""
    if extension not in (".ts", ".mod", ".dat"):
        return False
    try:
        # Opening a pipe would wait for its writer.
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        try:
            if not stat.S_ISREG(os.fstat(file).st_mode):
                return False
            head = os.read(file, HEAD_BYTES)
        finally:
            os.close(file)
    except (OSError, ValueError):
        return False
    if not head:
        return False  # The job reports it as empty.
    # A .ts or a .dat is a video unless it is text. A .mod is one only if it begins like one.
    return not _is_video(head) if extension == ".mod" else not head.translate(None, TEXT_BYTES)


def _is_video(head: bytes) -> bool:
    is_transport = any(
        head[start : start + 1] == b"G" and head[start + packet : start + packet + 1] == b"G"
        for start, packet in ((0, TS_PACKET_BYTES), (M2TS_TIME_BYTES, M2TS_TIME_BYTES + TS_PACKET_BYTES))
    )
    return is_transport or head.startswith(VIDEO_STARTS) or head[4:8] == b"ftyp"
