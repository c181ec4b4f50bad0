"""When finished videos are committed: in small batches, soon, and at the end whatever it is."""

import time

from jobs.errors import reason
from jobs.result.ledger import Ledger
from jobs.result.lock import Lock
from jobs.storage.location import Location
from jobs.tagging.collector import FinishedVideo
from jobs.tagging.rows import result_tables
from tagger.errors import OutputError

COMMIT_VIDEOS = 1000
"""Finished videos that wait to be committed at most; what waits is done again after a crash."""

COMMIT_ROWS = 100_000
"""Segments that wait to be committed at most."""

COMMIT_S = 5.0
"""Longest time in seconds that a finished video waits to be committed."""


class Committer:
    """Commits finished videos in small batches, and the rest when the job ends, however it ends."""

    def __init__(self, ledger: Ledger, lock: Lock):
        self.committed = 0
        """How many videos were committed so far."""
        self._ledger = ledger
        self._lock = lock
        self._waiting: list[FinishedVideo] = []
        self._rows = 0
        self._committed_s = time.monotonic()

    def __enter__(self) -> "Committer":
        return self

    def __exit__(self, *_: object) -> None:
        self._commit()

    def add(self, video: FinishedVideo) -> None:
        """Takes a finished video."""
        self._waiting.append(video)
        self._rows += len(video.segments)

    def commit_when_due(self) -> None:
        """Commits when enough waits, or for long enough."""
        due_s = self._committed_s + COMMIT_S
        if len(self._waiting) >= COMMIT_VIDEOS or self._rows >= COMMIT_ROWS or time.monotonic() >= due_s:
            self._commit()

    def _commit(self) -> None:
        self._lock.check()
        try:
            # The list is emptied afterwards: an interrupted commit is done again, over itself.
            self._ledger.commit(*result_tables(self._waiting))
        except OSError as error:
            raise unwritable(self._ledger.folder, error) from error
        self.committed += len(self._waiting)
        self._waiting = []
        self._rows = 0
        self._committed_s = time.monotonic()


def unwritable(place: Location, error: OSError) -> OutputError:
    """What is said when a run folder cannot be written."""
    return OutputError(
        f"{place} cannot be written: {reason(error)}; what was finished before is kept, and the same command continues"
    )
