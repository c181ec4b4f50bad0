"""The end of the program after an error: one line on standard error and an exit status."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

import click

from jobs.cli.command.story import story_of, write_story
from jobs.cli.terminal.wording import printable
from jobs.errors import WorkerError, reason
from tagger.errors import VtagError, work_of

SOME_VIDEOS_FAILED = 3
"""Exit status of a finished job when some videos failed or were read only in part."""

INTERRUPTED = 130
"""Exit status after Ctrl-C: 128 + SIGINT, as in shells."""

VERBOSE = "vtag.verbose"
"""Key in ``click.Context.meta``: whether ``--verbose`` was given."""

KEPT = "vtag.kept"
"""Key in ``click.Context.meta``: a ``Kept``, when the command has one."""


@dataclass(frozen=True)
class Kept:
    """What a command keeps when it is stopped by an unexpected error, as the end of its message, and its run folder."""

    words: str
    run_folder: str | None = None


def keep(words: str, run_folder: object = None) -> None:
    """Sets the ``Kept`` of the command that is running, if one is."""
    if context := click.get_current_context(silent=True):
        context.meta[KEPT] = Kept(words, None if run_folder is None else str(run_folder))


class Ending(click.ClickException):
    """Ends the program with ``vtag: message`` on standard error."""

    exit_code = 1

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints the message. The exit status is the same where it cannot be read, as in a closed terminal."""
        with suppress(OSError):
            click.echo(f"vtag: {self.message}", file=file, err=file is None)


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
        raise _ending(error, ctx) from error


def _ending(error: Exception, ctx: click.Context) -> Ending:
    verbose = ctx.meta.get(VERBOSE)
    if verbose:
        traceback.print_exception(error)
    work = work_of(error) or f"running vtag {ctx.invoked_subcommand}"
    if isinstance(error, FileNotFoundError) and error.filename is None and _is_current_folder_removed():
        return _one_line("the current folder was removed; change to another one, or give absolute paths")
    if isinstance(error, OSError) and error.strerror:
        return _one_line(f"{error.filename or work}: {reason(error)}")
    if isinstance(error, VtagError) and not isinstance(error, WorkerError):
        return _one_line(str(error))
    if isinstance(error, WorkerError):
        message, is_unexpected = str(error), error.is_unexpected
    else:
        message, is_unexpected = f"stopped by an unexpected error while {work}", True
    kept = ctx.meta.get(KEPT) or Kept("")
    file = None if verbose else write_story(error, kept.run_folder)
    if file is None and not verbose:
        click.echo(story_of(error), err=True)
    place = f"the full story is {f'in {file}' if file else 'above'}{' (please report it)' if is_unexpected else ''}"
    return _one_line("; ".join(filter(None, (message, place, kept.words))))


def _is_current_folder_removed() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _one_line(message: str) -> Ending:
    return Ending(printable(" ".join(message.split())))


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
