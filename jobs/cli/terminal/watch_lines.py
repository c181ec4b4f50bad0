"""What ``vtag watch`` prints about a folder: a line for each job, and notes. It is quiet between jobs."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from jobs.archive.video import Failure
from jobs.cli.terminal.progress import LastingOutput, LineView, choose_view, failure_reason, until_it_fails, write_error
from jobs.cli.terminal.run_report import summary_json
from jobs.cli.terminal.wording import clock, count, printable
from jobs.tagging.summary import Progress
from jobs.watching.folder import Event, Note, Watching
from jobs.watching.job_runner import JobDone

FAILURES_SHOWN = 5
"""Number of failed videos that the lines of a job name."""

LONG_JOB_S = 60.0
"""Seconds after which a job has lines of progress in a log, and between two of them."""


def printer(folder: str, out: str, *, as_json: bool, quiet: bool) -> Callable[[Event], None]:
    """Returns a function that prints events: jobs on standard output, notes on standard error.

    With ``as_json``, all are JSON lines on standard output, notes also on standard error. With ``quiet``, only
    notes and failures are printed, on standard error; of JSON lines, only notes and the summaries of jobs. The watch
    goes on when standard output cannot be written any more.
    """
    output = LastingOutput()

    def show(event: Event) -> None:
        if isinstance(event, Note):
            write_error(printable(event.words))
        if as_json:
            if not (quiet and isinstance(event, Watching)):
                output.write(lambda: print(json_line(event), flush=True))
        elif isinstance(event, Watching):
            if not quiet:
                words = f"watching {printable(folder)}, {count(event.videos, 'video')} so far, for {printable(out)}"
                write_error(words)
        elif isinstance(event, JobDone) and quiet:
            with contextlib.suppress(OSError):
                for line in failure_lines(event.failed):
                    print(line, file=sys.stderr, flush=True)
        elif isinstance(event, JobDone):
            output.write(lambda: print("\n".join(job_lines(event, datetime.now())), flush=True))

    return show


def json_line(event: Event) -> str:
    """Returns an event as a JSON object with the key ``event``; a job has the ``summary`` of ``vtag run``."""
    match event:
        case Watching(videos):
            return json.dumps({"event": "watching", "videos": videos})
        case Note(words):
            return json.dumps({"event": "note", "words": words})
    return json.dumps({"event": "summary", **summary_json(event.summary)})


def job_lines(done: JobDone, now: datetime) -> list[str]:
    """Returns the line of a job that ended ``now``, and a line for each of the first videos that failed.

    ``2026-11-30 14:03:22  2 videos, 14 segments in 0:08, 1 failed or partial, 3 videos moved or renamed``
    """
    summary = done.summary
    read = f"{count(done.videos, 'video')}, {count(summary.windows_done, 'segment')} in {clock(summary.elapsed_s)}"
    parts = [read] * bool(done.videos)
    parts += [f"{len(done.failed):,} failed or partial"] * bool(done.failed)
    others = (summary.moved, "moved or renamed"), (summary.touched, "with a new time"), (summary.pruned, "removed")
    parts += [f"{count(number, 'video')} {what}" for number, what in others if number]
    return [f"{now:%Y-%m-%d %H:%M:%S}  {', '.join(parts)}", *failure_lines(done.failed)]


def failure_lines(failed: tuple[Failure, ...]) -> list[str]:
    """Returns a line for each of the first videos that failed."""
    shown = [f"  {printable(Path(each.path).name)}: {failure_reason(each)}" for each in failed[:FAILURES_SHOWN]]
    return [*shown, *[f"  and {len(failed) - FAILURES_SHOWN:,} more"] * (len(failed) > FAILURES_SHOWN)]


class LongJobView(LineView):
    """Writes lines about a job that takes long, and none about others."""

    def __call__(self, progress: Progress) -> None:
        """Writes a line when one is due."""
        if progress.elapsed_s >= LONG_JOB_S:
            super().__call__(progress)


@contextlib.contextmanager
def job_view(*, as_json: bool, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Shows a job as ``vtag run`` does, but in a log the first minute is quiet."""
    view = choose_view(as_json=as_json, quiet=quiet)
    if type(view) is LineView:
        view = LongJobView(sys.stderr, LONG_JOB_S)
    with view:
        yield until_it_fails(view)
