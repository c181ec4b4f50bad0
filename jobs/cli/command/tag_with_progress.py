"""What ``vtag run`` and ``vtag demo`` share: the job with its progress in view."""

import contextlib
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from jobs.cli.command.endings import InterruptedEnding
from jobs.cli.terminal.wording import count
from jobs.errors import Interrupted
from jobs.tagging.run_config import RunConfig
from jobs.tagging.summary import Summary

if TYPE_CHECKING:
    from jobs.tagging.plan import DryRun

TELL_S = 5.0
"""Seconds between two lines about a listing that takes long."""


def tag(config: RunConfig, *, as_json: bool = False, quiet: bool = False) -> Summary:
    """Runs the job and shows its progress. An interrupt ends the program and says what is kept."""
    _announce(quiet or as_json)
    from jobs.cli.terminal.progress import choose_view
    from jobs.cluster.ray_driver import RayDriver
    from jobs.tagging.plan import make_plan
    from jobs.tagging.run import run_job

    driver = RayDriver("tagging", address=config.address, verbose=config.verbose)
    with contextlib.closing(driver):
        # Ray is imported while the archive is listed, which costs a core two seconds when there is nothing to do.
        driver.start()
        # The view comes after the plan, which may show a download's progress of its own.
        plan = make_plan(config, _teller(quiet or as_json))
        try:
            with choose_view(as_json=as_json, quiet=quiet) as view:
                return run_job(plan, view, driver)
        except Interrupted as interrupted:
            raise InterruptedEnding(str(interrupted)) from None


def look(config: RunConfig, *, quiet: bool = False) -> "DryRun":
    """What ``tag`` would do."""
    _announce(quiet)
    from rich.console import Console
    from rich.progress import Progress as Bars

    from jobs.tagging.plan import dry_run, make_plan

    plan = make_plan(config, _teller(quiet))
    console = Console(stderr=True)
    console.quiet = quiet or not console.is_terminal
    with Bars(console=console, transient=True) as bars:
        opened = bars.add_task("Opening videos", total=len(plan.todo))
        return dry_run(plan, lambda probed: bars.update(opened, completed=probed))


def _announce(quiet: bool) -> None:
    """Says what the seconds are spent on that importing Ray and torch and walking an archive take."""
    if not quiet:
        click.echo("vtag: looking for videos", err=True)


def _teller(quiet: bool) -> Callable[[int], None]:
    """Tells how many videos have been found so far, every few seconds."""
    told_s = time.monotonic()

    def tell(found: int) -> None:
        nonlocal told_s
        if not quiet and time.monotonic() - told_s >= TELL_S:
            told_s = time.monotonic()
            click.echo(f"vtag: {count(found, 'video')} found so far", err=True)

    return tell
