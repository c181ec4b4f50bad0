"""A cache of decoded clips and their features on disk: one file for each, up to a total size.

The name of a file ends with the version of the pixels. When a new version of vtag computes other pixels, the old files
are not read.
"""

import hashlib
import json
import os
import re
import tempfile
import uuid
from pathlib import Path

import numpy as np

from tagger.errors import OutputError
from tagger.video.readers.reader import PIXEL_VERSION
from training.data.data_set import LabelledClip
from training.inputs.forms import Form

DEFAULT_BYTES = 20 * 10**9
"""Default size limit of a cache: enough for UCF-11, and small enough for the disk of a laptop."""

SIZE_CHECKS = 100
"""Maximum number of times that a process measures the cache folder. Measuring a large one takes long."""


ENDING = f".pixels{PIXEL_VERSION}.npy"
"""The ending of the files of this version of vtag."""

_ANY_ARRAY = re.compile(r"[0-9a-f]{32}\.pixels\d+\.npy")
"""The names of the files of any version. The first versions of vtag left out the version of the pixels. Their files
stay, because a folder of a user may have files with such names."""


class ClipCache:
    """Arrays of clips in ``folder``. When a clip or its form changes, it gets another file.

    A full cache evicts nothing: every epoch reads all clips once, so it does not matter which of them are cached.
    Several processes may fill the same cache. Each measures the size of the folder again after it has saved a hundredth
    of ``max_bytes``. So n processes exceed the limit by at most n hundredths and n arrays. Raises OutputError when the
    folder cannot be written.
    """

    def __init__(self, folder: Path, max_bytes: int = DEFAULT_BYTES):
        self.folder, self.max_bytes = folder, max_bytes
        self._is_full = False
        # Size of the folder when it was last measured, and what this process has saved since.
        self._measured_bytes: int | None = None
        self._saved_bytes = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._problem(error) from error

    def key(self, clip: LabelledClip, form: Form) -> str:
        """Returns the key of ``clip`` in ``form``, which names its file; it changes with the video file."""
        try:
            stat = clip.path.stat()
            file = [str(clip.path.resolve()), stat.st_size, stat.st_mtime_ns]
        except OSError:
            file = [str(clip.path), 0, 0]
        text = json.dumps([*file, clip.start_s, clip.end_s, json.loads(form.identity)])
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def load(self, key: str) -> np.ndarray | None:
        """Returns the array of ``key``, memory-mapped; None when it is not in the cache."""
        try:
            return np.load(self._path(key), mmap_mode="r")
        except (FileNotFoundError, EOFError, ValueError):
            # The last two: the machine crashed before the whole file was on the disk.
            return None

    def save(self, key: str, array: np.ndarray) -> bool:
        """Saves ``array`` atomically; returns False when the cache is full."""
        path = self._path(key)
        temporary = path.with_suffix(f".{uuid.uuid4().hex}.tmp")
        try:
            if not self._has_room(array.nbytes):
                return False
            with temporary.open("wb") as file:
                np.save(file, array)
                self._saved_bytes += file.tell()
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise self._problem(error) from error
        return True

    def _has_room(self, size: int) -> bool:
        if self._measured_bytes is None or self._saved_bytes > self.max_bytes / SIZE_CHECKS:
            with os.scandir(self.folder) as entries:
                self._measured_bytes = sum(
                    entry.stat().st_size for entry in entries if _ANY_ARRAY.fullmatch(entry.name)
                )
            self._saved_bytes = 0
        self._is_full = self._is_full or self._measured_bytes + self._saved_bytes + size > self.max_bytes
        return not self._is_full

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{ENDING}"

    def _problem(self, error: OSError) -> OutputError:
        reason = (error.strerror or str(error)).lower()
        return OutputError(
            f"cannot keep clips in {self.folder}: {reason}; name another folder with --cache, or lower --cache-size"
        )


def remove_outdated(folder: Path) -> int:
    """Removes the arrays of other versions of the pixels from a cache folder, because they would fill it for nothing.

    Returns their number. Touches no other files. Raises OutputError when one cannot be removed.
    """
    if not folder.is_dir():
        return 0
    outdated = [path for path in folder.iterdir() if _ANY_ARRAY.fullmatch(path.name) and not path.name.endswith(ENDING)]
    for path in outdated:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise OutputError(
                f"cannot remove {path}, which another version of vtag wrote: {reason}; name another folder with --cache"
            ) from error
    return len(outdated)


def large_folder() -> str:
    """Returns a folder for large temporary files: TMPDIR if it is set, else /var/tmp, because /tmp may be in memory."""
    is_on_disk = "TMPDIR" not in os.environ and os.access("/var/tmp", os.W_OK)
    return "/var/tmp" if is_on_disk else tempfile.gettempdir()
