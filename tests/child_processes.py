"""Finds processes that the tests have started."""

import contextlib
from collections.abc import Iterator

import psutil


def children_with(part: str) -> Iterator[psutil.Process]:
    """Yields the living descendants of this process with ``part`` in their command line."""
    for process in psutil.Process().children(recursive=True):
        # A process may end while its command line is read, and a zombie has none.
        with contextlib.suppress(psutil.NoSuchProcess):
            if part in " ".join(process.cmdline()):
                yield process
