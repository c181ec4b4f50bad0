"""The end of a job on SIGTERM."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

SIGTERM_TIMEOUT_S = 9.0
"""Seconds that a job may take to end after SIGTERM, before its process exits at once."""


class Sigterm:
    """A context in which SIGTERM does what Ctrl-C does, but within ``SIGTERM_TIMEOUT_S``.

    The machine may be switched off soon after SIGTERM. Only the main thread can set the handler of a signal; in other
    threads the context does nothing.
    """

    def __init__(self) -> None:
        self._is_main = threading.current_thread() is threading.main_thread()
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "Sigterm":
        if self._is_main:
            self._before = signal.signal(signal.SIGTERM, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_main:
            signal.signal(signal.SIGTERM, self._before)
        if self._timer is not None:
            self._timer.cancel()

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        if self._timer is None:
            # Finished commits are safe, and a commit that is cut off does not count.
            self._timer = threading.Timer(SIGTERM_TIMEOUT_S, os._exit, [128 + signal.SIGTERM])
            self._timer.daemon = True
            self._timer.start()
        raise KeyboardInterrupt
