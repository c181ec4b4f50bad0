"""The printed summary of a tagging job: amounts, speed, failures, where the result is and how to query it."""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.archive.selection import Selection
from jobs.archive.video import Failure
from jobs.cli.terminal.progress import failure_reason
from jobs.cli.terminal.wording import amount, clock, count, percent, printable, significant
from jobs.tagging.summary import Efficiency, Summary
from tagger.errors import ErrorKind
from tagger.segments import BACKGROUND

if TYPE_CHECKING:
    from jobs.tagging.dry_run import DryRun

EXAMPLES_SHOWN = 3
"""Number of videos that the summary names for each kind of failure."""

LABELS_SHOWN = 8
"""Number of labels that the summary names, the most frequent first, without ``background``."""

EXTENSIONS_SHOWN = 5
"""Number of extensions that are named among those of files that are left out."""

FOLDERS_SHOWN = 5
"""Number of folders that are named among those that cannot be listed."""

STAYS = "still in the result (--prune removes them)"
"""What a report says about videos that are no longer in the inputs, without ``--prune``."""


def table_path(out: str) -> str:
    """Returns the path that DuckDB reads: the file itself, or a glob of all part files of a folder."""
    return out if out.endswith(".parquet") else f"{out.rstrip('/')}/*.parquet"


def duckdb_query(out: str) -> str:
    """Returns SQL for DuckDB that counts the segments of each label in the result."""
    return f"SELECT label, count(*) AS segments FROM {_quoted(table_path(out))} GROUP BY 1 ORDER BY 2 DESC"


def failures_query(videos_out: str) -> str:
    """Returns SQL for DuckDB that lists the videos that failed or were read only in part, and why."""
    return f"SELECT video, status, error FROM {_quoted(table_path(videos_out))} WHERE status <> 'ok'"


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "''") + "'"


def shell_line(query: str) -> str:
    """Returns a shell command that runs ``query`` in DuckDB."""
    escaped = re.sub(r'([$`"\\])', r"\\\1", query)
    return f'duckdb -c "{escaped}"'


def pandas_line(out: str) -> str:
    """Returns a Python expression that reads the result with pandas."""
    return f"pandas.read_parquet({json.dumps(out, ensure_ascii=False)})"


