"""The memory that a decoder process and its parent share: a count of frames, and a few places for the clips of a span.

The child writes the clips of a span to the place that it was given, and the parent hands them on where they lie. So
nothing is copied, which is what keeps isolation cheap (see tests/benchmarks/isolation.py). A place is given to the
child again when nobody has the clips any more; whoever keeps so many that no place is left gets copies.

Both sides map the memory. One that is cut short by the child would kill the parent (SIGBUS), so it is sealed against
that where the system can do it, which is Linux.
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

PLACES = 4
"""One that the child writes to, one that is in use, one that its user has yet to let go of, and one to spare."""


def anonymous_file() -> IO[bytes]:
    """An empty file without a name, in memory where the system can do that. It is gone once it is closed."""
    if sys.platform == "linux":
        return open(os.memfd_create("vtag", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING), "r+b", buffering=0)  # noqa: PTH123
    return tempfile.TemporaryFile(buffering=0)


def growing_file(size: int = 0) -> IO[bytes]:
    """The same with ``size`` zero bytes, and one that can only grow."""
    file = anonymous_file()
    file.truncate(size)
    if sys.platform == "linux":
        fcntl.fcntl(file, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return file


class FrameCounter:
    """The child's end of the frame count: advancing it costs no system call."""

    def __init__(self, memory: int):
        self._count = memoryview(mmap.mmap(memory, COUNT_BYTES)).cast("Q")

    def advance(self) -> None:
        """Counts another frame."""
        self._count[0] += 1


def frames_decoded(memory: int) -> bytes:
    """The parent's end of the frame count: differs from the last time when frames have been decoded since."""
    return os.pread(memory, COUNT_BYTES, 0)


class Place:
    """Either side's end of one of the places for clips."""

    def __init__(self, memory: int):
        self._memory = memory
        self._map: mmap.mmap | None = None
        self._lent: weakref.ref[np.ndarray] | None = None

    def make_room(self, size: int) -> None:
        """Gives the place ``size`` bytes if it has fewer. Only for the parent."""
        if os.fstat(self._memory).st_size < size:
            os.ftruncate(self._memory, size)

    def clips(self, shape: tuple[int, ...]) -> np.ndarray:
        """The memory itself, ``shape`` uint8. There must be room for it."""
        size = math.prod(shape)
        if size == 0:
            return np.empty(shape, np.uint8)
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._memory, size)
        return np.frombuffer(self._map, np.uint8, size).reshape(shape)

    def lend(self, shape: tuple[int, ...]) -> np.ndarray:
        """The same, and the place ``is_free`` again when neither the array nor any view of it is left."""
        clips = self.clips(shape)
        # All views, this one included, refer to the array that was made first.
        if isinstance(clips.base, np.ndarray):
            self._lent = weakref.ref(clips.base)
        return clips

    @property
    def is_free(self) -> bool:
        """Whether no clips that lie here are in use."""
        return self._lent is None or self._lent() is None
