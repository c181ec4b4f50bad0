"""The errors of a job, and the reason of a system error in words."""

from pathlib import Path

from tagger.errors import VtagError


class JobError(VtagError):
    """A job, training or measurement that cannot continue. ``vtag run`` keeps the finished videos."""


class WorkerError(JobError):
    """A failure of Ray, a worker or the model for which vtag has no message of its own.

    ``log`` is the log file of Ray and its workers, and ``log_tail`` its last lines.
    """

    log: Path | None = None
    log_tail: tuple[str, ...] = ()


class Interrupted(VtagError):  # noqa: N818 - an outcome rather than an error
    """A job that was stopped by Ctrl-C or SIGTERM. The message says what is kept and how to continue."""


def reason(error: OSError) -> str:
    """Returns the reason of a system error, to put after a colon. Its first letter is in lower case."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
