"""Memory shared by a decoder process and its parent: a progress counter, and a few buffers for the clips of a span.

The child writes the clips of a span to a buffer, and the parent returns them as an array in the same memory. Nothing is
copied, so isolation is cheap (see tests/benchmarks/isolation.py). A buffer is used again when its clips are no longer
referenced. If the caller keeps so many clips that no buffer is free, it gets copies.

Both processes map the memory. If the child could shrink the file, the parent would be killed by SIGBUS. So the file is
sealed against shrinking on Linux, the only system that supports this.
"""

import fcntl
import math
import mmap
import os
import sys
import tempfile
import weakref
from typing import IO

import numpy as np

COUNT_BYTES = 8

CLIP_BUFFERS = 4
"""Number of buffers: one that the child writes to, one in use, one that is about to be released, and one spare."""


def anonymous_file() -> IO[bytes]:
    """Creates an empty file without a name, in memory on Linux. It disappears when it is closed."""
    if sys.platform == "linux":
        return open(os.memfd_create("vtag", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", buffering=0)  # noqa: PTH123
    return tempfile.TemporaryFile(buffering=0)


def grow_only_file(size: int = 0) -> IO[bytes]:
    """Creates an anonymous file of ``size`` zero bytes. On Linux it can grow but not shrink."""
    file = anonymous_file()
    file.truncate(size)
    if sys.platform == "linux":
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return file


class ProgressCounter:
    """The child's side of the progress counter. Advancing it needs no system call."""

    def __init__(self, memory: int):
        self._count = memoryview(mmap.mmap(memory, COUNT_BYTES)).cast("Q")

    def advance(self) -> None:
        """Counts another packet or frame."""
        self._count[0] += 1


def progress_count(memory: int) -> bytes:
    """Reads the progress counter in the parent. The value changes when a packet is read or a frame is examined."""
    return os.pread(memory, COUNT_BYTES, 0)


class ClipBuffer:
    """A buffer for clips, as seen from the child or the parent."""

    def __init__(self, memory: int):
        self._memory = memory
        self._map: mmap.mmap | None = None
        self._lent: weakref.ref[np.ndarray] | None = None

    def make_room(self, size: int) -> None:
        """Grows the buffer to ``size`` bytes if it is smaller. Only for the parent."""
        if os.fstat(self._memory).st_size < size:
            os.ftruncate(self._memory, size)

    def clips(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the memory as a uint8 array of ``shape``. The buffer must be large enough."""
        size = math.prod(shape)
        if size == 0:
            return np.empty(shape, np.uint8)
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._memory, size)
        return np.frombuffer(self._map, np.uint8, size).reshape(shape)

    def lend(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns the same array. ``is_free`` is false until the array and all of its views are gone."""
        clips = self.clips(shape)
        # All views, including this one, refer to the base array.
        if isinstance(clips.base, np.ndarray):
            self._lent = weakref.ref(clips.base)
        return clips

    @property
    def is_free(self) -> bool:
        """Whether no lent clips are in use."""
        return self._lent is None or self._lent() is None
