"""Reads a file for FFmpeg and notes errors of the storage, which FFmpeg reports as damage, or not at all."""

import os
from pathlib import Path

_errors: dict[Path, OSError] = {}
"""The first read error of each path."""


def take_read_error(path: Path) -> OSError | None:
    """Returns the first error with which the storage failed to read ``path`` since the last call; None without any."""
    return _errors.pop(path, None)


class WatchedFile:
    """An open file in the form that ``av.open`` reads. For FFmpeg, the file ends where the storage fails.

    ``descriptor`` is duplicated.
    """

    def __init__(self, path: Path, descriptor: int):
        self._path = path
        self._file = os.fdopen(os.dup(descriptor), "rb", buffering=0)

    def read(self, count: int) -> bytes:
        """Returns up to ``count`` bytes."""
        try:
            return self._file.read(count)
        except OSError as error:
            _errors.setdefault(self._path, error)
            return b""

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Moves the position and returns it."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """Returns the position."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Returns True: regular files are seekable."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def __del__(self) -> None:
        self.close()
