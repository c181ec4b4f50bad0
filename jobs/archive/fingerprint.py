"""A short fingerprint of a video's content, which tells a changed video from one that was only touched.

Scheme ``s1``: the SHA-256, in hexadecimal, of the size in bytes as 8 bytes, least significant first, followed by the
whole content when that is 64 MiB at most. Of a larger file, 64 blocks of 1 MiB follow instead, block ``i`` beginning at
byte ``i * (size - 1 MiB) // 63``: the first block begins with the file, the last one ends with it, the others lie
evenly between. So a fingerprint reads 64 MiB at most. It misses a change of a larger file that keeps the size and
leaves every block as it was. No new recording and no new encoding does that.
"""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from jobs.storage.address import is_address
from jobs.storage.location import locate
from tagger.errors import VtagError

SCHEME = "s1:"
"""Begins every fingerprint. Fingerprints of different schemes cannot be compared."""

CONTENT = pa.binary(16)
"""The type of a column of contents: the first 16 bytes of the SHA-256 of each fingerprint. A string takes ten times as
much memory."""

BLOCK_BYTES = 2**20
BLOCKS = 64


class Readable(Protocol):
    """A seekable binary file, as Python and pyarrow open them: ``read`` gives less only at the end."""

    def seek(self, position: int, /) -> object:
        """Goes to a position in bytes from the start."""

    def read(self, count: int, /) -> bytes:
        """The next ``count`` bytes."""


def fingerprint(path: str | Path) -> str:
    """The fingerprint of a local file. Raises OSError for one that cannot be read."""
    # Without O_NONBLOCK, opening a pipe that has replaced the file would wait for a writer.
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        return fingerprint_of(file, os.fstat(file.fileno()).st_size)


def fingerprint_of(file: Readable, size: int) -> str:
    """The fingerprint of an open file of ``size`` bytes. Raises OSError when it cannot be read, or is shorter."""
    digest = hashlib.sha256(size.to_bytes(8, "little"))
    for start, count in _blocks(size):
        file.seek(start)
        block = file.read(count)
        if len(block) != count:
            raise OSError(f"the file ends within its {size} bytes")
        digest.update(block)
    return SCHEME + digest.hexdigest()


def _blocks(size: int) -> list[tuple[int, int]]:
    """Returns the starts and lengths of the blocks that are hashed."""
    if size <= BLOCKS * BLOCK_BYTES:
        return [(start, min(BLOCK_BYTES, size - start)) for start in range(0, size, BLOCK_BYTES)]
    return [(i * (size - BLOCK_BYTES) // (BLOCKS - 1), BLOCK_BYTES) for i in range(BLOCKS)]


def current_fingerprint(path: str) -> str | None:
    """Returns the fingerprint of the file at a path or address now; None when it cannot be read."""
    try:
        if not is_address(path):
            return fingerprint(path)
        location = locate(path)
        with location.filesystem.open_input_file(location.path) as file:
            return fingerprint_of(file, file.size())
    except (OSError, VtagError):
        return None


def content_of(fingerprint: str) -> bytes:
    """Returns a fingerprint as a value of CONTENT."""
    return hashlib.sha256(fingerprint.encode()).digest()[: CONTENT.byte_width]


def contents_of(fingerprints: Iterable[str | None]) -> pa.Array:
    """Returns fingerprints as a column of CONTENT. None becomes null."""
    return pa.array([None if one is None else content_of(one) for one in fingerprints], CONTENT)
