"""How this process handles memory that it has freed."""

import contextlib
import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
"""Parameters of mallopt(3), from malloc.h of glibc."""

LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""glibc takes no larger one."""


def keep_freed_memory() -> None:
    """Lets the main thread keep the memory that it frees, for what it allocates next, where glibc is the C library.

    A network allocates megabytes for each of its layers and frees them a moment later. Given back to the system each
    time, they cost up to a quarter of the time: the system clears every page before it hands it out again. Of other
    threads glibc keeps no more than 64 MB, whatever it is told.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        mallopt(M_TRIM_THRESHOLD, 2**30)
        mallopt(M_TOP_PAD, LARGEST_MMAP_THRESHOLD)
