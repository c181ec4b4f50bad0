"""Makes pictures and previews of moments in processes of their own, because a damaged file may end its decoder."""

import itertools
import signal
import socket
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from jobs.browse.cutting.encoding import encode_span
from jobs.browse.report.picture import pictures_of
from tagger.errors import VideoError
from tagger.system.end_with_parent import end_with_parent

PROCESSES = 2

KEPT = 64
"""Previews that are kept. The oldest are deleted."""

TIMEOUT_S = 120.0


class Encoder:
    """A few processes, and a folder of previews. ``close`` ends the processes and deletes the previews."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vtag-view-")
        self._previews: OrderedDict[tuple[str, int, int], Path] = OrderedDict()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        # The processes end when the first of these sockets closes.
        self._lifelines = socket.socketpair()
        self._pool = self._new_pool()

    def close(self) -> None:
        """Ends the processes and deletes the previews."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for lifeline in self._lifelines:
            lifeline.close()
        self._folder.cleanup()

    def picture(self, path: Path, time_s: float, duration_s: float | None) -> bytes | None:
        """Returns a JPEG of the frame that is shown at ``time_s``; None when there is none."""
        found = self._call(pictures_of, path, [time_s], duration_s)
        return None if found is None else found[0]

    def preview(self, path: Path, start_ms: int, end_ms: int, duration_s: float | None) -> Path | None:
        """Returns an MP4 of a stretch of a video, which every browser plays; None when it cannot be made."""
        key = (str(path), start_ms, end_ms)
        with self._lock:
            if key in self._previews:
                self._previews.move_to_end(key)
                return self._previews[key]
            target = Path(self._folder.name, f"{next(self._numbers)}.mp4")
        if self._call(encode_span, path, start_ms / 1000, end_ms / 1000, target, duration_s) is None:
            return None
        with self._lock:
            self._previews[key] = target
            while len(self._previews) > KEPT:
                self._previews.popitem(last=False)[1].unlink(missing_ok=True)
        return target

    def _call(self, work: Any, *arguments: Any) -> Any:
        """Returns what ``work`` returns in a process, or None when it fails."""
        pool = self._pool
        try:
            return pool.submit(work, *arguments).result(TIMEOUT_S)
        except (VideoError, OSError, TimeoutError):
            return None
        except BrokenProcessPool:
            with self._lock:
                if self._pool is pool:
                    self._pool = self._new_pool()
            return None

    def _new_pool(self) -> ProcessPoolExecutor:
        # Forked processes would have the threads' locks of this one.
        context = get_context("spawn")
        return ProcessPoolExecutor(PROCESSES, context, initializer=_begin, initargs=(self._lifelines[1],))


_lifelines: list[socket.socket] = []
"""Keeps the socket of a process open."""


def _begin(lifeline: socket.socket) -> None:
    """Makes a process end with its parent, and leave Ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _lifelines.append(lifeline)
    end_with_parent(lifeline.fileno())
