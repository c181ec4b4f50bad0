"""The end of a job on SIGTERM and SIGHUP."""

import os
import signal
import threading
from types import FrameType
from typing import Any

SIGTERM_TIMEOUT_S = 9.0
"""Seconds that a job may take to end after SIGTERM or SIGHUP, before its process exits at once."""

SIGNALS = (signal.SIGTERM, signal.SIGHUP)


class Termination:
    """A context in which SIGTERM and SIGHUP do what Ctrl-C does, but within ``SIGTERM_TIMEOUT_S``.

    The machine may be switched off soon after SIGTERM. SIGHUP comes when the terminal is closed. A signal that is
    ignored stays so, as SIGHUP under ``nohup``. Only the main thread can set the handler of a signal; in other threads
    the context does nothing.
    """

    def __init__(self) -> None:
        self._before: dict[signal.Signals, Any] = {}
        self._timer: threading.Timer | None = None

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._before[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._timer is not None:
            self._timer.cancel()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._timer is not None:
            # A shell and the kernel both send SIGHUP. The second one must not disturb the end.
            return
        # Finished commits are safe, and a commit that is cut off does not count.
        self._timer = threading.Timer(SIGTERM_TIMEOUT_S, os._exit, [128 + number])
        self._timer.daemon = True
        self._timer.start()
        raise KeyboardInterrupt
