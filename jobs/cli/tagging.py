"""What ``vtag run`` and ``vtag demo`` share: the job with its progress in view."""

from typing import TYPE_CHECKING

import click

from jobs.cli.endings import InterruptedEnding
from jobs.job import Interrupted, RunConfig, Summary

if TYPE_CHECKING:
    from jobs.plan import DryRun


def tag(config: RunConfig, *, as_json: bool = False, quiet: bool = False) -> Summary:
    """Runs the job and shows its progress. An interrupt ends the program and says what is kept."""
    _announce(quiet or as_json)
    from jobs.plan import make_plan
    from jobs.progress import choose_view
    from jobs.run import run_job

    # The view comes after the plan, which may show a download's progress of its own.
    plan = make_plan(config)
    try:
        with choose_view(as_json=as_json, quiet=quiet) as view:
            return run_job(plan, view)
    except Interrupted as interrupted:
        raise InterruptedEnding(str(interrupted)) from None


def look(config: RunConfig, *, quiet: bool = False) -> "DryRun":
    """What ``tag`` would do."""
    _announce(quiet)
    from rich.console import Console
    from rich.progress import Progress as Bars

    from jobs.plan import dry_run, make_plan

    plan = make_plan(config)
    console = Console(stderr=True)
    with Bars(console=console, transient=True, disable=quiet or not console.is_terminal) as bars:
        opened = bars.add_task("Opening videos", total=len(plan.todo))
        return dry_run(plan, lambda probed: bars.update(opened, completed=probed))


def _announce(quiet: bool) -> None:
    """Says what the seconds are spent on that importing Ray and torch and walking an archive take."""
    if not quiet:
        click.echo("vtag: looking for videos", err=True)
