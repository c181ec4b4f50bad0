"""Runs the jobs of a watched folder, one after the other, with one Ray that stays up between them."""

import contextlib
import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from jobs.archive.folders import Folders
from jobs.archive.listing import Listing
from jobs.archive.video import Failure, video_name
from jobs.archive.videos import Videos
from jobs.cluster.ray_driver import RayDriver
from jobs.errors import JobError, WorkerError, reason, what_failed
from jobs.result.lock import InUseError, check_free
from jobs.result.output import find_output
from jobs.storage.file_systems import StorageError
from jobs.tagging.plan import Plan, make_plan
from jobs.tagging.run import run_job
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Progress, Summary
from tagger.errors import OutputError, VtagError, doing

ShowProgress = Callable[[], AbstractContextManager[Callable[[Progress], None]]]
"""Makes the view of a job: a context that is called with each snapshot."""

MAX_CRASHES = 3
"""Number of jobs in a row that may end because Ray or a worker fails, before the watch ends with the error."""

JOBS_PER_RAY = 500
"""Number of jobs after which Ray is started anew: it keeps log files and records of all processes that it ever had."""


class TryAgainError(VtagError):
    """A job that could not run or finish now, for a reason that may pass. The same job is given again later."""


@dataclass(frozen=True)
class JobDone:
    """A finished job: the number of ``videos`` that it read, and those that ``failed`` or were read only in part."""

    summary: Summary
    videos: int
    failed: tuple[Failure, ...]

    @property
    def has_changed_result(self) -> bool:
        """Whether the result is another than before."""
        summary = self.summary
        return bool(self.videos or summary.moved or summary.touched or summary.pruned)


class JobRunner:
    """Runs ordinary jobs of one configuration. Ray starts with the first job that reads a video."""

    def __init__(self, config: RunConfig, show_progress: ShowProgress):
        self._config = config
        self._show_progress = show_progress
        self._driver: RayDriver | None = None
        self._has_finished = False
        self._crashes = 0
        self._jobs_of_ray = 0

    def check(self) -> None:
        """Raises the error that a job would meet because of an option, such as a result of another model."""
        with contextlib.suppress(TryAgainError):
            self._plan(Listing(Videos(), Folders()))

    def prepare(self) -> None:
        """Starts the process for Ray, which imports it, if there is none. Raises JobError."""
        if self._driver is None:
            driver = RayDriver("tagging", address=self._config.address, verbose=self._config.verbose)
            driver.start()
            self._driver, self._jobs_of_ray = driver, 0

    def close(self) -> None:
        """Ends Ray. The next job would start it again."""
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def run(self, listing: Listing) -> JobDone:
        """Tags what is new and changed in ``listing``, as ``vtag run`` does.

        Raises TryAgainError for an output that another job writes, a full disk, a Ray that dies and, once a job has
        finished, for storage that fails; Interrupted on Ctrl-C, SIGTERM and SIGHUP; and the errors of ``make_plan`` and
        ``run_job`` for what does not pass.
        """
        plan = self._plan(listing)
        try:
            self.prepare()
            with self._show_progress() as show, doing("tagging videos for", self._config.out):
                summary = run_job(plan, show, self._driver, keep_driver=True)
        except BaseException as error:
            # A driver in the middle of its work cannot take other work, and a Ray that has failed is no good.
            self.close()
            if isinstance(error, Exception) and self._may_pass(error):
                raise TryAgainError(_words(error, self._config.out)) from error
            raise
        self._has_finished, self._crashes = True, 0
        self._jobs_of_ray += bool(plan.todo)
        if self._jobs_of_ray == JOBS_PER_RAY:
            self.close()
        names = {video_name(video.path) for videos in (plan.todo, plan.changes.unsure.videos) for video in videos}
        read = summary.new + summary.changed + summary.retried
        return JobDone(summary, read, tuple(each for each in summary.failures if each.path in names))

    def _plan(self, listing: Listing) -> Plan:
        config = self._config
        try:
            # The plan of a job beside one that is running would take its run folder for that of an interrupted job. A
            # lock file that cannot be read is reported by the job.
            with contextlib.suppress(OSError):
                check_free(find_output(config.out).run_folder)
            with doing("planning the job for", config.out):
                return make_plan(config, listing=listing)
        except (VtagError, OSError) as error:
            is_storage = isinstance(error, OSError | StorageError) or isinstance(error.__cause__, OSError)
            if isinstance(error, InUseError) or (is_storage and self._has_finished):
                raise TryAgainError(_words(error, self._config.out)) from error
            raise

    def _may_pass(self, error: Exception) -> bool:
        if isinstance(error, WorkerError):
            self._crashes += 1
            return self._crashes < MAX_CRASHES
        if isinstance(error, InUseError) or _is_disk_full(error):
            return True
        # Before any job has finished, it is rather a wrong option.
        return self._has_finished and isinstance(error, JobError | OutputError | StorageError | OSError)


def _is_disk_full(error: Exception) -> bool:
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)


def _words(error: Exception, out: object) -> str:
    """Returns the reason of an error, without what the errors of ``vtag run`` say about the next command."""
    if isinstance(error, InUseError):
        return error.problem
    cause = error if isinstance(error, OSError) else error.__cause__
    if isinstance(cause, OSError) and not isinstance(error, JobError):
        return f"{what_failed(cause, f'{out} cannot be read or written')}: {reason(cause)}"
    return str(error)
