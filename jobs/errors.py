"""The errors of a job, and the reason of a system error in words."""

import os
import re

from tagger.errors import VtagError, one_line


class JobError(VtagError):
    """A job, training or measurement that cannot continue. ``vtag run`` keeps the finished videos."""


class WorkerError(JobError):
    """A failure of Ray, a worker or the model for which vtag has no message of its own.

    ``log`` is what Ray and its workers have printed. ``is_unexpected``: the failure is an error in a program.
    """

    log: str = ""
    is_unexpected: bool = False


class Interrupted(VtagError):  # noqa: N818 - an outcome rather than an error
    """A job that was stopped by Ctrl-C, SIGTERM or SIGHUP. The message says what is kept and how to continue."""


_BEFORE_THE_MESSAGE = re.compile(
    r"\b(?:\w+[.:]+)*[A-Z]\w*(?:Error|Exception|Invalid): |.*Detail: (?=\[errno )|\[[Ee]rrno \d+\] "
)
"""What libraries put before the message of an error: the name of its class, a sentence of pyarrow, or the number."""


def without_names(text: str) -> str:
    """Returns the message of an error of a library without the names of exceptions in it, in one line."""
    return " ".join(_BEFORE_THE_MESSAGE.sub("", text).split())


def reason(error: OSError) -> str:
    """Returns the reason of a system error, to put after a colon. Its first letter is in lower case."""
    text = without_names(error.strerror or str(error))
    return text[:1].lower() + text[1:]


def what_failed(error: OSError, otherwise: str) -> str:
    """Returns what a system error has stopped: the use of the file that it names, or else ``otherwise``."""
    file = error.filename
    named = isinstance(file, str | bytes) and bool(file)
    return f"{one_line(os.fsdecode(file))} cannot be read or written" if named else otherwise
