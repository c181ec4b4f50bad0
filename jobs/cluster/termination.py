"""How a job meets its end when the machine is about to go."""

import os
import signal
import threading
from types import FrameType
from typing import NoReturn

LEAVE_S = 9.0
"""Time in seconds that a job may take to end after SIGTERM before it is cut off."""


class Sigterm:
    """Lets SIGTERM do what Ctrl-C does, but within ``LEAVE_S``: the machine may be switched off soon after.

    Only the main thread can arrange that; elsewhere nothing changes.
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
            # What is committed is safe, and a commit that is cut off is as good as absent.
            self._timer = threading.Timer(LEAVE_S, os._exit, [128 + signal.SIGTERM])
            self._timer.daemon = True
            self._timer.start()
        raise KeyboardInterrupt
