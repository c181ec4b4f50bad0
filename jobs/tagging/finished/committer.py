"""Commits finished videos in small batches while a job runs, and the rest when it ends."""

import time
from collections.abc import Iterable

from jobs.archive.video import video_name
from jobs.errors import reason, what_failed
from jobs.result.ledger import Ledger
from jobs.result.lock import Lock
from jobs.storage.location import Location
from jobs.tagging.finished.collector import FinishedVideo
from jobs.tagging.finished.kept_parts import FinishedPart, parts_table
from jobs.tagging.finished.rows import result_tables
from tagger.errors import OutputError, doing, work_of

COMMIT_VIDEOS = 1000
"""Maximum number of finished videos that wait for a commit. After a crash the waiting ones are tagged again."""

COMMIT_ROWS = 100_000
"""Maximum number of segments that wait for a commit."""

COMMIT_S = 5.0
"""Maximum time in seconds that a finished video waits for a commit."""


class Committer:
    """Commits finished videos in small batches, and the rest on exit, also after an error."""

    def __init__(self, ledger: Ledger, lock: Lock):
        self.committed = 0
        """Number of videos committed so far."""
        self._ledger = ledger
        self._lock = lock
        self._waiting: list[FinishedVideo] = []
        self._parts: list[FinishedPart] = []
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

    def add_parts(self, parts: Iterable[FinishedPart]) -> None:
        """Takes finished parts of videos. They are kept with the next commit if their videos are not finished then."""
        self._parts += parts

    def commit_when_due(self) -> None:
        """Commits when enough videos or segments wait, or COMMIT_S after the last commit."""
        due_s = self._committed_s + COMMIT_S
        if len(self._waiting) >= COMMIT_VIDEOS or self._rows >= COMMIT_ROWS or time.monotonic() >= due_s:
            self._commit()

    def _commit(self) -> None:
        self._lock.check()
        try:
            # The list is cleared only after the commit: an interrupted commit is repeated and overwrites itself.
            if self._waiting:
                with doing("writing finished videos to", self._ledger.folder):
                    self._ledger.commit(*result_tables(self._waiting, self._ledger.embedding_size))
            finished = {video_name(video.video.path) for video in self._waiting}
            if parts := [part for part in self._parts if part.name not in finished]:
                with doing("writing finished parts of videos to", self._ledger.folder):
                    self._ledger.keep(parts_table(parts))
        except OSError as error:
            raise explained(error, self._ledger.folder) from error
        self.committed += len(self._waiting)
        self._waiting, self._parts = [], []
        self._rows = 0
        self._committed_s = time.monotonic()


def explained(error: OSError, run_folder: Location) -> OutputError:
    """Returns the error of a job that a system error has stopped. It names the file of ``error`` if that is known."""
    what = what_failed(error, f"vtag stopped while {work_of(error) or f'working in {run_folder}'}")
    return OutputError(f"{what}: {reason(error)}; finished videos are kept, and the same command continues")
