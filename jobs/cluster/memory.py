"""The malloc settings that make this process keep freed memory."""

import contextlib
import ctypes
import sys

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
"""Parameters of mallopt(3), from malloc.h of glibc."""

INT_MAX = 2**31 - 1
"""The largest int of C."""

TOP_PAD_BYTES = 32 * 2**20
"""Bytes that malloc takes from the system at a time in addition to those that it needs."""


def keep_freed_memory() -> None:
    """Makes the main thread keep memory that it frees, for its next allocations. Has an effect only with glibc.

    A network allocates megabytes for each of its layers and frees them a moment later. Returning them to the system
    each time costs up to a quarter of the time, because the system clears every page before it hands it out again.
    glibc returns every mmapped block to the system. Its threshold for mmap is at most 32 MB and the I3D's first layers
    are larger, so mmap is turned off. For other threads glibc keeps 64 MB at most, whatever the settings, unless the
    process was started with the variables of ``jobs.cluster.cpu_environment``.
    """
    if not sys.platform.startswith("linux"):
        return
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, INT_MAX)
        mallopt(M_TOP_PAD, TOP_PAD_BYTES)
