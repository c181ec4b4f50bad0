"""The progress bar of a download."""

from collections.abc import Iterator
from contextlib import contextmanager

from tagger.models.download_progress import OnBytes, download_progress


@contextmanager
def shown_downloads() -> Iterator[None]:
    """Shows a bar while weights are downloaded, if standard error is a terminal."""
    before = download_progress.set(_bar)
    try:
        yield
    finally:
        download_progress.reset(before)


@contextmanager
def _bar() -> Iterator[OnBytes]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    console.quiet = not console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Kinetics-400 weights", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
