"""Reads a file for FFmpeg and notes errors of the storage, which FFmpeg reports as damage, or not at all."""

import os
from pathlib import Path

from tagger.video.fetched_file import fetched_file

_errors: dict[Path, OSError] = {}
"""The first read error of each path."""


def take_read_error(path: Path) -> OSError | None:
    """Returns the first error with which the storage failed to read ``path`` since the last call; None without any."""
    return _errors.pop(path, None)


class WatchedFile:
    """An open file in the form that ``av.open`` reads. For FFmpeg, the file ends where the storage fails.

    ``descriptor`` is duplicated. The bytes of a file that is fetched in blocks come from the blocks. With ``start`` and
    ``end``, only the bytes between them are the file.
    """

    def __init__(self, path: Path, descriptor: int, start: int = 0, end: int | None = None):
        self._path = path
        self._start, self._end = start, end
        self._file = os.fdopen(os.dup(descriptor), "rb", buffering=0)

    def read(self, count: int) -> bytes:
        """Returns up to ``count`` bytes."""
        try:
            if self._end is not None:
                count = min(count, max(0, self._end - self._file.tell()))
            fetched = fetched_file(self._path)
            if fetched is None:
                return self._file.read(count)
            data = fetched.read(self._file.tell(), count)
            self._file.seek(len(data), os.SEEK_CUR)
            return data
        except OSError as error:
            _errors.setdefault(self._path, error)
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position and returns it."""
        if whence == os.SEEK_SET:
            offset += self._start
        elif whence == os.SEEK_END and self._end is not None:
            offset, whence = offset + self._end, os.SEEK_SET
        return self._file.seek(offset, whence) - self._start

    def tell(self) -> int:
        """Returns the position."""
        return self._file.tell() - self._start

    def seekable(self) -> bool:
        """Returns True: regular files are seekable."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __del__(self) -> None:
        self.close()
