"""Watches a folder or bucket: lists it again and again, and gives a job the videos that are complete."""

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Protocol

from jobs.archive.folders import FolderProblem
from jobs.archive.listing import Listing
from jobs.archive.videos import Videos
from jobs.cluster.termination import Termination
from jobs.errors import Interrupted, reason
from jobs.storage.address import is_address
from jobs.tagging.plan import list_inputs
from jobs.tagging.run_config import RunConfig
from jobs.watching.arrivals import Arrivals
from jobs.watching.job_runner import JobDone, JobRunner, ShowProgress, TryAgainError
from jobs.watching.open_files import is_open_for_writing
from tagger.errors import VtagError

LOOK_S = 1.0
"""Shortest pause in seconds between two listings of a folder."""

LOOK_AT_BUCKET_S = 10.0
"""The same for an address: each listing costs requests, and they may cost money."""

LISTING_SHARE = 0.05
"""Share of the time that listings may take: a pause is 19 times as long as the listing before it."""

MAX_PAUSE_S = 300.0
"""Longest pause in seconds, however long a listing takes."""

RETRY_S, MAX_RETRY_S = 10.0, 60.0
"""First and longest pause in seconds after a job that may succeed later. It is doubled after each further one."""


@dataclass(frozen=True)
class Watching:
    """The first listing is done: the number of ``videos`` in it."""

    videos: int


@dataclass(frozen=True)
class Note:
    """A line about something that keeps the watch from its work, or does so no longer."""

    words: str


Event = Watching | JobDone | Note

OnEvent = Callable[[Event], None]


class Clock(Protocol):
    """The clock of a watch, in seconds."""

    def now_s(self) -> float:
        """The time on a clock that never jumps."""

    def since_1970_s(self) -> float:
        """The time on the wall."""

    def sleep(self, seconds: float) -> None:
        """Waits."""


class SystemClock:
    """The clock of this machine."""

    def now_s(self) -> float:
        """The time on a clock that never jumps."""
        return time.monotonic()

    def since_1970_s(self) -> float:
        """The time on the wall."""
        return time.time()

    def sleep(self, seconds: float) -> None:
        """Waits."""
        time.sleep(seconds)


def watch_folder(config: RunConfig, *, settle_s: float, on_event: OnEvent, show_progress: ShowProgress) -> NoReturn:
    """Tags the videos in ``config.inputs``, one folder or address, and all that arrive there, until it is interrupted.

    A video is tagged when it has not changed for ``settle_s`` seconds and no program writes to it. ``on_event`` is
    called in this thread. Raises Interrupted on Ctrl-C, SIGTERM and SIGHUP, and as ``vtag run`` does what no waiting
    can mend: an input that is missing at the start, a result of another model, or a Ray that fails again and again.
    """
    folder = config.inputs[0]
    look_s = LOOK_AT_BUCKET_S if is_address(folder) else min(LOOK_S, settle_s)
    with Termination(), contextlib.closing(JobRunner(config, show_progress)) as runner:
        try:
            runner.prepare()
            runner.check()
            keep_watching(
                partial(list_inputs, config, may_be_empty=True),
                runner.run,
                on_event,
                Arrivals(settle_s, is_open_for_writing),
                folder=folder,
                look_s=look_s,
                find_disk=partial(disk_of, folder),
            )
        except KeyboardInterrupt:
            raise Interrupted(
                f"interrupted; the result at {config.out} is safe, and the same command continues"
            ) from None


def keep_watching(
    look: Callable[[], Listing],
    run: Callable[[Listing], JobDone],
    on_event: OnEvent,
    arrivals: Arrivals,
    *,
    folder: str,
    look_s: float,
    find_disk: Callable[[], int | None] = lambda: None,
    clock: Clock | None = None,
) -> NoReturn:
    """Lists the folder with ``look`` and tags with ``run``. Only an error or an interrupt ends it.

    A folder that cannot be read after it could be read is waited for. So is one that is empty and on another disk than
    before, by ``find_disk``: a disk that is not mounted leaves an empty folder. A job that raises TryAgainError is
    given again.
    """
    clock = clock or SystemClock()
    state = _State(folder, on_event, find_disk)
    retry_at_s, retry_s = clock.now_s(), RETRY_S
    while True:
        begun_s = clock.now_s()
        listing = _look(look, state)
        now_s = clock.now_s()
        if listing is not None:
            arrivals.look(listing.videos, now_s, clock.since_1970_s())
            videos = arrivals.due(listing.videos, now_s) if now_s >= retry_at_s else Videos()
            if videos:
                try:
                    done = run(Listing(videos, listing.folders, listing.seconds))
                except TryAgainError as error:
                    state.report_failure(str(error))
                    retry_at_s = clock.now_s() + retry_s
                    retry_s = min(2 * retry_s, MAX_RETRY_S)
                else:
                    retry_s = RETRY_S
                    arrivals.tagged(videos)
                    state.report_job(done)
        clock.sleep(pause_s(now_s - begun_s, look_s))


def disk_of(folder: str) -> int | None:
    """Returns the number of the disk that a folder is on; None for an address, and when there is no such folder."""
    try:
        return None if is_address(folder) else Path(folder).stat().st_dev
    except OSError:
        return None


def pause_s(listing_s: float, shortest_s: float) -> float:
    """Returns the pause after a listing that took ``listing_s`` seconds."""
    return min(max(shortest_s, listing_s * (1 / LISTING_SHARE - 1)), max(shortest_s, MAX_PAUSE_S))


def _look(look: Callable[[], Listing], state: "_State") -> Listing | None:
    """Lists the folder; None when it cannot be read now. Raises the error when it never could be read."""
    try:
        listing = look()
    except (VtagError, OSError) as error:
        if not state.has_listed:
            raise
        words = str(error) if isinstance(error, VtagError) else f"{state.folder} cannot be listed: {reason(error)}"
        state.report_absence(f"{words}; vtag waits until it is there again")
        return None
    state.report_listing(listing)
    return listing


class _State:
    """What has been reported, so that each trouble is one line."""

    def __init__(self, folder: str, on_event: OnEvent, find_disk: Callable[[], int | None]):
        self.folder = folder
        self.has_listed = False
        self._on_event = on_event
        self._find_disk = find_disk
        self._disk: int | None = None
        self._is_absent = False
        self._problems: set[FolderProblem] = set()
        self._failure: str | None = None

    def report_listing(self, listing: Listing) -> None:
        if not self.has_listed:
            self._on_event(Watching(len(listing.videos)))
        self.has_listed = True
        if not listing.videos and self._disk is not None and self._find_disk() != self._disk:
            self.report_absence(
                f"{self.folder} is empty and on another disk than before, as when its disk is not mounted; all rows "
                "stay, and vtag waits until it is there again"
            )
        elif self._is_absent:
            self._is_absent = False
            self._on_event(Note(f"{self.folder} is there again"))
        if listing.videos:
            self._disk = self._find_disk()
        problems = set(listing.folders.problems)
        for problem in sorted(problems - self._problems, key=lambda each: each.path):
            self._on_event(Note(f"{problem.path} cannot be listed: {problem.reason}"))
        self._problems = problems

    def report_absence(self, words: str) -> None:
        if not self._is_absent:
            self._is_absent = True
            self._on_event(Note(words))

    def report_failure(self, words: str) -> None:
        if words != self._failure:
            self._failure = words
            self._on_event(Note(f"{words}; vtag tries again"))

    def report_job(self, done: JobDone) -> None:
        self._failure = None
        if done.has_changed_result:
            self._on_event(done)
