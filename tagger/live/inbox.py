"""What a connection has given and the model has not taken yet. Its size is bounded."""

import threading
from collections import deque
from dataclasses import dataclass

import numpy as np

from tagger.windows import Window

MAX_NOTES = 100
"""Notes that wait. Of more, the oldest are forgotten."""


@dataclass(frozen=True)
class LiveWindow:
    """A complete window. ``clip`` is ``[1, num_frames, H, W, 3] uint8``; ``at_s`` is when its last frame came, in
    seconds since 1970."""

    window: Window
    clip: np.ndarray
    at_s: float


@dataclass(frozen=True)
class Opened:
    """The source was opened: its format."""

    container: str
    codec: str
    width: int
    height: int


@dataclass(frozen=True)
class Lost:
    """Some of the picture was not seen, or it changed, and why. The windows before and after are whole."""

    reason: str


@dataclass(frozen=True)
class Ended:
    """The source is not read any more, and why. ``is_finished``: nothing follows, as at the end of a file.

    ``is_recording``: it was a recording on a server, which would begin again if it were opened again.
    """

    reason: str
    is_finished: bool
    is_recording: bool = False


Item = LiveWindow | Opened | Lost | Ended


class Inbox:
    """Holds the newest window, and notes. One thread puts, another one takes.

    A window that was not taken when the next one comes is dropped and counted, if windows may be ``dropping``. So a
    model that needs twice the time between windows gets every other one. Otherwise ``put_window`` waits.
    """

    def __init__(self, *, dropping: bool):
        self.dropped = 0
        self._dropping = dropping
        self._window: LiveWindow | None = None
        self._notes: deque[Opened | Lost] = deque(maxlen=MAX_NOTES)
        self._ended: Ended | None = None
        self._is_closed = False
        self._changed = threading.Condition()

    def put_window(self, window: LiveWindow) -> None:
        """Puts the next window."""
        with self._changed:
            while self._window is not None and not self._dropping and not self._is_closed:
                self._changed.wait()
            self.dropped += self._window is not None
            self._window = window
            self._changed.notify_all()

    def put_note(self, note: Opened | Lost) -> None:
        """Puts a note, which is taken before any window."""
        with self._changed:
            self._notes.append(note)
            self._changed.notify_all()

    def end(self, ended: Ended) -> None:
        """Puts the end, which is taken last."""
        with self._changed:
            self._ended = self._ended or ended
            self._changed.notify_all()

    def close(self) -> None:
        """Lets no put wait any more."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def take(self, timeout_s: float | None = None) -> Item | None:
        """Waits for the next item, and returns it; None when there is none after ``timeout_s`` seconds."""
        with self._changed:
            while True:
                if self._notes:
                    return self._notes.popleft()
                if self._window is not None:
                    window, self._window = self._window, None
                    self._changed.notify_all()
                    return window
                if self._ended is not None:
                    return self._ended
                if not self._changed.wait(timeout_s):
                    return None
