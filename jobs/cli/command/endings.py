"""The end of the program after an error: one line on standard error and an exit status."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import IO, Any

import click

from jobs.cli.terminal.wording import printable
from jobs.errors import WorkerError, reason
from tagger.errors import VtagError

SOME_VIDEOS_FAILED = 3
"""Exit status of a finished job when some videos failed or were read only in part."""

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as in shells."""

VERBOSE = "vtag.verbose"
"""Key in ``click.Context.meta``: whether ``--verbose`` was given."""


class Ending(click.ClickException):
    """Ends the program with ``vtag: message`` on standard error."""

    exit_code = 1
    details: tuple[str, ...] = ()
    """Lines printed below the message."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the message and the details."""
        for line in (f"vtag: {self.message}", *self.details):
            click.echo(line, file=file, err=file is None)


class InterruptedEnding(Ending):
    """Ends the program after Ctrl-C."""

    exit_code = INTERRUPTED


@contextmanager
def one_line_errors(ctx: click.Context) -> Iterator[None]:
    """Turns every error into an Ending; with ``--verbose`` its traceback is printed first."""
    try:
        yield
    except (click.ClickException, click.Abort, click.exceptions.Exit):
        raise
    except KeyboardInterrupt:
        raise InterruptedEnding("interrupted") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:
            raise  # click exits without a message when the reader of a pipe has closed it
        if ctx.meta.get(VERBOSE):
            traceback.print_exc()
        if isinstance(error, VtagError):
            ending = Ending(printable(" ".join(str(error).split())))
            if isinstance(error, WorkerError) and error.log_tail:
                ending.details = (f"The last lines of {error.log}:", *(f"  {line}" for line in error.log_tail))
            raise ending from error
        if isinstance(error, OSError) and error.filename and error.strerror:
            raise Ending(f"{error.filename}: {reason(error)}") from error
        lines = str(error).split("\n")
        # Ray puts a worker's traceback before the error, so the error is in the last line.
        message = (
            f"{type(error).__name__}: {next((line for line in reversed(lines) if line.strip()), 'no reason given')}"
        )
        hint = " (--verbose shows the traceback)" if ctx.meta.get(VERBOSE) is False else ""
        raise Ending(message.strip() + hint) from error


def end_at_interrupt() -> None:
    """Makes the first Ctrl-C stop the job in order and the second one end the process at once, without a traceback."""
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _exit_at_once)
    _write("\nvtag: stopping; Ctrl-C again stops at once\n")
    raise KeyboardInterrupt


def _exit_at_once(signum: int, frame: FrameType | None) -> None:
    show_cursor = "\x1b[?25h" if sys.__stderr__ and sys.__stderr__.isatty() else ""
    _write(f"{show_cursor}vtag: stopped at once\n")
    os._exit(INTERRUPTED)


def _write(text: str) -> None:
    """Writes to standard error without its buffer: the signal may have interrupted another write."""
    if sys.__stderr__:
        os.write(sys.__stderr__.fileno(), text.encode())
