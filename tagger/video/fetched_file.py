"""Files that are not on this machine as a whole: their bytes are fetched in blocks when they are read.

In the place of such a file there is an empty one of the same size, whose own bytes are never read.
"""

import contextlib
import errno
import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BlockCache:
    """Where the blocks of a file are kept: ``slots`` blocks of ``block_bytes`` in the local file ``path``."""

    path: str
    slots: int
    block_bytes: int


Fetch = Callable[[int, int], None]
"""Writes a block of the file, called by its number, to a slot of its cache."""


@dataclass(frozen=True)
class Blocks:
    """A file that is fetched in blocks. ``fetch`` raises VideoError when the storage of the file fails."""

    cache: BlockCache
    fetch: Fetch


class FetchedFile:
    """The bytes of a file of ``size`` bytes that is fetched in blocks. The blocks that were read last are kept."""

    def __init__(self, cache: BlockCache, size: int, fetch: Fetch):
        self._cache, self._size, self._fetch = cache, size, fetch
        self._descriptor = os.open(cache.path, os.O_RDONLY | os.O_CLOEXEC)
        # The block that was read last is at the end.
        self._slots: OrderedDict[int, int] = OrderedDict()

    def read(self, offset: int, count: int) -> bytes:
        """Returns ``count`` bytes from ``offset`` on, fewer only at the end of the file. Raises OSError."""
        found = []
        until = min(offset + count, self._size)
        while offset < until:
            block, start = divmod(offset, self._cache.block_bytes)
            length = min(until - offset, self._cache.block_bytes - start)
            data = os.pread(self._descriptor, length, self._slot_of(block) * self._cache.block_bytes + start)
            if not data:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            found.append(data)
            offset += len(data)
        return b"".join(found)

    def _slot_of(self, block: int) -> int:
        if block not in self._slots:
            is_full = len(self._slots) == self._cache.slots
            slot = self._slots.popitem(last=False)[1] if is_full else len(self._slots)
            self._fetch(block, slot)
            self._slots[block] = slot
        self._slots.move_to_end(block)
        return self._slots[block]

    def close(self) -> None:
        """Closes the file of the cache."""
        os.close(self._descriptor)


_fetched: dict[Path, FetchedFile] = {}
"""The files that are fetched in this process, by the paths of the empty files in their places."""


@contextlib.contextmanager
def fetching(path: Path, file: FetchedFile) -> Iterator[None]:
    """Until the block ends, the bytes of the file at ``path`` are those of ``file``, which is then closed."""
    _fetched[path] = file
    try:
        yield
    finally:
        del _fetched[path]
        file.close()


def fetched_file(path: Path) -> FetchedFile | None:
    """Returns the file whose bytes are those of ``path``; None if its bytes are on this machine."""
    return _fetched.get(path)
