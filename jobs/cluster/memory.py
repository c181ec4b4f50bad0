"""How this process handles memory that it has freed."""

import contextlib
import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3), from malloc.h of glibc."""

LARGEST_INT = 2**31 - 1

TOP_PAD = 32 * 2**20
"""So much more than is needed is taken from the system at a time."""


def keep_freed_memory() -> None:
    """Lets the main thread keep the memory that it frees, for what it allocates next, where glibc is the C library.

    A network allocates megabytes for each of its layers and frees them a moment later. Given back to the system each
    time, they cost up to a quarter of the time: the system clears every page before it hands it out again. What glibc
    maps by itself always goes back, and no threshold for that may be above 32 MB, which the I3D's first layers exceed;
    so nothing is. Of other threads glibc keeps no more than 64 MB, whatever it is told.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
        mallopt(M_TOP_PAD, TOP_PAD)
