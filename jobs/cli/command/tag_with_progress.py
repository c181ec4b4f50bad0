"""The tagging job of ``vtag run`` and ``vtag demo``, with its progress in the terminal."""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from jobs.archive.selection import Selection
from jobs.cli.command.endings import InterruptedEnding, keep
from jobs.cli.terminal.wording import count, printable
from jobs.errors import Interrupted
from jobs.result.output import find_output
from jobs.storage.address import is_address
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Summary
from tagger.errors import doing

if TYPE_CHECKING:
    from jobs.tagging.dry_run import DryRun

LISTING_REPORT_S = 5.0
"""Seconds between two messages about a slow listing."""


def tag(config: RunConfig, *, as_json: bool = False, quiet: bool = False) -> Summary:
    """Runs the job and shows its progress.

    Raises InterruptedEnding, whose message says which results are kept, when the job is interrupted.
    """
    _announce(quiet or as_json)
    words = f"the result at {config.out} is safe: finished videos are kept, and the same command continues"
    keep(words, find_output(config.out).run_folder)
    from jobs.cli.terminal.progress import choose_view, until_it_fails
    from jobs.cluster.ray_driver import RayDriver
    from jobs.tagging.plan import make_plan
    from jobs.tagging.run import run_job

    driver = RayDriver("tagging", address=config.address, verbose=config.verbose)
    with contextlib.closing(driver):
        # Ray is imported while the archive is listed. When there is nothing to tag, this wastes two seconds of a core.
        driver.start()
        # The view starts after the plan, because the plan may show the progress of a download.
        with doing("planning the job for", config.out):
            plan = make_plan(config, _listing_reporter(quiet or as_json))
        if not as_json:
            _warn_of_missing(plan.only)
        try:
            with choose_view(as_json=as_json, quiet=quiet) as view, doing("tagging videos for", config.out):
                return run_job(plan, until_it_fails(view), driver)
        except Interrupted as interrupted:
            raise InterruptedEnding(str(interrupted)) from None


def dry_run_with_progress(config: RunConfig, *, quiet: bool = False) -> "DryRun":
    """Returns what ``tag`` would do, and shows how many videos have been opened."""
    _announce(quiet)
    keep("nothing was changed")
    from rich.console import Console
    from rich.progress import Progress as Bars

    from jobs.tagging.dry_run import dry_run
    from jobs.tagging.plan import make_plan

    with doing("planning the job for", config.out):
        plan = make_plan(config, _listing_reporter(quiet))
    if not quiet:
        _warn_of_missing(plan.only)
    console = Console(stderr=True)
    console.quiet = quiet or not console.is_terminal
    with Bars(console=console, transient=True) as bars:
        # Videos in buckets are not opened.
        local = sum(not is_address(video.path) for video in plan.todo)
        opened = bars.add_task("Opening videos", total=local)
        return dry_run(plan, lambda probed: bars.update(opened, completed=probed))


def _announce(quiet: bool) -> None:
    """Prints what vtag does in its first seconds, while it imports Ray and torch and lists the archive."""
    if not quiet:
        click.echo("vtag: looking for videos", err=True)


def _warn_of_missing(chosen: Selection | None) -> None:
    """Prints how many videos of ``--only`` are not in the inputs."""
    if chosen is not None and chosen.first_missing is not None:
        these = f"{count(chosen.missing, 'video')} of --only {'is' if chosen.missing == 1 else 'are'}"
        first = printable(chosen.first_missing)
        click.echo(f"vtag: note: {these} not in the inputs; the first is {first}", err=True)


def _listing_reporter(quiet: bool) -> Callable[[int], None]:
    """Returns a callback that prints how many videos have been found so far, every few seconds."""
    reported_s = time.monotonic()

    def report(found: int) -> None:
        nonlocal reported_s
        if not quiet and time.monotonic() - reported_s >= LISTING_REPORT_S:
            reported_s = time.monotonic()
            click.echo(f"vtag: {count(found, 'video')} found so far", err=True)

    return report
