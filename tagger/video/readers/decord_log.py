"""What decord's own FFmpeg complains of while it decodes: decord itself hides it, and gives smeared frames.

FFmpeg hands every message to one function of the process. Counting them there costs 5 % of decoding 320×240 H.264.
"""

import ctypes
from functools import cache
from pathlib import Path

AV_LOG_ERROR = 16


class ErrorCount:
    """How many errors decord's FFmpeg has reported in this process. Stays 0 where its library is not found."""

    def __init__(self) -> None:
        self.count = 0
        callback_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
        # FFmpeg keeps no reference to it, so this object does.
        self._callback = callback_type(self._take)
        library = _library()
        if library is not None:
            library.av_log_set_callback(self._callback)

    def _take(self, _context: int, level: int, _format: int, _arguments: int) -> None:
        if level <= AV_LOG_ERROR:
            self.count += 1


@cache
def errors() -> ErrorCount:
    """The one count of this process."""
    return ErrorCount()


def _library() -> ctypes.CDLL | None:
    """The libavutil that decord's wheel brings beside the package; it is loaded already."""
    import decord

    package = Path(decord.__file__).parent
    for path in package.with_name("decord.libs").glob("libavutil*"):
        return ctypes.CDLL(str(path))
    return None
