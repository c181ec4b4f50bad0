"""Blocks of a remote file, which are fetched one at a time and kept in a local file of limited size."""

import errno
import math
from pathlib import Path

import pyarrow as pa
from pyarrow import fs

from jobs.storage.file_systems import translate_errors
from jobs.storage.location import Location

BLOCK_BYTES = 4 << 20
"""Bytes of a block. A request to a bucket costs some 30 ms, and at 250 MB/s 4 MiB take half as long to arrive."""

MORE_BLOCKS = 16
"""Blocks for the index of a video, for both ends of a part, and for what its parts have in common with others."""


def slots_for(size: int, of: int) -> int:
    """Returns the number of blocks that are kept for one of the parts ``of`` a video of ``size`` bytes.

    A part is read twice, first its packets and then its frames. The first parts are up to twice as long as the mean,
    and a part may have more bytes a second than others. A whole video is read in order, for which few blocks are
    enough.
    """
    of_part = math.ceil(3 * size / of / BLOCK_BYTES) if of > 1 else 0
    return min(math.ceil(size / BLOCK_BYTES), of_part + MORE_BLOCKS)


class RemoteBlocks:
    """Fetches blocks of the file at ``location`` into slots of the local file ``cache``.

    ``info`` is the size and time of the file. Methods raise OSError.
    """

    def __init__(self, location: Location, info: fs.FileInfo, cache: Path):
        self.info = info
        self._location, self._cache = location, cache
        self._file: pa.NativeFile | None = None

    def fetch(self, block: int, slot: int) -> None:
        """Writes a block, called by its number, to a slot."""
        start = block * BLOCK_BYTES
        count = min(BLOCK_BYTES, self.info.size - start)
        with translate_errors(self._location.filesystem, self._location.address):
            if self._file is None:
                self._file = self._location.filesystem.open_input_file(self._location.path)
            data = self._file.read_at(count, start)
        if len(data) != count:
            raise OSError(errno.EAGAIN, "it changed while it was read", str(self._location))
        with self._cache.open("r+b", buffering=0) as cache:
            cache.seek(slot * BLOCK_BYTES)
            while data:
                data = data[cache.write(data) :]

    def check_unchanged(self) -> None:
        """Checks that the file is still the one whose blocks were fetched."""
        now = self._location.info()
        if (now.size, now.mtime_ns) != (self.info.size, self.info.mtime_ns):
            raise OSError(errno.EAGAIN, "it changed while it was read", str(self._location))

    def close(self) -> None:
        """Closes the remote file."""
        if self._file is not None:
            self._file.close()
