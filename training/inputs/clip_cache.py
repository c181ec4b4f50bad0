"""Clips that need not be decoded again: one file for each, up to a number of bytes in all."""

import hashlib
import json
import os
import tempfile
import uuid
from pathlib import Path

import numpy as np

from tagger.errors import OutputError
from training.data.data_set import LabelledClip
from training.inputs.forms import Form

DEFAULT_BYTES = 20 * 10**9
"""Bound of a cache: all of UCF-11 and more, and little enough for the disk of a laptop."""


LOOKS = 100
"""Times that a process looks at how large a cache has become while it fills it: in a large one that takes long."""


class ClipCache:
    """Arrays of clips in ``folder``; a clip or a form that changes gets another file.

    Nothing is ever thrown out for something else: all clips are asked for equally often, in every epoch, and which of
    them are here then makes no difference. Several processes may fill the same cache; each sees what the others have
    kept after every hundredth of ``max_bytes`` that it keeps itself, so that n of them exceed it by n hundredths and n
    arrays at most. Raises OutputError when it cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES):
        self.folder, self.max_bytes = folder, max_bytes
        self._is_full = False
        # What was in the folder at the last look, and what this process has kept since.
        self._seen: int | None = None
        self._kept = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._problem(error) from error

    def key(self, clip: LabelledClip, form: Form) -> str:
        """What names the file of ``clip`` in ``form``; another one when the video file has changed."""
        try:
            stat = clip.path.stat()
            file = [str(clip.path.resolve()), stat.st_size, stat.st_mtime_ns]
        except OSError:
            file = [str(clip.path), 0, 0]
        text = json.dumps([*file, clip.start_s, clip.end_s, json.loads(form.identity)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def load(self, key: str) -> np.ndarray | None:
        """The array of ``key``, mapped into memory; None when it is not here."""
        try:
            return np.load(self._path(key), mmap_mode="r")
        except (FileNotFoundError, EOFError, ValueError):
            # The last two: the machine went down before all of it was on the disk.
            return None

    def save(self, key: str, array: np.ndarray) -> bool:
        """Keeps ``array``, never half of it; False when the cache is full."""
        path = self._path(key)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            if not self._has_room(array.nbytes):
                return False
            with temporary.open("wb") as file:
                np.save(file, array)
                self._kept += file.tell()
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._problem(error) from error
        return True

    def _has_room(self, size: int) -> bool:
        if self._seen is None or self._kept > self.max_bytes / LOOKS:
            with os.scandir(self.folder) as entries:
                self._seen = sum(entry.stat().st_size for entry in entries if entry.name.endswith(".npy"))
            self._kept = 0
        self._is_full = self._is_full or self._seen + self._kept + size > self.max_bytes
        return not self._is_full

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.npy"

    def _problem(self, error: OSError) -> OutputError:
        reason = (error.strerror or str(error)).lower()
        return OutputError(
            f"cannot keep clips in {self.folder}: {reason}; name another folder with --cache, or less with --cache-size"
        )


def large_folder() -> str:
    """A folder for large temporary files: TMPDIR if it is set, else on disk, where /tmp may be in memory."""
    is_on_disk = "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK)
    return "/var/tmp" if is_on_disk else tempfile.gettempdir()
