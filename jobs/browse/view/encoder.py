"""Makes pictures and previews of moments in processes of their own, because a damaged file may end its decoder."""

import itertools
import signal
import socket
import tempfile
import threading
from collections import OrderedDict
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
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

PREVIEW = partial(encode_span, for_browsers=True)

TIMEOUT_S = 120.0


class _Workers:
    """A few processes. ``end`` ends them, whatever they are doing."""

    def __init__(self) -> None:
        # A process ends when the first socket of its pair closes. Each has a pair of its own, because the kernel
        # signals the end of a socket to one process only.
        self._lifelines = [socket.socketpair() for _ in range(PROCESSES)]
        # Forked processes would have the threads' locks of this one.
        context = get_context("spawn")
        theirs, taken = [pair[1] for pair in self._lifelines], context.Value("i", 0)
        self.pool = ProcessPoolExecutor(PROCESSES, context, initializer=_begin, initargs=(theirs, taken))

    def end(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)
        for lifeline in itertools.chain.from_iterable(self._lifelines):
            lifeline.close()


class Encoder:
    """A few processes, and a folder of previews. ``close`` ends the processes and deletes the previews."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vtag-view-")
        self._previews: OrderedDict[tuple[str, int, int], Path] = OrderedDict()
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._workers = _Workers()
        self._is_closed = False

    def close(self) -> None:
        """Ends the processes and deletes the previews."""
        with self._lock:
            self._is_closed = True
            self._workers.end()
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
        if self._call(PREVIEW, path, start_ms / 1000, end_ms / 1000, target, duration_s) is None:
            target.unlink(missing_ok=True)
            return None
        with self._lock:
            self._previews[key] = target
            while len(self._previews) > KEPT:
                self._previews.popitem(last=False)[1].unlink(missing_ok=True)
        return target

    def _call(self, work: Any, *arguments: Any) -> Any:
        """Returns what ``work`` returns in a process, or None when it fails or takes more than TIMEOUT_S."""
        workers = self._workers
        try:
            future = workers.pool.submit(work, *arguments)
        except RuntimeError:
            # A process has died, or this encoder is closed.
            self._replace(workers)
            return None
        try:
            return future.result(TIMEOUT_S)
        except BrokenProcessPool:
            self._replace(workers)
        except (VideoError, OSError, CancelledError):
            # Work that still waits for a process is given up. A process that does not end it would do nothing else.
            if not future.done() and not future.cancel():
                self._replace(workers)
        return None

    def _replace(self, workers: _Workers) -> None:
        with self._lock:
            if self._workers is workers and not self._is_closed:
                workers.end()
                self._workers = _Workers()


_lifelines: list[socket.socket] = []
"""Keeps the socket of a process open."""


def _begin(lifelines: list[socket.socket], taken: Any) -> None:
    """Makes a process end with its parent, and leave Ctrl-C to it. ``taken`` counts the processes that have begun."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with taken.get_lock():
        lifeline = lifelines[taken.value]
        taken.value += 1
    _lifelines.append(lifeline)
    end_with_parent(lifeline.fileno())
