"""How the program ends when something goes wrong: one line on standard error and an exit status."""

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

from jobs.errors import WorkerError, reason
from tagger.errors import VtagError

SOME_VIDEOS_FAILED = 3
INTERRUPTED = 130
"""128 + SIGINT, as shells have it."""

VERBOSE = "vtag.verbose"
"""Key in ``click.Context.meta``: whether a traceback is wanted."""


class Ending(click.ClickException):
    """Ends the program with ``vtag: message`` on standard error."""

    exit_code = 1
    details: tuple[str, ...] = ()
    """More lines below that one."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the lines."""
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
            raise  # click ends quietly when the reader of a pipe has gone
        if ctx.meta.get(VERBOSE):
            traceback.print_exc()
        if isinstance(error, VtagError):
            ending = Ending(" ".join(str(error).split()))
            if isinstance(error, WorkerError) and error.log_tail:
                ending.details = (f"The last lines of {error.log}:", *(f"  {line}" for line in error.log_tail))
            raise ending from error
        if isinstance(error, OSError) and error.filename and error.strerror:
            raise Ending(f"{error.filename}: {reason(error)}") from error
        lines = str(error).split("\n")
        # The last line, because Ray puts a worker's traceback before what went wrong.
        what = f"{type(error).__name__}: {next((line for line in reversed(lines) if line.strip()), 'no reason given')}"
        hint = " (--verbose tells the whole story)" if ctx.meta.get(VERBOSE) is False else ""
        raise Ending(what.strip() + hint) from error


def end_at_interrupt() -> None:
    """Lets the first Ctrl-C end the job in order, and a second one the process at once, without a traceback."""
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGINT, _leave)
    _write("\nvtag: stopping; Ctrl-C again stops at once\n")
    raise KeyboardInterrupt


def _leave(signum: int, frame: FrameType | None) -> None:
    show_cursor = "\x1b[?25h" if sys.__stderr__ and sys.__stderr__.isatty() else ""
    _write(f"{show_cursor}vtag: stopped at once\n")
    os._exit(INTERRUPTED)


def _write(text: str) -> None:
    """Writes to standard error without its buffer: the signal may have come in the middle of another write."""
    if sys.__stderr__:
        os.write(sys.__stderr__.fileno(), text.encode())
