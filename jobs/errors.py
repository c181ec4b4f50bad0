"""The errors of a job, and how the reason of a system error is written."""

from pathlib import Path

from tagger.errors import VtagError


class JobError(VtagError):
    """A job that cannot go on: the model fails, a worker dies again and again, or too many videos cannot be read.

    What is finished is kept.
    """


class WorkerError(JobError):
    """Ray, a worker or the model failed in a way that vtag has no words of its own for.

    ``log`` is the file to which Ray and its workers wrote, and ``log_tail`` its last lines.
    """

    log: Path | None = None
    log_tail: tuple[str, ...] = ()


class Interrupted(VtagError):  # noqa: N818 - an outcome rather than an error
    """A job that was stopped by Ctrl-C or SIGTERM. The message says what is kept and how to go on."""


def reason(error: OSError) -> str:
    """Why something cannot be done, to be put after a colon."""
    text = error.strerror or str(error)
    return text[:1].lower() + text[1:]
