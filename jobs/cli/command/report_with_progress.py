"""Writes the page of a result, with a bar for its thumbnails: for ``vtag report`` and ``vtag run --report``."""

from typing import TYPE_CHECKING

import click

from tagger.errors import doing

if TYPE_CHECKING:
    from pathlib import Path

    from jobs.browse.segments import FinishedResult
    from jobs.storage.location import Location

THUMBNAILS = 800
"""Thumbnails of a page, unless the user wants another number: about 3 MB."""


def report_beside(out: str) -> str:
    """Returns the page of a result at ``out``, ``NAME.report.html``, as a person types it. Raises OutputError."""
    from jobs.result.output import as_typed, find_output

    result = find_output(out).out
    return as_typed(result.beside(f"{result.name.removesuffix('.parquet')}.report.html"), out)


def write_report(
    finished: "FinishedResult",
    location: "Location",
    *,
    shown: str,
    thumbnails: int = THUMBNAILS,
    base_url: str | None = None,
    marks_file: "Path | None" = None,
    address: str | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Writes the page of ``finished`` to ``location``, atomically. Raises OutputError, InputError and JobError.

    ``shown`` is the location as the person typed it. The page begins with the marks of ``marks_file``.
    """
    from rich.console import Console
    from rich.progress import Progress

    from jobs.browse.marks import read_marks
    from jobs.browse.report.assemble import make_page
    from jobs.browse.report.gather import gather
    from jobs.browse.report.place import parse_base
    from jobs.browse.report.thumbnails import make_thumbnails, moments_by_video
    from jobs.cli.terminal.wording import printable
    from jobs.errors import reason
    from tagger.errors import OutputError

    # A file of marks that cannot be read is refused before a large result is.
    marks = [] if marks_file is None else read_marks(marks_file)
    with doing("reading", finished.path):
        data = gather(finished)
        base = None if base_url is None else parse_base(base_url, data.videos["video"].to_pylist())
        moments = moments_by_video(data, thumbnails)
    console = Console(stderr=True)
    console.quiet = quiet or not console.is_terminal
    with Progress(console=console, transient=True) as bars, doing("making thumbnails for", shown):
        task = bars.add_task("Thumbnails", total=len(moments))
        pictures = make_thumbnails(data, moments, address=address, verbose=verbose, on_video=lambda: bars.advance(task))
    page = make_page(finished, data, pictures, base=base, marks=marks)
    try:
        location.write_text(page)
    except OSError as error:
        raise OutputError(f"{shown} cannot be written: {reason(error)}") from error
    if not quiet:
        click.echo(f"{printable(shown)}: {_facts(len(data.videos), len(data.segments), len(pictures.rows), len(page))}")


def _facts(videos: int, segments: int, thumbnails: int, size: int) -> str:
    from jobs.cli.terminal.wording import count

    counts = (count(videos, "video"), count(segments, "segment"), count(thumbnails, "thumbnail"))
    return f"{', '.join(counts)}, {size / 1e6:.1f} MB"