def print_summary(summary: Summary, console: Console) -> None:
    """Prints the closing summary."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("Videos", _videos(summary))
    if summary.kept or summary.gone:
        facts.add_row("This run", video_counts(summary))
    if summary.gone:
        facts.add_row("Gone", _gone(summary, "removed from the result"))
    if summary.only is not None:
        facts.add_row("Ranges", _only(summary.only))
    if summary.unlisted:
        facts.add_row("Folders", _unlisted(summary))
    if summary.left_out:
        facts.add_row("Left out", _left_out(summary))
    facts.add_row("Video time", amount(summary.video_s))
    facts.add_row("Segments", f"{summary.segments:,}")
    if summary.background.segments:
        facts.add_row("Background", _background(summary))
    facts.add_row("Speed", speed(summary))
    facts.add_row("Time", time_spent(summary))
    if summary.efficiency is not None:
        facts.add_row("Efficiency", efficiency(summary.efficiency))
    facts.add_row("Model", f"{summary.model}, windows of {summary.sampling}")
    console.print(facts)
    if summary.failures:
        console.print()
        console.print(_failures(summary))
        if any(len(failures) > EXAMPLES_SHOWN for _, failures in _by_kind(summary.failures)):
            console.print(
                f" all of them: {shell_line(failures_query(summary.videos_out))}", soft_wrap=True, markup=False
            )
    if (labels := _labels(summary)).row_count:
        console.print()
        console.print(labels)
    console.print()
    print_result(summary, console)


def print_result(summary: Summary, console: Console) -> None:
    """Prints where the result is and how to query it. Lines are never wrapped, so that they can be copied."""
    lines = {
        "Segments": summary.out,
        "Videos": summary.videos_out,
        **({} if summary.embeddings_out is None else {"Embeddings": summary.embeddings_out}),
        "DuckDB": shell_line(duckdb_query(summary.out)),
        "pandas": pandas_line(summary.out),
    }
    width = max(map(len, lines)) + 2
    for name, line in lines.items():
        text = Text.assemble((name.ljust(width), "bold"), printable(line))
        console.print(text, soft_wrap=True, highlight=False)


def print_dry_run(found: "DryRun", console: Console) -> None:
    """Prints the report of a dry run: what a job would do."""
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold", no_wrap=True)
    facts.add_column(overflow="fold")
    facts.add_row("Videos", f"{found.videos:,}: {video_counts(found)}")
    if found.gone:
        facts.add_row("Gone", _gone(found, "to be removed from the result"))
    if found.moved_or_gone:
        words = f"{count(found.moved_or_gone, 'video')} of the result; the content of those to be compared decides"
        facts.add_row("Moved or gone", words)
    if found.only is not None:
        facts.add_row("Ranges", _only(found.only))
    if found.unlisted:
        facts.add_row("Folders", _unlisted(found))
    if found.left_out:
        facts.add_row("Left out", _left_out(found))
    if found.unreadable:
        facts.add_row("Unreadable", Text(f"{count(found.unreadable, 'video')} cannot be opened", "red"))
    if found.unopened:
        words = f"{count(found.unopened, 'video')} in buckets: opening a video would mean copying it first"
        facts.add_row("Not opened", words)
    facts.add_row("To be done", f"{amount(found.video_s)} of video, {count(found.windows, 'window')}")
    console.print(facts)


def _gone(found: "Summary | DryRun", fate: str) -> str:
    """Returns what happens to the videos that are no longer in the inputs. ``fate`` is that of the pruned ones."""
    if not found.pruned and not found.unknown:
        return f"{count(found.gone, 'video')} no longer in the inputs, {STAYS}"
    unknown = f"{found.unknown:,} not certainly gone, still in the result"
    parts = [f"{found.pruned:,} {fate}"] * bool(found.pruned) + [unknown] * bool(found.unknown)
    return f"{count(found.gone, 'video')} no longer in the inputs: {'; '.join(parts)}"


def _only(chosen: Selection) -> str:
    """Returns what the ranges of ``--only`` choose among the videos of the inputs."""
    parts = [f"{count(chosen.ranges, 'range')} of {count(chosen.videos, 'video')}"]
    if chosen.left_out:
        parts.append(f"{count(chosen.left_out, 'other video')} left out")
    if chosen.missing:
        parts.append(f"{count(chosen.missing, 'video')} not in the inputs")
    return "; ".join(parts)


def _left_out(found: "Summary | DryRun") -> str:
    """Returns the number of files that were left out because they are not videos, by extension."""
    shown = [
        f"{printable(name) or 'none'} {number:,}" for name, number in list(found.left_out.items())[:EXTENSIONS_SHOWN]
    ]
    more = ["..."] * (len(found.left_out) > EXTENSIONS_SHOWN)
    files = sum(found.left_out.values())
    what = "that is not a video" if files == 1 else "that are not videos"
    return f"{count(files, 'file')} {what} ({', '.join(shown + more)})"


def _unlisted(found: "Summary | DryRun") -> Text:
    """Returns the folders that could not be listed, the first of them by name."""
    shown = [f"{printable(folder.path)}: {folder.reason}" for folder in found.unlisted[:FOLDERS_SHOWN]]
    more = [f"and {len(found.unlisted) - FOLDERS_SHOWN:,} more"] * (len(found.unlisted) > FOLDERS_SHOWN)
    return Text(f"{count(len(found.unlisted), 'folder')} cannot be listed\n" + "\n".join(shown + more), "red")


def summary_json(summary: Summary) -> dict[str, Any]:
    """Returns the summary as JSON values, with SQL that queries the result."""
    measured = summary.efficiency
    shares = None if measured is None else {**asdict(measured), "total": measured.total}
    return {**asdict(summary), "efficiency": shares, "duckdb": duckdb_query(summary.out)}


def time_spent(summary: Summary) -> str:
    """Returns where the time of the job went, as text."""
    steps = ("listing", "comparing", "tagging", "publishing")
    return " · ".join(f"{step} {getattr(summary, f'{step}_s'):.1f} s" for step in steps)


def speed(summary: Summary) -> str:
    """Returns the speed of the job as text: windows per second, factor of real time, elapsed time."""
    took = f"{clock(summary.elapsed_s)} in all"
    if not summary.windows_done or summary.tagging_s <= 0:
        return took
    parts = [f"{significant(summary.windows_done / summary.tagging_s)} windows/s"]
    parts.append(f"{significant(summary.tagged_s / summary.tagging_s)}× real time")
    return " · ".join([*parts, took])


def efficiency(measured: Efficiency) -> str:
    """Returns the efficiency as text: the share of the hardware's time spent on decoding and on the model."""
    cores = f"{percent(measured.decode)} of the time of {count(measured.cores, 'core')}"
    if measured.gpu is not None:
        return f"{percent(measured.total)}: the model was at work {percent(measured.gpu)} of the time, decoding {cores}"
    return f"{percent(measured.total)}: decoding took {cores}, the model {percent(measured.model)}"


