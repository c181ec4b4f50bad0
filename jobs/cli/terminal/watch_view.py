"""Views that show a live picture: in a terminal with the last minute as a bar, as plain lines, or as JSON lines."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from jobs.cli.terminal.progress import LastingOutput, write_error, write_event
from jobs.cli.terminal.wording import count, printable
from jobs.watching.commands import Failed
from jobs.watching.last_minute import MINUTE_S, LastMinute
from jobs.watching.smoother import Moment
from jobs.watching.watch_job import Note, WatchSummary, WatchView
from tagger.live.inbox import Lost, Opened
from tagger.live.watch import Dropped, LiveSegment, Retry

COLOURS = ("green", "yellow", "blue", "magenta", "cyan", "red")
"""Colours of labels in the bar, given in the order in which labels come. They repeat."""

NO_LABEL = "-"

DROPPED_EVERY_S = 10.0
"""Seconds between two lines about dropped windows."""


def change_line(moment: Moment) -> str:
    """Returns the line about a change: the time of day, the seconds of the stream, the label and its confidence."""
    clock = moment.started_at.astimezone().strftime("%H:%M:%S")
    label = NO_LABEL if moment.label is None else printable(moment.label)
    return f"{clock}  {moment.start_s:9.1f} s  {label:<24} {moment.confidence:.2f}"


def note_line(note: Note) -> str:
    """Returns one line about what happened to the source, the windows or a command."""
    match note:
        case Opened(container, codec, width, height):
            return f"watching {container}, {codec}, {width}×{height}"
        case Lost(reason):
            return f"not all of the picture was seen: {printable(reason)}"
        case Retry(reason, pause_s):
            return f"the picture is lost: {printable(reason)}; trying again in {pause_s:g} s"
        case Dropped(windows):
            return f"the model does not keep up: {count(windows, 'window')} dropped"
        case Failed(reason):
            return printable(reason)


class _DroppedLines:
    """Collects dropped windows, so that a slow model does not fill the screen."""

    def __init__(self) -> None:
        self._windows = 0
        self._due_s = 0.0

    def due(self, note: Note) -> Note | None:
        """Returns what to show now."""
        if not isinstance(note, Dropped):
            return note
        self._windows += note.windows
        now_s = time.monotonic()
        if now_s < self._due_s:
            return None
        self._due_s = now_s + DROPPED_EVERY_S
        windows, self._windows = self._windows, 0
        return Dropped(windows)


class PlainView:
    """Writes changes to standard output and notes to standard error, a line each. ``quiet``: no notes but failures."""

    def __init__(self, *, quiet: bool = False):
        self._quiet = quiet
        self._dropped = _DroppedLines()

    def segment(self, segment: LiveSegment) -> None:
        """Shows nothing: only changes are shown."""

    def moment(self, moment: Moment) -> None:
        """Shows nothing: only changes are shown."""

    def change(self, moment: Moment) -> None:
        """Writes a line."""
        click.echo(change_line(moment))

    def note(self, note: Note) -> None:
        """Writes a line."""
        due = self._dropped.due(note)
        if due is not None and (isinstance(due, Failed) or not self._quiet):
            write_error(note_line(due))


class JsonView:
    """Writes a JSON line for each segment, each change and each note. ``quiet``: only for changes.

    A failure is a line on standard error as well.
    """

    def __init__(self, *, quiet: bool = False):
        self._quiet = quiet

    def segment(self, segment: LiveSegment) -> None:
        """Writes the segment, with the time at which its last frame came."""
        values = asdict(segment)
        del values["ended_at"]
        if not self._quiet:
            write_event(sys.stdout, "segment", values | {"ended_at": _iso(segment.ended_at)})

    def moment(self, moment: Moment) -> None:
        """Writes nothing: a moment is a segment, or a change."""

    def change(self, moment: Moment) -> None:
        """Writes the change."""
        values = {"label": moment.label, "confidence": round(moment.confidence, 6), "start_s": moment.start_s}
        write_event(sys.stdout, "change", values | {"started_at": _iso(moment.started_at)})

    def note(self, note: Note) -> None:
        """Writes the note, as an event that has the name of its kind."""
        if isinstance(note, Failed):
            write_error(note_line(note))
        if not self._quiet:
            write_event(sys.stdout, type(note).__name__.lower(), asdict(note))


def _iso(time_of: datetime) -> str:
    return time_of.isoformat(timespec="milliseconds")


class LiveBar:
    """Shows changes as lines, and below them the last minute as a bar that is redrawn in place."""

    def __init__(self, console: Console):
        self._console = console
        self._dropped = _DroppedLines()
        self._minute = LastMinute()
        self._colours: dict[str, str] = {}
        self._note = "opening"
        self.live = Live(
            Text(), console=console, refresh_per_second=8, redirect_stdout=False, redirect_stderr=False, transient=True
        )

    def segment(self, segment: LiveSegment) -> None:
        """Draws the bar anew."""
        self._note = f"{segment.label} {segment.confidence:.2f} · {1000 * segment.latency_s:.0f} ms behind"
        self.live.update(self.draw(self._console.width))

    def moment(self, moment: Moment) -> None:
        """Adds the moment to the bar."""
        self._minute.add(moment)

    def change(self, moment: Moment) -> None:
        """Prints a line above the bar."""
        self._console.print(Text(change_line(moment), no_wrap=True, overflow="ellipsis"))

    def note(self, note: Note) -> None:
        """Prints a line above the bar."""
        due = self._dropped.due(note)
        if due is None:
            return
        is_failure = isinstance(due, Failed)
        self._console.print(Text(note_line(due), "red" if is_failure else "dim", no_wrap=True, overflow="ellipsis"))
        if is_failure and not sys.stderr.isatty():
            write_error(note_line(due))

    def draw(self, width: int) -> RenderableType:
        """Returns the bar: a cell for each part of the last minute, in the colour of its label, and what is new."""
        stretches, until_s = self._minute.stretches, self._minute.until_s
        bar = Text(no_wrap=True, overflow="crop")
        names: dict[str, str] = {}
        for cell in range(width):
            at_s = until_s - MINUTE_S + (cell + 0.5) * MINUTE_S / width
            label = next((name for start_s, end_s, name in stretches if start_s <= at_s < end_s), None)
            if label is None:
                bar.append("·", "dim")
                continue
            names[label] = self._colours.setdefault(label, COLOURS[len(self._colours) % len(COLOURS)])
            bar.append("█", names[label])
        legend = Text(no_wrap=True, overflow="ellipsis")
        for label, colour in names.items():
            legend.append("█ ", colour).append(f"{printable(label)}  ")
        return Group(bar, legend, Text(self._note, "dim", no_wrap=True, overflow="ellipsis"))


def _stop(live: Live) -> None:
    # The terminal may have been closed.
    with contextlib.suppress(OSError):
        live.stop()


class LastingView:
    """Shows what ``view`` shows until that cannot be written. From then on, only failures are written."""

    def __init__(self, view: WatchView):
        self._view = view
        self._output = LastingOutput()

    def segment(self, segment: LiveSegment) -> None:
        """See WatchView."""
        self._output.write(lambda: self._view.segment(segment))

    def moment(self, moment: Moment) -> None:
        """See WatchView."""
        self._output.write(lambda: self._view.moment(moment))

    def change(self, moment: Moment) -> None:
        """See WatchView."""
        self._output.write(lambda: self._view.change(moment))

    def note(self, note: Note) -> None:
        """See WatchView."""
        if self._output.is_open:
            self._output.write(lambda: self._view.note(note))
        elif isinstance(note, Failed):
            write_error(note_line(note))


@contextlib.contextmanager
def watch_view(*, as_json: bool, quiet: bool, is_lasting: bool) -> Iterator[WatchView]:
    """Yields the view for a program, for a terminal, or for a file or pipe.

    ``is_lasting``: the watch goes on when standard output cannot be written any more.
    """
    console = Console()
    view: WatchView
    with contextlib.ExitStack() as stack:
        if as_json:
            view = JsonView(quiet=quiet)
        elif console.is_terminal and not console.is_dumb_terminal and not quiet:
            view = LiveBar(console)
            view.live.start()
            stack.callback(_stop, view.live)
        else:
            view = PlainView(quiet=quiet)
        yield LastingView(view) if is_lasting else view


def json_summary(summary: WatchSummary) -> None:
    """Writes the last JSON line."""
    write_event(sys.stdout, "summary", asdict(summary))


def print_summary(summary: WatchSummary, out: str | None) -> None:
    """Prints the end to standard error: what was watched, dropped and kept."""
    words = [count(summary.segments, "segment")]
    if summary.dropped:
        words.append(f"{count(summary.dropped, 'window')} dropped because the model did not keep up")
    if summary.lost:
        words.append(f"lost {count(summary.lost, 'time')}")
    kept = "" if out is None else f"; kept in {printable(out)}"
    write_error(f"the end of {printable(summary.source)}: {', '.join(words)}{kept}")
