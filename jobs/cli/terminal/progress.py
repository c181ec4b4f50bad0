"""Views that show the progress of a tagging job: live in a terminal, as plain lines, as JSON lines, or not at all.

A view is a context manager that is called with each ``Progress``. It never blocks the job. Only the JSON view writes to
standard output.
"""

import contextlib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from jobs.archive.video import Failure
from jobs.cli.terminal.wording import amount, clock, count, percent, printable, significant
from jobs.errors import reason
from jobs.tagging.summary import Progress

LINE_EVERY_S = 10.0
"""Seconds of job time between two plain progress lines."""

MIN_PACE_S = 3.0
"""Shortest time in seconds over which a pace is measured. Windows come in bursts."""

JSON_EVERY_S = 1.0
"""Seconds of job time between two progress events of ``--json``."""


class View(Protocol):
    """Shows a running job."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

    def __call__(self, progress: Progress) -> None:
        """Shows a snapshot when one is due."""


@dataclass(frozen=True)
class Pace:
    """Speed of a job: windows per second, seconds of video per second, and seconds until its end (None if unknown)."""

    windows_per_s: float
    realtime: float
    left_s: float | None


class PaceMeter:
    """Measures the pace from the first windows that came back to the last ones.

    The start of Ray and of the models does not count. The first windows do not count either, because the time at which
    work on them began is unknown.
    """

    def __init__(self) -> None:
        self._first: Progress | None = None

    def __call__(self, progress: Progress) -> Pace | None:
        """Returns the pace at ``progress``; None until enough time has been measured."""
        if self._first is None and progress.windows:
            self._first = progress
        if self._first is None or progress.elapsed_s - self._first.elapsed_s < MIN_PACE_S:
            return None
        first = self._first
        passed_s = progress.elapsed_s - first.elapsed_s
        done = progress.videos_done - first.videos_done
        left = progress.videos_total - progress.videos_kept - progress.videos_done
        return Pace(
            windows_per_s=(progress.windows - first.windows) / passed_s,
            realtime=(progress.video_s - first.video_s) / passed_s,
            left_s=left * passed_s / done if done and left else None,
        )


def share_done(progress: Progress) -> float:
    """Returns the share of finished videos, 0 to 1. Videos of an earlier run count."""
    return (progress.videos_kept + progress.videos_done) / max(progress.videos_total, 1)


def measures(progress: Progress, pace: Pace | None) -> list[str]:
    """Returns the progress and the pace as short phrases."""
    phrases = [f"{amount(progress.video_s)} of video"]
    if pace is not None:
        phrases += [f"{significant(pace.windows_per_s)} windows/s", f"{significant(pace.realtime)}× real time"]
    if progress.decode_busy or progress.predict_busy:
        phrases += [f"decoding {percent(progress.decode_busy)}", f"model {percent(progress.predict_busy)}"]
    return phrases


class SilentView:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    def __call__(self, progress: Progress) -> None:
        """Ignores the snapshot."""


class _Schedule:
    """Decides when a snapshot is due: at each new phase, and every ``every_s`` seconds of job time in a long one."""

    def __init__(self, every_s: float):
        self._every_s = every_s
        self._phase = ""
        self._due_s = 0.0

    def is_due(self, progress: Progress) -> bool:
        is_long = progress.phase in ("comparing", "tagging")
        if progress.phase == self._phase and not (is_long and progress.elapsed_s >= self._due_s):
            return False
        self._phase = progress.phase
        self._due_s = progress.elapsed_s + self._every_s
        return True


class LineView(SilentView):
    """Writes a plain line every ten seconds, or ``every_s``, for logs."""

    def __init__(self, stream: TextIO, every_s: float = LINE_EVERY_S):
        self._stream = stream
        self._pace = PaceMeter()
        self._schedule = _Schedule(every_s)
        self._failure: Failure | None = None

    def __call__(self, progress: Progress) -> None:
        """Writes a line when one is due, and another line for a new failure."""
        pace = self._pace(progress)
        if not self._schedule.is_due(progress):
            return
        self._write_line(_state(progress, pace))
        if progress.last_failure is not None and progress.last_failure != self._failure:
            self._failure = progress.last_failure
            self._write_line(_failed(progress, self._failure))

    def _write_line(self, line: str) -> None:
        print(f"vtag: {line}", file=self._stream, flush=True)


def _state(progress: Progress, pace: Pace | None) -> str:
    match progress.phase:
        case "starting":
            return f"starting, {_workload(progress)}"
        case "comparing":
            return _compared(progress)
        case "publishing":
            return "writing the result"
    left = [f"{clock(pace.left_s)} left"] if pace and pace.left_s is not None else []
    return ", ".join([f"{_done(progress)} ({percent(share_done(progress))})", *left, *measures(progress, pace)])


def _compared(progress: Progress) -> str:
    unsure = count(progress.videos_unsure, "video")
    return f"comparing the content of {unsure} with another time or place, {progress.videos_compared:,} done"


def _workload(progress: Progress) -> str:
    kept = f", {progress.videos_kept:,} kept from an earlier run" if progress.videos_kept else ""
    return count(progress.videos_total, "video") + kept


def _done(progress: Progress) -> str:
    return f"{progress.videos_kept + progress.videos_done:,} of {count(progress.videos_total, 'video')}"


def _failed(progress: Progress, last: Failure) -> str:
    name = printable(Path(last.path).name)
    return f"{progress.videos_failed:,} failed, the last: {name} {failure_reason(last)}"


def failure_reason(failure: Failure) -> str:
    """Returns why a video failed, without its path: ``is empty (0 bytes)``."""
    return printable(failure.reason).removeprefix(printable(failure.path)).lstrip(": ")


class JsonView(SilentView):
    """Writes JSON lines for a program: ``progress`` every second and at each phase, ``failure`` for every failure."""

    def __init__(self, stream: TextIO):
        self._stream = stream
        self._pace = PaceMeter()
        self._schedule = _Schedule(JSON_EVERY_S)
        self._failure: Failure | None = None

    def __call__(self, progress: Progress) -> None:
        """Writes the events that are due."""
        pace = self._pace(progress)
        if progress.last_failure is not None and progress.last_failure != self._failure:
            self._failure = progress.last_failure
            write_event(self._stream, "failure", asdict(self._failure))
        if self._schedule.is_due(progress):
            values = asdict(progress)
            del values["last_failure"]
            write_event(self._stream, "progress", values | (asdict(pace) if pace else {}))


def write_event(stream: TextIO, event: str, values: dict[str, Any]) -> None:
    """Writes ``values`` as one JSON line, with the key ``event`` first."""
    print(json.dumps({"event": event, **values}), file=stream, flush=True)


class LiveView:
    """Shows a bar and a few lines in a terminal, redrawn in place. They disappear when the job ends."""

    def __init__(self, console: Console):
        self._pace = PaceMeter()
        self._live = Live(
            Spinner("dots", "Starting"),
            console=console,
            refresh_per_second=8,
            transient=True,
            redirect_stdout=False,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The terminal may have been closed.
        with contextlib.suppress(OSError):
            self._live.stop()

    def __call__(self, progress: Progress) -> None:
        """Redraws the bar and the lines."""
        self._live.update(draw(progress, self._pace(progress)))


def draw(progress: Progress, pace: Pace | None) -> RenderableType:
    """Returns the picture of a running job: its phase, or a bar with the measures and the last failure."""
    if progress.phase == "starting":
        return Spinner("dots", f"Starting: {_workload(progress)}")
    if progress.phase == "comparing":
        return Spinner("dots", _compared(progress).capitalize())
    if progress.phase == "publishing":
        return Spinner("dots", "Writing the result")
    bar = Table.grid(padding=(0, 2), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(no_wrap=True)
    bar.add_column(no_wrap=True, justify="right")
    bar.add_column(no_wrap=True, justify="right")
    bar.add_row(
        ProgressBar(total=max(progress.videos_total, 1), completed=progress.videos_kept + progress.videos_done),
        _done(progress),
        percent(share_done(progress)),
        "" if pace is None or pace.left_s is None else f"{clock(pace.left_s)} left",
    )
    lines: list[RenderableType] = [bar, _line(" · ".join(measures(progress, pace)), "dim")]
    if progress.last_failure is not None:
        lines.append(_line(_failed(progress, progress.last_failure), "red"))
    return Group(*lines)


def _line(text: str, style: str) -> Text:
    return Text(text, style, no_wrap=True, overflow="ellipsis")


def choose_view(*, as_json: bool = False, quiet: bool = False) -> View:
    """Returns the view for a program (JSON lines), for ``quiet``, for a terminal, or for a log file."""
    if quiet:
        return SilentView()
    if as_json:
        return JsonView(sys.stdout)
    console = Console(stderr=True)
    return LiveView(console) if console.is_terminal and not console.is_dumb_terminal else LineView(sys.stderr)


def until_it_fails(view: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Returns ``view`` without its errors: when the reader is gone, as with ``| head -1``, the job continues unseen."""
    is_open = True

    def show(progress: Progress) -> None:
        nonlocal is_open
        if is_open:
            try:
                view(progress)
            except OSError:
                is_open = False

    return show


class LastingOutput:
    """Standard output of work that goes on when it cannot be written, as with ``| head -3``.

    One line on standard error says so. ``is_open`` is false from then on.
    """

    def __init__(self) -> None:
        self.is_open = True

    def write(self, show: Callable[[], None]) -> None:
        """Calls ``show``, which writes, while that is possible."""
        if not self.is_open:
            return
        try:
            show()
        except OSError as error:
            self.is_open = False
            _discard(sys.stdout)
            write_error(
                f"standard output cannot be written: {reason(error)}; the watch goes on, and shows nothing more"
            )


def write_error(words: str) -> None:
    """Writes a line to standard error if that is possible."""
    with contextlib.suppress(OSError):
        print(f"vtag: {words}", file=sys.stderr, flush=True)


def _discard(stream: TextIO) -> None:
    """Makes ``stream`` lead to nothing: what is left in its buffer would be an error at the end of the program."""
    with contextlib.suppress(OSError, ValueError):
        number = stream.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)