def _videos(summary: Summary) -> Text:
    text = Text(f"{summary.videos:,}")
    if summary.failed or summary.partial:
        text.append(f": {summary.ok:,} read to the end")
        if summary.partial:
            text.append(f", {summary.partial:,} in part", "yellow")
        if summary.failed:
            text.append(f", {summary.failed:,} failed", "red")
    elif summary.videos > 1:
        text.append(", all read to the end")
    return text


def video_counts(found: "Summary | DryRun") -> str:
    """Returns how many videos a run tags and keeps: ``3 new, 1 changed, 40 kept``."""
    touched, moved, unsure = (getattr(found, name, 0) for name in ("touched", "moved", "unsure"))
    parts = [
        (found.new, "new"),
        (found.changed, "changed"),
        (found.retried, "tried again"),
        (found.kept - touched - moved, "kept"),
        (touched, "kept with a new modification time but the same content"),
        (moved, "moved or renamed, and kept"),
        (unsure, "to be compared, with another modification time or name"),
    ]
    return ", ".join(f"{number:,} {what}" for number, what in parts if number) or "none"


def _failures(summary: Summary) -> Table:
    table = Table(title="Failed or partial", title_justify="left", title_style="bold red", box=None)
    table.add_column("kind", no_wrap=True)
    table.add_column("videos", justify="right", no_wrap=True)
    table.add_column("for example", overflow="fold", max_width=40)
    table.add_column("why", overflow="fold")
    for kind, failures in _by_kind(summary.failures):
        for row, failure in enumerate(failures[:EXAMPLES_SHOWN]):
            first = (kind, f"{len(failures):,}") if row == 0 else ("", "")
            table.add_row(*first, Text(printable(Path(failure.path).name)), Text(failure_reason(failure)))
    return table


def _by_kind(failures: Sequence[Failure]) -> list[tuple[ErrorKind, list[Failure]]]:
    """Returns the failures by kind, the most frequent kind first."""
    kinds: dict[ErrorKind, list[Failure]] = {}
    for failure in failures:
        kinds.setdefault(failure.kind, []).append(failure)
    return sorted(kinds.items(), key=lambda item: -len(item[1]))


def _background(summary: Summary) -> str:
    """Returns the share and the length of the segments that show none of the classes of the model."""
    background = summary.background
    share = percent(background.segments / max(summary.segments, 1))
    return f"{share} of the segments, {amount(background.seconds)}: none of the model's classes"


def _labels(summary: Summary) -> Table:
    table = Table(title="Most frequent labels", title_justify="left", title_style="bold", box=None)
    table.add_column("label", overflow="fold")
    table.add_column("segments", justify="right")
    table.add_column("share", justify="right")
    table.add_column("time", justify="right", no_wrap=True)
    others = [top for top in summary.top_labels if top.label != BACKGROUND]
    for top in others[:LABELS_SHOWN]:
        share = percent(top.segments / max(summary.segments, 1))
        table.add_row(Text(top.label), f"{top.segments:,}", share, amount(top.seconds))
    return table
