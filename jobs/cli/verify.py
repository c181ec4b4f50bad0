"""``vtag verify``: checks a result."""

import json
from dataclasses import asdict

import click

from jobs.cli.command.endings import Ending
from jobs.cli.command.options import examples, json_option, verbose_option


@click.command(
    short_help="Check that a result is complete.",
    epilog=examples("vtag verify tags.parquet", "vtag verify tags.parquet --json"),
)
@click.argument("path")
@json_option("Print the findings as a JSON object instead of a line of text.")
@verbose_option
def verify(path: str, as_json: bool, verbose: bool) -> None:
    """Check the result that `vtag run --out PATH` wrote: every video is complete and in order, without duplicates.

    Reads all rows. The exit status is 1 when something is wrong.
    """
    from jobs.cli.terminal.wording import count
    from jobs.result.verify import verify
    from tagger.errors import doing

    with doing("checking", path):
        found = verify(path)
    if as_json:
        click.echo(json.dumps(asdict(found)))
    if found.problem is not None:
        raise Ending(f"{found.out}: {found.problem}")
    if not as_json:
        note = f"; {count(found.waiting, 'video')} of an interrupted run not published yet" if found.waiting else ""
        segments = count(found.segments, "segment") + (" with embeddings" if found.identity.embeddings else "")
        click.echo(
            f"{path}: {count(found.videos, 'video')}, {segments}, complete, no duplicates, "
            f"from {found.identity.model} ({found.identity.model_hash[:12]}){note}"
        )
